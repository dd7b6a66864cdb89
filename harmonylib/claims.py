"""The claims of S2AM-T4, each with the rule that decides it, set down before the runs, and the judging of all claims.

A claim whose runs are not at hand is not judged: "cannot tell at this scale". LEMaRT's are in `claims_lemart`.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from harmonylib import claims_lemart, metrics, statistics
from harmonylib.evidence import Evidence
from harmonylib.rules import (
    DIFFERENCE,
    EQUIVALENCE,
    NOT_RUN,
    SAME,
    Claim,
    Outcome,
    all_of,
    lower,
    more_with_less,
    needs,
    outcome,
)
from harmonylib.statistics import CANNOT_TELL, DOES_NOT_HOLD, HOLDS, Equivalence, Interval

UNTOUCHED = 1.0  # squared levels of 255: a background that changes less than 8-bit rounding can show
EXTREME = 0.75  # quantile of doing nothing's fMSE above which a composite counts as an extreme change


def judge(evidence: Evidence) -> pd.DataFrame:
    """claims.csv: one row a claim, with our number and the computed verdict."""
    rows = []
    for claim in (*CLAIMS, *claims_lemart.CLAIMS):
        found = claim.test(evidence) if evidence.has(*claim.runs) else Outcome(NOT_RUN, CANNOT_TELL)
        rows.append({"study": claim.study, "id": claim.id, "claim": claim.words, "place": claim.place, "origin": claim.origin,
                     "runs": " ".join(claim.runs), "rule": claim.rule, "paper": claim.paper,
                     "ours": found.ours, "verdict": found.verdict})  # fmt: skip
    return pd.DataFrame(rows)


def after_epochs(a: str, b: str, epochs: tuple[int, int]) -> Callable[[Evidence], Outcome]:
    """a after one number of epochs is below b after another, both on the validation pictures."""

    def test(evidence: Evidence) -> Outcome:
        wheres = [{"split": "val", "epoch": e} for e in epochs]
        rows = [evidence.per_image(name, **where) for name, where in zip((a, b), wheres, strict=True)]
        result = statistics.paired_bootstrap(rows[0]["fmse"], rows[1]["fmse"], rows[0]["group"])
        pairs = zip(*(evidence.by_seed(n, **w) for n, w in zip((a, b), wheres, strict=True)), strict=False)
        judged = outcome(result, [x - y for x, y in pairs], "lower", "difference of validation fMSE {}")
        return _at_constant_rate(evidence, (a, b), judged)

    return test


def _at_constant_rate(evidence: Evidence, names: tuple[str, ...], judged: Outcome) -> Outcome:
    """Scores within a run speak for the paper's epochs only where the learning rate is constant, as the paper's is.

    Under a rate that falls over the budget, the middle of a run is not a shorter run.
    """
    if all(run.config["schedule"] == "constant" for name in names for run in evidence.of(name)):
        return judged
    return Outcome(judged.ours + " (the learning rate falls over the run)", CANNOT_TELL)


def worst(evidence: Evidence) -> Outcome:
    """Histogram matching is above every seed of the U-Net."""
    result = evidence.difference("histogram", "unet")
    seeds = [evidence.by_seed("histogram")[0] - value for value in evidence.by_seed("unet")]
    return outcome(result, seeds, "higher", "difference of fMSE {}")


def worse_than_nothing(evidence: Evidence) -> Outcome:
    """Neither method draws anything at random, so the one run stands for every seed."""
    result = evidence.difference("histogram", "identity")
    share = evidence.ratio("histogram").estimate
    seeds = [result.estimate] * statistics.MIN_SEEDS
    return outcome(result, seeds, "higher", f"{share:.2f} of doing nothing; difference of fMSE {{}}")


def plateau(evidence: Evidence) -> Outcome:
    """U-Net's validation fMSE after the last epoch is the same as after the one before it."""
    last = max(int(e) for e in evidence.of("unet")[0].metrics["validation"])
    wheres = [{"split": "val", "epoch": e} for e in (last, last - 1)]
    a, b = (evidence.per_image("unet", **w) for w in wheres)
    result = statistics.equivalence(a["fmse"], b["fmse"], a["group"], SAME, relative=True)
    seeds = [x / y for x, y in zip(*(evidence.by_seed("unet", **w) for w in wheres), strict=True)]
    judged = outcome(result, seeds, "equivalent", f"epoch {last} / epoch {last - 1}: {{}}")
    return _at_constant_rate(evidence, ("unet",), judged)


def near_validation(evidence: Evidence) -> Outcome:
    """mean(test) / mean(validation): different pictures, so the two are resampled apart."""
    test = evidence.per_image("s2am")
    last = max(int(e) for e in evidence.of("s2am")[0].metrics["validation"])
    val = evidence.per_image("s2am", split="val", epoch=last)
    result = Equivalence(statistics.unpaired_ratio(test["fmse"], test["group"], val["fmse"], val["group"]), SAME)
    seeds = [
        a / b for a, b in zip(evidence.by_seed("s2am"), evidence.by_seed("s2am", split="val", epoch=last), strict=True)
    ]
    return outcome(result, seeds, "equivalent", "test / validation: {}")


def conservative(evidence: Evidence) -> Outcome:
    """Of the change that an extreme composite needs, S2AM makes less than of the change that others need."""
    nothing = evidence.per_image("identity")["fmse"]
    extreme = nothing >= nothing.quantile(EXTREME)

    def gap(rows: pd.DataFrame, chosen) -> Interval:
        return statistics.unpaired_difference(*_two(rows[chosen], rows[~chosen], "recovered"))

    rows = evidence.per_image("s2am")
    seeds = []
    for record in evidence.of("s2am"):
        own = record.rows("bcmi256", "test", evidence.kind)
        seeds.append(own["recovered"][extreme].mean() - own["recovered"][~extreme].mean())
    result = gap(rows, extreme)
    means = rows["recovered"][extreme].mean(), rows["recovered"][~extreme].mean()
    return outcome(result, seeds, "lower", f"share of the needed change made: {means[0]:.2f} (extreme), {means[1]:.2f} (others); difference {{}}")  # fmt: skip


def untouched(evidence: Evidence) -> Outcome:
    """The background's mean squared change is below one squared level."""
    rows = evidence.per_image("s2am")
    result = statistics.bootstrap_mean(rows["background_mse"], rows["group"])
    against = replace(result, null=UNTOUCHED)
    return outcome(against, evidence.by_seed("s2am", "background_mse"), "lower", "background MSE {}")


def softens(evidence: Evidence) -> Outcome:
    """High-frequency amplitude of the foreground against the target's: below 1 is softer."""
    rows = evidence.per_image("s2am")
    result = statistics.bootstrap_mean(rows["sharpness"], rows["group"])
    against = replace(result, null=1.0)
    return outcome(against, evidence.by_seed("s2am", "sharpness"), "lower", "amplitude of detail / target's: {}")


def stable(evidence: Evidence) -> Outcome:
    """Every seed at batch 2 ends with a finite loss, and below where it stood after its first epoch.

    Profiles that train at batch 2 anyway have no run of their own for it.
    """
    runs = evidence.of("s2am_batch2" if evidence.has("s2am_batch2") else "s2am")
    if runs[0].config["batch_size"] != 2:
        return Outcome(NOT_RUN, CANNOT_TELL)
    ends = [[run.metrics["validation"][e]["fmse"] for e in ("1", "2")] for run in runs]
    ratios = np.array([last / first for first, last in ends])
    good = np.isfinite(ratios) & (ratios < 1)
    ours = f"validation fMSE, epoch 2 / epoch 1: {', '.join(f'{r:.3f}' for r in ratios)}"
    if len(ratios) < statistics.MIN_SEEDS:
        return Outcome(f"{ours} (one seed)", CANNOT_TELL)
    return Outcome(ours, HOLDS if good.all() else DOES_NOT_HOLD if not good.any() else CANNOT_TELL)


def fits(place: int) -> Callable[[Evidence], Outcome]:
    """Naive attention in float32 at 256 px: batch 16 is over 15 GB and batch 2 is not, for every number of heads or for none."""

    def test(evidence: Evidence) -> Outcome:
        from harmonylib.tables import memory

        table = memory(evidence)
        if table is None:
            return Outcome(NOT_RUN, CANNOT_TELL)
        chosen = table.query(f"attention == 'naive' and dtype == 'float32' and size == 256 and place == {place}")
        cells = chosen.set_index(["heads", "batch"])["fits_15GB"]
        gib = chosen.set_index(["heads", "batch"])["predicted_bytes"] / 2**30
        heads = sorted({h for h, _ in cells.index})
        held = [bool(not cells[h, 16] and cells[h, 2]) for h in heads]
        ours = "; ".join(
            f"{h} head{'s' * (h > 1)}: {gib[h, 2]:.1f} GiB at batch 2, {gib[h, 16]:.1f} at 16" for h in heads
        )
        return Outcome(ours + " (predicted)", HOLDS if all(held) else DOES_NOT_HOLD if not any(held) else CANNOT_TELL)

    return test


def leak(evidence: Evidence) -> Outcome:
    """Share of doing nothing by composite split minus by photograph split: the test pictures differ, resampled apart."""
    shares = {}
    for suffix in ("", "_leaky"):
        rows, nothing = evidence.per_image("s2am" + suffix), evidence.per_image("identity" + suffix)
        shares[suffix] = rows.assign(relative=rows["fmse"] / nothing["fmse"].mean())
    result = statistics.unpaired_difference(*_two(shares["_leaky"], shares[""], "relative"))
    totals = [
        [v / np.mean(evidence.by_seed("identity" + suffix)) for v in evidence.by_seed("s2am" + suffix)]
        for suffix in ("_leaky", "")
    ]
    seeds = [a - b for a, b in zip(*totals, strict=False)]
    return outcome(result, seeds, "lower", "share of doing nothing, by composite minus by photograph: {}")


def _two(a: pd.DataFrame, b: pd.DataFrame, column: str):
    return a[column], a["group"], b[column], b["group"]


_per_channel = metrics.from_s2am_t4

CLAIMS = (
    Claim("s2am_below_unet", "S2AM outperforms the U-Net on held-out pictures", "abstract, Table 1", "paper",
          ("s2am", "unet"), f"0.1304 < 0.1369 ({_per_channel(0.1304 - 0.1369):.1f} on 0-255)", DIFFERENCE, lower("s2am", "unet")),
    Claim("s2am_below_unet_same_loss", "... and does so whichever loss both are trained with", "2 x 2 of 3.6", "derived",
          ("s2am", "unet", "s2am_mse", "unet_eq7"), "not run", DIFFERENCE + ", under both losses",
          all_of(equation_7=lower("s2am", "unet_eq7"), MSE=lower("s2am_mse", "unet"))),
    Claim("data_efficiency", "Attention is more data-efficient: its gain is larger with less data", "RQ1", "paper",
          ("s2am", "unet", "s2am_share10", "unet_share10"), "no sweep run", "interval of the interaction above zero",
          more_with_less(("unet_share10", "s2am_share10"), ("unet", "s2am"))),
    Claim("epoch1_below_unet", "S2AM after one epoch is better than U-Net after two (validation against validation)", "4.3.1", "paper",
          ("s2am", "unet"), "0.1347 (validation) < 0.1369 (test)", DIFFERENCE + ", at a constant learning rate", after_epochs("s2am", "unet", (1, 2))),
    Claim("unet_plateaus", "The U-Net plateaus: a further epoch hardly matters", "4.2.1", "paper",
          ("unet",), "stated, no curve", EQUIVALENCE + ", at a constant learning rate", plateau),
    Claim("histogram_worse_than_unet", "Histogram matching is the worst of the three methods", "Table 1", "paper",
          ("histogram", "unet"), f"0.6296 ({_per_channel(0.6296):.0f} on 0-255)", "paired bootstrap over photographs, 95 %, against every seed of the U-Net", worst),
    Claim("histogram_worse_than_nothing", "Histogram matching is worse than doing nothing", "Table 1", "derived",
          ("histogram", "identity"), "no do-nothing row", "paired bootstrap over photographs, 95 %; nothing in it is random, so one run counts for every seed", worse_than_nothing),
    Claim("memory_place64", "Batch 16 does not fit 15 GB and batch 2 does, attention at 64 x 64", "3.7.1, 3.7.2", "paper",
          (), "CUDA out of memory at 16", "naive attention, float32, 256 px: holds for 1, 4 and 8 heads", fits(64)),
    Claim("memory_place16", "The same with the attention at the bottleneck, 16 x 16, where the text puts it", "2.4, 3.5.1", "derived",
          (), "CUDA out of memory at 16", "naive attention, float32, 256 px: holds for 1, 4 and 8 heads", fits(16)),
    Claim("batch2_stable", "Training at batch 2 is stable", "3.7.2, 5.1.1", "paper",
          ("s2am",), "24.8 % lower loss in epoch 2", "every seed finite and better after epoch 2 than after epoch 1", stable),
    Claim("test_near_validation", "The test score tracks the validation score closely", "4.3.2", "paper",
          ("s2am",), "0.1304 against 0.1327 (ratio 0.983)", EQUIVALENCE, near_validation),
    Claim("conservative", "Under extreme changes the model is conservative: it stays closer to the input", "4.4.2", "paper",
          ("s2am", "identity"), "stated, not measured", "share of the needed change made, hardest quarter below the rest", conservative),
    Claim("background_untouched", "The S2AM block leaves the background pixels untouched", "4.4.1", "paper",
          ("s2am",), "stated, not measured", f"background MSE below {UNTOUCHED:g} squared level", untouched),
    Claim("softens_texture", "The model behaves like a low-pass filter and softens texture (4.2.2 says it is retained)", "5.2", "paper",
          ("s2am",), "stated, not measured", "high-frequency amplitude below the target's", softens),
    Claim("leak_flatters", "A split by composite flatters the score", "3.2.1", "derived",
          ("s2am", "s2am_leaky", "identity", "identity_leaky"), "split by composite only", "share of doing nothing lower by composite than by photograph", leak),
    Claim("larger_gpu", "Batch 32 and 512 px on an 80 GB GPU give lower fMSE", "5.3.2", "paper",
          (), "future work", "needs runs at batch 32 and 512 px", needs("needs a GPU of 80 GB")),
)  # fmt: skip

"""The claims of LEMaRT, each with the rule that decides it, set down before the runs."""

from dataclasses import replace
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from harmonylib import experiments, metrics, models, paper_values, tables
from harmonylib.errors import HarmonyError
from harmonylib.evidence import Evidence
from harmonylib.rules import (
    DIFFERENCE,
    EQUIVALENCE,
    NOT_RUN,
    SAME,
    SAME_DB,
    Claim,
    Outcome,
    all_of,
    lower,
    more_with_less,
    needs,
    outcome,
    same,
)
from harmonylib.statistics import CANNOT_TELL, DOES_NOT_HOLD, HOLDS, MIN_SEEDS


def gain(name: str) -> str:
    """The printed gain of pre-training a network, or that it is in none of the tables (a network added here)."""
    try:
        without, with_ = (paper_values.value("lemart", "table3", "fmse", name + s) for s in ("", "+lemart"))
    except HarmonyError:
        return "not in the paper"
    return f"fMSE {without:.1f} to {with_:.1f} on iHarmony4"


def above_printed(run: str, printed: float, margin: float, subset: str = "all"):
    """A run's PSNR on the official test set is `margin` dB above a printed one; the data must be iHarmony4 at 256 px."""

    def test(evidence: Evidence) -> Outcome:
        made = evidence.of(run)[0]
        if made.env["data"] != "iharmony4" or made.config["size"] != 256:
            return Outcome(
                f"needs iHarmony4 at 256 px; {metrics.caption('bcmi256', made.config['size'])} on {made.env['data']} here",
                CANNOT_TELL,
            )
        chosen = None if subset == "all" else subset
        result = evidence.mean(run, "psnr", subset=chosen)
        against = replace(result, null=printed + margin)
        return outcome(
            against, evidence.by_seed(run, "psnr", subset=chosen), "higher", f"PSNR {{}}, printed {printed} + {margin}"
        )

    return test


def cheaper_windows(evidence: Evidence) -> Outcome:
    """Counted multiplications of one block at the paper's size: windows of 32 x 32 against all 64 x 64 tokens."""
    from harmonylib.models.windows import Block, GlobalAttention, WindowAttention

    counts = []
    with torch.device("meta"):
        for attention in (WindowAttention(128, 4, 32), GlobalAttention(128, 4)):
            with FlopCounterMode(display=False) as counter:
                Block(128, attention)(torch.empty(1, 64, 64, 128))
            counts.append(counter.get_total_flops() / 2e9)
    ours = f"{counts[0]:.2f} against {counts[1]:.2f} GMAC a block of 128 channels, 64 x 64 tokens (counted)"
    return Outcome(ours, HOLDS if counts[0] < counts[1] else DOES_NOT_HOLD)


def printed_rate(evidence: Evidence) -> Outcome:
    """Every seed ends its pre-training at the printed rate with a finite loss, no more than 5 % above the default's."""
    runs, usual = evidence.everything.get(experiments.TRIAL, []), evidence.of("pretrain_swinih")
    ends = []
    for run, other in zip(runs, usual, strict=False):
        if "diverged" in run.metrics:
            ends.append(float("inf"))
        else:
            ends.append(run.log["train_loss"].iloc[-1] / other.log["train_loss"].iloc[-1])
    ours = "loss at its end / the default rate's: " + ", ".join(
        "diverged" if r == float("inf") else f"{r:.2f}" for r in ends
    )
    good = [r <= 1 + SAME for r in ends]
    if not ends:
        return Outcome(NOT_RUN, CANNOT_TELL)
    if len(ends) < MIN_SEEDS:
        return Outcome(ours + " (one seed)", CANNOT_TELL)
    return Outcome(ours, HOLDS if all(good) else CANNOT_TELL if any(good) else DOES_NOT_HOLD)


SCS_CO = paper_values.value("lemart", "table1", "psnr", "scs-co", "all")
_claim = partial(Claim, study="lemart")
CLAIMS = (
    *(
        _claim(f"lemart_helps_{name}", f"Pre-training with LEMaRT helps {tables.title(name)}", "4.4a, Table 3", "paper",
               (name, f"{name}_lemart"), gain(name), DIFFERENCE, lower(f"{name}_lemart", name))
        for name in models.TABLE_3
    ),
    _claim("lemart_beats_more_steps", "... and by more than as many optimiser steps from scratch do", "Table 3", "derived",
           ("swinih_lemart", "swinih_matched"), "no control run", DIFFERENCE, lower("swinih_lemart", "swinih_matched")),
    _claim("lemart_helps_10", "With 10 % of the data LEMaRT helps SwinIH", "4.4b, Figure 6", "paper",
           ("swinih_share10", "swinih_lemart_share10"), "2.3 to 2.4 dB", DIFFERENCE, lower("swinih_lemart_share10", "swinih_share10")),
    _claim("lemart_beats_more_steps_10", "... and by more than as many optimiser steps from scratch do", "Figure 6", "derived",
           ("swinih_lemart_share10", "swinih_matched_share10"), "no control run", DIFFERENCE, lower("swinih_lemart_share10", "swinih_matched_share10")),
    _claim("lemart_more_with_less", "LEMaRT helps more with less data", "4.4b, Figure 6", "paper",
           ("swinih", "swinih_lemart", "swinih_share10", "swinih_lemart_share10"), "2.3 dB at 10 %, 1.4 dB at 100 %",
           "interval of the interaction (PSNR, 10 % against 100 %) above zero",
           more_with_less(("swinih_share10", "swinih_lemart_share10"), ("swinih", "swinih_lemart"), "psnr")),
    _claim("lemart_half_the_data", "Half of the data, pre-trained, is better than all of it from scratch", "Figure 6", "derived",
           ("swinih_lemart_share50", "swinih"), "not stated", DIFFERENCE, lower("swinih_lemart_share50", "swinih")),
    _claim("lemart_above_scs_co", "With all data SwinIH is 1.0 dB above SCS-Co", "abstract, Table 1", "paper",
           ("swinih_lemart",), "39.8 against 38.8 dB", "interval of PSNR above the printed value and the margin; needs iHarmony4", above_printed("swinih_lemart", SCS_CO, 1.0)),
    _claim("lemart_half_above_scs_co", "With half of the data it is 0.4 dB above SCS-Co", "abstract", "paper",
           ("swinih_lemart_share50",), "0.4 dB", "interval of PSNR above the printed value and the margin; needs iHarmony4", above_printed("swinih_lemart_share50", SCS_CO, 0.4)),
    _claim("lemart_passes_below_40", "With less than 40 % of the data it passes the state of the art", "Figure 1", "paper",
           (), "read off a plot", "interval of PSNR at 40 % above the printed value", needs("needs iHarmony4 and a run at 40 % of it")),
    _claim("swinih_keeps_resolution", "Keeping the resolution is better than reducing and enlarging it (SwinIH-MS)", "4.4c, Table 4", "paper",
           ("swinih", "swinih_ms"), "37.0 against 36.3 dB", DIFFERENCE, lower("swinih", "swinih_ms")),
    _claim("swinih_above_swin_t", "... and better than Swin Transformer", "4.4c, Table 4", "paper",
           ("swinih", "swin_t"), "37.0 against 36.1 dB", DIFFERENCE, lower("swinih", "swin_t")),
    _claim("swinih_local_same_score", "SwinIH-Local scores the same", "4.4c, Table 4", "paper",
           ("swinih", "swinih_local"), "37.0 and 37.0 dB, fMSE 386.6 and 385.2", f"{EQUIVALENCE}; and PSNR within {SAME_DB} dB",
           all_of(fMSE=same("swinih_local", "swinih"), PSNR=same("swinih_local", "swinih", "psnr"))),
    _claim("swinih_local_blocks", "... but shows block edges, which global attention removes", "4.4c, Figure 7", "paper",
           ("swinih", "swinih_local"), "shown on chosen pictures", DIFFERENCE + ", of blockiness", lower("swinih_local", "swinih", "blockiness", "higher")),
    _claim("grid_worse", "The grid strategy is worse than random and than block", "4.4d, Table 5", "paper",
           ("swinih_lemart", "swinih_lemart_grid", "swinih_lemart_block"), "fMSE 380.3 against 250.0 and 273.8", DIFFERENCE + ", for both",
           all_of(random=lower("swinih_lemart", "swinih_lemart_grid"), block=lower("swinih_lemart_block", "swinih_lemart_grid"))),
    _claim("random_like_block", "Random and block masks are alike", "4.4d, Table 5", "paper",
           ("swinih_lemart", "swinih_lemart_block"), "250.0 and 273.8", EQUIVALENCE, same("swinih_lemart_block", "swinih_lemart")),
    _claim("ratio_hardly_matters", "The mask ratio hardly matters (30, 50, 70 %)", "4.4e, Table 6", "paper",
           ("swinih_lemart", "swinih_lemart_ratio30", "swinih_lemart_ratio70"), "255.0, 250.0, 250.5", EQUIVALENCE + ", for both against 50 %",
           all_of(ratio_30=same("swinih_lemart_ratio30", "swinih_lemart"), ratio_70=same("swinih_lemart_ratio70", "swinih_lemart"))),
    _claim("windows_cheaper", "Window attention is cheaper than ViT's global attention", "3.4, 5", "paper",
           (), "stated, with a misprinted complexity", "counted multiplications of a block, at the paper's size", cheaper_windows),
    _claim("printed_learning_rate", "A learning rate of 2.7e-2 pre-trains SwinIH", "4.2", "paper",
           ("pretrain_swinih",), "used", f"loss finite and at most {SAME:.0%} above that of the rate chosen on validation, every seed", printed_rate),
    _claim("target_photographs", "Pre-training on the set's own photographs, without labels, helps", "beyond the paper", "derived",
           ("swinih", "swinih_lemart_target"), "not run", DIFFERENCE, lower("swinih_lemart_target", "swinih")),
    _claim("realhm_like_ssh", "On RealHM LEMaRT is on par with SSH", "4.3b, Table 2", "paper",
           (), "206.1 and 206.9 MSE", EQUIVALENCE, needs("needs RealHM and SSH's outputs on it")),
    _claim("hday2night_on_par", "On Hday2night it is on par with the best", "4.3a, Table 1", "paper",
           ("swinih_lemart",), "38.1 against 37.8 dB, MSE 42.3 against 40.6", "interval of PSNR above the best printed one less the margin; needs iHarmony4",
           above_printed("swinih_lemart", paper_values.value("lemart", "table1", "psnr", "scs-co", "Hday2night"), -SAME_DB, "Hday2night")),
)  # fmt: skip

"""Figures of the LEMaRT study, from records alone. What a profile did not run is left out, and the figure says so.

`harmonylib.figures_method` draws the transforms, masks, pipeline and networks, which need no records.
"""

import textwrap
from collections.abc import Iterable

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from harmonylib import experiments, figures, models, tables
from harmonylib.evidence import Evidence
from harmonylib.figures import COLOURS, STYLE, outlined
from harmonylib.paper_values import value
from harmonylib.records import Record
from harmonylib.statistics import Interval
from harmonylib.transforms import TRANSFORMS

SCRATCH, LEMART, QUIET = "#5f7d6e", "#d07c1f", COLOURS["identity"]
SHARES = (*experiments.LEMART_SHARES, 1.0)
ORDERED = sorted(models.TABLE_3, key="swinih".__eq__)  # SwinIH beside itself with LEMaRT
QUALITATIVE = ("identity", "histogram", "unet", "s2am", *ORDERED, "swinih_lemart")
BLOCKS = tuple(dict.fromkeys(("swinih_local", *models.TABLE_3, *models.TABLE_4, "unet", "s2am")))
LENGTHS = {0.0: "swinih", 0.25: "swinih_lemart_quarter", 0.5: "swinih_lemart_half", 1.0: "swinih_lemart"}
PRETRAININGS = {"pretrain_swinih": LEMART, "pretrain_swinih_half": "#e3b27c", "pretrain_swinih_quarter": "#f0cfa8"}


@matplotlib.rc_context(STYLE)
def figure1(evidence: Evidence, pictures: list[tuple[str, np.ndarray, np.ndarray | None]]) -> Figure:
    """The paper's Figure 1. Top: ``pictures``. Bottom: PSNR with LEMaRT by share of the training data, others with all.

    pictures: (title, (H, W, 3) uint8, (H, W) mask with values to 255, or None), left to right.
    """
    figure = plt.figure(figsize=(9.6, 5.9))
    top, bottom = figure.subfigures(2, 1, height_ratios=(2.2, 3.7))
    for axis, (words, picture, mask) in zip(top.subplots(1, len(pictures), squeeze=False)[0], pictures, strict=True):
        outlined(axis, picture, mask)
        axis.set_title(words, fontsize=9)
    axis = bottom.subplots()
    missing = _curve(axis, evidence, "swinih_lemart", "psnr", LEMART, "SwinIH + LEMaRT, by share")
    lines = {"unet": COLOURS["unet"], "s2am": COLOURS["s2am"], "swinih": SCRATCH, "identity": QUIET}
    found = {name: evidence.mean(run, "psnr") for name in lines if (run := evidence.on_all(name))}
    for name, mean in sorted(found.items(), key=lambda item: -item[1].estimate):
        label = f"{tables.title(name)}: {mean.estimate:.1f} [{mean.low:.1f}, {mean.high:.1f}]"
        axis.axhspan(mean.low, mean.high, color=lines[name], alpha=0.07, lw=0)
        axis.axhline(mean.estimate, color=lines[name], ls="--" if name == "identity" else "-", lw=1.4, label=label)
    _share_axis(axis)
    axis.set_ylabel(f"PSNR, dB ({evidence.protocol()}, {evidence.kind}s)")
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), alignment="left",
                title="dB [95 % interval];\nothers: all of the data")  # fmt: skip
    _left_out(bottom, [*missing, *(name for name in lines if name not in found)])
    return figure


@matplotlib.rc_context(STYLE)
def data_efficiency(evidence: Evidence) -> Figure:
    """The paper's Figure 6: SwinIH with and without LEMaRT by the share of the training data; below, what LEMaRT gains.

    Bands above are intervals over photographs, which are hard or easy for both curves; gains are paired, picture by
    picture, and have their own. Diamonds: trained from scratch for as many steps as pre-training and fine-tuning take.
    Black: what the paper prints of its gains (section 4.4b), to 10 % of the data as a bar; a triangle is "less than".
    """
    figure, axes = plt.subplots(2, 3, figsize=(10, 6.2), sharex=True, height_ratios=(3, 2))
    metrics = {"psnr": "PSNR, dB", "mse": "MSE", "fmse": "fMSE"}
    missing: list[str] = []
    for (above, below), (metric, words) in zip(axes.T, metrics.items(), strict=True):
        missing += _curve(above, evidence, "swinih", metric, SCRATCH, "from scratch")
        missing += _curve(above, evidence, "swinih_lemart", metric, LEMART, "LEMaRT, fine-tuned")
        missing += _matched(above, evidence, metric)
        nothing = evidence.mean(evidence.on_all("identity"), metric).estimate
        above.axhline(nothing, color=QUIET, ls="--", lw=1, label="doing nothing")
        above.set_title(words)
        _gains(below, evidence, metric)
        _printed_gains(below, metric)
        _share_axis(below)
    axes[0, 0].set_ylabel(f"{evidence.protocol()}, {evidence.kind}s")
    axes[1, 0].set_ylabel("gain by LEMaRT\n(above 0: better)")
    entries = [pair for axis in axes[:, 0] for pair in zip(*axis.get_legend_handles_labels(), strict=True)]
    figure.legend(*zip(*entries, strict=True), loc="outside upper center", ncols=len(entries), fontsize=9)
    _left_out(figure, missing)
    return figure


def _printed_gains(axis, metric: str) -> None:
    """What section 4.4b says of the ends of Figure 6; its "MSE", more than doing nothing has, read as fMSE."""

    def printed(name: str, method: str) -> float:
        return value("lemart", "figure6", name, f"swinih+lemart{method}")

    style = {"color": "black", "mfc": "white", "ms": 5, "ls": "none"}
    if metric == "psnr":
        ends = [printed(f"psnr_gain_{end}", "/10") for end in ("min", "max")]
        axis.fill_between([1, 10], *ends, color="black", alpha=0.7, lw=1)  # of no more than 10 %
        axis.plot(100, printed("psnr_gain", "/100"), "s", label="printed gain, iHarmony4", **style)
    if metric == "fmse":
        axis.plot(1, printed("mse_gain_about", "/1"), "s", **style)
        axis.plot(100, printed("mse_gain_below", "/100"), "v", **style)  # "less than"


def _means(evidence: Evidence, base: str, metric: str, shares: Iterable[float]) -> tuple[dict[float, Interval], list]:
    """{share in percent: mean} of the runs that were made, and the names of those that were not."""
    names = {100 * share: experiments.of_share(base, share) for share in shares}
    found = {percent: evidence.mean(name, metric) for percent, name in names.items() if evidence.has(name)}
    return found, [name for percent, name in names.items() if percent not in found]


def _curve(axis, evidence: Evidence, base: str, metric: str, colour: str, label: str) -> list[str]:
    """A metric over the shares, with its intervals; returns the names of the runs that are missing."""
    means, missing = _means(evidence, base, metric, SHARES)
    axis.plot(list(means), [m.estimate for m in means.values()], "o-", ms=4.5, lw=1.8, color=colour, label=label)
    band = [m.low for m in means.values()], [m.high for m in means.values()]
    axis.fill_between(list(means), *band, color=colour, alpha=0.15, lw=0)
    return missing


def _matched(axis, evidence: Evidence, metric: str) -> list[str]:
    means, missing = _means(evidence, "swinih_matched", metric, experiments.MATCHED_SHARES)
    style = {"marker": "D", "ls": "none", "ms": 6, "mfc": "none", "mew": 1.4, "color": SCRATCH}
    axis.plot(list(means), [m.estimate for m in means.values()], label="from scratch, as many steps in all", **style)
    return missing


def _gains(axis, evidence: Evidence, metric: str) -> None:
    """What LEMaRT gains over training from scratch, and over as many steps of it: positive is better."""
    sign = 1 if metric == "psnr" else -1
    for base, colour, marker, fill in (("swinih", LEMART, "o", LEMART), ("swinih_matched", SCRATCH, "D", "white")):
        for share in SHARES:
            pair = experiments.of_share("swinih_lemart", share), experiments.of_share(base, share)
            if evidence.has(*pair):
                gain = evidence.difference(*pair, metric)
                x = 100 * share * (0.87 if marker == "D" else 1)  # beside, not on top of, the other
                axis.plot([x, x], [sign * gain.low, sign * gain.high], color=colour, lw=2, alpha=0.6)
                axis.plot(x, sign * gain.estimate, marker, ms=5, color=colour, mfc=fill)
    axis.axhline(0, color=QUIET, ls="--", lw=1)


def _share_axis(axis) -> None:
    ticks = [100 * share for share in SHARES]
    axis.set(xscale="log", xlabel="share of the training photographs, %", xlim=(0.8, 125))
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()


@matplotlib.rc_context(STYLE)
def qualitative(evidence: Evidence, methods: Iterable[str] = QUALITATIVE) -> Figure:
    """The paper's Figure 5: composites, what every method at hand makes of them, targets; with fMSE."""
    nothing, methods = evidence.on_all("identity"), list(methods)
    names = figures.example_names(evidence, nothing)
    runs = {method: run for method in methods if (run := evidence.on_all(method)) and _keeps(evidence, run, names)}
    if not runs:
        return _note_alone("no example pictures in these records")
    shown = list(runs)
    figure = figures.comparison(evidence, runs.values(), nothing)
    side = min(10.5 / (len(shown) + 1), 1.6)
    figure.set_size_inches(side * (len(shown) + 1), (side + 0.18) * len(names) + 0.3)
    for axis, method in zip(figure.axes, shown, strict=False):
        axis.set_title("composite" if method == "identity" else textwrap.fill(tables.title(method), 10))
    for axis in figure.axes:
        axis.title.set_fontsize(8.5)
        axis.xaxis.label.set_fontsize(7.5)
    _left_out(figure, [method for method in methods if method not in shown])
    return figure


def _keeps(evidence: Evidence, method: str, names: list[str]) -> bool:
    """Whether a run has kept its outputs on the example pictures."""
    folder = evidence.of(method)[0].folder / "examples"
    return bool(names) and all((folder / f"{name}.png").is_file() for name in names)


@matplotlib.rc_context(STYLE)
def block_edges(evidence: Evidence, rows: int = 3) -> Figure:
    """The paper's Figure 7, and what it does not measure: blockiness (`harmonylib.evaluation.blockiness`).

    Left: SwinIH-Local and SwinIH around a place where windows meet (the ticks at the frame), and the changes they made,
    amplified alike, of the example pictures with the strongest edges in SwinIH-Local's. Right: all networks.
    """
    figure = plt.figure(figsize=(10, 1.62 * rows + 0.6))
    left, right = figure.subfigures(1, 2, width_ratios=(6.2, 3.8))
    pair, names = ("swinih_local", "swinih"), figures.example_names(evidence, evidence.on_all("identity"))
    if all(evidence.has(method) and _keeps(evidence, method, names) for method in pair):
        _crops(left.subplots(rows, 4, squeeze=False), evidence, names, pair)
    else:
        left.text(0.5, 0.5, "no example pictures of both networks", ha="center", color=QUIET)
    found = [name for name in BLOCKS if evidence.on_all(name) and _measured(evidence, name)]
    axis = right.subplots()
    _points(axis, {tables.title(name): evidence.mean(name, "blockiness") for name in found}, "{:.3f}")
    axis.set(
        title="Blockiness: 1 is no trace",
        xlabel=f"steps where windows meet\n/ one patch beside ({evidence.protocol()})",
    )
    _left_out(right, [name for name in BLOCKS if name not in found])
    return figure


def _measured(evidence: Evidence, name: str) -> bool:
    """Whether there is a blockiness: not where nothing changed, or the sides do not allow it."""
    return evidence.per_image(name).get("blockiness", pd.Series()).notna().any()


def _crops(axes: np.ndarray, evidence: Evidence, names: list[str], pair: tuple[str, str]) -> None:
    """Output and change of two networks, a picture a row, the strongest edges of the first network's first."""
    blockiness = evidence.per_image(pair[0], kind="any").set_index("name")["blockiness"].reindex(names)
    worst = blockiness.sort_values(ascending=False, kind="stable").index
    for axis in axes[len(names) :].flat:
        axis.set_visible(False)
    for row, name in zip(axes, worst, strict=False):
        composite = figures.example(evidence, evidence.on_all("identity"), name).astype(float)
        inside = figures.example(evidence, evidence.on_all("identity"), name, ".mask")[..., 0] > 127
        centre = _crossing(inside.any(1)), _crossing(inside.any(0))
        outputs = [_around(figures.example(evidence, method, name), centre) for method in pair]
        changes = [output - _around(composite, centre) for output in outputs]
        gain = float(np.clip(100 // max(np.percentile(np.abs(changes), 99.5), 1), 1, 16))
        for i, (output, change) in enumerate(zip(outputs, changes, strict=True)):
            amplified = (127.5 + gain * change).clip(0, 255).astype(np.uint8)
            for axis, picture in ((row[2 * i], output), (row[2 * i + 1], amplified)):
                outlined(axis, picture)
                axis.images[0].set_interpolation("nearest")
                _ticks(axis, picture.shape)
            row[2 * i + 1].set_xlabel(f"× {gain:g}; grey: none", fontsize=8, labelpad=2)
    for axis, method, words in zip(axes[0], np.repeat(pair, 2), ("output", "change") * 2, strict=True):
        axis.set_title(f"{tables.title(method)}\n{words}", fontsize=9)


def _crossing(profile: np.ndarray) -> int:
    """Of the lines at every quarter of a side, where windows meet, the one nearest to the middle of what is True."""
    side = len(profile)
    middle = np.flatnonzero(profile).mean() if profile.any() else side / 2
    return int(np.clip(round(4 * middle / side), 1, 3)) * side // 4


def _around(picture: np.ndarray, centre: tuple[int, int]) -> np.ndarray:
    """Three eighths of each side around a pixel, within the picture for any `_crossing`."""
    (y, x), (down, across) = centre, (side * 3 // 16 for side in picture.shape[:2])
    return picture[y - down : y + down, x - across : x + across]


def _ticks(axis, shape: tuple[int, ...]) -> None:
    """Where windows meet: in the middle of a crop, marked at its frame."""
    for start in (0, 0.92):
        axis.axvline(shape[1] / 2 - 0.5, start, start + 0.08, color="#ffd23f", lw=1.6)
        axis.axhline(shape[0] / 2 - 0.5, start, start + 0.08, color="#ffd23f", lw=1.6)


@matplotlib.rc_context(STYLE)
def pretraining_length(evidence: Evidence) -> Figure:
    """How long to pre-train: after fine-tuning, while pre-training, and with the printed learning rate."""
    figure, (after, during, rate) = plt.subplots(1, 3, figsize=(10, 3.5))
    for length, name in LENGTHS.items():
        if evidence.has(name):
            share, colour = evidence.ratio(name), SCRATCH if name == "swinih" else LEMART
            after.plot([length, length], [share.low, share.high], color=colour, lw=3, alpha=0.5)
            after.plot(length, share.estimate, "o", color=colour, ms=6)
    after.set_xticks(list(LENGTHS), ["none", "¼", "½", "all"])
    after.set(xlabel="length of pre-training", ylabel=f"fMSE / doing nothing ({evidence.protocol()})")
    after.set(title="After fine-tuning", xlim=(-0.1, 1.1))
    nothing = evidence.mean(evidence.on_all("identity"), split="val", kind="any").estimate
    for name, colour in PRETRAININGS.items():
        for number, run in enumerate(evidence.of(name) if evidence.has(name) else []):
            label = None if number else name.removeprefix("pretrain_swinih").lstrip("_") or "all"
            during.plot(run.log["step"], run.log["val_fmse"] / nothing, color=colour, lw=1.4, label=label)
    during.axhline(1, color=QUIET, ls="--", lw=1, label="doing nothing")
    during.set(xlabel="step of pre-training", ylabel="validation fMSE / doing nothing", title="While pre-training")
    during.legend(fontsize=8.5)
    for name, colour in (("pretrain_swinih", LEMART), (experiments.TRIAL, "#a23b4a")):
        if name in evidence.everything:  # a run that diverged has a loss, and no scores
            evidence.read.add(name)
            _losses(rate, evidence.everything[name][0], colour)
    rate.set(yscale="log", xlabel="step of pre-training", ylabel="training loss", title="The printed learning rate")
    if rate.lines:
        rate.legend(title="learning rate", fontsize=8.5)
    wanted = (*LENGTHS.values(), *PRETRAININGS, experiments.TRIAL)
    _left_out(figure, [name for name in wanted if name not in evidence.everything])
    return figure


def _losses(axis, run: Record, colour: str) -> None:
    """The loss of a run, to where it diverged if it did."""
    log = run.log[(run.log["step"] > 0) & np.isfinite(run.log["train_loss"])]
    axis.plot(log["step"], log["train_loss"], color=colour, lw=1.5, label=f"{run.config['learning_rate']:g}")
    if "diverged" in run.metrics:
        last = log.tail(1)
        axis.plot(last["step"], last["train_loss"], "X", color=colour, ms=8, label="diverged")


@matplotlib.rc_context(STYLE)
def transforms_alone(evidence: Evidence) -> Figure:
    """Which perturbation teaches most: after pre-training with one alone, with all, and with none at all; sorted."""
    names = {"no pre-training": "swinih", "all six": "swinih_lemart"}
    names |= {f"{transform} alone": f"swinih_lemart_only_{transform}" for transform in TRANSFORMS}
    found = {words: evidence.ratio(name) for words, name in names.items() if evidence.has(name)}
    figure, axis = plt.subplots(figsize=(8, 0.42 * max(len(found), 2) + 1.2))
    ordered = dict(sorted(found.items(), key=lambda item: item[1].estimate))
    _points(axis, ordered, "{:.2f}", {"no pre-training": SCRATCH, "all six": LEMART})
    axis.set_xlabel(f"fMSE / doing nothing after fine-tuning ({evidence.protocol()}, {evidence.kind}s, 95 % intervals)")
    _left_out(figure, [name for name in names.values() if not evidence.has(name)])
    return figure


def _points(axis, found: dict[str, Interval], form: str, colours: dict[str, str] | None = None) -> None:
    """Estimates with intervals, the first at the top, and a line at 1."""
    for row, (words, mean) in enumerate(reversed(found.items())):
        colour = (colours or {}).get(words, "#5b87bd")
        axis.plot([mean.low, mean.high], [row, row], color=colour, lw=3, alpha=0.6, solid_capstyle="round")
        axis.plot(mean.estimate, row, "o", color=colour, ms=6)
        place = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
        axis.annotate(form.format(mean.estimate), (mean.estimate, row), (0, 6), **place)
    axis.axvline(1, color=QUIET, ls="--", lw=1)
    axis.set_yticks(range(len(found)), list(reversed(found)))
    axis.set_ylim(-0.6, max(len(found), 1) - 0.2)


def _left_out(figure, names: Iterable[str]) -> None:
    """A note under a (sub)figure: which runs it would show, had they been made."""
    names = list(dict.fromkeys(names))
    if names:
        inches = figure.bbox.width / figure.get_figure(root=True).dpi
        lines = textwrap.wrap(f"no records of {', '.join(names)}", int(15 * inches), break_on_hyphens=False)
        figure.supxlabel("\n".join(lines), fontsize=7.5, color=QUIET, x=0.01, ha="left")


def _note_alone(words: str) -> Figure:
    figure = plt.figure(figsize=(6, 0.6))
    figure.text(0.5, 0.5, words, ha="center", va="center", color=QUIET)
    return figure

"""Figures, from records and prepared pictures. Every function returns a Figure; `save` writes and shows it."""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from harmonylib import experiments, memory, metrics, paper_values, tables
from harmonylib.data.layout import Entry, open_mask, open_rgb
from harmonylib.evidence import Evidence
from harmonylib.paths import whole_file

COLOURS = {"unet": "#3b6fb6", "s2am": "#d1495b", "identity": "#8a8a8a", "paper": "#2f2f2f"}
DRAWING = 200_000  # bytes of a PNG without photographs in it, at most
STYLE = {
    "figure.dpi": 90, "savefig.dpi": 120, "font.size": 9.5, "axes.titlesize": 10.5, "axes.titleweight": "bold",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e6e6e6",
    "axes.axisbelow": True, "legend.frameon": False, "figure.constrained_layout.use": True, "svg.hashsalt": "harmony",
    "text.usetex": False,  # somebody's matplotlibrc may ask for a LaTeX that is not there
}  # fmt: skip


def save(figure: Figure, results: Path, name: str) -> None:
    """Write ``figures/<name>.png``, show the figure where a notebook is running, and close it. Returns None."""
    folder = results / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / f"{name}.png") as file:
        figure.savefig(file, format="png", metadata={"Software": None}, bbox_inches="tight")
    plt.close(figure)
    show(folder / f"{name}.png")


def show(path: Path) -> None:
    """Show a figure that was saved before, where a notebook is running."""
    if _in_notebook():
        from IPython import display

        kind, content = for_screen(path)
        width = round(Image.open(path).width * STYLE["figure.dpi"] / STYLE["savefig.dpi"])
        display.display(display.Image(content, format=kind, width=width))


def for_screen(path: Path) -> tuple[str, bytes]:
    """(``png`` or ``jpeg``, bytes) of a figure as pages and notebooks hold it: with photographs in it, a JPEG of 90 has
    a quarter of the PNG's bytes and shows the same; a drawing stays as it is.
    """
    content = path.read_bytes()
    if len(content) < DRAWING:
        return "png", content
    buffer = BytesIO()
    open_rgb(path).save(buffer, "JPEG", quality=90, subsampling=0, optimize=True)
    return "jpeg", buffer.getvalue()


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return get_ipython() is not None


def outlined(
    axis, picture: np.ndarray, mask: np.ndarray | None = None, title: str = "", colour: str = "#ffd23f"
) -> None:
    """A picture without axes, with the outline of its foreground."""
    axis.imshow(picture, interpolation="lanczos" if max(picture.shape[:2]) < 200 else None)
    if mask is not None:
        axis.contour(mask > 127, levels=[0.5], colors=colour, linewidths=1.0)
    axis.set(xticks=[], yticks=[], title=title)
    axis.grid(False)
    for side in axis.spines.values():
        side.set_visible(False)


@matplotlib.rc_context(STYLE)
def triplets(entries: list[Entry], columns: int = 4) -> Figure:
    """Composites with outlined foregrounds above their targets, straight from the files."""
    rows = -(-len(entries) // columns)
    figure, axes = plt.subplots(2 * rows, columns, figsize=(2.9 * columns, 4.4 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for i, entry in enumerate(entries):
        row, column = divmod(i, columns)
        mask = np.asarray(open_mask(entry.mask))
        outlined(axes[2 * row, column], np.asarray(open_rgb(entry.composite)), mask, f"{entry.subset} · composite")
        outlined(axes[2 * row + 1, column], np.asarray(open_rgb(entry.real)), None, "target")
    return figure


@matplotlib.rc_context(STYLE)
def error_of_nothing(rows: pd.DataFrame) -> Figure:
    """How wrong the composites are before anybody does anything, by subset, and how large their foregrounds are."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    subsets = list(dict.fromkeys(rows["subset"]))
    for subset in subsets:
        chosen = rows[rows["subset"] == subset]
        left.plot(np.sort(chosen["fmse"]), np.linspace(0, 1, len(chosen)), label=f"{subset} ({len(chosen)})")
        right.plot(np.sort(chosen["foreground_ratio"]), np.linspace(0, 1, len(chosen)), label=subset)
    left.set(
        xscale="log", xlabel="fMSE of doing nothing (0-255 scale)", ylabel="share of composites", title="Error to undo"
    )
    right.set(xlabel="foreground's share of the picture", title="Size of the foreground")
    left.legend()
    return figure


def example_names(evidence: Evidence, nothing: str = "identity") -> list[str]:
    """The pictures that every method's outputs were kept for; `nothing`: the record of doing nothing on them."""
    folder = evidence.of(nothing)[0].folder / "examples"
    return sorted(path.name.removesuffix(".real.png") for path in folder.glob("*.real.png"))


def has_example(evidence: Evidence, method: str, name: str) -> bool:
    """Whether a method is at hand and kept its output on a picture."""
    return evidence.has(method) and (evidence.of(method)[0].folder / "examples" / f"{name}.png").is_file()


def example(evidence: Evidence, method: str, name: str, suffix: str = "") -> np.ndarray:
    """A picture that a run has kept: its output, or of doing nothing also ``.real`` and ``.mask``. (H, W, 3) uint8."""
    return np.asarray(open_rgb(evidence.of(method)[0].folder / "examples" / f"{name}{suffix}.png"))


@matplotlib.rc_context(STYLE)
def comparison(evidence: Evidence, methods: Iterable[str], nothing: str = "identity") -> Figure:
    """Methods side by side on the example pictures, between composite and target, with their fMSE."""
    methods, names = list(methods), example_names(evidence, nothing)
    figure, axes = plt.subplots(
        len(names), len(methods) + 1, figsize=(1.75 * (len(methods) + 1), 1.8 * len(names)), squeeze=False
    )
    for row, name in enumerate(names):
        mask = example(evidence, nothing, name, ".mask")[..., 0]
        real = example(evidence, nothing, name, ".real")
        for axis, method in zip(axes[row], methods, strict=False):
            picture = example(evidence, method, name)
            title = "composite" if method == nothing else tables.title(method)
            outlined(axis, picture, mask if method == nothing else None, title if row == 0 else "")
            axis.set_xlabel(f"fMSE {metrics.score(picture, real, mask / 255)['fmse']:.0f}", fontsize=8)
        outlined(axes[row, -1], real, None, "target" if row == 0 else "")
    return figure


@matplotlib.rc_context(STYLE)
def qualitative(evidence: Evidence, method: str = "s2am") -> Figure:
    """S2AM-T4's Figure 1, four columns, with the object's outline, and a fifth: where the output is off."""
    names = example_names(evidence)
    figure, axes = plt.subplots(len(names), 5, figsize=(9.2, 1.85 * len(names)), squeeze=False)
    heads = ("input composite", "binary mask", f"{tables.title(method)} output", "ground truth", "error of the output")
    for row, name in enumerate(names):
        mask = example(evidence, "identity", name, ".mask")
        composite, real = (example(evidence, "identity", name, suffix) for suffix in ("", ".real"))
        output = example(evidence, method, name)
        for axis, picture, head in zip(axes[row], (composite, mask, output, real), heads, strict=False):
            outlined(axis, picture, mask[..., 0] if picture is not mask else None, head if row == 0 else "")
        error = np.abs(output.astype(float) - real).mean(-1)
        outlined(axes[row, 4], np.zeros_like(real), mask[..., 0], heads[4] if row == 0 else "")
        shown = axes[row, 4].imshow(error, cmap="magma", vmin=0, vmax=64)
        for column, picture in ((0, composite), (2, output)):
            fmse = metrics.score(picture, real, mask[..., 0] / 255)["fmse"]
            axes[row, column].set_xlabel(f"fMSE {fmse:.0f}", fontsize=8)
    bar = figure.colorbar(shown, ax=axes[:, 4], fraction=0.08, aspect=40)
    bar.set_label("mean absolute error, levels of 255")
    return figure


@matplotlib.rc_context(STYLE)
def learning_curves(evidence: Evidence) -> Figure:
    """Section 4.3: validation fMSE as a share of doing nothing; one line a seed, dots at the ends of epochs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    # the curve's points between epochs are measured on a sample of the validation pictures; so is its reference
    nothing = evidence.mean("identity", split="val", kind="any").estimate
    for name in experiments.HEADLINE:
        for number, run in enumerate(evidence.of(name)):
            log, label = run.log, tables.title(name) if number == 0 else None
            ends = log[log["epoch"] > 0]
            left.plot(log["seen"], log["val_fmse"] / nothing, color=COLOURS[name], alpha=0.75, lw=1.4, label=label)
            left.plot(ends["seen"], ends["val_fmse"] / nothing, "o", color=COLOURS[name], ms=4)
            trained = log[log["step"] > 0]
            right.plot(
                trained["seen"],
                trained["train_loss"] / trained["train_loss"].iloc[0],
                color=COLOURS[name],
                lw=1.4,
                label=label,
            )
    left.axhline(1, color=COLOURS["identity"], ls="--", lw=1)
    label = {"ha": "right", "va": "bottom", "color": COLOURS["identity"], "transform": left.get_yaxis_transform()}
    left.text(0.98, 1.02, "doing nothing", **label)
    left.set(yscale="log", xlabel="pictures seen", ylabel="validation fMSE / doing nothing", title="Validation")
    right.set(
        yscale="log",
        xlabel="pictures seen",
        ylabel="training loss / its first value",
        title="Training (each its own loss)",
    )
    left.legend(loc="upper right")
    for axis in (left, right):
        _plain_ticks(axis, [0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10])
    return figure


@matplotlib.rc_context(STYLE)
def methods(evidence: Evidence) -> Figure:
    """Table 1 as a picture: share of doing nothing, with intervals; the paper's values on the reading of its scale."""
    names = [name for name in tables.MAIN if evidence.has(name) and name != "identity"]
    nothing = metrics.to_s2am_t4(tables.HCOCO_NOTHING)
    figure, axis = plt.subplots(figsize=(7.2, 0.42 * len(names) + 1.3))
    for row, name in enumerate(reversed(names)):
        share = evidence.ratio(name, protocol="s2am_t4")
        axis.plot([share.low, share.high], [row, row], color=COLOURS.get(name, "#5f7d6e"), lw=3, solid_capstyle="round")
        axis.plot(share.estimate, row, "o", color=COLOURS.get(name, "#5f7d6e"), ms=7)
        axis.annotate(
            f"{share.estimate:.2f}", (share.estimate, row), (0, 7), textcoords="offset points", ha="center", fontsize=8
        )
        if name in tables.IN_PAPER:
            printed = paper_values.value("s2am_t4", "table1", "fmse", name) / nothing
            axis.plot(
                printed,
                row,
                marker="D",
                ls="none",
                ms=5,
                mfc="white",
                mec=COLOURS["paper"],
                label="paper, HCOCO" if name == "unet" else None,
            )
    axis.axvline(1, color=COLOURS["identity"], ls="--", lw=1)
    axis.set_yticks(range(len(names)), [tables.title(name) for name in reversed(names)])
    axis.set(
        xscale="log",
        xlabel=f"fMSE / doing nothing ({evidence.protocol('s2am_t4')}, {evidence.kind}s, 95 % intervals)",
        ylim=(-0.6, len(names) - 0.2),
    )
    ticks = [0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4]
    axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axis.minorticks_off()
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="lower right")
    return figure


@matplotlib.rc_context(STYLE)
def data_share(evidence: Evidence) -> Figure:
    """RQ1: share of doing nothing against the share of the training photographs, with intervals."""
    figure, axis = plt.subplots(figsize=(5.6, 3.4))
    for base in experiments.HEADLINE:
        points = [(share, experiments.of_share(base, share)) for share in (*experiments.SHARES, 1.0)]
        points = [(share, evidence.ratio(name)) for share, name in points if evidence.has(name)]
        shares = [100 * share for share, _ in points]
        axis.plot(shares, [r.estimate for _, r in points], "o-", color=COLOURS[base], label=tables.title(base))
        axis.fill_between(
            shares, [r.low for _, r in points], [r.high for _, r in points], color=COLOURS[base], alpha=0.15, lw=0
        )
    axis.set(
        xscale="log",
        xlabel="share of the training photographs, %",
        ylabel=f"fMSE / doing nothing ({evidence.protocol()})",
    )
    axis.set_xticks(shares, [f"{s:g}" for s in shares])
    axis.minorticks_off()
    axis.legend()
    return figure


@matplotlib.rc_context(STYLE)
def memory_lab(matrix: pd.DataFrame) -> Figure:
    """Predicted (and, where there, measured) training memory by batch, for every size, with the T4's 15 GB."""
    columns = [(p, d) for p, d in ((64, "float32"), (64, "float16"), (16, "float32")) if p in set(matrix["place"])]
    sizes = sorted(matrix["size"].unique())
    shape = (len(sizes), len(columns))
    figure, axes = plt.subplots(*shape, figsize=(9.6, 2.5 * shape[0] + 0.6), sharex=True, sharey=True, squeeze=False)
    for row, size in enumerate(sizes):
        for axis, (place, dtype) in zip(axes[row], columns, strict=True):
            _memory_lines(axis, matrix.query(f"size == {size} and place == {place} and dtype == '{dtype}'"))
            side = place * size // 256
            axis.set_title(f"{size} px, attention map {side} x {side}, {dtype}", fontsize=9)
    free = axes[0, -1]  # of lines up there, and of the legend
    free.text(0.03, memory.T4_BYTES / 2**30 * 1.1, "15 GB", fontsize=8, transform=free.get_yaxis_transform())
    axes[0, 0].legend(fontsize=7.5, loc="upper left")
    figure.supxlabel("batch", fontsize=10)
    figure.supylabel("training peak, GiB", fontsize=10)
    return figure


def _memory_lines(axis, part: pd.DataFrame) -> None:
    shades = {1: "#f2a65a", 4: "#d1495b", 8: "#7b1e3a"}
    naive = [(h, line) for h, line in part[part["attention"] == "naive"].groupby("heads")]
    for heads, line in naive:
        label = f"naive, {heads} head{'s' if heads > 1 else ''}"
        axis.plot(line["batch"], line["predicted_bytes"] / 2**30, "o-", ms=3, color=shades[heads], label=label)
    exact = part[part["attention"] == "exact"]
    exact = exact[exact["heads"] == exact["heads"].max()]  # it costs the same whatever the heads
    axis.plot(
        exact["batch"], exact["predicted_bytes"] / 2**30, "s--", ms=3, lw=1.8, color=COLOURS["unet"], label="exact"
    )
    if "measured_bytes" in part:
        axis.plot(part["batch"], part["measured_bytes"] / 2**30, "x", color="black", ms=4, label="measured")
    axis.axhline(memory.T4_BYTES / 2**30, color="black", lw=1)
    axis.set(xscale="log", yscale="log")
    batches = sorted(part["batch"].unique())
    axis.set_xticks(batches, batches)
    _plain_ticks(axis, [0.1, 1, 10, 100])


def _plain_ticks(axis, ticks: list[float]) -> None:
    """Numbers instead of powers on a logarithmic y axis, where they lie inside it."""
    low, high = axis.get_ylim()
    chosen = [tick for tick in ticks if low <= tick <= high]
    axis.set_yticks(chosen, [f"{tick:g}" for tick in chosen])
    axis.minorticks_off()

"""Figures of what LEMaRT and SwinIH are: transforms, masks, the pipeline (paper's Figures 2 to 4) and the network.

Everything drawn comes from the objects themselves, so that a figure cannot say something else than the code does.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor, nn

from harmonylib.figures import STYLE, outlined
from harmonylib.lemart import LEMaRT
from harmonylib.masks import STRATEGIES, draw
from harmonylib.models.swinih import SwinIH
from harmonylib.models.windows import GlobalAttention, PatchMerging, PatchSplitting
from harmonylib.transforms import DOMAIN, TRANSFORMS

INK, PALE, FAINT = "#2f2f2f", "#f3f1ec", "#8a8a8a"
ARROW = {"arrowstyle": "-|>", "color": INK, "lw": 1.1, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9}
KINDS = {"window": "#a9c4e4", "shifted window": "#5b87bd", "global": "#d98e3f"}  # of attention
STRENGTHS = {  # how a strength is written, in the units of `transforms.DOMAIN`
    "brightness": lambda s: f"× {s:.2f}",
    "contrast": lambda s: f"× {s:.2f}",
    "saturation": lambda s: f"× {s:.2f}",
    "hue": lambda s: f"{s:.0f}°".replace("-", "−"),
    "sharpness": lambda s: f"× {s:.2f}",
    "defocus": lambda s: f"radius {100 * s:.1f} %",
}


@matplotlib.rc_context(STYLE)
def transform_strip(images: Tensor, columns: int = 7) -> Figure:
    """LEMaRT's transforms (section 3.2), one a row, from the low to the high end of the configured range.

    images: (1, 3, H, W) in [0, 1]. An odd number of columns shows the neutral strength in the middle of a range around
    it.
    """
    height = 9.0 / columns * images.shape[2] / images.shape[3] + 0.25
    shape = (len(TRANSFORMS), columns)
    figure, axes = plt.subplots(*shape, figsize=(10, height * len(TRANSFORMS)), squeeze=False)
    for row, (name, transform) in zip(axes, TRANSFORMS.items(), strict=True):
        for axis, strength in zip(row, np.linspace(transform.low, transform.high, columns), strict=True):
            neutral = np.isclose(strength, DOMAIN[name][2])
            outlined(axis, levels(LEMaRT.transform_only(images, name, float(strength))[0]))
            words = STRENGTHS[name](strength) + (" · unchanged" if neutral else "")
            axis.set_xlabel(words, fontsize=8, color=FAINT if neutral else INK, labelpad=2)
        _row_label(row[0], name, f"probability {transform.probability:g}")
    return figure


@matplotlib.rc_context(STYLE)
def masks(size: int = 256, seed: int = 0, columns: int = 6) -> Figure:
    """The paper's Figure 4: masks of the three strategies at a ratio of 0.5; white is what is selected."""
    generator = torch.Generator().manual_seed(seed)
    remarks = {
        "random": "others for\nevery image",
        "grid": "the same for\nevery image",
        "block": "merged\nquadrilaterals",
    }
    figure, axes = plt.subplots(len(STRATEGIES), columns, figsize=(9.6, 1.6 * len(STRATEGIES)), squeeze=False)
    for row, strategy in zip(axes, STRATEGIES, strict=True):
        for axis, mask in zip(row, draw(strategy, (columns, size, size), generator=generator), strict=True):
            outlined(axis, mask[0].numpy())
            axis.images[0].set(cmap="gray", clim=(0, 1), interpolation="nearest")
            axis.set_xlabel(f"{100 * mask.mean():.0f} %", fontsize=8, labelpad=2)
            _frame(axis)
        _row_label(row[0], strategy, remarks[strategy])
    return figure


def _frame(axis) -> None:
    """Around a mask: white ends nowhere on white."""
    for side in axis.spines.values():
        side.set(visible=True, color=FAINT, linewidth=0.6)


def _row_label(axis, name: str, remark: str) -> None:
    axis.set_ylabel(f"$\\bf{{{name}}}$\n{remark}", rotation=0, ha="right", va="center", labelpad=6)


@matplotlib.rc_context(STYLE)
def pipeline(image: Tensor, lemart: LEMaRT, network: nn.Module, generator: torch.Generator | None = None) -> Figure:
    """The paper's Figure 2, from the tensors of one photograph and what the network makes of its composite.

    image: (1, 3, H, W) in [0, 1], of a size that the network takes; network: called in evaluation mode.
    """
    steps = lemart.steps(image, generator)
    was_training = network.training
    with torch.no_grad():
        output = network.eval()(steps.composite, steps.mask)
    network.train(was_training)
    figure, axis = _canvas(10.6, 4.8)
    mask = f"{lemart.strategy}, {100 * steps.mask.mean():.0f} %"
    places = {  # centre, what, its name
        "image": ((0.95, 2.75), image, "$I$\nphotograph"),
        "transformed": ((3.2, 3.85), steps.transformed, "$T(I)$, transformed"),
        "mask": ((3.2, 1.9), steps.mask, f"$M$, mask ({mask})"),
        "composite": ((6.45, 2.75), steps.composite, "$I_c$\ncomposite"),
        "output": ((9.65, 2.75), output, "$f_\\theta(I_c)$\nreconstruction"),
    }
    for (x, y), tensor, words in places.values():
        inset = axis.inset_axes((x - 0.75, y - 0.75, 1.5, 1.5), transform=axis.transData)
        outlined(inset, levels(tensor[0].expand(3, -1, -1)))
        inset.set_xlabel(words, fontsize=9, labelpad=3)
        if tensor.shape[1] == 1:
            _frame(inset)
            inset.images[0].set_interpolation("nearest")
    lane = 0.62  # of the photograph itself, below everything
    _arrow(axis, (1.73, 3.2), (1.9, 3.2), (1.9, 3.85), (2.42, 3.85))
    _sign(axis, (1.9, 3.52), "$T$")
    _arrow(axis, (3.98, 3.85), (4.82, 3.85), (4.82, 2.95))
    _arrow(axis, (3.98, 2.2), (4.38, 2.2), (4.38, 2.8), (4.68, 2.8))
    _arrow(axis, (3.98, 1.6), (4.38, 1.6), (4.38, 1.25), (4.68, 1.25))
    axis.text(4.42, 1.44, "$1 - M$", fontsize=9)
    _arrow(axis, (0.95, 1.55), (0.95, lane), (4.82, lane), (4.82, 1.1))
    _arrow(axis, (4.97, 2.8), (5.21, 2.8))
    _arrow(axis, (4.82, 1.4), (4.82, 1.9), (5.36, 1.9), (5.36, 2.64))
    for place, sign in (((4.82, 2.8), "$\\odot$"), ((4.82, 1.25), "$\\odot$"), ((5.36, 2.8), "$\\oplus$")):
        _sign(axis, place, sign)
    _arrow(axis, (5.51, 2.8), (5.68, 2.8))
    _arrow(axis, (7.22, 2.75), (7.55, 2.75))
    rounded = "round,pad=0,rounding_size=0.08"
    axis.add_patch(FancyBboxPatch((7.6, 2.15), 0.95, 1.2, boxstyle=rounded, fc="#dfe8f3", ec=KINDS["shifted window"]))
    axis.text(8.07, 2.86, "$f_\\theta$", fontsize=15, ha="center", va="center")
    axis.text(8.07, 2.42, type(network).__name__, fontsize=8, ha="center", va="center")
    _arrow(axis, (8.58, 2.75), (8.88, 2.75))
    _arrow(axis, (4.82, lane), (8.84, lane))
    _arrow(axis, (9.65, 1.55), (9.65, lane + 0.15))
    _sign(axis, (9.6, lane), r"loss: mean $(f_\theta(I_c) - I)^2$")
    axis.text(6.6, lane + 0.08, "$I$, what to reconstruct", fontsize=8.5, ha="center", color=INK)
    axis.text(5.36, 4.4, r"$I_c = M \odot T(I) \oplus (1 - M) \odot I$", fontsize=11)
    return figure


def reconstructions(image: Tensor, lemart: LEMaRT, networks: dict[str, nn.Module]) -> list[tuple]:
    """The top of the paper's Figure 1: (title, picture, mask) from the photograph to what each network makes of it.

    image: (1, 3, H, W) in [0, 1]; networks: by title.
    """
    steps = lemart.steps(image, torch.Generator().manual_seed(0))
    mask = levels(steps.mask[0].expand(3, -1, -1))[..., 0]
    pictures = [("photograph", image, None), ("transformed", steps.transformed, None)]
    pictures.append(("composite", steps.composite, mask))
    with torch.no_grad():
        pictures += [(name, net.eval()(steps.composite, steps.mask), None) for name, net in networks.items()]
    return [(words, levels(picture[0]), outline) for words, picture, outline in pictures]


@dataclass(frozen=True)
class _Column:
    """One upright box of the network's figure."""

    colour: str
    words: str
    tokens: int  # a side of the map that it gives
    stage: int | None = None  # whose block it is


@matplotlib.rc_context(STYLE)
def architecture(model: SwinIH, size: int = 256) -> Figure:
    """The paper's Figure 3 for SwinIH or one of its variants, read off the network itself.

    The maps are those of a picture of ``size`` px: a forward pass without data. The height of a box follows the side of
    its map; the number in a block is its channels.
    """
    maps = token_maps(model, size)
    columns = list(_columns(model, maps))
    figure, axis = _canvas(10.4, 4.7)
    tallest, middle, gap, left, right = max(c.tokens for c in columns), 2.75, 0.3, 1.3, 9.0
    apart = [a.stage is None or a.stage != b.stage for a, b in pairwise(columns)]
    width = min(0.45, (right - left - gap * sum(apart)) / len(columns))
    x = left = (left + right - gap * sum(apart) - width * len(columns)) / 2
    extents: dict[int, list[float]] = {}
    for column, gap_after in zip(columns, [*apart, False], strict=True):
        height = 2.4 * (column.tokens / tallest) ** 0.6
        box = (x + 0.02, middle - height / 2), width - 0.04, height
        axis.add_patch(Rectangle(*box, fc=column.colour, ec=INK, lw=0.7))
        axis.text(x + width / 2, middle, column.words, rotation=90, ha="center", va="center", fontsize=8)
        if column.stage is not None:
            extents.setdefault(column.stage, []).extend((x, x + width))
        x += width
        if gap_after:
            _arrow(axis, (x + 0.02, middle), (x + gap - 0.01, middle))
            x += gap
    for index, stage in enumerate(model.stages):
        start, end = min(extents[index]), max(extents[index])
        axis.plot([start + 0.02, end - 0.02], [1.42, 1.42], color=INK, lw=0.8)
        axis.text((start + end) / 2, 1.36, _about(stage, maps[stage], index), ha="center", va="top", fontsize=8.5)
    _ends(axis, model, size, middle, left, x)
    return figure


def token_maps(model: SwinIH, size: int) -> dict[nn.Module, tuple[int, int]]:
    """(side of the map, channels) that the embedding, each stage and each transition give for pictures of ``size`` px.

    Nothing is computed: a copy of the network without data is called.
    """
    shadow = copy.deepcopy(model).to("meta")
    real, copied = ([m.embed, *m.stages, *_steps(*m.transitions)] for m in (model, shadow))
    shapes = {}
    for part in copied:
        part.register_forward_hook(lambda module, inputs, output: shapes.update({module: output.shape}))
    shadow(*(torch.empty(1, channels, size, size, device="meta") for channels in (3, 1)))
    return {part: (shapes[double][1], shapes[double][3]) for part, double in zip(real, copied, strict=True)}


def _steps(*transitions: nn.Module) -> list[nn.Module]:
    """The layers of transitions one by one; those that do nothing are left out."""
    layers = [step for t in transitions for step in (t if isinstance(t, nn.Sequential) else [t])]
    return [layer for layer in layers if not isinstance(layer, nn.Identity)]


def _columns(model: SwinIH, maps: dict[nn.Module, tuple[int, int]]) -> Iterator[_Column]:
    tokens, channels = maps[model.embed]
    yield _Column(PALE, f"patches of {model.patch} px → {channels}", tokens)
    for index, (stage, transition) in enumerate(zip(model.stages, model.transitions, strict=True)):
        tokens, channels = maps[stage]
        for block in stage:
            yield _Column(KINDS[_kind(block.attention)], str(channels), tokens, index)
        for step in _steps(transition):
            tokens, channels = maps[step]
            verb = {PatchMerging: "merge", PatchSplitting: "split"}.get(type(step), "linear")
            yield _Column(PALE, f"{verb} → {channels}", tokens)
    yield _Column(PALE, f"norm, linear → {model.head.out_features}", tokens)


def _kind(attention: nn.Module) -> str:
    if isinstance(attention, GlobalAttention):
        return "global"
    return "shifted window" if attention.shifted else "window"


def _about(stage: nn.Sequential, shape: tuple[int, int], index: int) -> str:
    tokens, channels = shape
    attentions = [block.attention for block in stage]
    heads = attentions[0].heads
    window = min(attentions[0].window, tokens)
    return "\n".join(
        (
            f"$\\bf{{stage\\ {index + 1}}}$",
            f"{tokens} × {tokens} tokens",
            f"{channels} channels",
            f"{heads} head{'s' * (heads > 1)}",
            f"window {window} × {window}",
            f"{_count(stage)} parameters",
        )
    )


def _ends(axis, model: SwinIH, size: int, middle: float, left: float, right: float) -> None:
    """What goes into the network and what comes out, its size, and what the colours mean."""
    for x, words in ((left - 0.72, "$I_c$, $M$\n4 channels"), (right + 0.88, "$\\hat{I}$\n3 channels")):
        axis.text(x, middle, f"{words}\n{size} px", ha="center", va="center", fontsize=9)
    _arrow(axis, (left - 0.3, middle), (left, middle))
    _arrow(axis, (right, middle), (right + 0.46, middle))
    if model.skip:
        _arrow(axis, (left - 0.72, 3.1), (left - 0.72, 4.12), (right + 0.2, 4.12), (right + 0.2, middle + 0.1))
        axis.text(
            (left + right) / 2, 4.15, "the network predicts a change of $I_c$", ha="center", va="bottom", fontsize=8
        )
        _sign(axis, (right + 0.17, middle), "+")
    whole = f"{type(model).__name__}: {_count(model)} parameters"
    axis.text(0.15, 4.62, whole, fontsize=11, weight="bold", va="top")
    used = {_kind(block.attention) for stage in model.stages for block in stage}
    handles = [Rectangle((0, 0), 1, 1, fc=KINDS[k], ec=INK, lw=0.7, label=f"{k} attention") for k in KINDS if k in used]
    place = {"loc": "upper right", "bbox_to_anchor": (10.35, 4.72), "bbox_transform": axis.transData}
    axis.legend(handles=handles, ncols=3, fontsize=8.5, handlelength=1.1, borderaxespad=0, **place)


def _count(module: nn.Module) -> str:
    number = sum(p.numel() for p in module.parameters())
    return f"{number / 1e6:.2f} M" if number >= 1e6 else f"{number:,}"


def levels(picture: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] -> (H, W, 3) uint8."""
    return picture.detach().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()


def _canvas(width: float, height: float):
    """A figure and one axis over all of it, in inches (but for 0.35 at the bottom), without a frame."""
    figure = plt.figure(figsize=(width, height - 0.35), layout="none")
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0.35, height))
    axis.axis("off")
    return figure, axis


def _arrow(axis, *points: tuple[float, float]) -> None:
    """A line through the points with a head at the last."""
    if len(points) > 2:
        axis.plot(*zip(*points[:-1], strict=True), color=INK, lw=1.1, solid_joinstyle="miter")
    axis.annotate("", points[-1], points[-2], arrowprops=ARROW)


def _sign(axis, centre: tuple[float, float], words: str) -> None:
    """An operator in a circle, or words in a rounded box, on top of a line."""
    style = "circle,pad=0.25" if len(words) < 12 else "round,pad=0.45"
    box = {"boxstyle": style, "fc": "white", "ec": INK, "lw": 0.9}
    axis.text(*centre, words, ha="center", va="center", fontsize=9, bbox=box)

"""How HCOCO was made, step by step, on one photograph (S2AM-T4 section 3.1; `harmonylib.data.coco_mini`)."""

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from harmonylib.colour_transfer import TRANSFERS
from harmonylib.data.coco_mini import recolour, why_broken
from harmonylib.data.photographs import Region
from harmonylib.figures import STYLE, outlined

CHANNELS = {"red": "#c44536", "green": "#4f8a4c", "blue": "#3b6fb6"}


@matplotlib.rc_context(STYLE)
def transfers(target: np.ndarray, region: Region, other: np.ndarray, reference: Region, seed: int = 0) -> Figure:
    """The object of one photograph in the colours of another's, by the four transfers of iHarmony4.

    First row: the target, the reference, and the object's colours before and those of the reference, as cumulative
    histograms. Second row: the composites, with fMSE and what the filter says. Third row: the object's histograms after
    (solid) against the reference's (dashed): where they coincide, what the method matches is matched.

    Args:
        target, other: photographs, (H, W, 3) uint8.
        region, reference: an object of each.
        seed: of what a transfer draws at random.
    """
    mask, colours = region.mask.astype(np.float32) / 255, other[reference.mask > 127]
    figure, axes = plt.subplots(3, 4, figsize=(10, 7.4), height_ratios=(1, 1, 0.75))
    outlined(axes[0, 0], target, region.mask, f"target: the {region.object}")
    outlined(axes[0, 1], other, reference.mask, f"reference: the {reference.object}")
    _histograms(axes[0, 2], target[region.mask > 127], title="the object's colours")
    _histograms(axes[0, 3], colours, title="the reference's", style="--")
    for (above, below), (name, _) in zip(axes[1:].T, TRANSFERS.items(), strict=True):
        composite = recolour(target, mask, colours, name, 1.0, np.random.default_rng(seed))
        inside = region.mask > 127
        fmse = np.square(composite[inside].astype(float) - target[inside]).mean()
        outlined(above, composite, title=name.replace("_", " "))
        above.set_xlabel(f"fMSE {fmse:.0f}; {why_broken(target, composite, inside) or 'kept'}", fontsize=8.5)
        _histograms(below, composite[inside])
        _histograms(below, colours, style="--")
    axes[2, 0].set_ylabel("share of pixels below")
    return figure


def _histograms(axis, pixels: np.ndarray, title: str = "", style: str = "-") -> None:
    """Cumulative histograms of the three channels of (N, 3) pixels."""
    for channel, colour in enumerate(CHANNELS.values()):
        levels = np.bincount(pixels[:, channel], minlength=256).cumsum() / len(pixels)
        axis.plot(levels, style, color=colour, lw=1.3 if style == "-" else 1.0, alpha=1 if style == "-" else 0.7)
    axis.set(xlim=(0, 255), ylim=(0, 1), xticks=(0, 128, 255), yticks=(0, 0.5, 1))
    if title:
        axis.set_title(title)

"""The four colour transfers that made iHarmony4: an object takes the colours of another one.

Source: Cong et al., "DoveNet" (CVPR 2020), section 3, and bcmi/Image-Harmonization-Dataset-iHarmony4, ``README.md``:
global transfer in l-alpha-beta (Reinhard et al. 2001), global transfer in a decorrelated colour space (Xiao and Ma
2006), cumulative histograms (Fecker et al. 2008) and iterative distribution transfer (Pitie et al. 2007). Their code is
not published; what follows is from those papers.

A transfer is a function (source (N,3), reference (M,3), generator) -> (N,3): pixels of RGB, uint8, to float64 on the
same scale, neither rounded nor clipped. The order of pixels does not matter, so objects of any shape go together.
"""

from collections.abc import Callable

import numpy as np

from harmonylib.baselines import LOG_LMS_TO_LAB, MIN_LMS, MIN_STD, RGB_TO_LMS

Transfer = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
MIN_VARIANCE = 1e-4  # of a principal axis, in squared levels: below it there is no colour to stretch
IDT_STEPS = 12  # Pitie et al. converge in about ten
IDT_SAMPLE = 4096  # pixels that the maps are fitted on
IDT_QUANTILES = 128
SHARES = np.linspace(0, 1, IDT_QUANTILES)
IDT_BINS = 512  # of a map's table


def reinhard_lab(source: np.ndarray, reference: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Mean and standard deviation of each channel in l-alpha-beta become the reference's (Reinhard et al. 2001)."""
    return from_lab(match_moments(to_lab(source), to_lab(reference)))


def decorrelated_rgb(source: np.ndarray, reference: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Mean and covariance in RGB become the reference's (Xiao and Ma 2006): principal axis is turned to principal axis.

    A principal axis has no sign of its own. Here each is given the one nearer to its partner's, without which an object
    can come out as its negative; the paper is silent about it.
    """
    means = source.mean(0), reference.mean(0)
    (spread, axes), (wanted, onto) = (_principal_axes(pixels) for pixels in (source, reference))
    onto = onto * np.where((axes * onto).sum(0) < 0, -1, 1)
    gain = np.sqrt(np.divide(wanted, spread, out=np.ones(3), where=spread > MIN_VARIANCE))
    return (source - means[0]) @ (axes * gain) @ onto.T + means[1]


def cumulative_histogram(source: np.ndarray, reference: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Each channel's cumulative histogram becomes the reference's (Fecker et al. 2008), by a table of 256 entries."""
    return np.stack([_levels_for(source[:, c], reference[:, c])[source[:, c]] for c in range(3)], axis=1)


def iterative_distribution(source: np.ndarray, reference: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The whole distribution becomes the reference's, by one-dimensional matches along random axes (Pitie et al. 2007).

    Every step turns both sets of pixels by a random rotation (the first one not at all), maps each of the source's
    three marginals to the reference's, and turns back. Maps are fitted on a sample of the pixels and applied to all.
    """
    moved, wanted = (np.ascontiguousarray(pixels.T, np.float32) for pixels in (source, reference))
    fitted, others = (_sample(pixels.shape[1], generator) for pixels in (moved, wanted))
    wanted = wanted[:, others]
    for step in range(IDT_STEPS):
        rotation = np.linalg.qr(generator.standard_normal((3, 3)))[0] if step else np.eye(3)
        rotation = rotation.astype(np.float32)
        turned = rotation @ moved
        for own, other in zip(turned, rotation @ wanted, strict=True):
            own[:] = _match_marginal(own, np.sort(own[fitted]), np.sort(other))
        moved = rotation.T @ turned
    return moved.T.astype(np.float64)


TRANSFERS: dict[str, Transfer] = {  # in iHarmony4's order
    "reinhard_lab": reinhard_lab,
    "decorrelated_rgb": decorrelated_rgb,
    "cumulative_histogram": cumulative_histogram,
    "iterative_distribution": iterative_distribution,
}


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """(N,3) RGB in [0,255] -> (N,3) float64 l-alpha-beta of Reinhard et al. 2001, logarithms to base 10."""
    return np.log10(np.maximum(rgb @ RGB_TO_LMS.T, MIN_LMS)) @ LOG_LMS_TO_LAB.T


def from_lab(lab: np.ndarray) -> np.ndarray:
    """The inverse of `to_lab`, neither rounded nor clipped."""
    return 10 ** (lab @ np.linalg.inv(LOG_LMS_TO_LAB).T) @ np.linalg.inv(RGB_TO_LMS).T


def match_moments(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(N,C) source with each channel shifted and stretched to the mean and standard deviation of (M,C) target."""
    spread = source.std(axis=0)
    gain = np.divide(target.std(axis=0), spread, out=np.ones_like(spread), where=spread > MIN_STD)
    return (source - source.mean(axis=0)) * gain + target.mean(axis=0)


def _principal_axes(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances (3,), falling, and the axes they are along, the columns of (3,3)."""
    variances, axes = np.linalg.eigh(np.cov(pixels, rowvar=False, bias=True))
    return variances[::-1].clip(0), axes[:, ::-1]


def _levels_for(source: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """One channel's table: each level goes to the one of the reference that the same share of pixels lies below."""
    counts, wanted = (np.bincount(values, minlength=256) for values in (source, reference))
    below, below_wanted = ((c.cumsum() - c / 2) / c.sum() for c in (counts, wanted))  # the middle of a level's pixels
    present = np.flatnonzero(wanted)
    return np.interp(below, below_wanted[present], present.astype(np.float64))


def _sample(count: int, generator: np.random.Generator) -> np.ndarray:
    """Which pixels to fit on."""
    return generator.choice(count, IDT_SAMPLE, replace=False) if count > IDT_SAMPLE else np.arange(count)


def _match_marginal(values: np.ndarray, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Values (N,) by the piecewise linear map that takes the quantiles of `own` to those of `other`, both sorted.

    Beyond the ends it shifts as at the ends, so that values outside the sample keep their order. The map is read from a
    table with even steps, several times faster than by searching the quantiles.
    """
    knots, goals = (pixels[np.rint(SHARES * (len(pixels) - 1)).astype(int)] for pixels in (own, other))
    low, high = knots[0], knots[-1]
    if high - low < MIN_VARIANCE:  # one colour: shifted, for there is nothing to stretch
        return values + (goals.mean() - low)
    even = np.linspace(low, high, IDT_BINS + 1)
    table = np.interp(even, knots, goals).astype(np.float32)
    steps = np.diff(table)
    scale = np.float32(IDT_BINS / (high - low))
    inside = np.clip(values, low, high)
    place = (inside - low) * scale
    cell = np.minimum(place.astype(np.int32), IDT_BINS - 1)
    return table.take(cell) + steps.take(cell) * (place - cell) + (values - inside)

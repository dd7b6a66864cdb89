"""Intervals and verdicts: how sure the measured numbers make us.

Composites made from one photograph are not independent observations: they share its pixels, its object and its
difficulty. Every interval here therefore resamples *groups* (photographs or scenes), never single composites, and a
verdict on a claim is computed from intervals by rules fixed before the runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harmonylib.errors import HarmonyError

LEVEL = 0.95
MIN_GROUPS = 20  # fewer test photographs or scenes than this decide nothing
MIN_SEEDS = 2

HOLDS = "holds"
DOES_NOT_HOLD = "does not hold"
CANNOT_TELL = "cannot tell at this scale"


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % bootstrap percentile interval over `n_groups` photographs.

    `null` is the value that means "no effect": 0 for means and differences, 1 for ratios. A percentile interval
    is a little too narrow for few photographs: on normal data it covers the truth in 94 % of cases with 150 of them and
    in 93 % with 20.
    """

    estimate: float
    low: float
    high: float
    n_groups: int
    null: float = 0.0

    @property
    def side(self) -> int:
        """-1 or 1 where the whole interval lies below or above `null`, 0 where it contains it."""
        return int(self.low > self.null) - int(self.high < self.null)

    def within(self, margin: float) -> bool:
        """Whether the whole interval is closer to `null` than `margin`."""
        return self.low > self.null - margin and self.high < self.null + margin

    def __str__(self) -> str:
        return f"{self.estimate:.4g} [{self.low:.4g}, {self.high:.4g}]"


def bootstrap_mean(a, groups, n: int = 2000, seed: int = 0) -> Interval:
    """Interval of mean(a).

    a: one value an image, shape (N,). groups: the image's photograph (any labels), shape (N,). n: bootstrap resamples.
    The estimate is the mean of per-image values, so photographs with more composites weigh more, as in the tables.
    Values that are not finite are left out. Raises HarmonyError for unequal lengths or fewer than 2 groups.
    """
    (a,), groups = _complete([a], groups)
    return _bootstrap([a], groups, n, seed, lambda means: means[0], null=0.0)


def paired_bootstrap(a, b, groups, n: int = 2000, seed: int = 0, statistic: str = "difference") -> Interval:
    """Interval of mean(a) - mean(b) or of mean(a) / mean(b), for two methods scored on the same images.

    a, b: one value an image, shape (N,), in the same order. groups: the image's photograph, shape (N,). To pool seeds,
    concatenate their rows: a photograph then carries all its seeds along. An image whose value is not finite in `a` or
    in `b` is left out of both. Raises HarmonyError for unequal lengths, fewer than 2 groups, an unknown statistic, or a
    ratio whose denominator is not positive.
    """
    (a, b), groups = _complete([a, b], groups)
    if statistic == "difference":
        # equal counts on both sides: the difference of means is the mean difference, and keeps its digits
        return _bootstrap([a - b], groups, n, seed, lambda means: means[0], null=0.0)
    if statistic == "ratio":
        if not (np.bincount(groups, weights=b) > 0).all():
            raise HarmonyError("a ratio of means needs a denominator that is positive for every photograph")
        return _bootstrap([a, b], groups, n, seed, lambda means: means[0] / means[1], null=1.0)
    raise HarmonyError(f"statistic {statistic!r} is not known: choose difference or ratio")


def unpaired_difference(a, a_groups, b, b_groups, n: int = 2000, seed: int = 0) -> Interval:
    """Interval of mean(a) - mean(b) for different pictures (validation and test): each side is resampled by itself.

    a and b may differ in length; every label in `a_groups` and `b_groups` is a photograph. n_groups is the smaller
    side's number of photographs.
    """
    return _unpaired(a, a_groups, b, b_groups, n, seed, np.subtract, null=0.0)


def unpaired_ratio(a, a_groups, b, b_groups, n: int = 2000, seed: int = 0) -> Interval:
    """Interval of mean(a) / mean(b) for different pictures; as `unpaired_difference`."""
    return _unpaired(a, a_groups, b, b_groups, n, seed, np.divide, null=1.0)


def interaction(a1, b1, a2, b2, groups, n: int = 2000, seed: int = 0) -> Interval:
    """Interval of mean(a1 - b1) - mean(a2 - b2): is the effect of a over b another one in setting 1 than in setting 2?

    This, and not two separate intervals, answers "helps more with less data". All four hold one value an image, shape
    (N,), for the same images in the same order; an image that is not finite in one is left out of all.
    """
    (a1, b1, a2, b2), groups = _complete([a1, b1, a2, b2], groups)
    return _bootstrap([(a1 - b1) - (a2 - b2)], groups, n, seed, lambda means: means[0], null=0.0)


@dataclass(frozen=True)
class Equivalence:
    """An interval beside the margin that was named for it beforehand."""

    interval: Interval
    margin: float

    @property
    def equivalent(self) -> bool:
        """The whole 95 % interval is inside the margin."""
        return self.interval.within(self.margin)

    @property
    def different(self) -> bool:
        """The whole 95 % interval is outside the margin, on one side."""
        null = self.interval.null
        return self.interval.low > null + self.margin or self.interval.high < null - self.margin


def equivalence(a, b, groups, margin: float, relative: bool = False, n: int = 2000, seed: int = 0) -> Equivalence:
    """Are mean(a) and mean(b) the same within +-margin?

    The 95 % interval must lie inside the margin: two one-sided tests at 2.5 % each, stricter than the customary 90 %
    interval (5 % each), so that the interval printed is the one that decides. margin: in the units of a and b (0.2 dB),
    or with `relative` a share of mean(b) (0.05: the ratio of the means is between 0.95 and 1.05).
    """
    if not margin > 0:
        raise HarmonyError(f"margin {margin} is not positive: name the largest difference that does not matter")
    statistic = "ratio" if relative else "difference"
    return Equivalence(paired_bootstrap(a, b, groups, n, seed, statistic), margin)


def verdict(
    result: Interval | Equivalence, seed_estimates: Sequence[float], claim: str = "lower", min_groups: int = MIN_GROUPS
) -> str:
    """Whether a claim held: "holds", "does not hold" or "cannot tell at this scale".

    claim: "lower" or "higher" with the Interval of a difference, ratio or interaction (which side of `null` the claim
    puts it on), "equivalent" with an Equivalence. seed_estimates: the same statistic computed from each seed alone.

    A claim of a difference holds if the 95 % interval excludes `null` on the claimed side and every seed's estimate is
    on that side; it does not hold if the interval and every seed are on the other side. A claim of equivalence holds if
    the interval and every seed's estimate are inside the margin; it does not hold if all are outside it on one side.
    Everything else, fewer than 2 seeds, or fewer than `min_groups` photographs: it cannot be told.
    """
    is_equivalence = isinstance(result, Equivalence)
    if claim not in ("lower", "higher", "equivalent") or is_equivalence != (claim == "equivalent"):
        raise HarmonyError(
            f"claim {claim!r} does not fit: use lower or higher with an Interval, equivalent with an Equivalence"
        )
    interval = result.interval if is_equivalence else result
    seeds = np.asarray(seed_estimates, dtype=float) - interval.null
    if len(seeds) < MIN_SEEDS or interval.n_groups < min_groups or not np.isfinite(seeds).all():
        return CANNOT_TELL
    if is_equivalence:
        if result.equivalent and (np.abs(seeds) < result.margin).all():
            return HOLDS
        outside = np.sign(interval.estimate - interval.null) * seeds > result.margin
        return DOES_NOT_HOLD if result.different and outside.all() else CANNOT_TELL
    if interval.side == 0 or (np.sign(seeds) != interval.side).any():
        return CANNOT_TELL
    return HOLDS if interval.side == (1 if claim == "higher" else -1) else DOES_NOT_HOLD


def _complete(columns: list, groups) -> tuple[list[np.ndarray], np.ndarray]:
    """The columns without rows that are not finite somewhere, and group numbers 0..G-1 of the rows that remain."""
    columns = [np.asarray(column, dtype=float) for column in columns]
    labels = pd.Series(np.asarray(groups))
    lengths = [column.shape for column in columns] + [labels.shape]
    if len(set(lengths)) > 1:
        raise HarmonyError(
            f"values and groups differ in length ({', '.join(map(str, lengths))}): pair them by image name"
        )
    if labels.isna().any():
        raise HarmonyError(f"{int(labels.isna().sum())} images have no group: name the photograph of each")
    keep = np.isfinite(columns).all(axis=0)
    numbers, names = pd.factorize(labels[keep])
    if len(names) < 2:
        raise HarmonyError(f"an interval needs at least 2 photographs with finite values: there are {len(names)}")
    return [column[keep] for column in columns], numbers


def _unpaired(a, a_groups, b, b_groups, n: int, seed: int, combine, null: float) -> Interval:
    sides = [_complete([values], groups) for values, groups in ((a, a_groups), (b, b_groups))]
    estimate = combine(*(columns[0].mean() for columns, _ in sides))
    draws = combine(*(_draws(columns, groups, n, [seed, k])[0] for k, (columns, groups) in enumerate(sides)))
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    smaller = min(int(groups.max()) + 1 for _, groups in sides)
    return Interval(float(estimate), float(low), float(high), smaller, null)


def _bootstrap(columns: list[np.ndarray], groups: np.ndarray, n: int, seed: int, statistic, null: float) -> Interval:
    """Percentile interval of statistic(means of the columns) when whole groups are drawn with replacement."""
    draws = statistic(_draws(columns, groups, n, seed))
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    estimate = statistic(np.stack([column.mean() for column in columns]))
    return Interval(float(estimate), float(low), float(high), int(groups.max()) + 1, null)


def _draws(columns: list[np.ndarray], groups: np.ndarray, n: int, seed) -> np.ndarray:
    """Means of the columns in n resamples of whole groups, (columns, n).

    Group sums suffice: a resample is how often each group was drawn, and its means are ratios of weighted sums.
    """
    if n < 1:
        raise HarmonyError(f"n = {n} bootstrap resamples make no interval: take about 2000")
    n_groups = int(groups.max()) + 1
    sizes = np.bincount(groups)
    sums = np.stack([np.bincount(groups, weights=column) for column in columns])
    rng = np.random.default_rng(seed)
    draws = []
    for start in range(0, n, 256):  # bounds the memory for thousands of photographs
        picks = rng.integers(n_groups, size=(min(256, n - start), n_groups))
        flat = picks + n_groups * np.arange(len(picks))[:, None]
        times = np.bincount(flat.ravel(), minlength=picks.size).reshape(picks.shape)
        draws.append(sums @ times.T / (times @ sizes))
    return np.concatenate(draws, axis=1)

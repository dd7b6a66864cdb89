"""Colour statistics of the background for the foreground, against scikit-image's histogram matching per image."""

from collections.abc import Iterator

import numpy as np
from skimage.exposure import match_histograms

from benchmarks.pictures import triplets
from benchmarks.timing import Machine, Row, compare
from harmonylib import baselines

PAIRS, SIZE = 500, 256


def rows(machine: Machine) -> Iterator[Row]:
    composites, _, masks = zip(*triplets(PAIRS, SIZE, SIZE), strict=True)
    for name in ("histogram", "reinhard"):
        yield compare(
            machine,
            f"{name}, {PAIRS} pictures at {SIZE} px",
            "scikit-image's match_histograms per image",
            lambda name=name: baselines.apply(name, composites, masks),
            lambda: list(map(_matched, composites, masks)),
            aim=3,
            moved=PAIRS * SIZE**2 * (3 * 2 + 1),
        )


def _matched(composite: np.ndarray, mask: np.ndarray) -> np.ndarray:
    result = composite.copy()
    result[mask] = match_histograms(composite[mask], composite[~mask], channel_axis=-1)
    return result

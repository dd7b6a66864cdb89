"""Near-duplicates: one photograph under two names, whatever was done to it in between.

A test is worth little where its photographs, saved again, were trained on. A fingerprint is the photograph at
16 x 16 px; two that correlate are the same photograph in another encoding, size, brightness or mirrored, or a composite
made from it.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from harmonylib.data.layout import open_rgb
from harmonylib.errors import HarmonyError

SIDE = 16
ALIKE = 0.95  # correlation: re-encoding, resizing and mirroring leave 0.99; two photographs of one set rarely reach 0.9
BLOCK = 4096  # fingerprints compared at once


def fingerprint(picture: Image.Image) -> np.ndarray:
    """(3 * 16 * 16,) float32 of length 1, or all zero for a picture of one colour: each channel without its mean."""
    small = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    centred = small - small.mean((0, 1))
    return (centred / max(float(np.linalg.norm(centred)), 1e-6)).ravel()


def fingerprints(files: Iterable[Path], workers: int = 4) -> np.ndarray:
    """One row a file, (N, 768) float32; a file that cannot be read is like no other: all zero."""

    def read(path: Path) -> np.ndarray:
        try:
            return fingerprint(open_rgb(path))
        except HarmonyError:
            return np.zeros(3 * SIDE * SIDE, np.float32)

    with ThreadPoolExecutor(workers) as pool:
        return np.array(list(pool.map(read, files)), np.float32).reshape(-1, 3 * SIDE * SIDE)


def near_duplicates(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """(row of `first`, its most alike row of `second`, correlation) of near-duplicates, mirrored or not."""
    if not len(second):
        return
    mirrored = second.reshape(-1, SIDE, SIDE, 3)[:, :, ::-1].reshape(len(second), -1)
    for start in range(0, len(first), BLOCK):
        rows = first[start : start + BLOCK]
        alike = np.maximum(rows @ second.T, rows @ mirrored.T)
        best = alike.argmax(1)
        for row in np.flatnonzero(alike.max(1) >= ALIKE):
            yield start + int(row), int(best[row]), float(alike[row, best[row]])

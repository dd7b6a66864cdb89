"""Near-duplicates: one photograph under two names, whatever was done to it in between.

A test is worth little where its photographs, saved again, were trained on. Photographs are compared at 16 x 16 px; two
that correlate are the same in another encoding, size, brightness or mirrored. Of a composite whose mask lies beside it
only the background is compared: the object in it came from elsewhere.
"""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from harmonylib.data.layout import mask_of, open_mask, open_rgb, pictures_below
from harmonylib.errors import HarmonyError

SIDE = 16
CELLS = SIDE * SIDE
ALIKE = 0.95  # correlation: re-encoding, resizing and mirroring leave 0.99; two photographs of one set rarely reach 0.9
LEAST = 0.25  # of a composite that its background takes; with less of it the whole picture is compared
BLOCK = 4096  # photographs compared at once
MASKS = {"composite": "mask", "composite_images": "masks"}  # where a composite's mask lies, by its folder's name


@dataclass(frozen=True)
class Thumbnails:
    """Pictures at 16 x 16 px: pixels (N, 256, 3) float32, and which cells of each count, (N, 256) bool."""

    pixels: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def __add__(self, other: "Thumbnails") -> "Thumbnails":
        return Thumbnails(*map(np.concatenate, ((self.pixels, other.pixels), (self.counts, other.counts))))

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.pixels.tobytes() + self.counts.tobytes()).hexdigest()


def thumbnails(files: Iterable[Path], strict: bool = False, workers: int = 4) -> Thumbnails:
    """One a file; a file that cannot be read is like no other, or with `strict` a HarmonyError that names it."""

    def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
        try:
            return _shrunk(open_rgb(path)), _background(path)
        except HarmonyError:
            if strict:
                raise
            return np.zeros((CELLS, 3), np.float32), np.ones(CELLS, bool)

    with ThreadPoolExecutor(workers) as pool:
        read_all = list(pool.map(read, files))
    pixels = np.array([pixels for pixels, _ in read_all], np.float32).reshape(-1, CELLS, 3)
    return Thumbnails(pixels, np.array([counts for _, counts in read_all], bool).reshape(-1, CELLS))


def of_tests(folders: Sequence[str | Path]) -> Thumbnails:
    """Of every picture below the folders, masks aside. Raises HarmonyError: none in a folder, one cannot be read."""
    return thumbnails([path for folder in folders for path in pictures(folder)], strict=True)


def pictures(folder: str | Path) -> list[Path]:
    """The picture files below a folder that are no masks. Raises HarmonyError where there are none."""
    found = [p for p in pictures_below(Path(folder).expanduser()) if p.parent.name not in MASKS.values()]
    if not found:
        raise HarmonyError(f"{folder}: no pictures in it; give a folder of photographs")
    return found


def twins(photographs: Thumbnails, tests: Thumbnails) -> set[int]:
    """The rows of `photographs` that nearly duplicate one of `tests`, mirrored or not."""
    whole = tests.counts.all(1)
    of_whole = _unit(tests.pixels[whole]).T
    found: set[int] = set()
    for start in range(0, len(photographs), BLOCK):
        block = photographs.pixels[start : start + BLOCK]
        mirrored = block.reshape(-1, SIDE, SIDE, 3)[:, :, ::-1].reshape(block.shape)
        for side in (block, mirrored):
            alike = _unit(side) @ of_whole >= ALIKE
            found |= {start + int(row) for row in np.flatnonzero(alike.any(1))}
            for picture, counts in zip(tests.pixels[~whole], tests.counts[~whole], strict=True):
                alike = _unit(side[:, counts]) @ _unit(picture[None, counts])[0] >= ALIKE
                found |= {start + int(row) for row in np.flatnonzero(alike)}
    return found


def _unit(pixels: np.ndarray) -> np.ndarray:
    """(N, cells, 3) -> (N, 3 * cells): each channel without its mean, each picture of length 1 (flat ones: 0)."""
    centred = pixels - pixels.mean(1, keepdims=True)
    lengths = np.sqrt(np.square(centred).sum((1, 2), keepdims=True))
    return (centred / np.maximum(lengths, 1e-3)).reshape(len(pixels), 3 * pixels.shape[1])


def _shrunk(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32).reshape(CELLS, 3)


def _background(path: Path) -> np.ndarray:
    """The cells of a composite that its object leaves alone; all of any other picture."""
    if path.parent.name not in MASKS:
        return np.ones(CELLS, bool)
    mask = mask_of(path.stem, path.parent.with_name(MASKS[path.parent.name]))
    if mask is None:
        return np.ones(CELLS, bool)
    inside = np.asarray(open_mask(mask).resize((SIDE, SIDE), Image.Resampling.BOX)).ravel() > 12
    return ~inside if inside.mean() <= 1 - LEAST else np.ones(CELLS, bool)

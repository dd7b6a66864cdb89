"""Objects of photographs in other colours: what the harmonizer that comes with the package is trained on.

Two kinds of change, drawn afresh for every step. A retouch does what a photographer does to a raw file: exposure and
white balance in linear light, then gamma, contrast, a curve, black and white points, tinted shadows and lights,
saturation, hue, as the experts of HAdobe5k did. A transfer gives the object the mean and the spread of another object's
colours, as iHarmony4's authors made HCOCO and HFlickr. No network of the papers is trained so.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from harmonylib.pictures import LUMA

LEVELS = np.arange(256) / 255
LINEAR = np.where(LEVELS <= 0.04045, LEVELS / 12.92, ((LEVELS + 0.055) / 1.055) ** 2.4)
OPPONENT = np.array([[1 / 3, 1 / 3, 1 / 3], [1 / 2, 0, -1 / 2], [-1 / 4, 1 / 2, -1 / 4]])
CHANGE = (30.0, 9000.0)  # mean squared levels of an object's change: it is seen, and it is not another object
CLIPPED = 0.15  # share of its pixels that leave the range
ATTEMPTS = 4
SPREAD = 0.35  # of the strength from one retouch to the next, as a logarithm
SAMPLED = 400  # pixels of an object that a change is judged by


@dataclass(frozen=True)
class Recolouring:
    """A table of levels for each channel, (256, 3) in [0, 1] or None, and after it a matrix (3, 4) on levels of 255."""

    table: np.ndarray | None
    matrix: np.ndarray

    def image(self, image: Image.Image) -> Image.Image:
        """An RGB image in other colours, rounded and clipped."""
        if self.table is not None:
            image = image.point((255 * self.table).clip(0, 255).round().astype(int).T.ravel().tolist())
        return image.convert("RGB", tuple(self.matrix.ravel().tolist()))

    def pixels(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, 3) -> levels of 255 as float, neither rounded nor clipped."""
        levels = pixels.astype(float)
        if self.table is not None:
            levels = np.stack([255 * self.table[:, c][pixels[:, c]] for c in range(3)], axis=1)
        return levels @ self.matrix[:, :3].T + self.matrix[:, 3]


def retouch(rng: np.random.Generator, strength: float = 1.0) -> Recolouring:
    """A photographer's change; each of its parts is left out now and then, and all are proportional to `strength`."""

    def part(often: float, spread: float, size=None):
        return (rng.random() < often) * rng.normal(0, spread * strength, size)

    temperature, tint = part(0.75, 0.16), part(0.75, 0.06)
    light = LINEAR[:, None] * 2 ** part(0.85, 0.55) * np.exp([temperature, tint, -temperature])  # stops of exposure
    levels = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055).clip(0, 1.2)
    levels = levels ** np.exp(part(0.6, 0.22))
    pivot = rng.uniform(0.25, 0.6)
    levels = (levels - pivot) * np.exp(part(0.6, 0.25)) + pivot
    levels = levels + 0.5 * part(0.25, 0.12) * np.sin(2 * np.pi * levels.clip(0, 1))
    black, white = part(0.25, 0.04, 3), 1 + part(0.25, 0.06, 3)
    levels = black + levels * (white - black)
    levels = levels + part(0.25, 0.05, 3) * (1 - LEVELS[:, None]) + part(0.25, 0.05, 3) * LEVELS[:, None]
    matrix = _saturation(np.exp(part(0.6, 0.35))) @ _hue(part(0.2, 0.25))
    return Recolouring(levels, np.hstack([matrix, np.zeros((3, 1))]))


def transfer(rng: np.random.Generator, pixels: np.ndarray, others: np.ndarray) -> Recolouring:
    """The colours of `others` (M, 3) for an object with `pixels` (N, 3): channel by channel in an opponent space, or
    with the correlations of the channels too; all of the way or part of it."""
    own, wanted = pixels.mean(0), others.mean(0)
    if rng.random() < 0.6:
        spread = ((others @ OPPONENT.T).std(0) / ((pixels @ OPPONENT.T).std(0) + 2)).clip(0.4, 2.5)
        matrix = np.linalg.inv(OPPONENT) @ np.diag(spread) @ OPPONENT
    else:
        left, spread, right = np.linalg.svd(_root(others) @ np.linalg.inv(_root(pixels)))
        matrix = left @ np.diag(spread.clip(0.35, 2.8)) @ right
    way = rng.uniform(0.3, 1)
    matrix = (1 - way) * np.eye(3) + way * matrix
    offset = own + way * (wanted - own) - matrix @ own
    return Recolouring(None, np.hstack([matrix, offset[:, None]]))


def recolouring(
    rng: np.random.Generator, pixels: np.ndarray, others: np.ndarray, strength: float, transfers: float
) -> Recolouring:
    """A change for an object with `pixels` (N, 3), uint8, that is seen and does not clip; the last one tried where
    none of a few is.

    others: pixels of another object, to take the colours of. transfers: how often that is done instead of a retouch.
    """
    pixels = pixels[:: max(1, len(pixels) // SAMPLED)]
    was_outside = (pixels < 3) | (pixels > 252)
    for _ in range(ATTEMPTS):
        if rng.random() < transfers:
            change = transfer(rng, pixels, others)
        else:
            change = retouch(rng, strength * np.exp(SPREAD * rng.normal()))
        levels = change.pixels(pixels)
        outside = (((levels < -2) | (levels > 257)) & ~was_outside).any(1).mean()
        if CHANGE[0] < np.square(levels.clip(0, 255) - pixels).mean() < CHANGE[1] and outside < CLIPPED:
            break
    return change


def _saturation(factor: float) -> np.ndarray:
    return (1 - factor) * np.outer(np.ones(3), LUMA) + factor * np.eye(3)


def _hue(angle: float) -> np.ndarray:
    """A turn around the axis of greys, in radians."""
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    return np.cos(angle) * np.eye(3) + (1 - np.cos(angle)) / 3 + np.sin(angle) * cross


def _root(pixels: np.ndarray) -> np.ndarray:
    return np.linalg.cholesky(np.cov(pixels.T.astype(float)) + 4 * np.eye(3))

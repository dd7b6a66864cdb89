"""Objects of photographs in other colours: what the harmonizer that comes with the package is trained on.

Two kinds of change, drawn afresh for every step. A transfer gives the object the colours of another one of the set, as
iHarmony4's authors made HCOCO and HFlickr (`colour_transfer`); a retouch does what a photographer does to a raw file:
exposure and white balance in linear light, then gamma, contrast, a curve, black and white points, tinted shadows and
lights, saturation, as the experts of HAdobe5k did. Both papers' networks are trained otherwise; this is for no claim.
"""

from dataclasses import dataclass

import numpy as np

from harmonylib.colour_transfer import TRANSFERS

LEVELS = np.arange(256, dtype=np.float32) / 255
LINEAR = np.where(LEVELS <= 0.04045, LEVELS / 12.92, ((LEVELS + 0.055) / 1.055) ** 2.4).astype(np.float32)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
CHANGE = (60.0, 5000.0)  # mean squared levels of an object's change: it is seen, and it is not another object
CLIPPED = 0.12  # share of its pixels that leave the range
ATTEMPTS = 6


@dataclass(frozen=True)
class Retouch:
    """A table (256, 3) of levels for each channel, and a factor of saturation after it."""

    table: np.ndarray
    saturation: float

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (..., 3) -> float32, neither rounded nor clipped."""
        changed = np.stack([self.table[:, c][pixels[..., c]] for c in range(3)], axis=-1)
        grey = (changed @ LUMA)[..., None]
        return grey + np.float32(self.saturation) * (changed - grey)


def draw(rng: np.random.Generator, strength: float = 1.0) -> Retouch:
    """One retouch; each of its parts is left out now and then, and all are proportional to `strength`."""

    def part(often: float) -> bool:
        return rng.random() < often

    def about(spread: float, size=None):
        return rng.normal(0, spread * strength, size)

    light = np.repeat(LINEAR[:, None], 3, axis=1)
    if part(0.85):
        light = light * 2 ** about(0.55)  # stops
    if part(0.75):
        temperature, tint = about(0.16), about(0.06)
        light = light * np.exp([temperature, tint, -temperature])
    levels = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055).clip(0, 1.2)
    if part(0.6):
        levels = levels ** np.exp(about(0.22))
    if part(0.6):
        pivot = rng.uniform(0.25, 0.6)
        levels = (levels - pivot) * np.exp(about(0.25)) + pivot
    if part(0.25):
        levels = levels + 0.5 * about(0.12) * np.sin(2 * np.pi * levels.clip(0, 1))
    if part(0.25):
        black, white = about(0.04, 3), 1 + about(0.06, 3)
        levels = black + levels * (white - black)
    if part(0.25):
        levels = levels + about(0.05, 3) * (1 - LEVELS[:, None]) + about(0.05, 3) * LEVELS[:, None]
    return Retouch((255 * levels).astype(np.float32), float(np.exp(about(0.35))) if part(0.6) else 1.0)


def recolour(
    pixels: np.ndarray, others: list[np.ndarray], rng: np.random.Generator, transfers: float = 0.5
) -> np.ndarray:
    """An object's pixels (N, 3), uint8, in other colours, uint8.

    others: pixels of other objects, to take colours from. transfers: how often that is done instead of a retouch.
    A change that nobody sees, or that clips, is drawn again, a few times.
    """
    for _ in range(ATTEMPTS):
        if rng.random() < transfers:
            method = list(TRANSFERS.values())[rng.integers(len(TRANSFERS))]
            changed = method(pixels, others[rng.integers(len(others))], rng)
            way = rng.uniform(0.4, 1) if rng.random() < 0.6 else 1.0
            changed = pixels + way * (changed - pixels)
        else:
            changed = draw(rng)(pixels)
        outside = ((changed < -2) | (changed > 257)).any(1).mean()
        squares = np.square(changed.clip(0, 255) - pixels).mean()
        if CHANGE[0] < squares < CHANGE[1] and outside < CLIPPED:
            break
    return changed.clip(0, 255).round().astype(np.uint8)

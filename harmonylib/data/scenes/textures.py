"""Surfaces: patterns of albedo, free of aliasing for a given footprint of the pixel, and a clouded sky."""

from functools import cache
from typing import NamedTuple

import numpy as np


class Surface(NamedTuple):
    pattern: str
    colours: np.ndarray  # (4, 3, 1) albedos: two of the palette, off-white, dark
    repeat: float  # repetitions of the pattern per unit of length
    gloss: float
    offset: np.ndarray  # (2,) of the noise
    angle: float = 0.0


def draw_surface(rng: np.random.Generator, patterns: list[str], hue: float, repeat, gloss: float = 0.0) -> Surface:
    """A surface whose colours lie about an albedo of 0.4; every pattern has a part that is nearly neutral."""
    colours = []
    for turn, chroma in ((0.0, rng.uniform(0.15, 0.75)), (rng.normal(0, 0.9) + np.pi * rng.integers(2), 0.4)):
        angle = hue + turn
        tone = np.array([0.85, -0.1, -0.75]) * np.cos(angle) + np.array([0.3, -0.4, 0.3]) * np.sin(angle)
        colours.append(np.exp(chroma * tone) * np.exp(rng.uniform(np.log(0.2), np.log(0.55))))
    colours += [rng.uniform(0.6, 0.78) * np.array([1.0, 0.98, 0.94]), np.full(3, rng.uniform(0.08, 0.15))]
    pattern, albedos = str(rng.choice(patterns)), np.float32(np.clip(colours, 0.03, 0.85))[..., None]
    repeat, offset = np.float32(rng.uniform(*repeat)), np.float32(rng.uniform(0, 8, 2))
    return Surface(pattern, albedos, repeat, np.float32(gloss), offset)


@cache
def _tiles() -> tuple[np.ndarray, np.ndarray]:
    """Two 256 x 256 tiles that all scenes share: smooth noise with a 1/f spectrum and mean 0.5, and white noise."""
    white = np.random.default_rng(0).random((256, 256))
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None]) * 256
    smooth = np.fft.ifft2(np.fft.fft2(white) * (frequency > 3) / np.maximum(frequency, 1) ** 1.4).real
    smooth = np.clip(0.5 + 0.22 * smooth / smooth.std(), 0, 1)
    return smooth.astype(np.float32).ravel(), white.astype(np.float32).ravel()


def _noise(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Smooth noise at (u, v), bilinear; it repeats after 8 units."""
    u, v, tile = u * 32, v * 32, _tiles()[0]
    i, j = np.floor(u), np.floor(v)
    fu, fv = u - i, v - j
    i, j = i.astype(np.int32), j.astype(np.int32) & 255
    i, i1, j1 = (i & 255) * 256, (i + 1 & 255) * 256, j + 1 & 255
    near, far = tile[i + j], tile[i1 + j]
    near, far = near + fv * (tile[i + j1] - near), far + fv * (tile[i1 + j1] - far)
    return near + fu * (far - near)


def _hash(i: np.ndarray, j: np.ndarray | float = 0.0) -> np.ndarray:
    """A number in [0, 1) for each cell (i, j)."""
    return _tiles()[1][(np.int32(i) & 255) * 256 + (np.int32(j) & 255)]


def edge(x: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    """0 to 1 while x crosses zero, `width` wide: a step without aliasing."""
    return np.clip(x / width + 0.5, 0, 1)


def _line(u: np.ndarray, half: float, width: np.ndarray) -> np.ndarray:
    """1 within `half` of a whole number."""
    return edge(half - np.abs(u - np.rint(u)), width)


def _mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    return a + (b - a) * share


def albedo(s: Surface, u: np.ndarray, v: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """(3, n) albedo of a surface at texture coordinates in units of length; `pixel` is the footprint there."""
    first, second, white, dark = s.colours
    cloud = _noise(u * 0.6 + s.offset[0], v * 0.6 + s.offset[1])
    c, d = np.float32(np.cos(s.angle) * s.repeat), np.float32(np.sin(s.angle) * s.repeat)
    u, v, w = u * c - v * d, u * d + v * c, np.maximum(pixel * s.repeat, 1e-3)
    out = first
    if s.pattern == "stripes":
        out = _mix(_mix(first, white, _line(u, 0.2, w)), second, _line(u + 0.5, 0.06, w))
    elif s.pattern == "checker":
        squares = 0.5 + 0.5 * (2 * _line(u / 2, 0.25, w / 2) - 1) * (2 * _line(v / 2, 0.25, w / 2) - 1)
        seams = np.maximum(_line(u - 0.5, 0.025, w), _line(v - 0.5, 0.025, w))
        out = _mix(_mix(first, white, squares), dark, 0.6 * seams)
    elif s.pattern == "gingham":
        out = _mix(white, first, 0.5 * _line(u, 0.25, w) + 0.5 * _line(v, 0.25, w))
    elif s.pattern == "tartan":
        bands = 0.5 * _line(u, 0.22, w) + 0.5 * _line(v, 0.22, w)
        threads = np.maximum(_line(u + 0.5, 0.04, w), _line(v + 0.5, 0.04, w))
        out = _mix(_mix(first, second, bands), white, 0.6 * threads)
    elif s.pattern == "dots":
        shifted = v + 0.5 * np.mod(np.rint(u), 2)
        out = _mix(first, white, edge(0.28 - np.hypot(u - np.rint(u), shifted - np.rint(shifted)), w))
    elif s.pattern == "planks":
        row = np.floor(v)
        along = u * 0.22 + _hash(row)
        plank = np.floor(along)
        tone = 0.75 + 0.5 * _hash(row, plank) * (0.8 + 0.4 * _noise(u * 0.12 + _hash(row) * 7, v * 0.9))
        joints = np.maximum(_line(v, 0.025, w), _line(along, 0.006, w * 0.22))
        out = _mix(_mix(first, second, 0.3 * _hash(row, plank + 5)) * tone, dark, 0.7 * joints)
    elif s.pattern == "bricks":
        row = np.floor(v)
        along = u * 0.5 + 0.5 * np.mod(row, 2)
        brick = np.floor(along)
        out = _mix(first, second, 0.35 * _hash(brick, row)) * (0.85 + 0.3 * _hash(row, brick))
        out = _mix(out, white, np.maximum(_line(v, 0.05, w), _line(along, 0.025, w * 0.5)))
    elif s.pattern == "terrazzo":
        out = white
        for layer, colour in enumerate((first, second, dark, first * 0.6 + white * 0.3)):
            a, b = u * (0.8 + 0.27 * layer) + 3.7 * layer, v * (0.8 + 0.27 * layer) + 1.3 * layer
            i, j = np.floor(a), np.floor(b)
            x, y = a - i - 0.3 - 0.4 * _hash(i, j), b - j - 0.3 - 0.4 * _hash(j, i + 9)
            out = _mix(out, colour, edge(0.1 + 0.18 * _hash(i + 3, j) - np.abs(x) - 0.7 * np.abs(y + 0.5 * x), w))
    elif s.pattern == "marble":
        vein = np.abs(np.sin(2.2 * u + 9 * cloud))
        out = _mix(_mix(first, white, np.clip(1.6 * cloud - 0.2, 0, 1)), second, (1 - vein) ** 4)
    elif s.pattern == "dipped":
        out = _mix(first, white, edge(v - 0.55 * s.repeat - 0.25 * s.repeat * (cloud - 0.5), w))
    return out * (0.88 + 0.24 * cloud)


def sky(offset: np.ndarray, view: np.ndarray) -> np.ndarray:
    """(3, n) brightness of the sky in directions: paler towards the horizon, with clouds."""
    height = np.maximum(view[1], 0.004)
    cloud = _noise(view[0] / (height + 0.15) * 0.5 + offset[0], 0.9 / (height + 0.15) + offset[1])
    blue = _mix(1, np.float32([[0.55], [0.75], [1.0]]), 1 - np.exp(-4 * height))
    return _mix(blue * 0.8, 1, np.clip(2.2 * cloud - 0.9, 0, 0.8))

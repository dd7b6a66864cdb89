"""Procedurally lit still lifes: composite images whose ground truth is known exactly.

A scene is a floor, a wall or a sky, and two to five textured objects, ray cast under a key light, ambient light, soft
shadows and an illuminant that changes in strength and colour from left to right. One object is the foreground: a
composite shows it as another illuminant would, while every other pixel stays as it was. Nothing here is shared with the
colour transfers or with LEMaRT's transforms, so a network pre-trained by those is not tested on its own homework.

Shapes: point lists are (3, n) float32, y points up, x to the right, z away from the camera; radiance is linear sRGB.
"""

from typing import NamedTuple

import numpy as np

from harmonylib.data.scenes.light import TIMES, Light, between, develop, draw_light, relight, shade
from harmonylib.data.scenes.solids import dot
from harmonylib.data.scenes.world import Samples, World, draw_world, trace
from harmonylib.errors import HarmonyError

STYLES = ("HCOCO", "HAdobe5k", "HFlickr", "Hday2night")  # the four subsets of iHarmony4
AREA = (0.035, 0.36)  # share of the picture that the foreground may take
FMSE = (450.0, 9000.0)  # re-lightings outside of these bounds are made stronger or weaker
FINE = np.float32([[-0.375, -0.125, 0.125, 0.375], [-0.125, 0.375, -0.375, 0.125]])  # (row, column) within a pixel


class Scene(NamedTuple):
    """One picture and its re-lit versions; `composites` equal `real` outside of `mask`, bit for bit."""

    real: np.ndarray  # (H, W, 3) uint8: objects and background under one illuminant (the target)
    mask: np.ndarray  # (H, W) uint8, 0 or 255: every pixel that shows some of the foreground object
    composites: list[np.ndarray]  # each (H, W, 3) uint8: the foreground object under another illuminant


def render_scene(index: int, style: str, relightings: int = 3, size: tuple[int, int] = (192, 256)) -> Scene:
    """Scene number `index` in the manner of one subset of iHarmony4, at `size` (height, width).

    The same arguments give the same bytes on one processor, whatever was rendered before; on another, with or without
    AVX-512, NumPy's single-precision functions end in other bits, and a few pixels in other levels. `HCOCO`: moderate
    changes of the object's illuminant; `HFlickr`: stronger casts, more things; `HAdobe5k`: another edition (exposure,
    white balance, contrast, saturation); `Hday2night`: the object as at another time of day. Raises HarmonyError for
    another style.
    """
    if style not in STYLES:
        raise HarmonyError(f"scene style {style!r} is unknown; use one of {', '.join(STYLES)}")
    rng = np.random.default_rng([index, STYLES.index(style)])
    pixels, fit = np.indices(size, np.float32).reshape(2, -1), []
    while not fit:
        world = draw_world(rng, style)
        samples, alone = trace(world, size, pixels)
        seen = [int((samples.kind == k).sum()) for k in range(len(world.things))]
        fit = [k for k, n in enumerate(seen) if AREA[0] <= n / samples.kind.size <= AREA[1] and n > 0.85 * alone[k]]
    foreground = max(fit, key=seen.__getitem__) if rng.random() < 0.6 else int(rng.choice(fit))
    time = str(rng.choice(list(TIMES))) if style == "Hday2night" else "studio"
    light = draw_light(rng, time, int(rng.choice([-1, 1])))

    edges = np.flatnonzero(_edges(samples.kind.reshape(size), samples.normal.reshape(3, *size)))
    fine, _ = trace(world, size, (pixels[:, None, edges] + FINE[..., None]).reshape(2, -1))
    samples = Samples(*(np.concatenate(pair, -1) for pair in zip(samples, fine, strict=True)))
    own = np.flatnonzero(samples.kind == foreground)
    grain = rng.normal(0, 1.2, size).astype(np.float32)

    def resolve(display: np.ndarray) -> np.ndarray:
        """Samples, the first of each pixel, then four finer ones of each pixel in `edges`, to (..., H, W)."""
        coarse, fine = np.split(display, [pixels.shape[1]], -1)
        picture = coarse.copy()
        picture[..., edges] = fine.reshape(*fine.shape[:-1], 4, -1).mean(-2)
        return picture.reshape(*display.shape[:-1], *size)

    def picture(display: np.ndarray) -> np.ndarray:
        rounded = np.clip(np.rint(resolve(display) + grain), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(np.moveaxis(rounded, 0, -1))

    mask = resolve((samples.kind == foreground).astype(np.float32)) > 0
    display = develop(shade(world, samples, light))
    real, composites, unchanged = picture(display), [], display.take(own, 1)
    object_samples = Samples(*(a.take(own, -1) for a in samples))
    for _ in range(relightings):
        changed = display.copy()
        changed[:, own] = _relit(world, object_samples, light, relight(rng, style, light, time), unchanged)
        composites.append(np.where(mask[..., None], picture(changed), real))
    return Scene(real, mask.astype(np.uint8) * 255, composites)


def _relit(world: World, samples: Samples, light: Light, other: Light, real: np.ndarray) -> np.ndarray:
    """(3, n) samples of the object as under the `other` light, weakened or exaggerated until the change is in FMSE."""
    share = 1.0
    for _ in range(8):
        relit = develop(shade(world, samples, between(light, other, share)))
        change, blown = ((relit - real) ** 2).mean(), (relit > 252).mean() > 0.015
        if FMSE[0] <= change <= FMSE[1] and not blown:
            break
        share *= 0.75 if blown or change > FMSE[1] else 1.5
    return relit


def _edges(kind: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Pixels beside which something else, or another side of the same thing, is seen."""
    edge = np.zeros(kind.shape, bool)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        crease = dot([n[here] for n in normal], [n[there] for n in normal]) < 0.6
        differs = (kind[here] != kind[there]) | crease
        edge[here] |= differs
        edge[there] |= differs
    return edge

"""The world: what stands where, and what the rays through pixels meet."""

from typing import NamedTuple

import numpy as np

from harmonylib.data.scenes.solids import UP, Thing, dot, draw_thing
from harmonylib.data.scenes.textures import Surface, albedo, draw_surface, sky

FLOOR, BACK = -1, -2  # what a ray met; things count from 0
FLOORS = ["planks", "checker", "terrazzo", "gingham", "marble", "bricks", "tartan", "plain"]
WALLS = ["plain", "stripes", "bricks", "marble", "checker", "gingham"]
OUTSIDE = {"HCOCO": 0.2, "HAdobe5k": 0.15, "HFlickr": 0.35, "Hday2night": 0.5}  # share of scenes in the open air


class World(NamedTuple):
    things: list[Thing]
    floor: Surface
    back: Surface
    depth: float  # z of the wall; inf: open air
    eye: np.ndarray  # (3,)
    pitch: float  # radians, downwards
    zoom: float  # tangent of half the horizontal angle of view


class Samples(NamedTuple):
    """What rays met."""

    kind: np.ndarray  # (n,) index of the thing, or FLOOR, BACK
    point: np.ndarray  # (3, n)
    normal: np.ndarray  # (3, n)
    view: np.ndarray  # (3, n) direction of the ray
    albedo: np.ndarray  # (3, n); of a sky its brightness
    gloss: np.ndarray  # (n,)
    openness: np.ndarray  # (n,) share of the ambient light that arrives


def draw_world(rng: np.random.Generator, style: str) -> World:
    hue = rng.uniform(0, 2 * np.pi)  # hues are spread over the circle, so that their average says little
    outside = rng.random() < OUTSIDE[style]
    floor = draw_surface(rng, FLOORS, hue + 2.4, (0.9, 1.8))._replace(angle=rng.uniform(-0.6, 0.6))
    back = draw_surface(rng, WALLS, hue + 4.8, (0.7, 1.6))
    things: list[Thing] = []
    for k in range(rng.integers(3 if style == "HFlickr" else 2, 6)):
        for _ in range(30):
            size = rng.uniform(0.5, 0.95) if k == 0 else rng.uniform(0.28, 0.7)
            x, z = rng.uniform((-0.9, -0.5), (0.9, 0.2)) if k == 0 else rng.uniform((-2, -1), (2, 1.2))
            centre = np.float32([x, 0, z])
            if all(_apart(centre, size, other) for other in things):
                things.append(draw_thing(rng, size, hue + 2.4 * (k + 2), centre))
                break
    eye = np.float32([rng.uniform(-0.3, 0.3), rng.uniform(1.5, 2.4), -rng.uniform(4.2, 6.0)])
    depth = np.inf if outside else rng.uniform(1.9, 3.0)
    pitch = float(np.arctan2(eye[1] - rng.uniform(0.55, 0.8), -eye[2]))
    return World(things, floor, back, depth, eye, pitch, rng.uniform(0.36, 0.44))


def _apart(centre: np.ndarray, size: float, other: Thing) -> bool:
    """Whether two things neither touch nor stand one right in front of the other."""
    (x, _, z), room = np.abs(centre - other.centre), 1.1 * (size + other.half[0])
    return np.hypot(x, z) > room and x > 0.6 * room


def trace(world: World, size: tuple[int, int], pixels: np.ndarray) -> tuple[Samples, list[int]]:
    """What the rays through (2, n) fractional (row, column) `pixels` of a picture of `size` (height, width) meet.

    The list says how many rays would meet each thing if it were alone.
    """
    eye, scale = world.eye, 2 * world.zoom / size[1]
    x, y = (pixels[1] - size[1] / 2 + 0.5) * scale, (size[0] / 2 - 0.5 - pixels[0]) * scale
    c, s = np.float32(np.cos(world.pitch)), np.float32(np.sin(world.pitch))
    view = np.stack((x, y * c - s, c + y * s))
    view /= np.sqrt(dot(view, view))

    to_floor = np.where(view[1] < 0, -eye[1] / np.minimum(view[1], np.float32(-1e-4)), np.inf)
    to_back = np.minimum((np.float32(world.depth) - eye[2]) / view[2], 60)
    floor = to_floor < to_back
    t, kind = np.where(floor, to_floor, to_back), np.where(floor, FLOOR, BACK).astype(np.int8)
    normal = np.where(floor, UP, np.float32([[0], [0], [-1]]))
    facing, alone = np.where(floor, view[1], -view[2]), []
    for k, thing in enumerate(world.things):
        to = thing.centre + thing.half * UP[:, 0] - eye
        along = to @ view
        near = np.flatnonzero(to @ to - along * along < dot(thing.half, thing.half))
        distance, across = thing.meet(eye, view.take(near, 1))
        alone.append(int(np.isfinite(distance).sum()))
        seen = distance < t[near]
        hit, across = near[seen], across[:, seen]
        length = np.sqrt(dot(across, across))
        facing[hit] = dot(across, view.take(hit, 1)) / length
        t[hit], kind[hit] = distance[seen], k
        normal[:, hit] = across * (-np.sign(facing[hit]) / length)  # inner walls turn to the viewer
    point = eye[:, None] + t * view
    footprint = t * np.float32(scale) / np.sqrt(np.clip(np.abs(facing), 0.08, 1))
    return Samples(kind, point, normal, view, *_materials(world, kind, point, normal, view, footprint)), alone


def _materials(world: World, kind, point, normal, view, footprint) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Albedo, gloss and openness of samples."""
    colour, gloss, openness = np.empty_like(view), np.zeros(kind.size, np.float32), np.ones(kind.size, np.float32)
    at = np.flatnonzero(kind == FLOOR)
    x, _, z = ground = point.take(at, 1)
    colour[:, at] = albedo(world.floor, x, z, footprint[at])
    openness[at] = (1 - 0.35 * np.exp((z - np.float32(world.depth)) * 2.5)) * _contact(world.things, ground)
    at = np.flatnonzero(kind == BACK)
    if world.depth == np.inf:
        colour[:, at] = sky(world.back.offset, view.take(at, 1))
    else:
        colour[:, at] = albedo(world.back, point[0, at], point[1, at], footprint[at])
        openness[at] = 1 - 0.3 * np.exp(-2 * point[1, at])
    for k, thing in enumerate(world.things):
        at = np.flatnonzero(kind == k)
        local = thing.turned(point.take(at, 1) - thing.centre[:, None])
        colour[:, at] = thing.albedo(local, thing.turned(normal[:, at]), footprint[at])
        gloss[at] = thing.surface.gloss
        openness[at] = 1 - 0.4 * np.exp(local[1] * (-4 / thing.height)) * (1 - np.abs(normal[1, at]))
    return colour, gloss, openness


def _contact(things: list[Thing], ground: np.ndarray) -> np.ndarray:
    """Share of the ambient light that things leave to points of the floor around their feet."""
    share = np.ones(ground.shape[1], np.float32)
    for thing in things:
        x, _, z = np.abs(thing.turned(ground - thing.centre[:, None]))
        if thing.shape == "box":
            gap = np.hypot(np.maximum(x - thing.half[0], 0), np.maximum(z - thing.half[2], 0))
        else:
            foot = 0.35 if thing.shape == "ball" else 0.75
            gap = np.maximum(np.hypot(x, z) - np.float32(foot * thing.half[0]), 0)
        share *= 1 - 0.65 * np.exp(gap * np.float32(-2.5 / min(thing.half[0], thing.height)))
    return share

"""Solids: ellipsoids, boxes and solids of revolution, how they are drawn by lot, and where rays meet them."""

from typing import NamedTuple

import numpy as np

from harmonylib.data.scenes.textures import Surface, albedo, draw_surface

LEVELS = 96  # samples of an outline
UP = np.float32([[0], [1], [0]])
PATTERNS = ["stripes", "checker", "gingham", "tartan", "dots", "marble", "dipped", "terrazzo", "plain"]

# Profiles of solids of revolution as (radius, height): closed ones, and vessels that one can look into.
PROFILES = {
    "closed": {
        "cylinder": [(0.42, 0), (0.42, 1)],
        "cone": [(0.55, 0), (0.0, 1.25)],
        "pear": [(0.02, 0), (0.3, 0), (0.52, 0.18), (0.5, 0.6), (0.2, 0.8), (0.2, 1.12), (0.02, 1.15)],
        "apple": [(0.2, 0), (0.6, 0.15), (0.64, 0.8), (0.35, 1.0), (0.03, 0.95), (0.03, 1.12)],
        "pawn": [(0.42, 0), (0.44, 0.2), (0.12, 0.25), (0.14, 0.9), (0.34, 0.8), (0.36, 1.3), (0.02, 1.35)],
        "top": [(0.1, 0), (0.6, 0.45), (0.6, 0.6), (0.12, 0.85), (0.1, 1.05)],
    },
    "open": {
        "vase": [(0.28, 0), (0.5, 0.2), (0.62, 0.75), (0.14, 0.95), (0.16, 1.2), (0.32, 1.45)],
        "jug": [(0.3, 0), (0.62, 0.15), (0.55, 0.7), (0.26, 0.9), (0.3, 1.15)],
        "bottle": [(0.32, 0), (0.34, 0.1), (0.34, 0.95), (0.1, 1.0), (0.11, 1.3), (0.12, 1.5)],
        "bowl": [(0.26, 0), (0.5, 0.06), (0.68, 0.3), (0.72, 0.55)],
        "cup": [(0.28, 0), (0.4, 0.08), (0.42, 0.5), (0.46, 0.85)],
    },
}


class Thing(NamedTuple):
    shape: str  # "ball", "box" or "lathe"
    centre: np.ndarray  # (3,) of the base
    half: np.ndarray  # (3,) half sizes
    yaw: float
    surface: Surface
    outline: np.ndarray | None = None  # (2, LEVELS) inner and outer radius of a lathe, from its base to its top
    cap: float = 0.0  # how far what fills a vessel lies below its rim; 0: not a vessel

    @property
    def height(self) -> float:
        return 2 * float(self.half[1])

    def turned(self, vectors: np.ndarray, sign: int = 1) -> np.ndarray:
        """(3, n) world directions in the thing's own frame; with sign -1 the way back."""
        c, s = np.float32(np.cos(self.yaw)), np.float32(np.sin(self.yaw) * sign)
        return np.stack((c * vectors[0] + s * vectors[2], vectors[1], c * vectors[2] - s * vectors[0]))

    def radius(self, level: np.ndarray, side: int = 1) -> np.ndarray:
        """Outer radius of a lathe at heights over its base; with side 0 the inner one, zero but for a ring."""
        place = np.clip(level * np.float32((LEVELS - 1) / self.height), 0, np.float32(LEVELS - 1.001))
        i = place.astype(np.intp)
        below = self.outline[side].take(i)
        return below + (place - i.astype(np.float32)) * (self.outline[side].take(i + 1) - below)

    def meet(self, eye: np.ndarray, view: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) distances along rays from `eye`, inf for a miss, and (3, n) directions across the surface there."""
        meet = {"ball": _meet_ball, "box": _meet_box, "lathe": _meet_lathe}[self.shape]
        distance, normal = meet(self, self.turned((eye - self.centre)[:, None]), self.turned(view))
        return distance, self.turned(normal, -1)

    def albedo(self, point: np.ndarray, normal: np.ndarray, pixel: np.ndarray) -> np.ndarray:
        """(3, n) texture at points of the thing's own frame (origin at the base)."""
        surface = self.surface
        if self.shape == "box":
            axis = np.abs(normal).argmax(0)
            u, v = np.where(axis == 0, point[2], point[0]), np.where(axis == 1, point[2], point[1])
            return albedo(surface, u + axis.astype(np.float32) * 0.37, v, pixel)
        turns = max(round(2 * np.pi * float(self.half[0]) * surface.repeat), 4) / surface.repeat  # whole repetitions
        u = np.arctan2(point[0], point[2]) / np.float32(2 * np.pi) * np.float32(turns)
        scale = self.height if surface.pattern == "dipped" else 1.0
        colour = albedo(surface, u, point[1] / np.float32(scale), pixel)
        if self.cap:  # what fills a vessel
            colour[:, normal[1] > 0.999] = surface.colours[1] * 0.35
        return colour


def draw_thing(rng: np.random.Generator, size: float, hue: float, centre: np.ndarray) -> Thing:
    """A thing of about `size` (half its width), standing at `centre`."""
    family = str(rng.choice(["ball", "box", "ring", "closed", "open"], p=[0.2, 0.17, 0.08, 0.25, 0.3]))
    surface = draw_surface(rng, PATTERNS, hue, (1.6 / size, 3.2 / size), rng.choice([0.0, 0.12, 0.35]))
    yaw = rng.uniform(-np.pi, np.pi)
    if family == "ball":
        squash = rng.choice([1.0, rng.uniform(0.7, 1.35)])
        return Thing("ball", centre, np.float32([size, size * squash, size]), yaw, surface)
    if family == "box":
        half = np.float32([0.8 * size, rng.uniform(0.45, 1.1) * size, rng.uniform(0.5, 0.85) * size])
        return Thing("box", centre, half, yaw, surface._replace(repeat=np.float32(surface.repeat * 0.9)))
    if family == "ring":
        angle, thick = np.linspace(-np.pi / 2, 1.5 * np.pi, 41), rng.uniform(0.28, 0.42)
        points = np.stack((1 - thick + thick * np.cos(angle), thick * (1 + np.sin(angle))), 1)
    else:
        shapes = PROFILES[family]
        points = np.array(shapes[str(rng.choice(list(shapes)))], float)
        points[:, 0] *= rng.uniform(0.9, 1.12, len(points))
        points *= [1, rng.uniform(0.85, 1.15)]
        for _ in range(3 if len(points) > 2 else 0):  # Chaikin's corner cutting
            cut = np.stack((0.75 * points[:-1] + 0.25 * points[1:], 0.25 * points[:-1] + 0.75 * points[1:]), 1)
            points = np.concatenate((points[:1], cut.reshape(-1, 2), points[-1:]))
    points *= size / max(points[:, 0].max(), 0.42 * points[:, 1].max())
    width, height = points.max(0)
    cap = float(0.1 * height) if family == "open" else 0.0
    half = np.float32([width, height / 2, width])
    return Thing("lathe", centre, half, yaw, surface, _outline(points, hollow=family == "ring"), cap)


def _outline(points: np.ndarray, hollow: bool) -> np.ndarray:
    """(2, LEVELS) inner and outer radius at evenly spaced heights of an outline given as (radius, height) points."""
    (r0, y0), (r1, y1) = points[:-1].T[..., None], points[1:].T[..., None]
    levels = np.linspace(points[:, 1].min() + 1e-4, points[:, 1].max() - 1e-4, LEVELS)
    share = (levels - y0) / np.where(y1 == y0, 1e-9, y1 - y0)
    radius = np.where((share >= 0) & (share <= 1), r0 + share * (r1 - r0), np.nan)
    return np.float32([np.nanmin(radius, 0) * hollow, np.nanmax(radius, 0)])


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _meet_ball(thing: Thing, origin: np.ndarray, view: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    half = thing.half[:, None]
    o, d = (origin - half * UP) / half, view / half
    a, b = dot(d, d), dot(o, d)
    root = b * b - a * (dot(o, o) - 1)
    t = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
    return t, (o + np.where(root > 0, t, 0) * d) / half


def _meet_box(thing: Thing, origin: np.ndarray, view: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    half = thing.half[:, None]
    safe = np.where(np.abs(view) < 1e-6, np.float32(1e-6), view)
    middle, reach = (half * UP - origin) / safe, half / np.abs(safe)
    near, far = middle - reach, (middle + reach).min(0)
    t = near.max(0)
    return np.where((t < far) & (t > 0), t, np.inf), np.where(near == t, -np.sign(safe), np.float32(0))


def _meet_lathe(thing: Thing, origin: np.ndarray, view: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """March through the cylinder around the thing, by way of the point nearest to the axis, then close in.

    Who enters a vessel by its top is inside at once, and looks for the way out: the inner wall.
    """
    flat = view[0] * view[0] + view[2] * view[2]
    closest = -(origin[0] * view[0] + origin[2] * view[2]) / flat
    apart = np.abs(origin[0] * view[2] - origin[2] * view[0]) / np.sqrt(flat)
    chord = np.sqrt(np.maximum(thing.half[0] ** 2 - apart * apart, 0) / flat)
    down = np.where(np.abs(view[1]) < 1e-5, np.float32(-1e-5), view[1])
    bottom, top = -origin[1] / down, (thing.height - origin[1]) / down
    start = np.maximum(closest - chord, np.minimum(bottom, top))
    stop = np.minimum(closest + chord, np.maximum(bottom, top))
    near = np.flatnonzero((stop > start) & (chord > 0))
    start, stop, ray = start[near], stop[near], view[:, near]
    middle, ring = np.clip(closest[near], start, stop), thing.outline[0].any()

    def outside(t: np.ndarray, ray: np.ndarray) -> np.ndarray:
        x, z = origin[0] + t * ray[0], origin[2] + t * ray[2]
        rho, level = np.sqrt(x * x + z * z), origin[1] + t * ray[1]
        gap = rho - thing.radius(level)
        return np.maximum(gap, thing.radius(level, 0) - rho) if ring else gap

    share = np.linspace(0, 1, 6, dtype=np.float32)[:, None]
    steps = np.concatenate((start + (middle - start) * share[:-1], middle + (stop - middle) * share))
    gap = outside(steps, ray)
    sign = np.where((gap[0] < 0) & (thing.cap > 0), np.float32(-1), 1)
    gap *= sign
    met = gap < 0
    column = np.flatnonzero(met.any(0))
    first, ray, sign = met.argmax(0)[column], ray[:, column], sign[column]
    before = np.maximum(first - 1, 0)
    low, high, outer, inner = steps[before, column], steps[first, column], gap[before, column], gap[first, column]
    for _ in range(3):  # regula falsi
        cut = low + (high - low) * np.clip(outer / np.maximum(outer - inner, 1e-9), 0.05, 0.95)
        value = outside(cut, ray) * sign
        low, outer = np.where(value < 0, low, cut), np.where(value < 0, outer, value)
        high, inner = np.where(value < 0, cut, high), np.where(value < 0, value, inner)
    t, normal = np.full(view.shape[1], np.inf, np.float32), np.zeros_like(view)
    t[near[column]] = high
    x, level, z = origin + high * ray
    rho, dy = np.sqrt(x * x + z * z) + 1e-6, np.float32(thing.height / LEVELS)
    (i0, i1), (o0, o1) = ([thing.radius(y, side) for y in (level - dy, level + dy)] for side in (0, 1))
    slope = np.where(rho - (i0 + i1) / 2 < (o0 + o1) / 2 - rho, i1 - i0, o1 - o0) / (2 * dy)
    on_top = (first == 0) & (thing.cap == 0)
    normal[:, near[column]] = np.where(on_top, UP, np.stack((x / rho, -slope, z / rho)))
    if thing.cap:
        level = np.float32(thing.height - thing.cap)
        s = (level - origin[1]) / down
        p = origin + s * view
        disc = (p[0] * p[0] + p[2] * p[2] < thing.radius(level) ** 2) & (s < t)
        t, normal = np.where(disc, s, t), np.where(disc, UP, normal)
    return t, normal

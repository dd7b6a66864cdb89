"""Procedurally lit still lifes: composite images whose ground truth is known exactly.

A scene is a floor, a wall or a sky, and two to five textured objects, ray cast under a key light, ambient light, soft
shadows and an illuminant that changes in strength and colour from left to right. One object is the foreground: a
composite shows it as another illuminant would, while every other pixel stays as it was. Nothing here is shared with the
colour transfers or with LEMaRT's transforms, so a network pre-trained by those is not tested on its own homework.

Shapes: point lists are (3, n) float32, y points up, x to the right, z away from the camera; radiance is linear sRGB.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from harmonylib.errors import HarmonyError

STYLES = ("HCOCO", "HAdobe5k", "HFlickr", "Hday2night")  # the four subsets of iHarmony4
AREA = (0.035, 0.36)  # share of the picture that the foreground may take
FMSE = (90.0, 9000.0)  # re-lightings outside of these bounds are made stronger or weaker
LEVELS = 96  # samples of an outline
FLOOR, WALL, SKY = -1, -2, -3  # what a ray met; objects count from 0

# Profiles of solids of revolution as (radius, height): closed ones, and those that one can look into.
CLOSED = {
    "cylinder": [(0.42, 0), (0.42, 1)],
    "cone": [(0.55, 0), (0.0, 1.25)],
    "pear": [(0.02, 0), (0.3, 0), (0.52, 0.18), (0.5, 0.6), (0.2, 0.8), (0.2, 1.12), (0.02, 1.15)],
    "apple": [(0.2, 0), (0.6, 0.15), (0.64, 0.8), (0.35, 1.0), (0.03, 0.95), (0.03, 1.12)],
    "pawn": [(0.42, 0), (0.44, 0.2), (0.12, 0.25), (0.14, 0.9), (0.34, 0.8), (0.36, 1.3), (0.02, 1.35)],
    "top": [(0.1, 0), (0.6, 0.45), (0.6, 0.6), (0.12, 0.85), (0.1, 1.05)],
}
OPEN = {
    "vase": [(0.28, 0), (0.5, 0.2), (0.62, 0.75), (0.14, 0.95), (0.16, 1.2), (0.32, 1.45)],
    "jug": [(0.3, 0), (0.62, 0.15), (0.55, 0.7), (0.26, 0.9), (0.3, 1.15)],
    "bottle": [(0.32, 0), (0.34, 0.1), (0.34, 0.95), (0.1, 1.0), (0.11, 1.3), (0.12, 1.5)],
    "bowl": [(0.26, 0), (0.5, 0.06), (0.68, 0.3), (0.72, 0.55)],
    "cup": [(0.28, 0), (0.4, 0.08), (0.42, 0.5), (0.46, 0.85)],
}


@dataclass(frozen=True)
class Scene:
    """One picture and its re-lit versions; `composites` equal `real` outside of `mask`, bit for bit."""

    real: np.ndarray  # (H, W, 3) uint8: objects and background under one illuminant (the target)
    mask: np.ndarray  # (H, W) uint8, 0 or 255: every pixel that shows some of the foreground object
    composites: list[np.ndarray]  # each (H, W, 3) uint8: the foreground object under another illuminant


@dataclass(frozen=True)
class Light:
    """An illuminant: a key lamp of some size, light from all around, and a trend along x."""

    position: np.ndarray  # (3,) of the key light
    key: np.ndarray  # (3,) irradiance of the key light at the middle of the scene
    ambient: np.ndarray  # (3,)
    slope: np.ndarray  # (3,) change of log radiance per unit of x
    sky: np.ndarray  # (3,) what shows where no wall is
    size: float  # tangent of the angle under which the key light is seen: width of the penumbra
    contrast: float = 0.0  # log exponent and log factor of a camera's rendering
    saturation: float = 0.0


@dataclass(frozen=True)
class Surface:
    kind: str
    colours: np.ndarray  # (4, 3) albedos: two of the palette, off-white, dark
    repeat: float  # repetitions of the pattern per unit of length
    angle: float
    gloss: float
    offset: np.ndarray  # (2,) of the noise


@dataclass(frozen=True)
class Thing:
    shape: str  # "ball", "box" or "lathe"
    centre: np.ndarray  # (3,) of the base
    half: np.ndarray  # (3,) half sizes
    yaw: float
    surface: Surface
    outline: np.ndarray | None = None  # (2, LEVELS) inner and outer radius of a lathe, from its base to its top
    cap: float = 0.0  # how far what fills a vessel lies below its rim; 0: not a vessel

    @property
    def middle(self) -> np.ndarray:
        return self.centre + self.half * np.float32([0, 1, 0])

    @property
    def height(self) -> float:
        return 2 * float(self.half[1])


@dataclass(frozen=True)
class Samples:
    """What rays met."""

    kind: np.ndarray  # (n,) index of the object, or FLOOR, WALL, SKY
    point: np.ndarray  # (3, n)
    normal: np.ndarray  # (3, n)
    view: np.ndarray  # (3, n) direction of the ray
    albedo: np.ndarray  # (3, n)
    gloss: np.ndarray  # (n,)
    openness: np.ndarray  # (n,) share of the ambient light that arrives

    def take(self, which: np.ndarray) -> "Samples":
        return Samples(*(getattr(self, name).take(which, -1) for name in self.__dataclass_fields__))

    def join(self, other: "Samples") -> "Samples":
        return Samples(*(np.concatenate((getattr(self, n), getattr(other, n)), -1) for n in self.__dataclass_fields__))


# ---------------------------------------------------------------- textures


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


def _edge(x: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    """0 to 1 while x crosses zero, `width` wide: a step without aliasing."""
    return np.clip(x / width + 0.5, 0, 1)


def _line(u: np.ndarray, half: float, width: np.ndarray) -> np.ndarray:
    """1 within `half` of a whole number."""
    return _edge(half - np.abs(u - np.rint(u)), width)


def _mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    a, b = (c[:, None] if c.ndim == 1 else c for c in (a, b))
    return a + (b - a) * share


def _albedo(s: Surface, u: np.ndarray, v: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """(3, n) albedo of a surface at texture coordinates in units of length; `pixel` is the footprint there."""
    first, second, white, dark = s.colours
    cloud = _noise(u * 0.6 + s.offset[0], v * 0.6 + s.offset[1])
    c, d = np.float32(np.cos(s.angle) * s.repeat), np.float32(np.sin(s.angle) * s.repeat)
    u, v, w = u * c - v * d, u * d + v * c, np.maximum(pixel * s.repeat, 1e-3)
    if s.kind == "stripes":
        out = _mix(_mix(first, white, _line(u, 0.2, w)), second, _line(u + 0.5, 0.06, w))
    elif s.kind == "checker":
        squares = 0.5 + 0.5 * (2 * _line(u / 2, 0.25, w / 2) - 1) * (2 * _line(v / 2, 0.25, w / 2) - 1)
        out = _mix(first, white, squares)
        out = _mix(out, dark, 0.6 * np.maximum(_line(u - 0.5, 0.025, w), _line(v - 0.5, 0.025, w)))
    elif s.kind == "gingham":
        out = _mix(white, first, 0.5 * _line(u, 0.25, w) + 0.5 * _line(v, 0.25, w))
    elif s.kind == "tartan":
        out = _mix(first, second, 0.5 * _line(u, 0.22, w) + 0.5 * _line(v, 0.22, w))
        out = _mix(out, white, 0.6 * np.maximum(_line(u + 0.5, 0.04, w), _line(v + 0.5, 0.04, w)))
    elif s.kind == "dots":
        v2 = v + 0.5 * np.mod(np.rint(u), 2)
        out = _mix(first, white, _edge(0.28 - np.hypot(u - np.rint(u), v2 - np.rint(v2)), w))
    elif s.kind == "planks":
        row = np.floor(v)
        along = u * 0.22 + _hash(row)
        tone = 0.75 + 0.5 * _hash(row, np.floor(along)) * (0.8 + 0.4 * _noise(u * 0.12 + _hash(row) * 7, v * 0.9))
        out = _mix(first, second, 0.3 * _hash(row, np.floor(along) + 5)) * tone
        out = _mix(out, dark, 0.7 * np.maximum(_line(v, 0.025, w), _line(along, 0.006, w * 0.22)))
    elif s.kind == "bricks":
        row = np.floor(v)
        along = u * 0.5 + 0.5 * np.mod(row, 2)
        out = _mix(first, second, 0.35 * _hash(np.floor(along), row)) * (0.85 + 0.3 * _hash(row, np.floor(along)))
        out = _mix(out, white, np.maximum(_line(v, 0.05, w), _line(along, 0.025, w * 0.5)))
    elif s.kind == "terrazzo":
        out = np.repeat(white[:, None], u.size, 1)
        for layer, colour in enumerate((first, second, dark, first * 0.6 + white * 0.3)):
            a, b = u * (0.8 + 0.27 * layer) + 3.7 * layer, v * (0.8 + 0.27 * layer) + 1.3 * layer
            i, j = np.floor(a), np.floor(b)
            x, y = a - i - 0.3 - 0.4 * _hash(i, j), b - j - 0.3 - 0.4 * _hash(j, i + 9)
            out = _mix(out, colour, _edge(0.1 + 0.18 * _hash(i + 3, j) - np.abs(x) - 0.7 * np.abs(y + 0.5 * x), w))
    elif s.kind == "marble":
        vein = np.abs(np.sin(2.2 * u + 9 * cloud))
        out = _mix(_mix(first, white, np.clip(1.6 * cloud - 0.2, 0, 1)), second, (1 - vein) ** 4)
    elif s.kind == "dipped":
        out = _mix(first, white, _edge(v - 0.55 * s.repeat - 0.25 * s.repeat * (cloud - 0.5), w))
    else:
        out = np.repeat(first[:, None], u.size, 1)
    return out * (0.88 + 0.24 * cloud)


# ---------------------------------------------------------------- geometry


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _turn(thing: Thing, vectors: np.ndarray, back: bool = False) -> np.ndarray:
    """World directions in the thing's own frame, or back."""
    c, s = np.float32(np.cos(thing.yaw)), np.float32(np.sin(thing.yaw) * (-1 if back else 1))
    return np.stack((c * vectors[0] + s * vectors[2], vectors[1], c * vectors[2] - s * vectors[0]))


def _meet_ball(thing: Thing, origin: np.ndarray, view: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    half = thing.half[:, None]
    o, d = (origin - half * np.float32([[0], [1], [0]])) / half, view / half
    a, b = _dot(d, d), _dot(o, d)
    root = b * b - a * (_dot(o, o) - 1)
    t = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
    return t, (o + np.where(np.isfinite(t), t, 0) * d) / half


def _meet_box(thing: Thing, origin: np.ndarray, view: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    half = thing.half[:, None]
    o = origin - half * np.float32([[0], [1], [0]])
    safe = np.where(np.abs(view) < 1e-6, np.float32(1e-6), view)
    middle, reach = -o / safe, half / np.abs(safe)
    near, far = middle - reach, (middle + reach).min(0)
    t = near.max(0)
    return np.where((t < far) & (t > 0), t, np.inf), np.where(near == t, -np.sign(safe), np.float32(0))


def _radii(thing: Thing, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inner (zero for most) and outer radius of a lathe at heights over its base."""
    place = np.minimum(np.maximum(level * np.float32((LEVELS - 1) / thing.height), 0), np.float32(LEVELS - 1.001))
    i = place.astype(np.intp)
    share = place - i.astype(np.float32)
    inner, outer = (r.take(i) + share * np.diff(r).take(i) if r.any() else np.float32(0) for r in thing.outline)
    return inner, outer


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
    middle = np.clip(closest[near], start, stop)

    def outside(t: np.ndarray, ray: np.ndarray) -> np.ndarray:
        x, z = origin[0] + t * ray[0], origin[2] + t * ray[2]
        rho = np.sqrt(x * x + z * z)
        inner, outer = _radii(thing, origin[1] + t * ray[1])
        return rho - outer if np.ndim(inner) == 0 else np.maximum(rho - outer, inner - rho)

    share = np.linspace(0, 1, 6, dtype=np.float32)[:, None]
    steps = np.concatenate((start + (middle - start) * share[:-1], middle + (stop - middle) * share))
    gap = outside(steps, ray)
    within = gap[0] < 0
    sign = np.where(within & (thing.cap > 0), np.float32(-1), 1)
    met = gap * sign < 0
    hit, first = met.any(0), met.argmax(0)
    column = np.flatnonzero(hit)
    first, ray, sign = first[column], ray[:, column], sign[column]
    low, high = steps[np.maximum(first - 1, 0), column], steps[first, column]
    outer, inner = gap[np.maximum(first - 1, 0), column] * sign, gap[first, column] * sign
    for _ in range(3):  # regula falsi
        cut = low + (high - low) * np.clip(outer / np.maximum(outer - inner, 1e-9), 0.05, 0.95)
        value = outside(cut, ray) * sign
        low, outer = np.where(value < 0, low, cut), np.where(value < 0, outer, value)
        high, inner = np.where(value < 0, cut, high), np.where(value < 0, value, inner)
    at = near[column]
    t, normal = np.full(view.shape[1], np.inf, np.float32), np.zeros_like(view)
    t[at] = high
    x, level, z = origin + high * ray
    rho, dy = np.sqrt(x * x + z * z) + 1e-6, np.float32(thing.height / LEVELS)
    (i0, o0), (i1, o1) = _radii(thing, level - dy), _radii(thing, level + dy)
    slope = np.where(rho - (i0 + i1) / 2 < (o0 + o1) / 2 - rho, i1 - i0, o1 - o0) / (2 * dy)
    upwards = (first == 0) & (thing.cap == 0)
    normal[:, at] = np.where(upwards, np.float32([[0], [1], [0]]), np.stack((x / rho, -slope, z / rho)))
    if thing.cap:
        level = np.float32(thing.height - thing.cap)
        s = (level - origin[1]) / down
        p = origin + s * view
        disc = (p[0] * p[0] + p[2] * p[2] < _radii(thing, level)[1] ** 2) & (s < t)
        t, normal = np.where(disc, s, t), np.where(disc, np.float32([[0], [1], [0]]), normal)
    return t, normal


MEET = {"ball": _meet_ball, "box": _meet_box, "lathe": _meet_lathe}


def _thing_albedo(thing: Thing, point: np.ndarray, normal: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """Texture of a thing at points of its own frame (origin at the base)."""
    if thing.shape == "box":
        axis = np.abs(normal).argmax(0)
        u, v = np.where(axis == 0, point[2], point[0]), np.where(axis == 1, point[2], point[1])
        return _albedo(thing.surface, u + axis.astype(np.float32) * 0.37, v, pixel)
    radius = float(thing.half[0])
    turns = max(round(2 * np.pi * radius * thing.surface.repeat), 4) / thing.surface.repeat  # whole repetitions
    u = np.arctan2(point[0], point[2]) / np.float32(2 * np.pi) * np.float32(turns)
    scale = thing.height if thing.surface.kind == "dipped" else 1.0
    albedo = _albedo(thing.surface, u, point[1] / np.float32(scale), pixel)
    if thing.cap:  # what fills a vessel
        albedo[:, normal[1] > 0.999] = thing.surface.colours[1][:, None] * 0.35
    return albedo


# ---------------------------------------------------------------- the world: what is where


@dataclass(frozen=True)
class World:
    things: list[Thing]
    floor: Surface
    back: Surface
    depth: float  # z of the wall; inf: open air
    eye: np.ndarray  # (3,)
    pitch: float  # radians, downwards
    zoom: float  # tangent of half the horizontal angle of view


def _views(world: World, size: tuple[int, int], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Unit directions of the rays through (fractional) pixels."""
    scale = 2 * world.zoom / size[1]
    x, y = (columns - size[1] / 2 + 0.5) * scale, (size[0] / 2 - 0.5 - rows) * scale
    c, s = np.float32(np.cos(world.pitch)), np.float32(np.sin(world.pitch))
    view = np.stack((x, y * c - s, c + y * s))
    return view / np.sqrt(_dot(view, view))


def _trace(world: World, view: np.ndarray, pixel: float) -> tuple[Samples, list[int]]:
    """What the rays meet, and how many would meet each thing if it were alone; `pixel` is the angle of a pixel."""
    n, eye = view.shape[1], world.eye
    down = np.minimum(view[1], np.float32(-1e-4))
    t_floor = np.where(view[1] < 0, -eye[1] / down, np.inf)
    t_wall = (np.float32(world.depth) - eye[2]) / view[2]
    floor = (t_floor < t_wall) & (t_floor < 60)
    t = np.where(floor, t_floor, np.minimum(t_wall, 60))
    kind = np.where(floor, FLOOR, WALL if np.isfinite(world.depth) else SKY).astype(np.int8)
    normal = np.where(floor, np.float32([[0], [1], [0]]), np.float32([[0], [0], [-1]]))
    facing = np.where(floor, view[1], -view[2])
    alone = []
    for k, thing in enumerate(world.things):
        to = thing.middle - eye
        along = to @ view
        near = np.flatnonzero(to @ to - along * along < _dot(thing.half, thing.half))
        origin = _turn(thing, (eye - thing.centre)[:, None])
        tk, nk = MEET[thing.shape](thing, origin, _turn(thing, view.take(near, 1)))
        alone.append(int(np.isfinite(tk).sum()))
        seen = tk < t[near]
        hit = near[seen]
        nk = _turn(thing, nk[:, seen], back=True)
        facing[hit] = _dot(nk, view.take(hit, 1)) / np.sqrt(_dot(nk, nk))
        nk *= -np.sign(facing[hit]) / np.sqrt(_dot(nk, nk))  # inner walls turn to the viewer
        t[hit], kind[hit], normal[:, hit] = tk[seen], k, nk
    point = eye[:, None] + t * view
    footprint = t * np.float32(pixel) / np.sqrt(np.clip(np.abs(facing), 0.08, 1))
    albedo, gloss, openness = np.empty_like(view), np.zeros(n, np.float32), np.ones(n, np.float32)
    at = np.flatnonzero(kind == FLOOR)
    albedo[:, at] = _albedo(world.floor, point[0, at], point[2, at], footprint[at])
    at = np.flatnonzero(kind == WALL)
    albedo[:, at] = _albedo(world.back, point[0, at], point[1, at], footprint[at])
    at = np.flatnonzero(kind == SKY)
    albedo[:, at] = _sky(world.back, view.take(at, 1))
    for k, thing in enumerate(world.things):
        at = np.flatnonzero(kind == k)
        local = _turn(thing, point.take(at, 1) - thing.centre[:, None])
        albedo[:, at] = _thing_albedo(thing, local, _turn(thing, normal[:, at]), footprint[at])
        gloss[at] = thing.surface.gloss
        openness[at] = 1 - 0.4 * np.exp(local[1] * (-4 / thing.height)) * (1 - np.abs(normal[1, at]))
    at = np.flatnonzero(kind == WALL)
    openness[at] = 1 - 0.3 * np.exp(-2 * point[1, at])
    at = np.flatnonzero(kind == FLOOR)
    openness[at] = 1 - 0.35 * np.exp((point[2, at] - np.float32(world.depth)) * 2.5)
    openness[at] *= _contact(world, point.take(at, 1))
    return Samples(kind, point, normal, view, albedo, gloss, openness), alone


def _sky(surface: Surface, view: np.ndarray) -> np.ndarray:
    """Brightness of the sky: paler towards the horizon, with clouds."""
    height = np.maximum(view[1], 0.004)
    cloud = _noise(view[0] / (height + 0.15) * 0.5 + surface.offset[0], 0.9 / (height + 0.15) + surface.offset[1])
    blue = _mix(np.float32([1, 1, 1]), np.float32([0.55, 0.75, 1.0]), 1 - np.exp(-4 * height))
    return _mix(blue * 0.8, np.float32([1, 1, 1]), np.clip(2.2 * cloud - 0.9, 0, 0.8))


def _contact(world: World, ground: np.ndarray) -> np.ndarray:
    """Share of the ambient light that things leave to points of the floor around their feet."""
    share = np.ones(ground.shape[1], np.float32)
    for thing in world.things:
        x, _, z = np.abs(_turn(thing, ground - thing.centre[:, None]))
        if thing.shape == "box":
            gap = np.hypot(np.maximum(x - thing.half[0], 0), np.maximum(z - thing.half[2], 0))
        else:
            foot = 0.35 if thing.shape == "ball" else 0.75
            gap = np.maximum(np.hypot(x, z) - np.float32(foot * thing.half[0]), 0)
        share *= 1 - 0.65 * np.exp(gap * np.float32(-2.5 / min(thing.half[0], thing.height)))
    return share


# ---------------------------------------------------------------- light


def _shadow(thing: Thing, point: np.ndarray, to: np.ndarray, size: float) -> np.ndarray:
    """How much of a key light in direction `to` a thing hides from points, 0 to 1, with a penumbra.

    Balls are ellipsoids; other things are columns whose width follows their outline.
    """
    rel = thing.centre[:, None] - point
    if thing.shape == "ball":
        half = thing.half[:, None]
        rel, to = (rel + half * np.float32([[0], [1], [0]])) / half, to / half
        length = np.sqrt(_dot(to, to))
        along = _dot(rel, to) / length
        apart = np.sqrt(np.maximum(_dot(rel, rel) - along * along, 0))
        return _edge(1 - apart, size * np.maximum(along, 0) + 0.03) * (along > 0)
    flat = np.hypot(to[0], to[2]) + 1e-6
    along = (rel[0] * to[0] + rel[2] * to[2]) / flat
    apart = np.abs(rel[0] * to[2] - rel[2] * to[0]) / flat
    rise = to[1] / flat
    middle = along * rise - rel[1]
    if thing.shape == "box":
        x, _, z = np.abs(_turn(thing, to))
        width = (thing.half[0] * z + thing.half[2] * x) / flat
    else:
        width = _radii(thing, middle)[1]
    penumbra = size * np.maximum(along, 0) + 0.02
    reach = np.sqrt(np.maximum(width * width - apart * apart, 0)) * rise
    hidden = _edge(width - apart, penumbra) * _edge(thing.height - middle + reach, penumbra)
    return hidden * _edge(middle + reach, penumbra) * (along > 0)


def _shade(world: World, samples: Samples, light: Light) -> np.ndarray:
    """(3, n) radiance: Lambert and a highlight from the key light, ambient light, and the trend along x."""
    to = light.position[:, None].astype(np.float32) - samples.point
    distance = np.sqrt(_dot(to, to))
    to /= distance
    facing = _dot(samples.normal, to)
    lit = np.maximum(facing, 0) * (np.float32(np.linalg.norm(light.position)) / distance) ** 1.5
    size = np.float32(light.size)
    for k, thing in enumerate(world.things):
        rel = thing.middle[:, None] - samples.point
        along = _dot(rel, to)
        reach = np.float32(np.sqrt(_dot(thing.half, thing.half)) + 0.05) + 0.5 * size * along
        at = np.flatnonzero((along > 0) & (samples.kind != k) & (_dot(rel, rel) < along * along + reach * reach))
        lit[at] *= 1 - _shadow(thing, samples.point.take(at, 1), to.take(at, 1), size)
    shine = to - samples.view
    shine = np.maximum(_dot(shine, samples.normal) / np.sqrt(_dot(shine, shine)), 0)
    shine = samples.gloss * shine**32 * (lit > 0) * np.minimum(4 * lit, 1)
    around = samples.openness * (0.75 + 0.25 * samples.normal[1])
    key, ambient, slope, sky = (
        c.astype(np.float32)[:, None] for c in (light.key, light.ambient, light.slope, light.sky)
    )
    radiance = samples.albedo * (key * lit + ambient * around) + key * shine
    radiance = np.where(samples.kind == SKY, samples.albedo * sky, radiance)
    ahead = np.maximum((samples.point[2] - world.eye[2]) / 7, 1)  # what is far away shows the trend by its direction
    if world.depth == np.inf:
        radiance += np.where(samples.kind == FLOOR, 1 - np.exp((1 - ahead) * np.float32(0.35)), 0) * (
            0.8 * sky - radiance
        )
    radiance *= np.exp(slope * samples.point[0] / ahead)
    if light.contrast or light.saturation:
        grey = (radiance[0] + radiance[1] + radiance[2]) / 3
        toned = 0.25 * (np.maximum(grey, 1e-4) / 0.25) ** float(np.exp(light.contrast))
        colour = np.maximum(1 + (radiance / np.maximum(grey, 1e-4) - 1) * float(np.exp(light.saturation)), 0)
        radiance = toned * colour
    return radiance


def _develop(radiance: np.ndarray) -> np.ndarray:
    """Radiance to sRGB in [0, 255]: linear up to a half, then a shoulder that never quite saturates."""
    x = np.where(radiance < 0.5, radiance, 1 - 0.25 / np.maximum(radiance, 0.5))
    curve = 1.055 * 255 * np.exp(np.log(np.maximum(x, 1e-4)) / 2.4) - 0.055 * 255
    return np.where(x < 0.0031308, 12.92 * 255 * x, curve)


def _illuminant(mired: float, tint: float = 0.0) -> np.ndarray:
    """(3,) colour of a black body of 1e6 / mired kelvin beside one of 5500 K, by Wien's law at three wavelengths.

    A camera corrects for about half of the colour; `tint` is log green against magenta.
    """
    wavelength = np.array([0.61, 0.55, 0.465])
    locus = 0.55 * 14388e-6 * (182 - mired) * (1 / wavelength - 1 / 0.55)
    return np.exp(locus + tint * np.array([-0.5, 1, -0.5]))


TIMES = {  # mired and strength of the key light, of the ambient light, tint, height of the key light, sky
    "day": (180, 0.80, 145, 0.42, 0.0, 5.0, (0.75, 0.9, 1.15)),
    "dusk": (300, 0.55, 150, 0.26, -0.08, 2.4, (0.85, 0.45, 0.42)),
    "night": (340, 0.42, 110, 0.15, 0.02, 3.4, (0.05, 0.08, 0.2)),
}


RELIGHTING = {  # standard deviations of the log strength, of mired, and of log green against magenta
    "HCOCO": (0.54, 100, 0.07),
    "HAdobe5k": (0.74, 100, 0.06),
    "HFlickr": (0.70, 180, 0.14),
    "Hday2night": (0.1, 20, 0.03),  # on top of the other time of day
}


def _draw_light(rng: np.random.Generator, time: str, side: int) -> Light:
    """A light of a time of day, or of a studio; `side` is where the key light stands, -1 or 1."""
    if time == "studio":
        mired, height = rng.normal(190, 38), rng.uniform(3.0, 5.0)
        cool, strength = mired - rng.normal(35, 35), np.exp(rng.normal(0, 0.14))
        key, ambient = 0.78 * strength, 0.36 * strength * np.exp(rng.normal(0, 0.2))
        tint, sky = rng.normal(0, 0.03), strength * np.array([0.8, 0.9, 1.05]) * _illuminant(mired)
    else:
        mired, key, cool, ambient, tint, height, sky = TIMES[time]
        mired, cool, strength = mired + rng.normal(0, 22), cool + rng.normal(0, 15), np.exp(rng.normal(0, 0.12))
        key, ambient, sky = key * strength, ambient * strength, strength * np.array(sky)
    slope = side * (rng.uniform(0.05, 0.2) + 0.5 * np.log(_illuminant(182 + rng.normal(25, 35))))
    position = np.array([side * rng.uniform(2.2, 4.2), height, rng.uniform(-4.0, -1.5)])
    return Light(
        position, key * _illuminant(mired, tint), ambient * _illuminant(cool, tint), slope, sky, rng.uniform(0.06, 0.2)
    )


def _relight(rng: np.random.Generator, style: str, real: Light, time: str) -> Light:
    """The light under which a composite shows the object: the real one with gains, another trend, at times turned."""
    side = int(np.sign(real.position[0]))
    strength, warmth, tint = RELIGHTING[style]
    gain = np.exp(rng.normal(0, strength)) * _illuminant(182 + rng.normal(0, warmth), rng.normal(0, tint))
    turn = np.radians(rng.uniform(-40, 40)) if rng.random() < 1 / 3 else 0.0
    if style == "Hday2night":
        other = _draw_light(rng, str(rng.choice([name for name in TIMES if name != time])), side)
        real = replace(real, key=other.key, ambient=other.ambient)
    x, y, z = real.position
    return replace(
        real,
        position=np.array([x * np.cos(turn) + z * np.sin(turn), y, z * np.cos(turn) - x * np.sin(turn)]),
        key=real.key * gain,
        ambient=real.ambient * gain,
        slope=rng.choice([-1, 1]) * rng.uniform(0.05, 0.25) + 0.4 * np.log(_illuminant(182 + rng.normal(0, 40))),
        contrast=rng.normal(0, 0.18) if style == "HAdobe5k" else 0.0,
        saturation=rng.normal(0, 0.2) if style == "HAdobe5k" else 0.0,
    )


def _between(a: Light, b: Light, share: float) -> Light:
    """A light on the way from a (0) to b (1) and beyond: colours in proportion, all else linearly."""
    mixed = {name: getattr(a, name) + share * (getattr(b, name) - getattr(a, name)) for name in a.__dataclass_fields__}
    for name in ("key", "ambient"):
        mixed[name] = getattr(a, name) * (getattr(b, name) / getattr(a, name)) ** share
    return Light(**mixed)


# ---------------------------------------------------------------- drawing lots


def _draw_surface(rng: np.random.Generator, kinds: list[str], hue: float, repeat: tuple[float, float], gloss: float):
    """A surface whose colours lie about an albedo of 0.4; every pattern has a part that is nearly neutral."""
    colours = []
    for turn, chroma in ((0.0, rng.uniform(0.15, 0.75)), (rng.normal(0, 0.9) + np.pi * rng.integers(2), 0.4)):
        angle = hue + turn
        tone = np.array([0.85, -0.1, -0.75]) * np.cos(angle) + np.array([0.3, -0.4, 0.3]) * np.sin(angle)
        colours.append(np.exp(chroma * tone) * np.exp(rng.uniform(np.log(0.2), np.log(0.55))))
    colours += [rng.uniform(0.6, 0.78) * np.array([1.0, 0.98, 0.94]), np.full(3, rng.uniform(0.08, 0.15))]
    return Surface(
        str(rng.choice(kinds)),
        np.clip(colours, 0.03, 0.85).astype(np.float32),
        np.float32(rng.uniform(*repeat)),
        0.0,
        np.float32(gloss),
        rng.uniform(0, 8, 2).astype(np.float32),
    )


def _smooth(outline: list[tuple[float, float]]) -> np.ndarray:
    """Chaikin's corner cutting, three times; outlines of two points stay straight."""
    points = np.array(outline, float)
    for _ in range(3 if len(points) > 2 else 0):
        cut = np.stack((0.75 * points[:-1] + 0.25 * points[1:], 0.25 * points[:-1] + 0.75 * points[1:]), 1)
        points = np.concatenate((points[:1], cut.reshape(-1, 2), points[-1:]))
    return points


OBJECT_PATTERNS = ["stripes", "checker", "gingham", "tartan", "dots", "marble", "dipped", "terrazzo", "plain"]


def _draw_thing(rng: np.random.Generator, size: float, hue: float, centre: np.ndarray) -> Thing:
    """A thing of about `size` (half its width), standing at `centre`."""
    family = rng.choice(["ball", "box", "ring", "closed", "open"], p=[0.2, 0.17, 0.08, 0.25, 0.3])
    surface = _draw_surface(rng, OBJECT_PATTERNS, hue, (1.6 / size, 3.2 / size), rng.choice([0.0, 0.12, 0.35]))
    yaw = rng.uniform(-np.pi, np.pi)
    if family == "ball":
        squash = rng.choice([1.0, rng.uniform(0.7, 1.35)])
        return Thing("ball", centre, np.float32([size, size * squash, size]), yaw, surface)
    if family == "box":
        surface = replace(surface, repeat=np.float32(surface.repeat * 0.9))
        half = np.float32([0.8 * size, rng.uniform(0.45, 1.1) * size, rng.uniform(0.5, 0.85) * size])
        return Thing("box", centre, half, yaw, surface)
    if family == "ring":
        angle, thick = np.linspace(-np.pi / 2, 1.5 * np.pi, 41), rng.uniform(0.28, 0.42)
        points = np.stack((1 - thick + thick * np.cos(angle), thick * (1 + np.sin(angle))), 1)
    else:
        shapes = CLOSED if family == "closed" else OPEN
        points = np.array(shapes[str(rng.choice(list(shapes)))], float)
        points[:, 0] *= rng.uniform(0.9, 1.12, len(points))
        points = _smooth(points * [1, rng.uniform(0.85, 1.15)])
    points *= size / max(points[:, 0].max(), 0.42 * points[:, 1].max())
    width, height = points.max(0)
    outline = _outline(points, hollow=family == "ring")
    cap = float(0.1 * height) if family == "open" else 0.0
    return Thing("lathe", centre, np.float32([width, height / 2, width]), yaw, surface, outline, cap)


def _outline(points: np.ndarray, hollow: bool) -> np.ndarray:
    """(2, LEVELS) inner and outer radius at evenly spaced heights of an outline given as (radius, height) points."""
    (r0, y0), (r1, y1) = points[:-1].T[..., None], points[1:].T[..., None]
    levels = np.linspace(points[:, 1].min() + 1e-4, points[:, 1].max() - 1e-4, LEVELS)
    share = (levels - y0) / np.where(y1 == y0, 1e-9, y1 - y0)
    radius = np.where((share >= 0) & (share <= 1), r0 + share * (r1 - r0), np.nan)
    return np.float32([np.nanmin(radius, 0) * hollow, np.nanmax(radius, 0)])


def _draw_world(rng: np.random.Generator, style: str) -> World:
    hue = rng.uniform(0, 2 * np.pi)  # hues are spread over the circle, so that their average says little
    outside = rng.random() < {"HCOCO": 0.2, "HAdobe5k": 0.15, "HFlickr": 0.35, "Hday2night": 0.5}[style]
    floors = ["planks", "checker", "terrazzo", "gingham", "marble", "bricks", "tartan", "plain"]
    walls = ["plain", "stripes", "bricks", "marble", "checker", "gingham"]
    floor = _draw_surface(rng, floors, hue + 2.4, (0.9, 1.8), 0.0)
    floor = replace(floor, angle=rng.uniform(-0.6, 0.6))
    back = _draw_surface(rng, walls, hue + 4.8, (0.7, 1.6), 0.0)
    count = int(rng.integers(3 if style == "HFlickr" else 2, 6))
    things: list[Thing] = []
    for k in range(count):
        for _ in range(30):
            size = rng.uniform(0.5, 0.95) if k == 0 else rng.uniform(0.28, 0.7)
            x, z = (rng.uniform(-0.9, 0.9), rng.uniform(-0.5, 0.2)) if k == 0 else rng.uniform((-2, -1), (2, 1.2))
            centre = np.array([x, 0, z], np.float32)
            if all(_apart(centre, size, other) for other in things):
                things.append(_draw_thing(rng, size, hue + 2.4 * (k + 2), centre))
                break
    eye = np.array([rng.uniform(-0.3, 0.3), rng.uniform(1.5, 2.4), -rng.uniform(4.2, 6.0)], np.float32)
    depth = np.inf if outside else rng.uniform(1.9, 3.0)
    pitch = np.arctan2(eye[1] - rng.uniform(0.55, 0.8), -eye[2])
    return World(things, floor, back, depth, eye, float(pitch), rng.uniform(0.36, 0.44))


def _apart(centre: np.ndarray, size: float, other: Thing) -> bool:
    """Whether two things neither touch nor stand one right in front of the other."""
    (x, _, z), room = np.abs(centre - other.centre), 1.1 * (size + other.half[0])
    return np.hypot(x, z) > room and x > 0.6 * room


def render_scene(index: int, style: str, relightings: int = 3, size: tuple[int, int] = (192, 256)) -> Scene:
    """Scene number `index` in the manner of one subset of iHarmony4, at `size` (height, width).

    The same arguments give the same bytes, whatever was rendered before. `HCOCO`: moderate changes of the object's
    illuminant; `HFlickr`: stronger casts, more things; `HAdobe5k`: another edition (exposure, white balance, contrast,
    saturation); `Hday2night`: the object as at another time of day. Raises HarmonyError for another style.
    """
    if style not in STYLES:
        raise HarmonyError(f"scene style {style!r} is unknown; use one of {', '.join(STYLES)}")
    rng = np.random.default_rng([index, STYLES.index(style)])
    rows, columns = (a.ravel().astype(np.float32) for a in np.indices(size))
    while True:
        world = _draw_world(rng, style)
        pixel = 2 * world.zoom / size[1]
        samples, alone = _trace(world, _views(world, size, rows, columns), pixel)
        seen = [int((samples.kind == k).sum()) for k in range(len(world.things))]
        fit = [k for k, n in enumerate(seen) if AREA[0] <= n / rows.size <= AREA[1] and n > 0.85 * alone[k]]
        if fit:
            break
    foreground = max(fit, key=seen.__getitem__) if rng.random() < 0.6 else int(rng.choice(fit))
    time = str(rng.choice(list(TIMES))) if style == "Hday2night" else "studio"
    light = _draw_light(rng, time, int(rng.choice([-1, 1])))

    offsets = np.float32([[-0.375, -0.125], [-0.125, 0.375], [0.125, -0.375], [0.375, 0.125]])
    at = np.flatnonzero(_edges(samples.kind.reshape(size), samples.normal.reshape(3, *size)))
    fine, _ = _trace(
        world,
        _views(world, size, *((p[at] + o[:, None]).ravel() for p, o in zip((rows, columns), offsets.T, strict=True))),
        pixel,
    )
    samples = samples.join(fine)
    own = np.flatnonzero(samples.kind == foreground)

    def resolve(display: np.ndarray) -> np.ndarray:
        picture = display[..., : rows.size].copy()
        picture[..., at] = display[..., rows.size :].reshape(*display.shape[:-1], 4, -1).mean(-2)
        return picture.reshape(*display.shape[:-1], *size)

    display = _develop(_shade(world, samples, light))
    mask = resolve((samples.kind == foreground).astype(np.float32)) > 0
    grain = rng.normal(0, 1.2, size).astype(np.float32)

    def picture(display: np.ndarray) -> np.ndarray:
        rounded = np.clip(np.rint(resolve(display) + grain), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(np.moveaxis(rounded, 0, -1))

    real, composites, object_samples = picture(display), [], samples.take(own)
    for _ in range(relightings):
        other, share = _relight(rng, style, light, time), 1.0
        for _ in range(8):
            relit = _develop(_shade(world, object_samples, _between(light, other, share)))
            change = ((relit - display[:, own]) ** 2).mean()
            blown = (relit > 252).mean() > 0.015
            if FMSE[0] <= change <= FMSE[1] and not blown:
                break
            share *= 0.75 if blown or change > FMSE[1] else 1.5
        changed = display.copy()
        changed[:, own] = relit
        composites.append(np.where(mask[..., None], picture(changed), real))
    return Scene(real, mask.astype(np.uint8) * 255, composites)


def _edges(kind: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Pixels beside which something else, or another side of the same thing, is seen."""
    edge = np.zeros(kind.shape, bool)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        crease = _dot([n[here] for n in normal], [n[there] for n in normal]) < 0.6
        differs = (kind[here] != kind[there]) | crease
        edge[here] |= differs
        edge[there] |= differs
    return edge

"""Light: illuminants, soft shadows, radiance, and its development to sRGB."""

from typing import NamedTuple

import numpy as np

from harmonylib.data.scenes.solids import UP, Thing, dot
from harmonylib.data.scenes.textures import edge
from harmonylib.data.scenes.world import BACK, FLOOR, Samples, World

TIMES = {  # mired and strength of the key light, of the ambient light, tint, height of the key light, sky
    "day": (180, 0.80, 145, 0.42, 0.0, 5.0, (0.75, 0.9, 1.15)),
    "dusk": (300, 0.55, 150, 0.26, -0.08, 2.4, (0.85, 0.45, 0.42)),
    "night": (340, 0.42, 110, 0.15, 0.02, 3.4, (0.05, 0.08, 0.2)),
}
RELIGHTING = {  # standard deviations of the log strength, of mired, and of log green against magenta
    "HCOCO": (0.65, 125, 0.08),
    "HAdobe5k": (0.9, 120, 0.07),
    "HFlickr": (0.8, 220, 0.16),
    "Hday2night": (0.1, 20, 0.03),  # on top of the other time of day
}


class Light(NamedTuple):
    """An illuminant: a key lamp of some size, light from all around, and a trend along x."""

    position: np.ndarray  # (3,) of the key light
    key: np.ndarray  # (3,) irradiance of the key light at the middle of the scene
    ambient: np.ndarray  # (3,)
    slope: np.ndarray  # (3,) change of log radiance per unit of x
    sky: np.ndarray  # (3,) what shows where no wall is
    size: float  # tangent of the angle under which the key light is seen: width of the penumbra
    contrast: float = 0.0  # log exponent and log factor of a camera's rendering
    saturation: float = 0.0


def _illuminant(mired: float, tint: float = 0.0) -> np.ndarray:
    """(3,) colour of a black body of 1e6 / mired kelvin beside one of 5500 K, by Wien's law at three wavelengths.

    A camera corrects for about half of the colour; `tint` is log green against magenta.
    """
    wavelength = np.array([0.61, 0.55, 0.465])
    locus = 0.55 * 14388e-6 * (182 - mired) * (1 / wavelength - 1 / 0.55)
    return np.exp(locus + tint * np.array([-0.5, 1, -0.5]))


def draw_light(rng: np.random.Generator, time: str, side: int) -> Light:
    """A light of a time of day, or of a studio; `side` is where the key light stands, -1 or 1."""
    if time == "studio":
        mired, height = rng.normal(190, 38), rng.uniform(3.0, 5.0)
        cool, strength = mired - rng.normal(35, 35), np.exp(rng.normal(0, 0.14))
        key, ambient = 0.78, 0.36 * np.exp(rng.normal(0, 0.2))
        tint, sky = rng.normal(0, 0.03), np.array([0.8, 0.9, 1.05]) * _illuminant(mired)
    else:
        mired, key, cool, ambient, tint, height, sky = TIMES[time]
        mired, cool, strength = mired + rng.normal(0, 22), cool + rng.normal(0, 15), np.exp(rng.normal(0, 0.12))
    slope = side * (rng.uniform(0.05, 0.2) + 0.5 * np.log(_illuminant(182 + rng.normal(25, 35))))
    position = np.array([side * rng.uniform(2.2, 4.2), height, rng.uniform(-4.0, -1.5)])
    key, ambient = key * strength * _illuminant(mired, tint), ambient * strength * _illuminant(cool, tint)
    return Light(position, key, ambient, slope, strength * np.array(sky), rng.uniform(0.06, 0.2))


def relight(rng: np.random.Generator, style: str, real: Light, time: str) -> Light:
    """The light under which a composite shows the object: the real one with gains, another trend, at times turned."""
    strength, warmth, tint = RELIGHTING[style]
    gain = np.exp(rng.normal(0, strength)) * _illuminant(182 + rng.normal(0, warmth), rng.normal(0, tint))
    turn = np.radians(rng.uniform(-40, 40)) if rng.random() < 1 / 3 else 0.0
    x, y, z = real.position
    if time != "studio":
        other = draw_light(rng, str(rng.choice([name for name in TIMES if name != time])), int(np.sign(x)))
        real = real._replace(key=other.key, ambient=other.ambient)
    return real._replace(
        position=np.array([x * np.cos(turn) + z * np.sin(turn), y, z * np.cos(turn) - x * np.sin(turn)]),
        key=real.key * gain,
        ambient=real.ambient * gain,
        slope=rng.choice([-1, 1]) * rng.uniform(0.05, 0.25) + 0.4 * np.log(_illuminant(182 + rng.normal(0, 40))),
        contrast=rng.normal(0, 0.18) if style == "HAdobe5k" else 0.0,
        saturation=rng.normal(0, 0.2) if style == "HAdobe5k" else 0.0,
    )


def between(a: Light, b: Light, share: float) -> Light:
    """A light on the way from a (0) to b (1) and beyond: colours in proportion, all else linearly."""
    key, ambient = a.key * (b.key / a.key) ** share, a.ambient * (b.ambient / a.ambient) ** share
    return Light(*(p + share * (q - p) for p, q in zip(a, b, strict=True)))._replace(key=key, ambient=ambient)


def _shadow(thing: Thing, point: np.ndarray, to: np.ndarray, size: float) -> np.ndarray:
    """How much of a key light in direction `to` a thing hides from points, 0 to 1, with a penumbra.

    Balls are ellipsoids; other things are columns whose width follows their outline.
    """
    rel = thing.centre[:, None] - point
    if thing.shape == "ball":
        half = thing.half[:, None]
        rel, to = (rel + half * UP) / half, to / half
        along = dot(rel, to) / np.sqrt(dot(to, to))
        apart = np.sqrt(np.maximum(dot(rel, rel) - along * along, 0))
        return edge(1 - apart, size * np.maximum(along, 0) + 0.03) * (along > 0)
    flat = np.hypot(to[0], to[2]) + 1e-6
    along = (rel[0] * to[0] + rel[2] * to[2]) / flat
    apart = np.abs(rel[0] * to[2] - rel[2] * to[0]) / flat
    rise = to[1] / flat
    middle = along * rise - rel[1]
    if thing.shape == "box":
        x, _, z = np.abs(thing.turned(to))
        width = (thing.half[0] * z + thing.half[2] * x) / flat
    else:
        width = thing.radius(middle)
    penumbra = size * np.maximum(along, 0) + 0.02
    reach = np.sqrt(np.maximum(width * width - apart * apart, 0)) * rise
    hidden = edge(width - apart, penumbra) * edge(thing.height - middle + reach, penumbra)
    return hidden * edge(middle + reach, penumbra) * (along > 0)


def shade(world: World, samples: Samples, light: Light) -> np.ndarray:
    """(3, n) linear radiance: Lambert and a highlight from the key light, ambient light, and the trend along x."""
    key, ambient, slope, sky = np.float32(light[1:5])[..., None]
    size = np.float32(light.size)
    to = np.float32(light.position)[:, None] - samples.point
    distance = np.sqrt(dot(to, to))
    to /= distance
    lit = np.maximum(dot(samples.normal, to), 0)
    lit *= (np.float32(np.linalg.norm(light.position)) / distance) ** 1.5
    for k, thing in enumerate(world.things):
        rel = thing.centre[:, None] + thing.half[:, None] * UP - samples.point
        along = dot(rel, to)
        reach = np.float32(np.sqrt(dot(thing.half, thing.half)) + 0.05) + 0.5 * size * along
        at = np.flatnonzero((along > 0) & (samples.kind != k) & (dot(rel, rel) < along * along + reach * reach))
        lit[at] *= 1 - _shadow(thing, samples.point.take(at, 1), to.take(at, 1), size)
    around = samples.openness * (0.75 + 0.25 * samples.normal[1])
    radiance = samples.albedo * (key * lit + ambient * around)
    at = np.flatnonzero(samples.gloss)
    half_way = to.take(at, 1) - samples.view.take(at, 1)
    shine = np.maximum(dot(half_way, samples.normal.take(at, 1)) / np.sqrt(dot(half_way, half_way)), 0)
    radiance[:, at] += key * (samples.gloss[at] * shine**32 * np.minimum(4 * lit[at], 1))
    ahead = np.maximum((samples.point[2] - world.eye[2]) / 7, 1)  # what is far away shows the trend by its direction
    if world.depth == np.inf:
        haze = np.where(samples.kind == FLOOR, 1 - np.exp((1 - ahead) * np.float32(0.35)), 0)
        radiance = np.where(samples.kind == BACK, samples.albedo * sky, radiance + haze * (0.8 * sky - radiance))
    radiance *= np.exp(slope * samples.point[0] / ahead)
    if light.contrast:
        grey = (radiance[0] + radiance[1] + radiance[2]) / 3
        toned = 0.25 * (np.maximum(grey, 1e-4) / 0.25) ** float(np.exp(light.contrast))
        chroma = (radiance / np.maximum(grey, 1e-4) - 1) * float(np.exp(light.saturation))
        radiance = toned * np.maximum(1 + chroma, 0)
    return radiance


def develop(radiance: np.ndarray) -> np.ndarray:
    """Radiance to sRGB in [0, 255]: linear up to a half, then a shoulder that never quite saturates."""
    x = np.where(radiance < 0.5, radiance, 1 - 0.25 / np.maximum(radiance, 0.5))
    curve = 1.055 * 255 * np.exp(np.log(np.maximum(x, 1e-4)) / 2.4) - 0.055 * 255
    return np.where(x < 0.0031308, 12.92 * 255 * x, curve)

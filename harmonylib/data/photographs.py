"""Seven natural colour photographs that need no download, with objects outlined by hand and a change of illuminant.

The photographs are files that scikit-image and matplotlib install with themselves: astronaut, chelsea, coffee, rocket
and both views of the motorcycle stereo pair, and grace_hopper. They are opened straight from the installed packages,
so that nothing here ever asks the network. The two views of the motorcycle are one scene.

``outlines.json`` holds polygons drawn by hand, in pixels of the photograph as it is shipped; more regions come from
graph-based segmentation (Felzenszwalb and Huttenlocher, "Efficient graph-based image segmentation", IJCV 2004).
``recolour`` makes the composites of the embedded data set: the region is lit by another lamp, in linear light. It has
nothing in common with the transforms of LEMaRT, which are to be tested on these composites.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from harmonylib.errors import HarmonyError

LONG_SIDE = 384  # pixels

FILES = {
    "astronaut": ("scikit-image", "astronaut.png"),
    "chelsea": ("scikit-image", "chelsea.png"),
    "coffee": ("scikit-image", "coffee.png"),
    "rocket": ("scikit-image", "rocket.jpg"),
    "motorcycle-left": ("scikit-image", "motorcycle_left.png"),
    "motorcycle-right": ("scikit-image", "motorcycle_right.png"),
    "hopper": ("matplotlib", "grace_hopper.jpg"),
}


@dataclass(frozen=True)
class Region:
    """A part of a photograph: what it shows, an (H, W) uint8 mask of 0 and 255, and whether a hand outlined it."""

    object: str
    mask: np.ndarray
    by_hand: bool


def photographs() -> dict[str, np.ndarray]:
    """All photographs by name: (H, W, 3) uint8 sRGB, the long side reduced to 384 pixels (Pillow, Lanczos).

    Raises HarmonyError where an installed package lacks its file.
    """
    return {photo_id: _photograph(photo_id)[0].copy() for photo_id in FILES}


def regions(photo_id: str) -> list[Region]:
    """The regions of one photograph: those outlined by hand first, then three to six segmented ones, largest first.

    Raises HarmonyError for a name that ``photographs`` does not list.
    """
    by_hand, segmented = _regions(photo_id)
    return [Region(r.object, r.mask.copy(), r.by_hand) for r in (*by_hand, *segmented)]


# --- photographs -----------------------------------------------------------------------------------------------------


def _path(photo_id: str) -> Path:
    package, name = FILES[photo_id]
    if package == "matplotlib":
        from matplotlib import get_data_path

        path = Path(get_data_path(), "sample_data", name)
    else:
        import skimage

        path = Path(skimage.__file__).parent / "data" / name
    if not path.is_file():
        raise HarmonyError(f"{name}: the installed {package} does not hold it; reinstall the {package} wheel from PyPI")
    return path


@cache
def _photograph(photo_id: str) -> tuple[np.ndarray, tuple[int, int]]:
    """The reduced photograph and the (width, height) in which its outlines were drawn."""
    if photo_id not in FILES:
        raise HarmonyError(f"photograph {photo_id!r}: unknown; choose one of {', '.join(FILES)}")
    with Image.open(_path(photo_id)) as image:
        drawn_at = image.size
        scale = min(1.0, LONG_SIDE / max(drawn_at))
        size = tuple(round(side * scale) for side in drawn_at)
        return np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS)), drawn_at


# --- regions ---------------------------------------------------------------------------------------------------------


@cache
def _regions(photo_id: str) -> tuple[list[Region], list[Region]]:
    photograph, drawn_at = _photograph(photo_id)
    shape = photograph.shape[:2]
    by_hand = [
        Region(outline["object"], _as_mask(_fill(outline["polygon"], drawn_at, shape)), True)
        for outline in _outlines()[photo_id]
    ]
    taken = [region.mask > 0 for region in by_hand]
    segmented = [
        Region(f"segment {number}", _as_mask(inside), False)
        for number, inside in enumerate(_segments(photograph, taken), start=1)
    ]
    return by_hand, segmented


@cache
def _outlines() -> dict[str, list[dict]]:
    return json.loads(Path(__file__).with_name("outlines.json").read_text(encoding="utf-8"))


def _as_mask(inside: np.ndarray) -> np.ndarray:
    return np.where(inside, 255, 0).astype(np.uint8)


def _fill(polygon: list[list[int]], drawn_at: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """The pixels whose centre lies in a polygon of (x, y) pixel centres of the photograph as shipped."""
    from skimage.draw import polygon2mask

    scale = np.array(shape) / np.array(drawn_at[::-1])
    rows_columns = (np.array(polygon, dtype=float)[:, ::-1] + 0.5) * scale - 0.5
    return polygon2mask(shape, rows_columns)


def _segments(photograph: np.ndarray, taken: list[np.ndarray], at_least: int = 4, at_most: int = 6) -> list[np.ndarray]:
    """Connected, filled, smooth regions of 1.5 to 40 % of the picture that repeat neither ``taken`` nor one another.

    Coarse segmentations come first; finer ones only fill up to ``at_least``.
    """
    from skimage.segmentation import felzenszwalb

    pixels = photograph[..., 0].size
    found: list[np.ndarray] = []
    for scale in (400, 150, 60):
        labels = felzenszwalb(photograph, scale=scale, sigma=1.2, min_size=pixels // 100)
        sizes = np.bincount(labels.ravel())
        for label in np.argsort(-sizes, kind="stable"):
            if len(found) == at_most or sizes[label] < 0.015 * pixels:
                break
            inside = _smooth(labels == label)
            repeats = any(_iou(inside, other) > 0.5 for other in (*taken, *found))
            if 0.015 <= inside.mean() <= 0.4 and not repeats and _is_lit(photograph[inside]):
                found.append(inside)
        if len(found) >= at_least:
            break
    return sorted(found, key=np.sum, reverse=True)


def _smooth(inside: np.ndarray, sigma: float = 3.0) -> np.ndarray:
    """The largest piece, with its holes filled, of a region whose outline is smoothed by a Gaussian, in pixels."""
    pieces, _ = ndimage.label(ndimage.gaussian_filter(inside.astype(np.float32), sigma, truncate=3) > 0.5)
    sizes = np.bincount(pieces.ravel())[1:]
    return ndimage.binary_fill_holes(pieces == 1 + np.argmax(sizes)) if sizes.size else np.zeros_like(inside)


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.sum(a & b) / max(np.sum(a | b), 1)


def _is_lit(pixels: np.ndarray) -> bool:
    """False for near-black regions, in which no change of illuminant can be seen."""
    return pixels.mean() > 30


# --- another illuminant ----------------------------------------------------------------------------------------------

PLANCK = 0.014388  # second radiation constant, metre kelvin
BANDS = np.array([610e-9, 550e-9, 465e-9])  # metres: a narrow-band sensor's red, green and blue
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of linear sRGB
CHANGE = (150.0, 6000.0)  # mean squared change inside the mask, on the 0-255 scale
CLIPPED = 0.05  # the largest share of the region's pixels that may newly reach white


def recolour(photograph: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The composite: ``photograph`` with the region under ``mask`` lit by another illuminant.

    Pixels are taken to linear light and multiplied, channel by channel, by what a lamp of another colour temperature,
    tint and brightness would do to a narrow-band sensor (a diagonal, von Kries-like transform); the strength of the
    change runs linearly across the region in a random direction, as it would under a lamp at one side.

    photograph: (H, W, 3) uint8 sRGB. mask: (H, W), inside where it is over 127. Returns (H, W, 3) uint8, equal to the
    photograph outside the mask, bit for bit. Inside, the mean squared change is 150 to 6000 (0-255 scale), and at
    most 5 % of the pixels are newly clipped. Raises HarmonyError for an empty mask, a mask of another size, and a
    region too dark to be visibly changed.
    """
    inside = np.asarray(mask) > 127
    if inside.shape != photograph.shape[:2] or not inside.any():
        raise HarmonyError(
            f"mask of shape {inside.shape} with {int(inside.sum())} pixels inside: give one of shape "
            f"{photograph.shape[:2]}, the photograph's, that is not empty"
        )
    before = photograph[inside]
    linear = _to_linear(before)
    was_white = before.max(axis=1) == 255
    strength = 1.0
    for _ in range(60):
        log_gain = np.float32(strength) * _relighting(rng)
        after = _to_srgb(linear * np.exp(_gradient(inside, rng)[:, None] * log_gain))
        change = np.mean((after.astype(np.float32) - before) ** 2)
        newly_clipped = np.mean((after.max(axis=1) == 255) & ~was_white)
        if change < CHANGE[0]:
            strength = min(1.15 * strength, 4.0)
        elif change > CHANGE[1] or newly_clipped > CLIPPED:
            strength *= 0.9
        else:
            composite = photograph.copy()
            composite[inside] = after
            return composite
    raise HarmonyError(
        f"region of mean {before.mean():.0f} of 255: no other illuminant shows on it; choose a lighter one"
    )


def _relighting(rng: np.random.Generator) -> np.ndarray:
    """Log gains (3,) of linear red, green and blue: from one black body to another, with tint and exposure."""
    mired = rng.uniform(110, 400, size=2)  # 9,100 K (blue sky) to 2,500 K (a weak bulb), in even steps to the eye
    emission = PLANCK / BANDS / (1e6 / mired[:, None])  # Wien's law: the log of the emission, but for its sign
    gain = np.exp(emission[0] - emission[1])
    gain[1] *= 2.0 ** rng.normal(0, 0.12)  # tint: fluorescent green to magenta
    exposure = rng.choice([-1, 1]) * rng.uniform(0.3, 1.8)  # stops
    return (np.log(gain / (LUMINANCE @ gain)) + exposure * np.log(2)).astype(np.float32)


def _gradient(inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The strength of the change at each pixel inside, from 1 at one side down to between 0.4 and 1 at the other."""
    angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 1.0)
    rows, columns = np.nonzero(inside)
    along = np.cos(angle) * columns + np.sin(angle) * rows
    along = (along - along.min()) / max(np.ptp(along), 1)
    return (1 - (1 - far) * along).astype(np.float32)


def _to_linear(srgb: np.ndarray) -> np.ndarray:
    """uint8 sRGB -> linear light in [0, 1] (IEC 61966-2-1), float32."""
    value = np.arange(256, dtype=np.float32) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)[srgb]


def _to_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light, clipped to [0, 1] -> uint8 sRGB."""
    value = np.clip(linear, 0, 1)
    srgb = np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
    return np.rint(255 * srgb).astype(np.uint8)

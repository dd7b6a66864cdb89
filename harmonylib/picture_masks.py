"""The mask that goes with somebody's picture: an image, an alpha channel, or polygons in JSON."""

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from harmonylib import pictures
from harmonylib.errors import HarmonyError, one_line
from harmonylib.pictures import LUMA, TURNED, Picture
from harmonylib.reading import DAMAGE, content

ALPHA = "alpha"  # in place of a mask's file: the picture's own alpha channel
JPEG_NOISE = 0.05  # what is nearer than this to nothing or to all is nothing or all
CORNERS = 20_000  # of all polygons; more would take minutes
TEXT = 1 << 24  # bytes of a file of polygons
WORK = 5e9  # of drawing polygons, in nanoseconds or so
STRIP = 200_000  # pixels that are drawn at once, or 256 rows
SUPERSAMPLING = 4  # a side, of polygons: what makes their edges soft


def read(path: str | Path, picture: Picture) -> np.ndarray:
    """How much of each pixel is object, (H, W) float32 in [0, 1].

    path: an image (its alpha channel where it has one that is not solid, else its lightness), polygons (`.json`), or
    the word ``alpha`` for the alpha channel of the picture itself. Raises HarmonyError: it cannot be read, has another
    size, or is empty or full.
    """
    if str(path) == ALPHA:
        if picture.alpha is None:
            raise HarmonyError("alpha: the picture has no alpha channel; name a mask")
        mask, path = levels(picture.alpha), "the alpha channel"
    elif Path(path).suffix.lower() == ".json":
        mask = polygons(path, picture.size)
    else:
        check_size(path, picture.size)
        mask = of_picture(pictures.read(path), picture)
        if pictures.FORMATS.get(Path(path).suffix.lower()) == "JPEG":
            mask = ((mask - JPEG_NOISE) / (1 - 2 * JPEG_NOISE)).clip(0, 1)
    check(mask, picture.size, path)
    return mask


def check_size(path: str | Path, size: tuple[int, int]) -> None:
    """Before anything is decoded: raises HarmonyError where a mask that is an image has another size (width, height),
    upright or turned."""
    if str(path) != ALPHA and Path(path).suffix.lower() != ".json":
        found = pictures.size_of(path)
        if found not in (size, size[::-1]):
            raise HarmonyError(f"{path}: {_other_size(found, size)}")


def check(mask: np.ndarray, size: tuple[int, int], name: str | Path = "mask") -> None:
    """Raises HarmonyError where a mask (H, W) in [0, 1] does not fit the picture, or leaves nothing to go by."""
    if mask.shape != size[::-1]:
        raise HarmonyError(f"{name}: {_other_size(mask.shape[::-1], size)}")
    if not np.isfinite(mask).all() or mask.min() < 0 or mask.max() > 1:
        raise HarmonyError(f"{name}: a mask's values lie between 0 and 1; scale them")
    if mask.max() <= 0.5:
        raise HarmonyError(f"{name}: the mask is empty (nothing above half); paint the object white")
    if mask.min() > 0.5:
        raise HarmonyError(f"{name}: the mask covers the whole picture; leave the background black, to harmonize with")


def _other_size(mask: tuple[int, int], picture: tuple[int, int]) -> str:
    return "{}x{} px, but the composite has {}x{}; make them the same size".format(*mask, *picture)


def polygons(path: str | Path, size: tuple[int, int]) -> np.ndarray:
    """The mask of a file of polygons, as `drawn` reads them. Raises HarmonyError as it does, and for no such file."""
    try:
        text = content(path, TEXT).decode("utf-8")
    except FileNotFoundError:
        raise HarmonyError(f"{path}: no such file; name a mask") from None
    except UnicodeDecodeError as error:
        raise HarmonyError(f"{path}: no text of polygons ({error.reason}); name a mask") from None
    return drawn(text, size, path)


def drawn(text: str, size: tuple[int, int], name: str | Path = "polygons") -> np.ndarray:
    """A mask drawn from JSON: a list of polygons, each [[x, y], ...] or [x, y, x, y, ...] in px of the upright picture.

    Also {"polygons": such a list}, a COCO annotation ({"segmentation": ...}) and LabelMe's {"shapes": [{"points":
    ...}]}. Raises HarmonyError: no JSON, no polygon in it.
    """
    try:
        found = [np.asarray(p, np.float64).reshape(-1, 2) for p in _listed(json.loads(text))]
        if not found or any(len(p) < 3 or not np.isfinite(p).all() for p in found):
            raise ValueError("a polygon has three corners or more")
        if sum(map(len, found)) > CORNERS:
            raise ValueError(f"more than {CORNERS:,} corners")
        if sum(_work(p, size) for p in found) > WORK:
            raise ValueError("their edges, or their areas, are too much to draw at this size")
    except DAMAGE as error:
        reason = one_line(error)[:100]
        raise HarmonyError(
            f'{name}: no polygons in it ({reason}); write {{"polygons": [[[x, y], ...], ...]}}'
        ) from None
    return _drawn(found, size)


def _listed(content) -> list:
    if isinstance(content, dict):
        if "shapes" in content:
            return [shape["points"] for shape in content["shapes"]]
        content = content["polygons"] if "polygons" in content else content["segmentation"]
    alone = content and np.ndim(content[0]) < 2 and np.ndim(content[0][0] if np.ndim(content[0]) else 0) == 0
    # [[x, y], ...] is one polygon, [[x, y, x, y, ...], ...] are several
    return [content] if alone and (np.ndim(content[0]) == 0 or len(content[0]) == 2) else content


def _work(corners: np.ndarray, size: tuple[int, int]) -> float:
    """About how many nanoseconds drawing a polygon takes: a row looks at all edges, sorts those it meets, and fills."""
    inside = corners.clip(0, size)
    width, height = np.ptp(inside, axis=0)
    across, down = np.abs(np.diff(inside, axis=0, append=inside[:1])).sum(0)
    return SUPERSAMPLING * (len(corners) * height + 40 * down + (width * height + across) / 4)


def _drawn(found: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """A strip at a time, or a large picture's finer grid would take gigabytes."""
    width, height = size
    mask = np.empty((height, width), np.float32)
    most = max(256, STRIP // width)
    for top in range(0, height, most):
        rows = min(most, height - top)
        strip = Image.new("L", (SUPERSAMPLING * width, SUPERSAMPLING * rows))
        draw = ImageDraw.Draw(strip)
        for corners in found:
            if corners[:, 1].max() < top - 1 or corners[:, 1].min() > top + rows + 1:
                continue
            scaled = ((corners - (0, top)) * SUPERSAMPLING).clip(-1e6, 1e6)
            draw.polygon([tuple(c) for c in scaled.tolist()], fill=255)
        mask[top : top + rows] = np.asarray(strip.reduce(SUPERSAMPLING), np.float32) / 255
    return mask


def of_picture(mask: Picture, picture: Picture) -> np.ndarray:
    """The levels (H, W) in [0, 1] of a mask that is a picture itself: its alpha channel, or its lightness."""
    solid = mask.alpha is None or mask.alpha.min() == np.iinfo(mask.alpha.dtype).max
    found = levels(mask.pixels if solid else mask.alpha)
    found = found if found.ndim == 2 else found @ LUMA.astype(np.float32)
    if found.shape != picture.pixels.shape[:2] and mask.orientation == 1:
        return TURNED.get(picture.orientation, np.asarray)(found)  # drawn on the pixels as they are stored
    return found


def levels(pixels: np.ndarray) -> np.ndarray:
    """Whole numbers of any width as shares of the largest, bool as 0 and 1, fractions as they are: float32."""
    most = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1
    return pixels.astype(np.float32) / most

"""Harmonization without training: what every network has to beat.

Each method is a function (composite HxWx3 uint8, mask HxW bool) -> HxWx3 uint8 that changes pixels inside the mask
only. Where the mask is empty or fills the picture there is nothing to change or nothing to match: the composite comes
back as it is. `BASELINES` names them.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from harmonylib.errors import HarmonyError

# Reinhard et al., "Color Transfer between Images" (2001): RGB -> LMS, and log LMS -> l-alpha-beta.
RGB_TO_LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
LOG_LMS_TO_LAB = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
MIN_LMS = 1.0  # on the 0-255 scale: black has no logarithm, so nothing counts as darker than about level 1
MIN_STD = 1e-5  # below this a channel is flat (grey, one colour): stretching it would only amplify rounding


def identity(composite: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Do nothing: a copy of the composite, the row every table starts with."""
    _check(composite, mask)
    return composite.copy()


def histogram(composite: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Histogram matching of the foreground to the background (S2AM-T4 section 3.3, equations 1 and 2).

    For each channel M(x) is the smallest level k with CDF_bg(k) >= CDF_fg(x), by a table of 256 entries. An empty or a
    full mask returns the composite unchanged.
    """
    _check(composite, mask)
    result = composite.copy()
    if not _has_both(mask):
        return result
    image = Image.fromarray(composite)  # Pillow counts several times faster than NumPy
    foreground = np.reshape(image.histogram(Image.fromarray(mask.view(np.uint8))), (3, 256))
    background = np.reshape(image.histogram(), (3, 256)) - foreground
    pixels = _pixels(composite, mask)
    for channel, table in enumerate(map(_matching_table, foreground, background)):
        pixels[:, channel] = table.take(pixels[:, channel])
    _put(result, mask, pixels)
    return result


def reinhard(composite: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of the foreground matched to the background's in l-alpha-beta (Reinhard et al. 2001).

    A foreground channel without spread (a grey or one-coloured object) is shifted and not stretched. An empty or a full
    mask returns the composite unchanged. Calculated on logarithms of LMS, of which l-alpha-beta is a linear map, and in
    float32: before rounding, within 0.01 of the level that float64 gives (`colour_transfer.reinhard_lab`).
    """
    _check(composite, mask)
    result = composite.copy()
    if _has_both(mask):
        own, wanted = (_logs_of_lms(_pixels(composite, where)) for where in (mask, ~mask))
        (mean, spread), (wanted_mean, wanted_spread) = _moments(own), _moments(wanted)
        gain = np.divide(wanted_spread, spread, out=np.ones(3), where=spread > MIN_STD)
        stretch = np.linalg.inv(LOG_LMS_TO_LAB) * gain @ LOG_LMS_TO_LAB  # to l-alpha-beta, there, and back
        offset = wanted_mean - stretch @ mean
        logs = np.float32(np.log(10) * stretch) @ own + np.float32(np.log(10) * offset)[:, None]
        levels = np.float32(np.linalg.inv(RGB_TO_LMS)) @ np.exp(logs, out=logs)
        levels = np.rint(np.clip(levels, 0, 255, out=levels), out=levels).astype(np.uint8)
        _put(result, mask, np.stack(levels, axis=1))
    return result


BASELINES = {"identity": identity, "histogram": histogram, "reinhard": reinhard}


def apply(name: str, composites: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """One of `BASELINES` on many pictures, a thread a core: NumPy lets others work while it calculates."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(BASELINES[name], composites, masks))


def _logs_of_lms(rgb: np.ndarray) -> np.ndarray:
    """(N,3) RGB in [0,255] -> (3,N) float32: in planes, because N x 3 by 3 x 3 takes several times as long."""
    lms = RGB_TO_LMS.astype(np.float32) @ rgb.T.astype(np.float32, order="C")
    np.clip(lms, np.float32(MIN_LMS), np.float32(np.inf), out=lms)
    return np.log10(lms, out=lms)


def _moments(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (3,) of logarithms (3,N), and their standard deviation along the axes of l-alpha-beta (3,)."""
    mean = logs.mean(axis=1)
    deviation = LOG_LMS_TO_LAB.astype(np.float32) @ (logs - mean[:, None])
    return mean, np.sqrt([np.dot(row, row) / len(row) for row in deviation])


def _matching_table(foreground: np.ndarray, background: np.ndarray) -> np.ndarray:
    """(256,) uint8: the level that each of the foreground's goes to, from how many pixels have each level."""
    counts_fg, counts_bg = foreground.cumsum(), background.cumsum()
    # cross-multiplied counts compare the two CDFs in integers, so that equal shares stay equal
    return np.searchsorted(counts_bg * counts_fg[-1], counts_fg * counts_bg[-1]).astype(np.uint8)


def _pixels(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """picture[where] (N,3), of HxWx3 uint8. A pixel is moved as one item of three bytes: ten times as fast."""
    return _whole(picture)[where].view(np.uint8).reshape(-1, 3)


def _put(picture: np.ndarray, where: np.ndarray, pixels: np.ndarray) -> None:
    """picture[where] = pixels, in the same way."""
    _whole(picture)[where] = _whole(pixels)


def _whole(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels).view("V3")[..., 0]


def _has_both(mask: np.ndarray) -> bool:
    return bool(mask.any()) and not bool(mask.all())


def _check(composite: np.ndarray, mask: np.ndarray) -> None:
    if composite.dtype != np.uint8 or composite.ndim != 3 or composite.shape[2] != 3:
        raise HarmonyError(f"composite is {composite.dtype} of shape {composite.shape}: expected HxWx3 uint8")
    if mask.dtype != bool or mask.shape != composite.shape[:2]:
        raise HarmonyError(
            f"mask is {mask.dtype} of shape {mask.shape}: expected bool of shape {composite.shape[:2]} (mask > 0.5)"
        )

"""Harmonization without training: what every network has to beat.

Each method is a function (composite HxWx3 uint8, mask HxW bool) -> HxWx3 uint8 that changes pixels inside the mask
only. Where the mask is empty or fills the picture there is nothing to change or nothing to match: the composite comes
back as it is. `BASELINES` names them.
"""

import numpy as np

from harmonylib.errors import HarmonyError

# Reinhard et al., "Color Transfer between Images" (2001): RGB -> LMS, and log LMS -> l-alpha-beta.
RGB_TO_LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
LOG_LMS_TO_LAB = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
MIN_LMS = 1.0  # on the 0-255 scale: black has no logarithm, so nothing counts as darker than about level 1
MIN_STD = 1e-6  # below this a channel is flat (grey, one colour): stretching it would only amplify rounding


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
    foreground, background = composite[mask], composite[~mask]
    matched = [_matching_table(foreground[:, c], background[:, c])[foreground[:, c]] for c in range(3)]
    result[mask] = np.stack(matched, axis=1)
    return result


def reinhard(composite: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of the foreground matched to the background's in l-alpha-beta (Reinhard et al. 2001).

    A foreground channel without spread (a grey or one-coloured object) is shifted and not stretched. An empty or a full
    mask returns the composite unchanged.
    """
    _check(composite, mask)
    result = composite.copy()
    if _has_both(mask):
        matched = from_lab(match_moments(to_lab(composite[mask]), to_lab(composite[~mask])))
        result[mask] = np.rint(np.clip(matched, 0, 255)).astype(np.uint8)
    return result


BASELINES = {"identity": identity, "histogram": histogram, "reinhard": reinhard}


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """(N,3) RGB in [0,255] -> (N,3) float64 l-alpha-beta of Reinhard et al. 2001, logarithms to base 10."""
    return np.log10(np.maximum(rgb @ RGB_TO_LMS.T, MIN_LMS)) @ LOG_LMS_TO_LAB.T


def from_lab(lab: np.ndarray) -> np.ndarray:
    """The inverse of `to_lab`, neither rounded nor clipped."""
    return 10 ** (lab @ np.linalg.inv(LOG_LMS_TO_LAB).T) @ np.linalg.inv(RGB_TO_LMS).T


def match_moments(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(N,C) source with each channel shifted and stretched to the mean and standard deviation of (M,C) target."""
    spread = source.std(axis=0)
    gain = np.divide(target.std(axis=0), spread, out=np.ones_like(spread), where=spread > MIN_STD)
    return (source - source.mean(axis=0)) * gain + target.mean(axis=0)


def _matching_table(foreground: np.ndarray, background: np.ndarray) -> np.ndarray:
    counts_fg, counts_bg = (np.bincount(values, minlength=256).cumsum() for values in (foreground, background))
    # cross-multiplied counts compare the two CDFs in integers, so that equal shares stay equal
    return np.searchsorted(counts_bg * foreground.size, counts_fg * background.size).astype(np.uint8)


def _has_both(mask: np.ndarray) -> bool:
    return bool(mask.any()) and not bool(mask.all())


def _check(composite: np.ndarray, mask: np.ndarray) -> None:
    if composite.dtype != np.uint8 or composite.ndim != 3 or composite.shape[2] != 3:
        raise HarmonyError(f"composite is {composite.dtype} of shape {composite.shape}: expected HxWx3 uint8")
    if mask.dtype != bool or mask.shape != composite.shape[:2]:
        raise HarmonyError(
            f"mask is {mask.dtype} of shape {mask.shape}: expected bool of shape {composite.shape[:2]} (mask > 0.5)"
        )

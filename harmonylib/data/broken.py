"""What a person would drop of composites made by colour transfer. HCOCO's authors looked at each; here numbers do."""

import numpy as np

CHANGE = (5, 50)  # levels, root mean square, by which an object changes


def why_broken(before: np.ndarray, after: np.ndarray, inside: np.ndarray) -> str | None:
    """The first reason for which a person would drop a composite, or None.

    - hardly changed or overdone: by less or more than `CHANGE`, whose upper end leaves a set with about
      the errors of HCOCO (there doing nothing has an fMSE of 997);
    - clipped: black or white spread by more than 3 % of the object;
    - posterised: fine detail is more than 2.5 times as strong, so that noise and steps of colour show, or the levels
      between its darkest and its brightest are less than half as densely used as before;
    - flattened: less than a third of the fine detail is left;
    - discoloured: of a coloured object less than a quarter of its colour is left.

    Args:
        before, after: the object's surroundings in the target and in the composite, (h, w, 3) uint8.
        inside: the object, (h, w) bool.
    """
    where = np.flatnonzero(inside)
    was, now = (picture.reshape(-1, 3).take(where, 0) for picture in (before, after))
    change = float(np.square(now.astype(np.float32) - was).mean()) ** 0.5
    if not CHANGE[0] <= change <= CHANGE[1]:
        return "hardly changed" if change < CHANGE[0] else "overdone"
    if _clipped(now) - _clipped(was) > 0.03:
        return "clipped"
    detail = _detail(before, inside), _detail(after, inside)
    if detail[1] > 2.5 * detail[0] + 1 or _density(now) < 0.45 * _density(was):
        return "posterised"
    if detail[1] < detail[0] / 3:
        return "flattened"
    colour = colourfulness(was), colourfulness(now)
    if colour[0] > 12 and colour[1] < colour[0] / 4:
        return "discoloured"
    return None


def _clipped(pixels: np.ndarray) -> float:
    """Share of the pixels (N, 3) uint8 with a channel at its end."""
    return float(((pixels == 0) | (pixels == 255)).any(1).mean())


def colourfulness(pixels: np.ndarray) -> float:
    """Mean distance, in levels, between the highest and the lowest channel of pixels (..., 3)."""
    red, green, blue = (pixels[..., c].astype(np.float32) for c in range(3))
    return float((np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)).mean())


def _density(pixels: np.ndarray) -> float:
    """Share of the levels between the 2nd and the 98th percentile that occur at all, mean over channels."""
    shares = []
    for channel in pixels.T:
        counts = np.bincount(channel, minlength=256)
        low, high = np.searchsorted(counts.cumsum(), (0.02 * len(channel), 0.98 * len(channel)))
        shares.append(np.count_nonzero(counts[low : high + 1]) / (high + 1 - low))
    return float(np.mean(shares))


def _detail(picture: np.ndarray, inside: np.ndarray) -> float:
    """Mean absolute difference, in levels, between neighbouring pixels that both lie inside."""
    grey = picture.astype(np.float32) @ np.full(3, 1 / 3, np.float32)
    steps = [np.abs(np.diff(grey, axis=a)) for a in (0, 1)]
    both = [inside[1:] & inside[:-1], inside[:, 1:] & inside[:, :-1]]
    values = np.concatenate([step[pair] for step, pair in zip(steps, both, strict=True)])
    return float(values.mean()) if len(values) else 0.0

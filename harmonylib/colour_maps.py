"""Colour maps: what a network does to 256 px, as a smooth transform of colours that fits a picture of any size.

A map holds twelve numbers at each of its few places, a 3x3 matrix and an offset:

    y = x + mask * (matrix (x - 1/2) + offset),     x and y RGB in [0, 1].

Between places the numbers are interpolated, so that neighbouring pixels are changed alike: edges and texture of the
object stay as sharp as they are, which a picture that is scaled up does not keep (S2AM-T4, section 5.2).
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

CELLS = 16  # places along a side of a fitted map
WINDOW = (0.0625, 0.25, 0.375, 0.25, 0.0625)  # over cells: what a fitted place looks at
LEAN = 0.02  # share of a window that stands for the whole object: a place with little of it does as the rest does
TAIL = 0.01  # of an object's pixels, at either end of a channel, that may leave the range
FLAT = 5e-5  # squared colours below which a matrix cannot be told from an offset, and stays small


def fit(composite: Tensor, output: Tensor, mask: Tensor) -> Tensor:
    """The map (B, 12, 16, 16) nearest to what a network did inside the mask, by weighted least squares at each place.

    composite, output: (B, 3, H, W) in [0, 1], mask: (B, 1, H, W) in [0, 1]. An empty mask gives the map that changes
    nothing.
    """
    with torch.autocast(composite.device.type, enabled=False):
        composite, output, mask = (tensor.float() for tensor in (composite, output, mask))
        known = torch.cat([composite - 0.5, torch.ones_like(mask)], 1)  # (B, 4, H, W)
        both = torch.cat([known, output - composite], 1)  # (B, 7, H, W)
        sums = (mask[:, None] * known[:, :, None] * both[:, None]).flatten(1, 2)  # (B, 4 * 7, H, W)
        sums = F.adaptive_avg_pool2d(sums, CELLS).double()
        whole = sums.mean((2, 3), keepdim=True)
        area = whole[:, 3 * 7 + 3, None].clamp(min=1e-6)  # of the object, as a share of the picture
        sums = _smoothed(sums) + LEAN * whole / area
        squares, crossed = sums.permute(0, 2, 3, 1).unflatten(3, (4, 7)).split([4, 3], -1)
        ridge = torch.tensor([1.0, 1, 1, 0], dtype=torch.float64, device=mask.device).diag()
        weight = squares[..., 3:, 3:]  # of object in the window
        solved = torch.linalg.solve(squares + FLAT * weight * ridge + 1e-9 * torch.eye(4).to(ridge), crossed)
    return solved.transpose(3, 4).flatten(3).permute(0, 3, 1, 2).to(composite)  # channel 4 c + k: of colour c


def apply(
    maps: Tensor, composite: Tensor, mask: Tensor, rows: slice = slice(None), height: int | None = None
) -> Tensor:
    """The composite (B, 3, H, W) in [0, 1], changed inside its mask (B, 1, H, W) by the map (B, 12, h, w).

    Of a picture too large to do at once, `composite` and `mask` may be the `rows` of one of the given `height`.
    """
    if maps.shape[2:] == (1, 1):  # one transform for all: the same numbers, as one product of matrices
        matrix, offset = maps.view(-1, 3, 4).split([3, 1], 2)
        return composite + mask * torch.baddbmm(offset, matrix, composite.flatten(2) - 0.5).view(composite.shape)
    height = height or composite.shape[2]
    vertical, horizontal = _weights(maps.shape[2], height)[rows], _weights(maps.shape[3], composite.shape[3])
    numbers = (vertical.to(maps) @ maps @ horizontal.T.to(maps)).unflatten(1, (3, 4))  # (B, 3, 4, H, W)
    change = (numbers[:, :, :3] * (composite - 0.5)[:, None]).sum(2) + numbers[:, :, 3]
    return composite + mask * change


def kept_in_range(maps: Tensor, composite: Tensor, mask: Tensor) -> Tensor:
    """Maps whose changed objects keep their shades: a channel that leaves [0, 1] with more than a hundredth of an
    object's pixels, at either end, is drawn in until it does not. What is clipped has lost its texture.
    """
    changed, numbers, kept = apply(maps, composite, mask), maps.unflatten(1, (3, 4)).clone(), mask[:, 0] > 0.5
    for picture, inside, number in zip(changed, kept, numbers, strict=True):
        if not inside.any():
            continue
        low, high = picture[:, inside].quantile(picture.new_tensor([TAIL, 1 - TAIL]), 1)
        bottom, top = low.clamp(0, 1), high.clamp(0, 1)
        scale = ((top - bottom) / (high - low).clamp(min=1e-4)).clamp(max=1)
        # y becomes scale y + shift; y is (1 + matrix) (x - 1/2) + 1/2 + offset
        shift = bottom - scale * low
        scale, shift = scale.view(3, 1, 1), shift.view(3, 1, 1)
        one = torch.eye(3, device=maps.device, dtype=maps.dtype)[..., None, None]
        number[:, :3] = scale[:, None] * (one + number[:, :3]) - one
        number[:, 3] = scale * (0.5 + number[:, 3]) + shift - 0.5
    return numbers.flatten(1, 2)


@lru_cache(maxsize=8)
def _weights(places: int, pixels: int) -> Tensor:
    """(pixels, places): how much each pixel of a side has of each place; linear between their centres."""
    position = ((torch.arange(pixels, dtype=torch.float64) + 0.5) * places / pixels - 0.5).clamp(0, places - 1)
    return (1 - (position[:, None] - torch.arange(places)).abs()).clamp(min=0).float()


def _smoothed(sums: Tensor) -> Tensor:
    window = torch.tensor(WINDOW, dtype=sums.dtype, device=sums.device)
    planes = sums.flatten(0, 1)[:, None]
    planes = F.conv2d(
        F.conv2d(planes, window.view(1, 1, 1, 5), padding=(0, 2)), window.view(1, 1, 5, 1), padding=(2, 0)
    )
    return planes[:, 0].unflatten(0, sums.shape[:2])

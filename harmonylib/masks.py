"""The three ways LEMaRT proposes a foreground (LEMaRT section 3.3): ``random``, ``grid`` and ``block``.

Every function returns a batch of masks (B, 1, H, W), 1 inside the foreground, made on the device it is asked for.
"""

import math

import torch
from torch import Tensor

from harmonylib.errors import HarmonyError

SLACK = 0.2  # a block mask covers between the ratio and the ratio + SLACK
DISTORTION = 0.5  # of torchvision's RandomPerspective: a corner moves inwards by up to half of a half side
MIN_BLOCK = 0.04  # of the picture: between BEiT's 16 (paper) and 4 (class default) of 196 patches
MAX_ASPECT = 1 / 0.3  # as BEiT
ROUNDS = 60  # of rectangles a picture; the few that need more are completed row by row


def draw(
    strategy: str,
    shape: tuple[int, int, int],
    *,
    ratio: float = 0.5,
    cells: int = 16,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Masks (B, 1, H, W) of 0 and 1 (float32) for a batch of ``shape`` = (B, H, W).

    Args:
        strategy: ``random``: exactly round(ratio cells^2) of cells x cells even patches, others for every image.
            ``grid``: a checkerboard of the same patches, the same for every image (the pattern of the paper's Figure 4
            cannot be read off; with an odd number of cells, half of them rounded down).
            ``block``: rectangles under random homographies, merged until they cover the ratio r of the picture: the
            final share is between r and r + 0.2.
        ratio: share of the picture to cover, strictly between 0 and 1; ``grid`` knows 0.5 only.
        cells: patches along each side; must divide both sides. ``block`` does not use it.
        generator: on ``device``; None is torch's default one.

    Raises:
        HarmonyError: as :func:`check`, or ``cells`` does not divide a side.
    """
    check(strategy, ratio, cells)
    return STRATEGIES[strategy](shape, ratio, cells, generator, device)


def check(strategy: str, ratio: float, cells: int) -> None:
    """Raises HarmonyError for an unknown strategy, or a ratio or number of cells that it cannot make a mask of."""
    if strategy not in STRATEGIES:
        raise HarmonyError(f"mask strategy {strategy!r} does not exist; choose one of {', '.join(STRATEGIES)}")
    if not isinstance(ratio, (int, float)) or not 0 < ratio < 1:
        raise HarmonyError(f"mask ratio {ratio!r} is not a number between 0 and 1 (both excluded); the paper's is 0.5")
    if isinstance(cells, bool) or not isinstance(cells, int) or cells < 1:
        raise HarmonyError(f"cells={cells!r} is not a whole number of patches along a side; 16 is the default")
    if strategy == "grid" and ratio != 0.5:
        raise HarmonyError(f"the grid mask covers half of the picture, not {ratio}; use ratio=0.5 or another strategy")
    if strategy != "block" and not 0 < round(ratio * cells**2) < cells**2:
        raise HarmonyError(
            f"ratio {ratio} of {cells} x {cells} cells is {round(ratio * cells**2)} cells, which leaves no foreground "
            "or no background; use more cells or a ratio nearer 0.5"
        )


def random_cells(shape, ratio, cells, generator, device) -> Tensor:
    order = torch.rand(shape[0], cells**2, generator=generator, device=device).argsort(1)
    chosen = order[:, : round(ratio * cells**2)]
    pattern = torch.zeros(shape[0], cells**2, device=device).scatter_(1, chosen, 1.0)
    return _enlarge(pattern.view(-1, cells, cells), shape)


def grid_cells(shape, ratio, cells, generator, device) -> Tensor:
    index = torch.arange(cells, device=device)
    pattern = ((index[:, None] + index) % 2).float()
    return _enlarge(pattern.expand(shape[0], -1, -1), shape)


def _enlarge(pattern: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """One value a cell (B, m, m) -> one value a pixel (B, 1, H, W)."""
    batch, height, width = shape
    cells = pattern.shape[1]
    common = math.gcd(height, width)
    if common % cells:
        fitting = [n for n in range(2, common + 1) if common % n == 0]
        advice = f"cells can be {', '.join(map(str, fitting))}" if fitting else "crop it, or use strategy='block'"
        raise HarmonyError(f"cells={cells} does not divide a picture of {height} x {width}; {advice}")
    patches = pattern[:, :, None, :, None].expand(-1, -1, height // cells, -1, width // cells)
    return patches.reshape(batch, 1, height, width)


def blocks(shape, ratio, cells, generator, device) -> Tensor:
    """Merged quadrilaterals. A rectangle under a homography is one, and filling it needs its four edges only."""
    batch, height, width = shape
    upper = min(ratio + SLACK, 1.0)
    least, most = math.ceil(ratio * height * width), min(math.floor(upper * height * width), height * width - 1)
    mask = torch.zeros(batch, height, width, dtype=torch.bool, device=device)
    unfinished = torch.arange(batch, device=device)
    covered = torch.zeros(batch, device=device)  # pixels, exact in float32 up to 4096 x 4096
    for _ in range(ROUNDS):
        if not len(unfinished):
            break
        room = upper - covered[unfinished] / (height * width)
        merged = _fill(_quadrilaterals(room, generator), height, width).logical_or_(mask[unfinished])
        count = merged.sum((1, 2), dtype=torch.float32)
        fits = count <= most
        mask[unfinished[fits]], covered[unfinished[fits]] = merged[fits], count[fits]
        unfinished = unfinished[covered[unfinished] < least]
    mask[unfinished] = _complete(mask[unfinished], least)
    return mask[:, None].float()


def _quadrilaterals(room: Tensor, generator: torch.Generator | None) -> Tensor:
    """Rectangles of at most ``room`` (B,) of the picture, their corners moved inwards: (B, 4, 2), as shares (y, x).

    Area and aspect as BEiT draws them, centre anywhere (what lies outside is cut), corners clockwise.
    """
    u = torch.rand(len(room), 12, generator=generator, device=room.device)
    area = MIN_BLOCK + u[:, 0] * (room - MIN_BLOCK).clamp_min(0)
    aspect = torch.exp((2 * u[:, 1] - 1) * math.log(MAX_ASPECT))
    size = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], 1).clamp_max(1)
    corner = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [1.0, -1.0]], device=room.device)
    inwards = 1 - DISTORTION * u[:, 4:].view(-1, 4, 2)
    return u[:, None, 2:4] + size[:, None] / 2 * corner * inwards


def _fill(corners: Tensor, height: int, width: int) -> Tensor:
    """The pixels (B, H, W), bool, whose centres lie in convex quadrilaterals (B, 4, 2) with clockwise corners."""
    y = (torch.arange(height, device=corners.device) + 0.5) / height
    x = (torch.arange(width, device=corners.device) + 0.5) / width
    dy, dx = (corners.roll(-1, 1) - corners)[..., None].unbind(2)
    cy, cx = corners[..., None].unbind(2)
    # A row meets a convex shape in one interval: edges going down bound it on the right, edges going up on the left.
    crossing = cx + dx * (y - cy) / dy
    right = torch.where(dy > 0, crossing, torch.inf).amin(1)
    left = torch.where(dy < 0, crossing, -torch.inf).amax(1)
    # With (close to) level edges, the rows beyond the corners are not excluded by those bounds.
    beyond = (y < cy.amin(1)) | (y > cy.amax(1))
    left = left.masked_fill(beyond, torch.inf)
    return (x >= left[..., None]).logical_and_(x <= right[..., None])


def _complete(mask: Tensor, least: int) -> Tensor:
    """The first free pixels, row by row, added until ``least`` are covered: (B, H, W), bool."""
    covered = mask.flatten(1)
    free = ~covered
    wanted = least - covered.sum(1, keepdim=True)
    return (covered | (free & (free.cumsum(1) <= wanted))).view_as(mask)


STRATEGIES = {"random": random_cells, "grid": grid_cells, "block": blocks}

"""LEMaRT's region transform on the fly, against the same six attributes per picture with torchvision v2."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

from benchmarks.pictures import triplets
from benchmarks.timing import Machine, Row, compare
from harmonylib.lemart import LEMaRT
from harmonylib.transforms import TRANSFORMS

BATCH, SIZE, CELLS = 32, 256, 16


def rows(machine: Machine) -> Iterator[Row]:
    pictures = np.stack([real for _, real, _ in triplets(BATCH, SIZE, SIZE)])
    images = (torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255).contiguous().to(machine.device)
    lemart = LEMaRT("random", 0.5, CELLS)
    generator = torch.Generator(machine.device).manual_seed(0)
    host = torch.Generator().manual_seed(0)
    yield compare(
        machine,
        f"LEMaRT on the fly, batch of {BATCH} at {SIZE} px",
        "torchvision v2, the same six attributes per picture",
        lambda: lemart(images, generator=generator),
        lambda: torch.stack([_perturbed(image, host) for image in images]),
        aim=3,
        moved=images.nbytes * 3,  # read, written, and read once more: a mean colour comes before it
    )


def _perturbed(image: Tensor, generator: torch.Generator) -> Tensor:
    """What a user would write for (3, S, S): every attribute as often and as strongly as ours, where masked."""
    changed = image
    for name, transform in TRANSFORMS.items():
        applied, place = torch.rand(2, generator=generator).tolist()
        if applied < transform.probability:
            changed = APPLY[name](changed, transform.low + place * (transform.high - transform.low))
    cells = torch.zeros(CELLS**2, device=image.device)
    cells[torch.randperm(CELLS**2, generator=generator)[: CELLS**2 // 2]] = 1
    side = SIZE // CELLS
    mask = cells.view(CELLS, CELLS).repeat_interleave(side, 0).repeat_interleave(side, 1)
    return torch.where(mask > 0, changed, image)


def _defocused(image: Tensor, share: float) -> Tensor:
    radius = max(1, round(share * SIZE))
    return v2.gaussian_blur(image, [2 * radius + 1] * 2, [radius / 2] * 2)


APPLY = {
    "brightness": v2.adjust_brightness,
    "contrast": v2.adjust_contrast,
    "saturation": v2.adjust_saturation,
    "hue": lambda image, degrees: v2.adjust_hue(image, degrees / 360),
    "sharpness": v2.adjust_sharpness,
    "defocus": _defocused,
}

"""The harmonizer that comes with the package: a small network that predicts a colour map, not pixels.

It is no network of either paper. What it shares with them: it looks at the composite and its mask, and the foreground
asks the background how it should look, here by comparing what both hold (means of features inside and outside the mask,
means that attention chooses, and histograms of colours).
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonylib import colour_maps
from harmonylib.models import Harmonizer

SEEN = 64  # px a side that colours are counted on
BINS = 8
RING = 9  # px of these: the surroundings that touch the object
STATISTICS = 3 * (7 + 7 + 4 * BINS)


class Residual(nn.Module):
    """Two 3x3 convolutions around which the features pass unchanged."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


def _down(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class ColourMap(Harmonizer):
    """A colour map of an eighth of the side (`colour_maps`), as the sum of one transform of the whole object and a map.

    Args:
        width: channels of the first stage; the others have 2, 4 and about 5 times as many.
        dropout: of what is known of the whole picture.
    """

    presets: ClassVar = {"tiny": {"width": 8}, "small": {"width": 16}, "medium": {"width": 24}}
    multiple = 32

    def __init__(self, *, width: int = 24, dropout: float = 0.2):
        super().__init__()
        widths = (width, 2 * width, 4 * width, 16 * width // 3)
        self.stages = nn.ModuleList(
            [
                nn.Sequential(nn.PixelUnshuffle(2), _down(16, widths[0], 4), Residual(widths[0])),
                nn.Sequential(_down(widths[0], widths[1]), Residual(widths[1])),
                nn.Sequential(_down(widths[1], widths[2]), Residual(widths[2]), Residual(widths[2])),
                nn.Sequential(_down(widths[2], widths[3]), Residual(widths[3])),
            ]
        )
        self.attention = nn.ModuleList(nn.Conv2d(w, 2, 1) for w in widths)
        pooled, hidden = 4 * sum(widths), 192
        self.pooled = nn.Sequential(nn.BatchNorm1d(pooled), nn.Dropout(dropout))
        self.colours = nn.Sequential(
            nn.BatchNorm1d(STATISTICS), nn.Dropout(dropout), nn.Linear(STATISTICS, 96), nn.ReLU()
        )
        self.whole = nn.Sequential(
            nn.Linear(pooled + 96, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.transform = nn.Linear(hidden, 12)
        self.up = nn.Conv2d(widths[3] + widths[2], 64, 3, padding=1)
        self.place = nn.Conv2d(64 + widths[1], 48, 3, padding=1)
        self.modulate = nn.Linear(hidden, 2 * 48)
        self.local = nn.Conv2d(48, 12, 3, padding=1)
        for last in (self.transform, self.local):  # it begins by changing nothing
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def predict(self, image: Tensor, mask: Tensor) -> Tensor:
        return colour_maps.apply(self.maps(image, mask), image, mask)

    def maps(self, image: Tensor, mask: Tensor) -> Tensor:
        """(B, 12, H / 8, W / 8)"""
        x, found, pooled = torch.cat([2 * image - 1, mask], 1), [], []
        for stage, attention in zip(self.stages, self.attention, strict=True):
            x = stage(x)
            found.append(x)
            pooled.append(_means(x, mask, attention(x)))
        known = [self.pooled(torch.cat(pooled, 1)), self.colours(statistics(image, mask))]
        whole = self.whole(torch.cat(known, 1))
        y = F.relu(self.up(torch.cat([_larger(found[3], found[2]), found[2]], 1)))
        scale, shift = self.modulate(whole)[:, :, None, None].chunk(2, 1)
        y = F.relu(self.place(torch.cat([_larger(y, found[1]), found[1]], 1)) * (1 + scale) + shift)
        return self.transform(whole)[:, :, None, None] + self.local(y)


def statistics(image: Tensor, mask: Tensor) -> Tensor:
    """(B, 138): means, deviations and histograms of colours in the object, in the rest, and in the ring around it."""
    image, mask = (F.interpolate(t, size=(SEEN, SEEN), mode="nearest") for t in (image, mask))
    ring = F.max_pool2d(mask, RING, 1, RING // 2) - mask
    luma = (image * image.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    chroma = image.amax(1, keepdim=True) - image.amin(1, keepdim=True)
    opposed = image[:, [0, 2]] - image[:, [1]]
    values = torch.cat([image, luma, chroma, opposed], 1).flatten(2)  # (B, 7, P)
    centres = torch.arange(BINS, dtype=image.dtype, device=image.device) + 0.5
    counts = (1 - (BINS * values[:, :4, None] - centres[:, None]).abs()).clamp(min=0).flatten(1, 2)
    weights = torch.cat([mask, 1 - mask, ring], 1).flatten(2)
    weights = weights / weights.sum(2, keepdim=True).clamp(min=1e-3)
    means, squares, bins = (torch.cat([values, values.square(), counts], 1) @ weights.mT).mT.split([7, 7, 4 * BINS], 2)
    deviations = ((squares - means.square()).clamp(min=0) + 1e-5).sqrt()
    return torch.cat([means, deviations, bins], 2).flatten(1)


def _means(features: Tensor, mask: Tensor, attention: Tensor) -> Tensor:
    """(B, 4 C): of the features inside the mask, outside it, and where two maps of attention look."""
    inside = F.adaptive_avg_pool2d(mask, features.shape[2:]).flatten(2)
    weights = torch.cat([inside, 1 - inside], 1)
    weights = torch.cat([weights / weights.sum(2, keepdim=True).clamp(min=1e-2), attention.flatten(2).softmax(2)], 1)
    return (features.flatten(2) @ weights.mT).flatten(1)


def _larger(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)

"""The U-Net baseline of S2AM-T4.

Paper: "Image Harmonization via Spatially Separated Attention Modules" (S2AM-T4), section 3.4, after Ronneberger et al.,
MICCAI 2015.

Given there: 4 down-sampling blocks of two 3x3 convolutions and 2x2 max pooling, 256 -> 16 px, up to 512 channels,
transposed convolutions, skips by concatenation (equation 3), input in [-1, 1]. Chosen here: width 64 doubling up to
512, batch normalisation (only implied, in section 5.3.2), a bottleneck of two convolutions, a 1x1 head without
activation (so that [0, 1] is reached, not approached), and PyTorch's own initialisation, which trained faster than
He's. There is no skip from the input image to the output.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from harmonylib.errors import HarmonyError
from harmonylib.models import Harmonizer


class DoubleConv(nn.Sequential):
    """Two times 3x3 convolution, batch normalisation, ReLU. Batch normalisation makes a convolution bias idle: none."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class UNet(Harmonizer):
    """U-Net on the image and its mask (S2AM-T4 section 3.4); any size of at least ``2 ** depth`` px.

    Args:
        width: channels of the first stage; they double with every stage up to ``8 * width``.
        depth: number of down-sampling blocks.
    """

    presets: ClassVar = {"tiny": {"width": 8}, "small": {"width": 8}, "medium": {"width": 12}}

    def __init__(self, *, width: int = 64, depth: int = 4):
        super().__init__()
        if width < 1 or depth < 1:
            raise HarmonyError(f"U-Net: width and depth must be at least 1, not {width} and {depth}")
        self.multiple = 2**depth
        self.widths = [width * 2 ** min(level, 3) for level in range(depth)]
        self.widths.append(self.widths[-1])  # the bottleneck
        self.encoder = nn.ModuleList(
            DoubleConv(inputs, outputs) for inputs, outputs in zip([4, *self.widths], self.widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(below, here, 2, stride=2)
            for here, below in zip(self.widths, self.widths[1:], strict=False)
        )
        self.decoder = nn.ModuleList(DoubleConv(2 * here, here) for here in self.widths[:-1])
        self.head = nn.Conv2d(width, 3, 1)

    def predict(self, image: Tensor, mask: Tensor) -> Tensor:
        x = torch.cat([2 * image - 1, mask], dim=1)  # (B, 4, H, W)
        skips = []
        for level, stage in enumerate(self.encoder):
            x = stage(x if level == 0 else self.pool(x))  # (B, widths[level], H / 2^level, W / 2^level)
            x = self.refine(level, x, mask)
            skips.append(x)
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](torch.cat([self.up[level](x), skips[level]], dim=1))  # equation 3
        return (self.head(x) + 1) / 2

    def refine(self, level: int, features: Tensor, mask: Tensor) -> Tensor:
        """What a network built on this one does to the encoder's features, before the skip and the next stage."""
        return features

"""S2AM as published by Cun and Pun: channel gates on a pix2pix U-Net, on the skips (S2ASC) or in the decoder (S2AD).

Paper: "Improving the Harmony of the Composite Image by Spatial-Separated Attention Module", IEEE TIP 29, 2020,
arXiv:1907.06406. Layers and parameter counts follow the public code of its authors; so do two habits of it: on the way
down the mask is sampled in 2 x 2 corners, not averaged, and its blur has an effective standard deviation of sqrt(2).

Deviation: the skips carry features before their activation. The networks take [0, 1] and have no final activation.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonylib.errors import HarmonyError
from harmonylib.models import Harmonizer

MODULES = 3  # S2AM modules in a network: at a half, a quarter and an eighth of the picture's side


class ChannelGate(nn.Module):
    """F * sigmoid(W2 relu(W1 [mean(F); max(F)])): one two-layer perceptron on both pooled vectors together."""

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        hidden = max(4, channels // reduction)  # 4: what the published width has at its narrowest
        self.perceptron = nn.Sequential(
            nn.Linear(2 * channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels), nn.Sigmoid()
        )

    def forward(self, features: Tensor, pooled: Tensor) -> Tensor:
        return features * self.perceptron(pooled)[:, :, None, None]


class SpatiallySeparatedAttention(nn.Module):
    """gate_bg(F) (1 - M~) + (L(gate_fg(F)) + gate_mix(F)) M~, with both masks blurred (section III of the paper)."""

    def __init__(self, channels: int):
        super().__init__()
        self.background = ChannelGate(channels)
        self.mixed = ChannelGate(channels)
        self.foreground = ChannelGate(channels)
        self.learn = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * channels),
            nn.ELU(inplace=True),
            nn.Conv2d(2 * channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ELU(inplace=True),
        )
        self.register_buffer("kernel", gaussian_kernel(), persistent=False)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """(B, C, h, w) and the picture's mask (B, 1, H, W) -> (B, C, h, w)."""
        stride = mask.shape[-1] // features.shape[-1]
        inside = F.avg_pool2d(mask, 2, stride).round()  # (B, 1, h, w); a half goes to the background
        foreground, background = self._blur(inside), self._blur(1 - inside)
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)  # (B, 2 C), for all gates
        relit = self.learn(self.foreground(features, pooled)) + self.mixed(features, pooled)
        return self.background(features, pooled) * background + relit * foreground

    def _blur(self, mask: Tensor) -> Tensor:
        return F.conv2d(F.pad(mask, (2, 2, 2, 2), mode="reflect"), self.kernel)


def gaussian_kernel() -> Tensor:
    """5 x 5, sum 1. The published exponent is ((x - mu) / (2 sigma))^2 with sigma 1: in effect sigma = sqrt(2)."""
    row = torch.exp(-((torch.arange(5.0) - 2) ** 2) / 4)
    kernel = row[:, None] * row
    return (kernel / kernel.sum())[None, None]


class Pix2PixUNet(Harmonizer):
    """The U-Net beneath both: 4x4 convolutions of stride 2 down to 1/2**depth of the side, and back.

    Args:
        width: channels after the first convolution; they double with every level up to ``8 * width``.
        depth: number of down-samplings, at least 5: 8 takes 256 px to 1, 6 takes 64 px to 1.
    """

    presets: ClassVar = {
        "tiny": {"width": 4, "depth": 5},
        "small": {"width": 4, "depth": 6},
        "medium": {"width": 6, "depth": 6},
    }

    def __init__(self, *, width: int = 64, depth: int = 8):
        super().__init__()
        if width < 1 or depth < 5:
            raise HarmonyError(
                f"s2am_s2asc, s2am_s2ad: width must be at least 1 and depth at least 5, not {width}, {depth}"
            )
        self.multiple = 2**depth
        self.widths = [width * 2 ** min(level, 3) for level in range(depth)]
        self.down = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
            for inputs, outputs in zip([4, *self.widths], self.widths, strict=False)
        )
        # None on the outermost level, and none on the innermost, which may have a single position.
        self.down_norm = nn.ModuleList(nn.BatchNorm2d(outputs) for outputs in self.widths[1:-1])
        inputs = [2 * width for width in self.widths[:-1]] + self.widths[-1:]  # skip and decoder, but for the innermost
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(taken, given, 4, stride=2, padding=1, bias=level == 0)
            for level, (taken, given) in enumerate(zip(inputs, [3, *self.widths], strict=False))
        )
        self.up_norm = nn.ModuleList(nn.BatchNorm2d(outputs) for outputs in self.widths[:-1])
        self.apply(_init_weights)

    def predict(self, image: Tensor, mask: Tensor) -> Tensor:
        x = torch.cat([image, mask], dim=1)  # (B, 4, H, W)
        skips = []
        last = len(self.down) - 1
        for level, convolution in enumerate(self.down):
            x = convolution(x if level == 0 else F.leaky_relu(x, 0.2))  # side / 2^(level + 1)
            if 0 < level < last:
                x = self.down_norm[level - 1](x)
            skips.append(x)
        for level in reversed(range(1, last + 1)):
            x = self.up_norm[level - 1](self.up[level](F.relu(x)))
            x = self.join(level - 1, skips[level - 1], x, mask)
        return self.up[0](F.relu(x))

    def join(self, level: int, skip: Tensor, decoded: Tensor, mask: Tensor) -> Tensor:
        """Skip and decoder features of one level, side by side."""
        return torch.cat([skip, decoded], dim=1)


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)
    elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class S2ASC(Pix2PixUNet):
    """Modules on the skips before concatenation: 64 channels at 128 px, 128 at 64, 256 at 32 (width 64, 256 px)."""

    def __init__(self, *, width: int = 64, depth: int = 8):
        super().__init__(width=width, depth=depth)
        self.attention = nn.ModuleList(SpatiallySeparatedAttention(self.widths[level]) for level in range(MODULES))
        self.attention.apply(_init_weights)

    def join(self, level: int, skip: Tensor, decoded: Tensor, mask: Tensor) -> Tensor:
        if level < MODULES:
            skip = self.attention[level](skip, mask)
        return super().join(level, skip, decoded, mask)


class S2AD(Pix2PixUNet):
    """Modules in the decoder, after concatenation: 128 channels at 128 px, 256 at 64, 512 at 32 (width 64, 256 px)."""

    def __init__(self, *, width: int = 64, depth: int = 8):
        super().__init__(width=width, depth=depth)
        self.attention = nn.ModuleList(SpatiallySeparatedAttention(2 * self.widths[level]) for level in range(MODULES))
        self.attention.apply(_init_weights)

    def join(self, level: int, skip: Tensor, decoded: Tensor, mask: Tensor) -> Tensor:
        joined = super().join(level, skip, decoded, mask)
        return self.attention[level](joined, mask) if level < MODULES else joined

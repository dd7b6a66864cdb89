"""The vision Transformer of LEMaRT's Table 3.

Paper: "Label-Efficient Masked Region Transform for Image Harmonization" (LEMaRT), section 4.4a, after Dosovitskiy et
al., ICLR 2021. All that is given there: "the vision Transformer model that adopts global attention".

Chosen here: ViT-S (width 384, 12 pre-norm blocks, 6 heads, MLP ratio 4) on patches of 4 px, which makes it SwinIH with
another kind of attention: the same tokens and blocks, 21.3 M parameters against about 22.5 M. Patches of 16 px are
ViT's own, but then a picture of 256 px has 256 tokens, and the patch would be compared, not the attention. The price:
at 256 px all of 4,096 tokens see each other, which costs 12.9 GMAC a block (everything else in it 7.2), 242 GMAC in
all. The map of scores would be 384 MiB a block and picture in float32; the fused kernel never holds it.
Also chosen here: fixed sinusoidal positions, so that no size is built in; a linear head per patch behind a LayerNorm;
Xavier initialisation; ``skip``.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonylib.errors import HarmonyError
from harmonylib.models import Harmonizer
from harmonylib.models.initial import small_change, xavier
from harmonylib.models.windows import Block, GlobalAttention


def sinusoidal_positions(height: int, width: int, channels: int, device: torch.device | None = None) -> Tensor:
    """Where each token is, (height, width, channels): half of the channels tell its row, half its column.

    Sines and cosines of wavelengths from 2 pi to 20,000 pi tokens (Vaswani et al., 2017). ``channels`` must be a
    multiple of 4.
    """
    frequencies = 1e4 ** -torch.linspace(0, 1, channels // 4 + 1, device=device)[:-1]

    def along(side: int) -> Tensor:  # (side, channels / 2)
        angles = torch.arange(side, device=device)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    rows, columns = along(height)[:, None], along(width)[None]
    return torch.cat([rows.expand(-1, width, -1), columns.expand(height, -1, -1)], dim=2)


def check_transformer(name: str, width: int, depth: int, heads: int) -> None:
    """Raises HarmonyError where these make no Transformer with sinusoidal positions."""
    if depth < 1:
        raise HarmonyError(f"{name}: depth must be at least 1, not {depth}")
    if width < 4 or width % 4:
        raise HarmonyError(f"{name}: width must be a multiple of 4 (sine and cosine of row and column), not {width}")
    if heads < 1 or width % heads:
        raise HarmonyError(f"{name}: {heads} heads do not divide width {width}; choose a divisor")


class ViT(Harmonizer):
    """Vision Transformer with global attention in every block (LEMaRT section 4.4a); any size of at least ``patch`` px.

    Args:
        patch: side of a token, in px.
        width: channels of a token; a multiple of 4.
        depth: number of blocks.
        heads: must divide ``width``.
        skip: True: the network predicts the change, which is added to the composite, and its head starts small.
            False: it predicts the picture itself.

    Raises:
        HarmonyError: values that make no network.
    """

    presets: ClassVar[dict[str, dict]] = {
        "tiny": {"width": 16, "depth": 1, "heads": 1},
        "small": {"width": 32, "depth": 2, "heads": 1},
        "medium": {"width": 64, "depth": 4, "heads": 2},
        "reduced": {"width": 96, "depth": 6, "heads": 4},
    }

    def __init__(self, *, patch: int = 4, width: int = 384, depth: int = 12, heads: int = 6, skip: bool = True):
        super().__init__()
        check_transformer("vit", width, depth, heads)
        if patch < 1:
            raise HarmonyError(f"vit: patch must be at least 1 px, not {patch}")
        self.multiple = self.patch = patch
        self.skip = skip
        self.embed = nn.Linear(4 * patch**2, width)
        self.blocks = nn.Sequential(*(Block(width, GlobalAttention(width, heads)) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 3 * patch**2)
        self.apply(xavier)
        if skip:
            small_change(self.head, width)

    def predict(self, image: Tensor, mask: Tensor) -> Tensor:
        x = F.pixel_unshuffle(torch.cat([2 * image - 1, mask], dim=1), self.patch).permute(0, 2, 3, 1)
        x = self.embed(x)  # (B, H / patch, W / patch, width)
        x = x + sinusoidal_positions(*x.shape[1:], device=x.device)
        x = self.head(self.norm(self.blocks(x)))  # (B, H / patch, W / patch, 3 * patch * patch)
        output = F.pixel_shuffle(x.permute(0, 3, 1, 2), self.patch)
        return image + output if self.skip else (output + 1) / 2

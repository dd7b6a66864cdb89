"""The Harmony Transformer of LEMaRT's Table 3.

Paper: LEMaRT section 4.4a; Guo et al., "Image Harmonization with Transformer", ICCV 2021, and "Transformer for Image
Harmonization and Beyond", TPAMI 2022.

LEMaRT trains a re-implementation of "HT+", from the second of these, which it neither publishes nor describes beyond "a
ViT-style Transformer model". What stands here is HT as its authors published it, the one of their networks that fits
those words (D-HT and DHT+ separate reflectance and illumination): patches of 4x4 px of composite and mask, projected
linearly (64 -> 256); 9 post-norm encoder layers of 2 heads with an MLP of 512 and GELU, no dropout; 2-D sinusoidal
positions added to queries and keys, not to values, in every layer; a 4x4 transposed convolution back to RGB; tanh.
4,772,867 parameters. What LEMaRT prints for HT+ is therefore no number that this network has to meet.

Chosen here: ``skip``, as in all networks of that study: a change is predicted, and it needs no tanh. ``skip=False`` is
the published end. Positions count tokens, so that no size is built in. Xavier initialisation.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonylib.models import Harmonizer
from harmonylib.models.initial import small_change, xavier
from harmonylib.models.vit import check_transformer, sinusoidal_positions

PATCH = 4


class EncoderLayer(nn.Module):
    """Post-norm encoder layer whose queries and keys, not its values, know where they are."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query_key = nn.Linear(channels, 2 * channels)
        self.value = nn.Linear(channels, channels)
        self.project = nn.Linear(channels, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))
        self.norm2 = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """(B, N, C) and (N, C) -> (B, N, C)."""
        tokens = self.norm1(tokens + self._attend(tokens, positions))
        return self.norm2(tokens + self.mlp(tokens))

    def _attend(self, tokens: Tensor, positions: Tensor) -> Tensor:
        query, key = self.query_key(tokens + positions).chunk(2, dim=-1)
        query, key, value = map(self._split, (query, key, self.value(tokens)))  # (B, heads, N, C / heads)
        return self.project(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class HT(Harmonizer):
    """Harmony Transformer (LEMaRT section 4.4a; Guo et al., ICCV 2021); any size of at least 4 px.

    Args:
        width: channels of a token, a multiple of 4; the MLPs have twice as many.
        depth: number of encoder layers.
        heads: must divide ``width``.
        skip: True: the network predicts the change, which is added to the composite, and its head starts small.
            False: it predicts the picture itself, through tanh.

    Raises:
        HarmonyError: values that make no network.
    """

    multiple = PATCH
    presets: ClassVar[dict[str, dict]] = {
        "tiny": {"width": 16, "depth": 1, "heads": 1},
        "small": {"width": 32, "depth": 2, "heads": 1},
        "medium": {"width": 64, "depth": 4, "heads": 2},
        "reduced": {"width": 96, "depth": 5},
    }

    def __init__(self, *, width: int = 256, depth: int = 9, heads: int = 2, skip: bool = True):
        super().__init__()
        check_transformer("ht", width, depth, heads)
        self.skip = skip
        self.embed = nn.Linear(4 * PATCH**2, width)
        self.layers = nn.ModuleList(EncoderLayer(width, heads) for _ in range(depth))
        self.head = nn.ConvTranspose2d(width, 3, PATCH, stride=PATCH)
        self.apply(xavier)
        if skip:
            small_change(self.head, width)

    def predict(self, image: Tensor, mask: Tensor) -> Tensor:
        x = F.pixel_unshuffle(torch.cat([2 * image - 1, mask], dim=1), PATCH).permute(0, 2, 3, 1)
        x = self.embed(x)  # (B, H / 4, W / 4, width)
        size = x.shape[1:3]
        positions = sinusoidal_positions(*x.shape[1:], device=x.device).flatten(0, 1)  # (N, width), N = H * W / 16
        tokens = x.flatten(1, 2)
        for layer in self.layers:
            tokens = layer(tokens, positions)
        output = self.head(tokens.transpose(1, 2).unflatten(2, size))
        return image + output if self.skip else (output.tanh() + 1) / 2

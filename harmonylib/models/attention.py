"""Attention from the foreground to the background.

Paper: "Image Harmonization via Spatially Separated Attention Modules" (S2AM-T4), sections 3.5.1 and 3.5.2, equation 4.

Given there: queries, keys and values from the features; the mask splits them into foreground and background, and the
background acts on the foreground. Chosen here: several heads, a LayerNorm before and a residual around the attention,
no position encoding. The norm acts on each token alone: one over the map would carry foreground statistics into the
background's keys.

Left open there (section 5.3.1): a linear attention, so that pictures of 1024 px can be processed.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from harmonylib.errors import HarmonyError


def naive_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Equation 4 as printed: the (B, heads, N, N) map is in memory, in training several times over."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)  # (B, heads, N, N)
    scores = scores + bias
    return scores.softmax(dim=-1) @ value


def exact_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """The same values from PyTorch's fused kernels: memory linear in N, since ``bias`` is broadcast, never expanded."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


def linear_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Time and memory linear in N: softmax(Q) (softmax(K)^T V), the first over channels, the second over positions.

    Efficient attention of Shen et al. (WACV 2021, arXiv:1812.01243). Of the linear attentions it is the one that keeps
    what matters here: each result is a weighted mean of the background's values, as in equation 4; a hidden key weighs
    exactly 0; nothing is divided by a sum that could vanish; and there are no weights of its own. Linformer, which the
    paper names, has some, for one N; Performer draws random features. It is not equation 4: all queries share as many
    ways to look at the background as a head has channels.

    In float32 whatever autocast says: of 65,536 positions each weighs less than half precision's least normal number.
    """
    with torch.autocast("cpu" if query.is_meta else query.device.type, enabled=False):
        seen = (key.float() + bias.float().mT).softmax(dim=-2)  # (B, heads, N, C / heads)
        context = seen.mT @ value.float()  # (B, heads, C / heads, C / heads)
        return query.float().softmax(dim=-1) @ context


KINDS = {"exact": exact_attention, "naive": naive_attention, "linear": linear_attention}
STEP = 64  # cells, to which a number of them is rounded up: few different sizes, and aligned, as GPU kernels want them


def gathered(chosen: Tensor) -> Tensor | None:
    """(B, N) -> (B, n, 1): where each picture's chosen cells lie, and then others, up to the largest number; None: all.

    Where tensors have no data (they are counted, or exported), all.
    """
    if torch.compiler.is_compiling() or chosen.is_meta or isinstance(chosen, FakeTensor):
        return None
    most = STEP * max(1, math.ceil(int(chosen.sum(dim=-1).max()) / STEP))
    if most >= chosen.shape[-1]:
        return None
    return chosen.byte().argsort(dim=-1, descending=True, stable=True)[:, :most, None]


def rows(tokens: Tensor, index: Tensor | None) -> Tensor:
    """(B, N, C) -> (B, n, C): those of :func:`gathered`."""
    return tokens if index is None else tokens.gather(1, index.expand(-1, -1, tokens.shape[-1]))


class ForegroundBackgroundAttention(nn.Module):
    """F + m * W softmax(Q K^T / sqrt(d)) V with keys and values from the background only.

    The mask is averaged over each cell of the feature map: m. A cell is background, and thus a key, where m < 0.5.
    The result is weighted with m itself, so that an object smaller than a cell still receives its share, and cells
    without foreground leave exactly as they came. A picture in which no cell is background has nothing to attend to:
    the block leaves it unchanged.

    The output projection starts small (standard deviation 0.02), so that training starts near the network without
    the block. Queries, keys and values have no bias: softmax does not see one in the keys.

    Args:
        channels: of the feature map.
        heads: must divide ``channels``.
        kind: "exact" (fused, linear memory) or "naive" (the N x N map): same weights, same result. "linear" (linear
            time as well): same weights, another function.

    Raises:
        HarmonyError: ``heads`` does not divide ``channels``, or an unknown ``kind``.
    """

    def __init__(self, channels: int, heads: int = 8, kind: Literal["exact", "naive", "linear"] = "exact"):
        super().__init__()
        if heads < 1 or channels % heads:
            raise HarmonyError(f"attention: {heads} heads do not divide {channels} channels; choose a divisor")
        if kind not in KINDS:
            raise HarmonyError(f"attention {kind!r} does not exist; choose one of {', '.join(KINDS)}")
        self.heads = heads
        self.kind = kind
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key_value = nn.Linear(channels, 2 * channels, bias=False)
        self.project = nn.Linear(channels, channels)
        self._init_weights()

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """(B, C, h, w) and the image's mask (B, 1, H, W) in [0, 1], H and W multiples of h and w -> (B, C, h, w)."""
        foreground = F.avg_pool2d(mask, mask.shape[-1] // features.shape[-1]).flatten(1).unsqueeze(-1)  # (B, N, 1)
        is_background = foreground < 0.5
        has_background = is_background.any(dim=1, keepdim=True)  # (B, 1, 1)
        weight = foreground * has_background
        # Without any key softmax would be 0 / 0: such a picture sees all keys, and its result is dropped below.
        hidden = ~is_background & has_background
        bias = torch.zeros_like(foreground).masked_fill(hidden, float("-inf"))  # (B, N, 1)

        tokens = self.norm(features.flatten(2).transpose(1, 2))  # (B, N, C)
        # What weighs 0 below need not ask, and what is hidden need not answer; but equation 4 as printed has them all.
        asking = answering = None
        if self.kind != "naive":
            asking, answering = gathered(weight[..., 0] > 0), gathered(is_background[..., 0])
        query = self._split(self.query(rows(tokens, asking)))  # (B, heads, n, C / heads)
        key, value = map(self._split, self.key_value(rows(tokens, answering)).chunk(2, dim=-1))
        bias = rows(bias, answering).mT.unsqueeze(1)  # (B, 1, 1, n)
        attended = KINDS[self.kind](query, key, value, bias.to(query.dtype))  # (B, heads, n, C / heads)
        update = rows(weight, asking) * self.project(attended.transpose(1, 2).flatten(2))
        if asking is not None:
            update = torch.zeros_like(tokens, dtype=update.dtype).scatter(1, asking.expand_as(update), update)
        return features + update.transpose(1, 2).view_as(features)

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _init_weights(self) -> None:
        for linear in (self.query, self.key_value):
            nn.init.xavier_uniform_(linear.weight)
        nn.init.normal_(self.project.weight, std=0.02)
        nn.init.zeros_(self.project.bias)

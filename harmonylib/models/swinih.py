"""SwinIH and SwinIH-Local: window attention without a change of resolution.

Paper: "Label-Efficient Masked Region Transform for Image Harmonization" (LEMaRT), sections 3.4 and 4.2, Table 4.

Given there: patch 4, window 32, width 128, doubled by linear projections at the end of the first two stages, 3 + 3 + 5
window blocks and one global attention layer, 64 x 64 tokens throughout (at 256 px), 4-channel input. Chosen here: heads
4, 8 and 16 (32 channels each), MLP ratio 4, biases in the projections and one per relative position (as in Swin), no
other position encoding, no drop path, a LayerNorm and one linear layer as the head (48 values a token, rearranged to
4 x 4 pixels), and a global skip: the network predicts a change. "Window 32" is taken as 32 tokens, which makes four
windows of a picture of 256 px; 32 pixels would be ``window=8``. Weights start as Xavier's: Swin's own start (standard
deviation 0.02) is made for its widths and leaves narrow networks idle for hundreds of steps.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonylib.errors import HarmonyError
from harmonylib.models import Harmonizer
from harmonylib.models.initial import small_change, xavier
from harmonylib.models.windows import Block, GlobalAttention, WindowAttention


class SwinIH(Harmonizer):
    """SwinIH (LEMaRT section 3.4): three stages of window blocks at one resolution, a global block at the end.

    Any picture of at least ``multiple`` px a side (``patch`` here) runs; windows larger than the map are clamped to it.

    Args:
        dim: channels of the first stage, doubled after the first and the second.
        depths: number of window blocks in each stage; every other one of a stage is shifted, its first is not.
        heads: of the attention in each stage; each must divide its stage's channels.
        window: side of the attention windows in tokens.
        patch: side of a token in px.
        mlp_ratio: hidden channels of the blocks' MLPs, as a multiple of the stage's channels.
        skip: output = composite + prediction, and the head starts small, so that an untrained network does next to
            nothing; otherwise the prediction, around mid-grey, is the output.

    Raises:
        HarmonyError: an option that no network can be built with.
    """

    presets: ClassVar[dict[str, dict]] = {
        "tiny": {"dim": 4, "depths": (2, 1, 1), "heads": (1, 1, 2), "mlp_ratio": 2.0, "window": 4},
        "small": {"dim": 8, "depths": (2, 1, 1), "heads": (1, 1, 2), "mlp_ratio": 2.0, "window": 8},
        "medium": {"dim": 16, "depths": (2, 2, 2), "heads": (1, 2, 4), "mlp_ratio": 4.0, "window": 8},
        "reduced": {"dim": 48, "depths": (2, 2, 2), "heads": (2, 4, 8)},
    }
    reduction = 1  # how many tokens of the first stage's map one of the coarsest map spans, along a side
    ends_globally = True

    def __init__(
        self,
        *,
        dim: int = 128,
        depths: tuple = (3, 3, 5),
        heads: tuple = (4, 8, 16),
        window: int = 32,
        patch: int = 4,
        mlp_ratio: float = 4.0,
        skip: bool = True,
    ):
        super().__init__()
        self._check_options(dim, depths, heads, window, patch, mlp_ratio)
        self.multiple = patch * self.reduction
        self.patch, self.window, self.mlp_ratio, self.skip = patch, window, mlp_ratio, skip
        widths = (dim, 2 * dim, 4 * dim)
        self.embed = nn.Linear(4 * patch**2, dim)
        self.stages = nn.ModuleList(
            nn.Sequential(*(self.window_block(width, own_heads, index) for index in range(depth)))
            for width, depth, own_heads in zip(widths, depths, heads, strict=True)
        )
        last = widths[-1], heads[-1]
        self.stages[-1].append(self.global_block(*last) if self.ends_globally else self.window_block(*last, depths[-1]))
        self.transitions = nn.ModuleList(self.build_transitions(*widths))
        outputs = self.output_width(widths)
        self.norm = nn.LayerNorm(outputs)
        self.head = nn.Linear(outputs, 3 * patch**2)
        self.apply(xavier)
        if skip:
            small_change(self.head, outputs)

    def window_block(self, width: int, heads: int, index: int) -> Block:
        return Block(width, WindowAttention(width, heads, self.window, shifted=index % 2 == 1), self.mlp_ratio)

    def global_block(self, width: int, heads: int) -> Block:
        return Block(width, GlobalAttention(width, heads), self.mlp_ratio)

    def build_transitions(self, first: int, second: int, third: int) -> list[nn.Module]:
        """What follows each of the three stages, given their widths."""
        return [nn.Linear(first, second), nn.Linear(second, third), nn.Identity()]

    def output_width(self, widths: tuple[int, int, int]) -> int:
        """Channels after the last transition."""
        return widths[-1]

    def predict(self, image: Tensor, mask: Tensor) -> Tensor:
        x = F.pixel_unshuffle(torch.cat([2 * image - 1, mask], dim=1), self.patch).permute(0, 2, 3, 1)
        x = self.embed(x)  # (B, H / patch, W / patch, dim)
        for stage, transition in zip(self.stages, self.transitions, strict=True):
            x = transition(stage(x))
        prediction = F.pixel_shuffle(self.head(self.norm(x)).permute(0, 3, 1, 2), self.patch)
        return prediction + (image if self.skip else 0.5)

    def _check_options(self, dim, depths, heads, window, patch, mlp_ratio) -> None:
        name = type(self).__name__
        for option, values in (("depths", depths), ("heads", heads)):
            if len(values) != 3 or not all(type(value) is int and value > 0 for value in values):
                raise HarmonyError(f"{name}: {option} must be three positive integers, one per stage, not {values}")
        for option, value in (("dim", dim), ("window", window), ("patch", patch)):
            if value < 1:
                raise HarmonyError(f"{name}: {option} must be at least 1, not {value}")
        if int(dim * mlp_ratio) < 1:
            raise HarmonyError(f"{name}: mlp_ratio {mlp_ratio} leaves no hidden channel; choose a larger one, e.g. 4.0")


class SwinIHLocal(SwinIH):
    """SwinIH-Local (LEMaRT section 4.4.c): the global block is replaced by one more window block, shifted in its turn.

    Arguments as in :class:`SwinIH`.
    """

    ends_globally = False

"""SwinIH-MS and "Swin-T": the networks of LEMaRT's Table 4 that change the resolution.

Paper: "Label-Efficient Masked Region Transform for Image Harmonization" (LEMaRT), section 4.4.c.

Given there: SwinIH-MS "first reduces and then enlarges the resolution of feature maps at deeper layers" and is SwinIH
otherwise; Swin-T is made of window blocks and patch merging, with patch splitting to return to the picture's size. Left
open: where, how often, and the widths and depths of both. Chosen here: those of SwinIH, so that the resolution is what
differs, and no connections from the layers before a reduction to those after it. Swin-T is the paper's short name for
Swin Transformer, not the size "Tiny" of that network.
"""

from torch import nn

from harmonylib.models.swinih import SwinIH
from harmonylib.models.windows import PatchMerging, PatchSplitting


class SwinIHMS(SwinIH):
    """SwinIH-MS: the second stage works at half the resolution (64 - 32 - 64 tokens a side at 256 px).

    Patch merging takes the place of the projection after stage 1, patch splitting that of the one after stage 2: the
    third stage and its global block see a map of the same size as in SwinIH. Pictures of at least ``2 * patch`` px.
    Arguments as in :class:`SwinIH`; a window larger than the reduced map is clamped to it.
    """

    reduction = 2

    def build_transitions(self, first: int, second: int, third: int) -> list[nn.Module]:
        return [PatchMerging(first, second), PatchSplitting(second, third), nn.Identity()]


class SwinT(SwinIH):
    """The paper's Swin Transformer: 64 - 32 - 16 tokens a side at 256 px, window blocks only.

    Patch merging follows stages 1 and 2; two patch splittings follow stage 3 and undo it (512 - 256 - 128 channels).
    In the place of SwinIH's global block is one more window block. Pictures of at least ``4 * patch`` px. Arguments as
    in :class:`SwinIH`; at 256 px the default window covers the maps of stages 2 and 3.
    """

    reduction = 4
    ends_globally = False

    def build_transitions(self, first: int, second: int, third: int) -> list[nn.Module]:
        enlarge = nn.Sequential(PatchSplitting(third, second), PatchSplitting(second, first))
        return [PatchMerging(first, second), PatchMerging(second, third), enlarge]

    def output_width(self, widths: tuple[int, int, int]) -> int:
        return widths[0]

"""S2AM as S2AM-T4 describes it: the U-Net of that paper with attention from the foreground to the background.

Paper: "Image Harmonization via Spatially Separated Attention Modules" (S2AM-T4), section 3.5. For the module that Cun
and Pun published under this name see ``s2am_original``.

Chosen here: the paper puts the block "at the bottleneck" (16 x 16 in its U-Net) and gives that map 64 x 64 = 4,096
pixels. ``place`` names the side of the map for a picture of 256 px. 64 is the default, since the paper's memory
argument rests on it: the encoder stage at a quarter of the picture's side (256 channels at width 64), after its
convolutions and before its skip, so that both ways to the decoder carry the result. 16 is the bottleneck. The number of
heads is not given: 8.
"""

from typing import Literal

from torch import Tensor

from harmonylib.errors import HarmonyError
from harmonylib.models.attention import ForegroundBackgroundAttention
from harmonylib.models.unet import UNet


class S2AM(UNet):
    """The U-Net of S2AM-T4 with one :class:`ForegroundBackgroundAttention` (section 3.5).

    Args:
        width, depth: as in :class:`UNet`.
        heads: of the attention; must divide the channels at its place.
        place: side of the feature map it acts on, for a picture of 256 px: 128, 64, 32, ... down to 256 / 2**depth.
        attention: "exact" (fused, memory linear in the number of positions), "naive" (equation 4 as printed), or
            "linear" (time linear as well, for large pictures; another function of the same weights).
    """

    def __init__(
        self,
        *,
        width: int = 64,
        depth: int = 4,
        heads: int = 8,
        place: int = 64,
        attention: Literal["exact", "naive", "linear"] = "exact",
    ):
        super().__init__(width=width, depth=depth)
        places = {256 >> level: level for level in range(1, depth + 1)}
        if place not in places:
            known = ", ".join(map(str, places))
            raise HarmonyError(f"s2am: place {place} is no stage of a U-Net of depth {depth}; choose one of {known}")
        self.level = places[place]
        self.attention = ForegroundBackgroundAttention(self.widths[self.level], heads, attention)

    def refine(self, level: int, features: Tensor, mask: Tensor) -> Tensor:
        return self.attention(features, mask) if level == self.level else features

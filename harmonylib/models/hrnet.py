"""The HRNet of LEMaRT's Table 3.

Paper: LEMaRT section 4.4a, after Sun et al., "Deep High-Resolution Representation Learning for Human Pose Estimation",
CVPR 2019. Nothing but the name is given there.

The backbone is timm's, on composite and mask, always from scratch (no weights are downloaded): four branches at 1/4 to
1/32 of the picture's side that exchange what they hold. Chosen here:

- The variant: W18-small-v2, 3.9 M parameters. Image harmonization has used W18-small-v2, W18 and W32 (Sofiiuk et al.,
  WACV 2021, [30] of LEMaRT), and on iHarmony4 they scored nearly the same: 38.15, 38.16 and 38.29 dB. So the smallest.
- The head: as in HRNetV2 all branches are brought to the largest (bilinear), concatenated and mixed by a 1x1
  convolution with batch normalisation and ReLU. Then every position predicts its own 4x4 px, as in the Transformers of
  that study. HRNetV2 would enlarge its result fourfold; a change so smooth cannot follow the outline of an object.
- Batch normalisation stays, as in timm. In training it needs two values per channel, and the smallest branch of a
  picture of 32 px has one: such pictures are trained at least two at a time.
- ``skip``, as in all networks of that study.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from timm.models.hrnet import HighResolutionNetFeatures, cfg_cls
from torch import Tensor, nn

from harmonylib.errors import HarmonyError
from harmonylib.models import Harmonizer
from harmonylib.models.initial import small_change

STRIDE = 4  # of the largest branch


def stage(branches: int, width: int, blocks: int, modules: int) -> dict:
    """One multi-resolution stage in timm's terms; the channels double from branch to branch."""
    return {
        "num_modules": modules,
        "num_branches": branches,
        "block_type": "BASIC",
        "num_blocks": (blocks,) * branches,
        "num_channels": tuple(width << branch for branch in range(branches)),
        "fuse_method": "SUM",
    }


def narrow(width: int, blocks: int, modules: tuple[int, int, int]) -> dict:
    """An HRNet for small pictures in timm's terms: all four branches, a narrow stem, few blocks.

    On small pictures the number of layers is what costs: a stage without modules only opens its new branch.
    """
    stages = {f"stage{n}": stage(n, width, blocks, count) for n, count in zip((2, 3, 4), modules, strict=True)}
    return {"stem_width": 8, "stage1": stage(1, 4, 1, 1) | {"block_type": "BOTTLENECK"}, **stages}


VARIANTS = cfg_cls | {
    "w4": narrow(4, 1, (0, 0, 1)),
    "w8": narrow(8, 1, (0, 0, 1)),
    "w16": narrow(16, 2, (1, 1, 1)),
}


class HRNet(Harmonizer):
    """timm's HRNet with a head that returns to full resolution (LEMaRT section 4.4a); any size of at least 32 px.

    Args:
        variant: one of timm's ("hrnet_w18_small", "hrnet_w18_small_v2", "hrnet_w18", "hrnet_w32", ...), or "w4", "w8",
            "w16": the same four branches with little width and depth, for small pictures.
        skip: True: the network predicts the change, which is added to the composite, and its head starts small.
            False: it predicts the picture itself.

    Raises:
        HarmonyError: unknown variant; in training, a single picture of 32 x 32 px.
    """

    multiple = 32
    presets: ClassVar[dict[str, dict]] = {
        "tiny": {"variant": "w4"},
        "small": {"variant": "w8"},
        "medium": {"variant": "w16"},
        "reduced": {"variant": "w16"},
    }

    def __init__(self, *, variant: str = "hrnet_w18_small_v2", skip: bool = True):
        super().__init__()
        if variant not in VARIANTS:
            raise HarmonyError(f"hrnet: variant {variant!r} does not exist; choose one of {', '.join(VARIANTS)}")
        self.skip = skip
        self.backbone = HighResolutionNetFeatures(
            VARIANTS[variant], in_chans=4, feature_location="", out_indices=(1, 2, 3, 4)
        )
        channels = sum(self.backbone.feature_info.channels())
        self.mix = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.head = nn.Conv2d(channels, 3 * STRIDE**2, 1)
        if skip:
            small_change(self.head, channels)

    def predict(self, image: Tensor, mask: Tensor) -> Tensor:
        try:
            branches = self.backbone(torch.cat([2 * image - 1, mask], dim=1))  # at 1/4, 1/8, 1/16, 1/32
        except ValueError:  # batch normalisation: one value a channel
            raise HarmonyError("hrnet: cannot train on a single picture of 32 x 32; use two, or a larger one") from None
        size = branches[0].shape[2:]
        alike = [F.interpolate(branch, size, mode="bilinear", align_corners=False) for branch in branches]
        output = F.pixel_shuffle(self.head(self.mix(torch.cat(alike, dim=1))), STRIDE)
        return image + output if self.skip else (output + 1) / 2

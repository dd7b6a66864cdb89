"""The ResNet generator of LEMaRT's Table 3.

Paper: LEMaRT section 4.4a, after Wang et al., "High-Resolution Image Synthesis and Semantic Manipulation with
Conditional GANs" (pix2pixHD), CVPR 2018.

Given there: the generator of pix2pixHD with its down-sampling removed. Read here as its global generator without the
three down-sampling convolutions and, with them, the three that undo it: a 7x7 convolution, 9 residual blocks of two 3x3
convolutions, a 7x7 convolution; reflection padding, instance normalisation without weights, weights from N(0, 0.02).
Its convolutions keep the biases that the normalisation makes idle, so that the parameters are the published ones:
686,723 at width 64.

Chosen here: width 64, where pix2pixHD starts (the paper gives none; pix2pixHD's blocks have 512 channels, but at an
eighth of the side: at full size they would cost 64 times as much). ``skip``, as in all networks of that study: a change
is predicted, and it needs no tanh. The published generator ends in tanh: ``skip=False``.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from harmonylib.errors import HarmonyError
from harmonylib.models import Harmonizer
from harmonylib.models.initial import small_change

REACH = 3  # px that the 7x7 convolutions look beyond the border


class InstanceNorm(nn.Module):
    """Every channel of every picture to mean 0 and variance 1.

    PyTorch's own brings maps whose channels lie together, as they do in training, into another order and back.
    """

    def forward(self, x: Tensor) -> Tensor:
        together = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        if together and x.device.type == "cpu" and x.requires_grad:
            return Normalised.apply(x)
        return F.instance_norm(x)


class Normalised(torch.autograd.Function):
    """Instance normalisation in the order that a map is in; the result is kept, and must not be changed in place."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        result = x - x.mean((2, 3), keepdim=True)
        scale = (result.square().mean((2, 3), keepdim=True) + 1e-5).rsqrt()
        result.mul_(scale)
        ctx.save_for_backward(result, scale)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        result, scale = ctx.saved_tensors
        along = (grad * result).mean((2, 3), keepdim=True)
        grad = grad - grad.mean((2, 3), keepdim=True)
        return grad.addcmul_(result, along, value=-1).mul_(scale)


class ResidualBlock(nn.Module):
    """x + two 3x3 convolutions, each normalised per picture and channel, ReLU between them."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            InstanceNorm(),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            InstanceNorm(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class ResNet(Harmonizer):
    """pix2pixHD's generator without down-sampling (LEMaRT section 4.4a); any size of at least 4 px.

    Args:
        width: channels throughout.
        blocks: number of residual blocks.
        skip: True: the network predicts the change, which is added to the composite, and its head starts small.
            False: it predicts the picture itself, through tanh.

    Raises:
        HarmonyError: values that make no network, or a picture smaller than the padding needs.
    """

    presets: ClassVar[dict[str, dict]] = {
        "tiny": {"width": 8, "blocks": 2},
        "small": {"width": 8, "blocks": 2},
        "medium": {"width": 16, "blocks": 4},
        "reduced": {"width": 32, "blocks": 6},
    }

    def __init__(self, *, width: int = 64, blocks: int = 9, skip: bool = True):
        super().__init__()
        if width < 1 or blocks < 1:
            raise HarmonyError(f"resnet: width and blocks must be at least 1, not {width} and {blocks}")
        self.skip = skip
        self.stem = nn.Sequential(
            nn.Conv2d(4, width, 7, padding=REACH, padding_mode="reflect"),
            InstanceNorm(),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.head = nn.Conv2d(width, 3, 7, padding=REACH, padding_mode="reflect")
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)
        if skip:
            small_change(self.head, self.head.weight[0].numel())

    def predict(self, image: Tensor, mask: Tensor) -> Tensor:
        if min(image.shape[2:]) <= REACH:
            size = f"{image.shape[2]} x {image.shape[3]}"
            raise HarmonyError(f"resnet: a picture of {size} is too small; both sides must be at least {REACH + 1}")
        output = self.head(self.blocks(self.stem(torch.cat([2 * image - 1, mask], dim=1))))
        return image + output if self.skip else (output.tanh() + 1) / 2

"""Every network once more, as one would write it from its paper with ordinary layers: what ours are measured against.

The Swin family and ViT are put together from timm's blocks, HRNet is timm's, HT has PyTorch's attention. The outline's
network consists of ordinary layers as it is: what is left to compare is how it is trained. So do S2ASC and S2AD, but
for their gates: here each pools the features for itself.
All compute what ours do: `twin` copies the weights, and tests/test_benchmarks_plain.py compares. A plain network is
built for pictures of one size, as timm's blocks are.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import pairwise

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import PatchMerging, SwinTransformerBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from harmonylib.models import hrnet, ht, outline, resnet, s2am_original, swin_t, swinih, unet, vit, windows


def twin(ours: nn.Module, size: int) -> nn.Module:
    """The plain version of a network, for pictures of ``size`` x ``size`` px, with copies of its weights."""
    plain = TWINS[type(ours)](ours, size)
    with torch.no_grad():
        for mine, theirs in zip(weights(ours), plain.parameters(), strict=True):
            theirs.copy_(cropped(mine, theirs).reshape(theirs.shape))
    return plain


def weights(module: nn.Module) -> Iterator[Tensor]:
    """The parameters of one of our networks in the order, and turned the way, in which its twin has them."""
    if isinstance(module, windows.WindowAttention):
        yield module.table.permute(1, 2, 0)
        yield from (*module.qkv.parameters(), *module.project.parameters())
    elif isinstance(module, windows.PatchMerging):  # timm takes the four tokens column by column
        for parameter in module.parameters():
            yield parameter.unflatten(-1, (2, 2, -1)).transpose(-3, -2).flatten(-3)
    elif isinstance(module, ht.EncoderLayer):
        for pair in zip(module.query_key.parameters(), module.value.parameters(), strict=True):
            yield torch.cat(pair)
        for child in (module.project, module.norm1, module.mlp, module.norm2):
            yield from child.parameters()
    else:
        yield from module.parameters(recurse=False)
        for child in module.children():
            yield from weights(child)


def cropped(table: Tensor, like: Tensor) -> Tensor:
    """Where timm clamps a window to the map, the middle of the table (2 window - 1, 2 window - 1, heads)."""
    if table.numel() == like.numel():
        return table
    side = int(like.shape[0] ** 0.5)
    beyond = (table.shape[0] - side) // 2
    return table[beyond : beyond + side, beyond : beyond + side]


class Plain(nn.Module):
    """A change, predicted from a composite and its mask, both (B, C, H, W)."""

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return image + self.change(torch.cat([2 * image - 1, mask], dim=1))


class Tokens(Plain):
    """Patches, blocks on (B, H, W, C), and a linear head for every token; ``blocks`` change the width at will."""

    def __init__(self, patch: int, first: int, blocks: Callable[[], nn.Module], last: int):
        super().__init__()
        self.patch = patch
        self.embed = nn.Conv2d(4, first, patch, stride=patch)
        self.blocks = blocks()
        self.norm = nn.LayerNorm(last)
        self.head = nn.Linear(last, 3 * patch**2)

    def change(self, x: Tensor) -> Tensor:
        x = self.blocks(self.embed(x).permute(0, 2, 3, 1))
        return F.pixel_shuffle(self.head(self.norm(x)).permute(0, 3, 1, 2), self.patch)


class Everywhere(nn.Module):
    """timm's transformer block on the tokens of a map, (B, H, W, C)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0):
        super().__init__()
        self.block = Block(width, heads, mlp_ratio, qkv_bias=True, norm_layer=nn.LayerNorm)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x.flatten(1, 2)).view(x.shape)


class Splitting(nn.Module):
    """Patch merging the other way about: (B, H, W, inputs) -> (B, 2 H, 2 W, outputs)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.enlarge = nn.Linear(inputs, 4 * outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        x = self.enlarge(self.norm(x)).view(batch, height, width, 2, 2, -1)
        return x.permute(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, -1)


def swin(ours: swinih.SwinIH, size: int) -> Tokens:
    """The windows of timm's blocks are clamped to their map, and every other block of a stage is shifted."""
    window = ours.window

    def stage(blocks: nn.Sequential, side: int) -> Iterator[nn.Module]:
        for index, block in enumerate(blocks):
            width, heads, ratio = block.norm1.normalized_shape[0], block.attention.heads, ours.mlp_ratio
            if isinstance(block.attention, windows.GlobalAttention):
                yield Everywhere(width, heads, ratio)
            else:
                shift = index % 2 * (window // 2)
                yield SwinTransformerBlock(
                    width, (side, side), heads, window_size=window, shift_size=shift, mlp_ratio=ratio
                )

    def blocks() -> Stages:
        stages, transitions, side = [], [], size // ours.patch
        for own, transition in zip(ours.stages, ours.transitions, strict=True):
            stages.append(nn.Sequential(*stage(own, side)))
            transitions.append(between(transition))
            side = side // 2 if isinstance(transition, windows.PatchMerging) else side
            side = side * 2 if isinstance(transition, windows.PatchSplitting) else side
        return Stages(stages, transitions)

    return Tokens(ours.patch, ours.embed.out_features, blocks, ours.norm.normalized_shape[0])


class Stages(nn.Module):
    """Stages of blocks, each followed by a transition; the parameters lie as in ours, stages first."""

    def __init__(self, stages: list[nn.Module], transitions: list[nn.Module]):
        super().__init__()
        self.stages, self.transitions = nn.ModuleList(stages), nn.ModuleList(transitions)

    def forward(self, x: Tensor) -> Tensor:
        for stage, transition in zip(self.stages, self.transitions, strict=True):
            x = transition(stage(x))
        return x


def between(transition: nn.Module) -> nn.Module:
    """The plain version of what follows a stage."""
    if isinstance(transition, nn.Sequential):
        return nn.Sequential(*map(between, transition))
    if isinstance(transition, windows.PatchMerging):
        return PatchMerging(transition.norm.normalized_shape[0] // 4, transition.reduce.out_features)
    if isinstance(transition, windows.PatchSplitting):
        return Splitting(transition.norm.normalized_shape[0], transition.enlarge.out_features // 4)
    return nn.Linear(transition.in_features, transition.out_features) if hasattr(transition, "weight") else transition


class Placed(nn.Module):
    """Blocks on tokens that know where they are."""

    def __init__(self, side: int, width: int, blocks: list[nn.Module]):
        super().__init__()
        self.register_buffer("positions", vit.sinusoidal_positions(side, side, width))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x + self.positions)


def vit_twin(ours: vit.ViT, size: int) -> Tokens:
    width, heads = ours.embed.out_features, ours.blocks[0].attention.heads
    blocks = [Everywhere(width, heads) for _ in ours.blocks]
    return Tokens(ours.patch, width, lambda: Placed(size // ours.patch, width, blocks), width)


class Layer(nn.Module):
    """A post-norm layer whose queries and keys know where they are, as in DETR."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        placed = x + positions
        x = self.norm1(x + self.attention(placed, placed, x, need_weights=False)[0])
        return self.norm2(x + self.mlp(x))


class HT(Plain):
    def __init__(self, ours: ht.HT, size: int):
        super().__init__()
        width, patch = ours.embed.out_features, ht.PATCH
        self.embed = nn.Conv2d(4, width, patch, stride=patch)
        self.layers = nn.ModuleList(Layer(width, layer.heads) for layer in ours.layers)
        self.head = nn.ConvTranspose2d(width, 3, patch, stride=patch)
        self.register_buffer("positions", vit.sinusoidal_positions(size // patch, size // patch, width).flatten(0, 1))

    def change(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        tokens = x.flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens, self.positions)
        return self.head(tokens.transpose(1, 2).reshape(x.shape))


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        half = (nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width))
        self.body = nn.Sequential(*half, nn.ReLU(True), nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), half[2])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class ResNet(Plain):
    """pix2pixHD's generator as it was published, less what changes the resolution."""

    def __init__(self, ours: resnet.ResNet, size: int):
        super().__init__()
        width = ours.head.in_channels
        self.change = nn.Sequential(
            *(nn.ReflectionPad2d(3), nn.Conv2d(4, width, 7), nn.InstanceNorm2d(width), nn.ReLU(True)),
            *(Residual(width) for _ in ours.blocks),
            *(nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7)),
        )


class HRNet(Plain):
    """timm's features, brought to one size, mixed, and 4 x 4 px predicted by each position."""

    def __init__(self, ours: hrnet.HRNet, size: int):
        super().__init__()
        self.backbone = deepcopy(ours.backbone)  # timm's own
        width = ours.head.in_channels
        self.mix = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True))
        self.head = nn.Conv2d(width, 3 * hrnet.STRIDE**2, 1)

    def change(self, x: Tensor) -> Tensor:
        branches = self.backbone(x)
        alike = [F.interpolate(branch, branches[0].shape[2:], mode="bilinear") for branch in branches]
        return F.pixel_shuffle(self.head(self.mix(torch.cat(alike, dim=1))), hrnet.STRIDE)


def convolutions(inputs: int, outputs: int) -> nn.Sequential:
    layers = (
        (nn.Conv2d(taken, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True))
        for taken in (inputs, outputs)
    )
    return nn.Sequential(*(layer for triple in layers for layer in triple))


class UNet(nn.Module):
    def __init__(self, ours: unet.UNet, size: int):
        super().__init__()
        widths = ours.widths
        self.encoder = nn.ModuleList(map(convolutions, [4, *widths[:-1]], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(below, here, 2, 2) for here, below in pairwise(widths))
        self.decoder = nn.ModuleList(convolutions(2 * width, width) for width in widths[:-1])
        self.head = nn.Conv2d(widths[0], 3, 1)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        x, skips = torch.cat([2 * image - 1, mask], dim=1), []
        for stage in self.encoder:
            x = stage(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        for up, stage, skip in list(zip(self.up, self.decoder, skips[:-1], strict=True))[::-1]:
            x = stage(torch.cat([up(x), skip], dim=1))
        return (self.head(x) + 1) / 2


def same(ours: nn.Module, size: int) -> nn.Module:
    return deepcopy(ours)


class Gate(nn.Module):
    """F * sigmoid(W2 relu(W1 [mean(F); max(F)])), on its own."""

    def __init__(self, ours: s2am_original.ChannelGate):
        super().__init__()
        self.perceptron = ours.perceptron

    def forward(self, features: Tensor) -> Tensor:
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)  # (B, 2 C)
        return features * self.perceptron(pooled)[:, :, None, None]


class Separated(nn.Module):
    """S2AM's module: gates for the background, the foreground and both."""

    def __init__(self, ours: s2am_original.SpatiallySeparatedAttention):
        super().__init__()
        self.background, self.mixed, self.foreground = map(Gate, (ours.background, ours.mixed, ours.foreground))
        self.learn, self.blur = ours.learn, ours._blur

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        inside = F.avg_pool2d(mask, 2, mask.shape[-1] // features.shape[-1]).round()
        relit = self.learn(self.foreground(features)) + self.mixed(features)
        return self.background(features) * self.blur(1 - inside) + relit * self.blur(inside)


def separated(ours: s2am_original.Pix2PixUNet, size: int) -> nn.Module:
    plain = deepcopy(ours)
    plain.attention = nn.ModuleList(map(Separated, plain.attention))
    return plain


TWINS: dict[type, Callable[[nn.Module, int], nn.Module]] = {
    unet.UNet: UNet,
    s2am_original.S2ASC: separated,
    s2am_original.S2AD: separated,
    swinih.SwinIH: swin,
    swinih.SwinIHLocal: swin,
    swin_t.SwinIHMS: swin,
    swin_t.SwinT: swin,
    vit.ViT: vit_twin,
    resnet.ResNet: ResNet,
    hrnet.HRNet: HRNet,
    ht.HT: HT,
    outline.Outline: same,
}

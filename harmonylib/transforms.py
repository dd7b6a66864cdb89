"""The six attributes that LEMaRT perturbs (section 3.2), for a batch, each picture with its own strengths.

Colour. Brightness b, contrast c, saturation s and hue (an angle h) are one affine map per picture, where Y takes a
colour to the grey of its luma (ITU-R 601), P = 1 - Y to its chroma, Q turns the chroma of YIQ by 90 degrees and y is
the mean luma of the picture:

    T(x) = c b [Y + s (cos(h) P + sin(h) Q)] x + (1 - c) b y

Space. Sharpness and defocus are convolutions, one small kernel a picture.

All six are linear, the first four act on the channels alone and the last two on space alone, and their kernels sum to
one: as long as nothing is clipped they commute, and their order means nothing. So it is fixed, and the result is
clamped to [0, 1] once, at the end.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonylib.errors import HarmonyError

# name: (smallest strength, largest strength, strength that changes nothing)
DOMAIN = {
    "brightness": (0.0, 8.0, 1.0),  # factor on all values; 0 is black
    "contrast": (0.0, 8.0, 1.0),  # factor on the distance from the mean luma; 0 is flat grey
    "saturation": (0.0, 8.0, 1.0),  # factor on the chroma; 0 is grey
    "hue": (-180.0, 180.0, 0.0),  # degrees by which the chroma is turned
    "sharpness": (0.0, 30.0, 1.0),  # factor on what a 3x3 binomial filter takes away; 0 is that filter
    "defocus": (0.0, 0.1, 0.0),  # radius of the disc, as a share of the shorter side
}
COLOUR = ("brightness", "contrast", "saturation", "hue")


@dataclass(frozen=True)
class Transform:
    """How often a transform is applied, and the range its strength is drawn from, uniformly.

    Units as in `DOMAIN`. Raises HarmonyError for an unknown name, a range outside the domain or one that changes
    nothing, and a probability outside (0, 1].
    """

    name: str
    low: float
    high: float
    probability: float = 0.5

    def __post_init__(self):
        if self.name not in DOMAIN:
            raise HarmonyError(f"transform {self.name!r} does not exist; choose from {', '.join(DOMAIN)}")
        smallest, largest, neutral = DOMAIN[self.name]
        if not smallest <= self.low <= self.high <= largest:
            raise HarmonyError(
                f"transform {self.name!r}: range {self.low} to {self.high} is not an interval "
                f"within {smallest:g} to {largest:g}"
            )
        if self.low == self.high == neutral:
            raise HarmonyError(f"transform {self.name!r}: strength {neutral:g} alone changes nothing; widen the range")
        if not 0 < self.probability <= 1:
            raise HarmonyError(f"transform {self.name!r}: probability {self.probability} is not above 0 and at most 1")


# The paper gives no ranges. These mimic two cameras, two exposures and two lights that a foreground and a background
# may come from, and stay short of clipping whole regions.
TRANSFORMS = {
    transform.name: transform
    for transform in (
        Transform("brightness", 0.6, 1.3, probability=0.8),
        Transform("contrast", 0.6, 1.3, probability=0.8),
        Transform("saturation", 0.3, 1.7, probability=0.8),
        Transform("hue", -25.0, 25.0, probability=0.8),
        Transform("sharpness", 0.0, 4.0, probability=0.25),
        Transform("defocus", 0.008, 0.016, probability=0.25),
    )
}


def configured(transforms: str | Iterable[str | Transform] | Mapping[str, Transform] | None) -> dict[str, Transform]:
    """What the option ``transforms`` means: None all of `TRANSFORMS`, names some of them, Transforms these.

    One transform alone (the ablation of single transforms) is always applied.

    Raises:
        HarmonyError: unknown, repeated or swapped names, none at all, or what is neither a name nor a Transform.
    """
    if transforms is None:
        return dict(TRANSFORMS)
    if isinstance(transforms, (str, Transform)):
        transforms = [transforms]
    if isinstance(transforms, Mapping):
        for name, transform in transforms.items():
            if name != getattr(transform, "name", None):
                raise HarmonyError(
                    f"transforms has {transform!r} under the name {name!r}; give a Transform of that name"
                )
        transforms = transforms.values()
    chosen = {}
    for item in transforms:
        if isinstance(item, str) and item not in TRANSFORMS:
            raise HarmonyError(f"transform {item!r} does not exist; choose from {', '.join(TRANSFORMS)}")
        transform = TRANSFORMS[item] if isinstance(item, str) else item
        if not isinstance(transform, Transform):
            raise HarmonyError(f"transforms holds {transform!r}; give names ({', '.join(TRANSFORMS)}) or Transforms")
        if transform.name in chosen:
            raise HarmonyError(f"transform {transform.name!r} is named twice; each can be applied once")
        chosen[transform.name] = transform
    if not chosen:
        raise HarmonyError(f"transforms is empty; give at least one of {', '.join(TRANSFORMS)}")
    if len(chosen) == 1:
        chosen = {name: replace(transform, probability=1.0) for name, transform in chosen.items()}
    return chosen


def adjust(images: Tensor, strengths: Mapping[str, float | Tensor]) -> Tensor:
    """The transforms that ``strengths`` names, applied to the whole of every picture: a new tensor in [0, 1].

    Args:
        images: (B, 3, H, W) in [0, 1].
        strengths: name -> a number, or one for each picture (B,); units as in `DOMAIN`.

    Raises:
        HarmonyError: a name that does not exist.
    """
    unknown = [name for name in strengths if name not in DOMAIN]
    if unknown:
        raise HarmonyError(f"transform {unknown[0]!r} does not exist; choose from {', '.join(DOMAIN)}")
    strengths = {
        name: torch.as_tensor(value, dtype=images.dtype, device=images.device).expand(len(images))
        for name, value in strengths.items()
    }
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        result = _recolour(images, strengths) if any(name in COLOUR for name in strengths) else images.clone()
        if "defocus" in strengths:
            radius = strengths["defocus"] * min(images.shape[2:])
            _filter(result, discs(radius), radius > 0)
        if "sharpness" in strengths:
            factor = strengths["sharpness"]
            _filter(result, sharpeners(factor), factor != 1)
        return result.clamp_(0, 1)


def colour_map(strengths: Mapping[str, Tensor], mean: Tensor) -> tuple[Tensor, Tensor]:
    """The affine map of the formula above: matrices (B, 3, 3) and offsets (B, 3, 1), from mean colours (B, 3)."""
    one = torch.ones_like(mean[:, 0])
    b, c, s = (strengths.get(name, one) for name in ("brightness", "contrast", "saturation"))
    angle = torch.deg2rad(strengths.get("hue", one - one))
    luma, chroma, quarter_turn = (part.to(mean) for part in (LUMA, CHROMA, QUARTER_TURN))
    turned = (s * angle.cos())[:, None, None] * chroma + (s * angle.sin())[:, None, None] * quarter_turn
    matrix = (c * b)[:, None, None] * (luma + turned)
    offset = (1 - c) * b * (mean @ luma[0])
    return matrix, offset[:, None, None].expand(-1, 3, 1)


def discs(radius: Tensor) -> Tensor:
    """Defocus kernels (B, K, K) of radii (B,) in pixels: discs with a soft rim one pixel wide, each of sum 1."""
    reach = max(math.ceil(float(radius.max()) - 0.5), 1) if len(radius) else 1
    ticks = torch.arange(-reach, reach + 1, dtype=radius.dtype, device=radius.device)
    distance = torch.hypot(ticks[:, None], ticks)
    disc = (radius[:, None, None] + 0.5 - distance).clamp(0, 1)
    return disc / disc.sum((1, 2), keepdim=True)


def sharpeners(factor: Tensor) -> Tensor:
    """Unsharp masks (B, 3, 3): the picture plus (factor - 1) times what a 3x3 binomial filter takes away."""
    binomial = torch.tensor([0.25, 0.5, 0.25], dtype=factor.dtype, device=factor.device)
    smooth = torch.outer(binomial, binomial)
    same = torch.zeros_like(smooth)
    same[1, 1] = 1
    return same + (factor - 1)[:, None, None] * (same - smooth)


def _recolour(images: Tensor, strengths: Mapping[str, Tensor]) -> Tensor:
    matrix, offset = colour_map(strengths, images.mean((2, 3)))
    return torch.baddbmm(offset, matrix, images.flatten(2)).view(images.shape)


def _filter(images: Tensor, kernels: Tensor, where: Tensor) -> None:
    """Convolves the pictures ``where`` (B,) is true with their own kernels (B, K, K), in place; edges continue."""
    chosen = where.nonzero()[:, 0]
    if not len(chosen):
        return
    reach = kernels.shape[-1] // 2
    padded = F.pad(images[chosen], (reach,) * 4, mode="replicate")
    weights = kernels[chosen].repeat_interleave(3, 0)[:, None]
    # Every plane of every picture as a channel of one picture, or each kernel would cost a call.
    planes = padded.reshape(1, -1, *padded.shape[2:])
    images[chosen] = F.conv2d(planes, weights, groups=len(weights)).view(len(chosen), 3, *images.shape[2:])


# ITU-R 601 luma, and the I and Q axes of YIQ (NTSC); their turn by 90 degrees maps I to Q and Q to -I.
_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], dtype=torch.float64)
_TURN = torch.tensor([[0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
LUMA = _YIQ[0].expand(3, 3)
CHROMA = torch.eye(3, dtype=torch.float64) - LUMA
QUARTER_TURN = torch.linalg.inv(_YIQ) @ _TURN @ _YIQ

"""Every network of both papers by name: ``build(name, **options)``, ``names()``, and what they have in common.

Without options a network has the size of its paper. A network is listed once, in one of the tables below, and imported
when it is first built.
"""

import inspect
import reprlib
from abc import ABC, abstractmethod
from importlib import import_module
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonylib import colour_maps
from harmonylib.errors import HarmonyError

S2AM_T4 = {  # name: module:class
    "unet": "unet:UNet",
    "s2am": "s2am:S2AM",
    "s2am_s2asc": "s2am_original:S2ASC",
    "s2am_s2ad": "s2am_original:S2AD",
}
TABLE_3 = {  # of LEMaRT: what is listed here is trained with and without pre-training
    "swinih": "swinih:SwinIH",
    "vit": "vit:ViT",
    "resnet": "resnet:ResNet",
    "hrnet": "hrnet:HRNet",
    "ht": "ht:HT",
}
OWN = {"outline": "outline:Outline"}  # of neither paper: the harmonizer that comes with the package
TABLE_4 = {  # of LEMaRT: what is listed here is compared with SwinIH, all of them trained from scratch
    "swinih_ms": "swin_t:SwinIHMS",
    "swinih_local": "swinih:SwinIHLocal",
    "swin_t": "swin_t:SwinT",
}
LARGEST = 4096  # whole number in an option: some networks would be built for days
_CLASSES = S2AM_T4 | TABLE_3 | TABLE_4 | OWN


def names() -> list[str]:
    """The names that :func:`build` knows."""
    return list(_CLASSES)


def build(name: str, **options) -> nn.Module:
    """A freshly initialised network, in training mode.

    Args:
        name: one of :func:`names`.
        options: of that network's constructor; without any, the size of the paper.

    Raises:
        HarmonyError: unknown name or option, or a value the network cannot be built with.
    """
    network = class_of(name)
    defaults = {key: parameter.default for key, parameter in inspect.signature(network).parameters.items()}
    for key, value in options.items():
        if key not in defaults:
            raise HarmonyError(f"model {name!r} has no option {key!r}; it has {', '.join(defaults) or 'none'}")
        _check_type(name, key, value, defaults[key])
    return network(**options)


def class_of(name: str) -> type["Harmonizer"]:
    """The class behind a name, imported now. Raises HarmonyError for an unknown name."""
    if name not in _CLASSES:
        raise HarmonyError(f"model {name!r} does not exist; choose one of {', '.join(names())}")
    module, class_name = _CLASSES[name].split(":")
    return getattr(import_module(f"harmonylib.models.{module}"), class_name)


def _check_type(name: str, key: str, value: object, default: object) -> None:
    accepted = (int, float) if type(default) is float else type(default)
    fits = isinstance(value, accepted) and isinstance(value, bool) == isinstance(default, bool)
    if default is not None and not fits:
        raise HarmonyError(f"model {name!r}: option {key} must be {type(default).__name__}, not {reprlib.repr(value)}")
    numbers = value if isinstance(value, tuple) else (value,)
    if len(numbers) > LARGEST or any(type(number) is int and number > LARGEST for number in numbers):
        raise HarmonyError(f"model {name!r}: option {key}={reprlib.repr(value)}; at most {LARGEST}")


class Harmonizer(nn.Module, ABC):
    """A network that turns a composite and its mask into a harmonized picture.

    Subclasses implement ``predict``, which may rely on sides that are multiples of ``multiple``. Other sizes are
    continued by reflection on the right and at the bottom, and the result is cropped. The result is clamped to [0, 1]
    in evaluation mode only: in training a clamp would cut the gradient of every pixel that overshoots.

    ``presets`` are named sets of options, smaller than the paper's: a profile names one (`config.Profile.preset`).
    ``looks`` are the sizes at which a picture is seen before it is changed at full resolution (`fullres`), as multiples
    of the side of training; what the network does at each is averaged.
    """

    multiple = 1
    looks: ClassVar[tuple[float, ...]] = (1.0,)
    presets: ClassVar[dict[str, dict]] = {}

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Harmonize a batch.

        Args:
            image: composite, (B, 3, H, W) in [0, 1].
            mask: 1 on the foreground, (B, 1, H, W) in [0, 1].

        Returns:
            (B, 3, H, W) on the scale of ``image``.

        Raises:
            HarmonyError: shapes that do not go together, or a side shorter than ``multiple``.
        """
        height, width = self._check(image, mask)
        dtype = image.dtype  # also under autocast: half precision is too coarse for what is scored
        beyond = (0, -width % self.multiple, 0, -height % self.multiple)
        if any(beyond):
            image, mask = (F.pad(x, beyond, mode="reflect") for x in (image, mask))
        output = self.predict(image, mask)[..., :height, :width].to(dtype)
        return output if self.training else output.clamp(0, 1)

    def maps(self, image: Tensor, mask: Tensor) -> Tensor:
        """What the network does to a batch as colour maps (B, 12, h, w), which fit pictures of any size."""
        return colour_maps.fit(image, self(image, mask), mask)

    @abstractmethod
    def predict(self, image: Tensor, mask: Tensor) -> Tensor:
        """The network proper, for sides that fit."""

    def _check(self, image: Tensor, mask: Tensor) -> torch.Size:
        if image.ndim != 4 or image.shape[1] != 3:
            raise HarmonyError(f"image has shape {tuple(image.shape)}; a model takes (B, 3, H, W)")
        if mask.shape != (image.shape[0], 1, *image.shape[2:]):  # len() would fix the batch of an export
            raise HarmonyError(
                f"mask has shape {tuple(mask.shape)}; with an image of shape {tuple(image.shape)} a model takes "
                f"{(len(image), 1, *image.shape[2:])}"
            )
        if min(image.shape[2:]) < self.multiple:
            raise HarmonyError(
                f"a picture of {image.shape[2]} x {image.shape[3]} is too small for this network; "
                f"both sides must be at least {self.multiple}"
            )
        return image.shape[2:]

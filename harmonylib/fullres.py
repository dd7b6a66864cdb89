"""``hl.harmonize``: any picture, at its own size, by any network that was trained at 256 px or less.

The network looks at the picture scaled to the side it was trained at. What it does there becomes a colour map
(`colour_maps`), which is applied to the picture's own pixels: sharpness stays, and so does every bit of the background.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from harmonylib import checkpoints, colour_maps, picture_masks, pictures
from harmonylib.baselines import BASELINES
from harmonylib.errors import HarmonyError

WEIGHTS = Path(__file__).with_name("weights") / "harmonizer.safetensors"  # of the network that comes with the package
HARMONIZER = "harmonizer"  # its name, beside those of the methods without training
SIDE = 256  # px, of a network that does not say what it was trained at
MAGNIFIED = 2.2  # times the picture's side, that a further look may have
ROWS = 128  # of a large picture, changed at once
Change = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (H,W,3) uint8, uint16 or float32 in [0,1]; mask (H,W) -> same


def harmonize(composite, mask, model=None, *, strength: float = 1.0):
    """Give the object of a composite the colours that its surroundings ask for.

    Args:
        composite: an array (H,W,3), (H,W,4) with alpha last, or grey (H,W), uint8, uint16, or float in [0,1]; or a
            Pillow image of any mode.
        mask: how much of each pixel is object: an array (H,W), bool, uint8, uint16, or float in [0,1]; or a Pillow
            image.
        model: a network; the file or folder of a checkpoint; or one of identity, histogram, reinhard. None is the
            network that comes with the package (its card: `harmonylib/weights/README.md`).
        strength: 0 changes nothing, 1 is what the model does; up to 2.

    Returns the same kind of thing, of the same size and type; pixels where the mask is 0 keep their bits. A Pillow
    image comes back upright (EXIF orientation applied), a palette as RGB.

    Raises HarmonyError: composite and mask differ in size, the mask is empty or full, there is no such model.
    """
    change = changer(model, strength)
    if isinstance(composite, Image.Image):
        picture = pictures.of(composite)
        return pictures.to_pil(picture.with_rgb(change(picture.rgb, _mask(mask, picture))))
    array = np.asarray(composite)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise HarmonyError(f"composite has shape {array.shape}; give (H, W), (H, W, 3) or (H, W, 4)")
    if array.dtype not in (np.uint8, np.uint16) and not np.issubdtype(array.dtype, np.floating):
        raise HarmonyError(f"composite is of type {array.dtype}; give uint8, uint16, or float in [0, 1]")
    colours = array[..., :3] if array.ndim == 3 else array
    picture = pictures.Picture(colours if colours.dtype in (np.uint8, np.uint16) else _unit(colours))
    levels = _mask(mask, picture)
    changed = picture.with_rgb(change(picture.rgb, levels)).pixels.astype(array.dtype)
    changed[levels == 0] = colours[levels == 0]  # of a type that is finer than what was computed
    return changed if array.ndim == 2 or array.shape[2] == 3 else np.dstack([changed, array[..., 3]])


def changer(model=None, strength: float = 1.0) -> Change:
    """A model, ready for picture after picture. Raises HarmonyError as `harmonize` does."""
    if not 0 <= strength <= 2:
        raise HarmonyError(f"strength {strength}: give a number from 0 to 2")
    if isinstance(model, str) and model in BASELINES:
        return lambda picture, mask: _by_statistics(model, picture, strength * mask)
    network = model if isinstance(model, nn.Module) else load(model)
    return lambda picture, mask: paint(maps(network, picture, mask), picture, mask, strength)


def load(model: str | Path | None = None) -> nn.Module:
    """The network of a checkpoint: a file, or the folder of a run; None or "harmonizer": the one that comes with the
    package. Raises HarmonyError where there is none.
    """
    path = checkpoints.find(WEIGHTS if model in (None, HARMONIZER) else model)
    if path is None and model in (None, HARMONIZER):
        raise HarmonyError(f"{WEIGHTS}: the package's own weights are not there; git checkout -- {WEIGHTS}")
    if path is None:
        raise HarmonyError(
            f"model {str(model)!r}: neither a checkpoint nor one of {HARMONIZER}, {', '.join(BASELINES)}; name one"
        )
    from harmonylib import training

    return training.load_model(path)


@torch.no_grad()
def maps(network: nn.Module, picture: np.ndarray, mask: np.ndarray) -> Tensor:
    """What a network does to a picture (H,W,3), seen at the side it was trained at, as a colour map (1,12,h,w).

    One that looks more than once (`models.Harmonizer.looks`) answers with the mean; looks that are much larger than the
    picture itself are left out.
    """
    trained, (first, *larger) = getattr(network, "size", SIDE), getattr(network, "looks", (1.0,))
    most = MAGNIFIED * mask.size**0.5
    sides = [round(look * trained) for look in (first, *(look for look in larger if look * trained <= most))]
    whole, network = Image.fromarray(_eight_bits(picture)), network.eval()
    device = next(network.parameters()).device
    seen = [_seen(whole, mask, side, device) for side in sides]
    found = torch.stack([network.maps(*look).float() for look in seen]).mean(0)
    return colour_maps.kept_in_range(found, *seen[0]).cpu()


def _seen(picture: Image.Image, mask: np.ndarray, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Picture (1,3,side,side) and mask (1,1,side,side)."""
    small = np.array(picture.resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
    image, inside = torch.from_numpy(small).permute(2, 0, 1)[None], torch.from_numpy(_shrunk(mask, side))[None, None]
    return image.to(device), inside.to(device)


def paint(found: Tensor, picture: np.ndarray, mask: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """A picture (H,W,3) with a colour map applied inside its mask (H,W), in its own type, a few rows at a time."""
    height, changed = len(picture), picture.copy()
    scale = 1.0 if picture.dtype == np.float32 else float(np.iinfo(picture.dtype).max)
    inside = np.flatnonzero(mask.any(1))
    for top in range(inside[0], inside[-1] + 1, ROWS) if len(inside) else ():
        rows = slice(top, min(top + ROWS, height))
        pixels = torch.from_numpy(picture[rows].astype(np.float32) / scale).permute(2, 0, 1)[None]
        soft = torch.from_numpy(strength * mask[rows])[None, None]
        result = colour_maps.apply(found, pixels, soft, rows, height)[0].permute(1, 2, 0).clamp(0, 1).mul(scale)
        result = result if scale == 1 else result.round()
        where = mask[rows] > 0
        changed[rows][where] = result.numpy().astype(picture.dtype)[where]
    return changed


def _by_statistics(name: str, picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A method of 8 bits; what it changes there is added to the picture's own bits."""
    small = _eight_bits(picture)
    step = 1 / 255 if picture.dtype == np.float32 else np.iinfo(picture.dtype).max // 255
    change = (BASELINES[name](small, mask > 0.5).astype(np.float32) - small) * step
    result = picture + mask[..., None] * change
    if picture.dtype != np.float32:
        result = np.rint(result)
    result = result.clip(0, 255 * step).astype(picture.dtype)
    return np.where(mask[..., None] > 0, result, picture)


def _mask(mask, picture: pictures.Picture) -> np.ndarray:
    if isinstance(mask, Image.Image):
        levels = picture_masks.of_picture(pictures.of(mask), picture)
    else:
        levels = picture_masks.levels(np.asarray(mask))
    picture_masks.check(levels, picture.size)
    return levels


def _unit(colours: np.ndarray) -> np.ndarray:
    if not np.isfinite(colours).all() or colours.min() < 0 or colours.max() > 1:
        raise HarmonyError("composite: values of type float lie between 0 and 1; scale them, or give uint8")
    return colours.astype(np.float32)


def _eight_bits(picture: np.ndarray) -> np.ndarray:
    if picture.dtype == np.uint8:
        return picture
    return (picture >> 8).astype(np.uint8) if picture.dtype == np.uint16 else np.rint(255 * picture).astype(np.uint8)


def _shrunk(mask: np.ndarray, side: int) -> np.ndarray:
    """The mask at the network's side, 0 or 1; an object that is too thin for it keeps the pixels that it touches."""
    image = Image.fromarray(mask)
    small = np.asarray(image.resize((side, side), Image.Resampling.NEAREST)) > 0.5
    if not small.any():
        small = np.asarray(image.resize((side, side), Image.Resampling.BOX)) > 0
    return small.astype(np.float32)

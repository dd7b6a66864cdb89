"""Metrics as protocols: what exactly "MSE", "PSNR", "fMSE" and "fPSNR" mean, and from which pixels.

The same words name different numbers in the field's public code: the size and the resampler, a soft or a binary mask,
the weight of a soft mask pixel and the peak of the PSNR all differ, and each changes the second or third digit. A
`Protocol` fixes all of these; every table says which one it uses (`caption`).

With d the difference of prediction and real image in [0,255], m the mask in [0,1], A = sum(m), p the power of the mask,
and sum and mean running over pixels and channels (over pixels in A):

    MSE = mean(d^2)  or  mean(m d^2)         fMSE = sum(m^p d^2) / (3 A + e)
    PSNR = 10 log10(peak^2 / (MSE + e))      fPSNR = 10 log10(peak^2 / (fMSE + e))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np
import pandas as pd
import torch
from PIL import Image

from harmonylib import reading
from harmonylib.errors import HarmonyError, one_line

CACHED_PIXELS = 2**16  # that are scored at once on a CPU
METRICS = ("mse", "psnr", "fmse", "fpsnr")
RATIO_BINS = ("0-5 %", "5-15 %", "15-100 %")
PILLOW_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

# S2AM-T4 equation 8 with pixels in [-1,1], summed over three channels: one unit is 127.5^2 / 3 on the usual scale.
S2AM_T4_SCALE = 3 / 127.5**2


@dataclass(frozen=True)
class Protocol:
    """One way to turn a prediction and its ground truth into numbers."""

    name: str
    size: int | None  # side of the square the pictures are resized to; None: their own size
    resampler: str | None  # "bicubic" or "bilinear" (Pillow, with antialias), "bilinear_no_antialias" (as OpenCV)
    mask: str  # "binary": > 127 of 255, then nearest; "soft": value / 255, resized as the picture is
    mse: str = "image"  # "image": mean(d^2); "masked": mean(m d^2)
    fmse_power: int = 2  # the p above; matters for soft masks only
    peak: float | str = 255.0  # a number, "prediction_range" (max - min of the prediction) or "target_max"
    eps: float = 0.0  # the e above
    scale: float = 1.0  # what mse and fmse are multiplied with; peak and eps are on the scaled axis


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("bcmi256", 256, "bicubic", "binary", peak="prediction_range"),
        Protocol("ht256", 256, "bicubic", "binary"),
        Protocol("idih256", 256, "bilinear_no_antialias", "soft", fmse_power=1, peak="target_max", eps=1e-6),
        Protocol("fullres", None, None, "soft", mse="masked", fmse_power=1, eps=1e-6),
        Protocol("s2am_t4", 256, "bilinear", "binary", fmse_power=1, peak=2.0, scale=S2AM_T4_SCALE),
    )
}


def get_protocol(protocol: str | Protocol) -> Protocol:
    """The protocol of this name; a `Protocol` of one's own passes through."""
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise HarmonyError(f"protocol {protocol!r} is not known: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[protocol]


def caption(protocol: str | Protocol, size: int | None = None, blend: bool = False) -> str:
    """How a table names what it measured: ``bcmi256``, ``bcmi256@64`` below 256 px, ``... (background re-pasted)``."""
    rules = get_protocol(protocol)
    at = f"@{size}" if size is not None and size != rules.size else ""
    return f"{rules.name}{at}{' (background re-pasted)' if blend else ''}"


def to_s2am_t4(fmse255):
    """fMSE per channel on the 0-255 scale -> the scale on which S2AM-T4's table 1 is read (706.6 -> 0.1304)."""
    return fmse255 * S2AM_T4_SCALE


def from_s2am_t4(value):
    """fMSE as S2AM-T4's table 1 is read -> per channel on the 0-255 scale, v * 127.5^2 / 3 (0.1304 -> 706.6)."""
    return value / S2AM_T4_SCALE


# ---------------------------------------------------------------------------------------------------- scoring


def score(prediction, real, mask, protocol: str | Protocol = "bcmi256", blend=None) -> dict[str, float]:
    """Score one prediction that already has the protocol's evaluation size.

    prediction, real: HxWx3 in [0,255], any real dtype; the prediction is clamped to [0,255], never rounded.
    mask: HxW in [0,1]. blend: the composite, HxWx3 in [0,255]; when given, its background is pasted over the
    prediction's first (m * prediction + (1 - m) * composite), as some published numbers do.

    Returns mse, psnr, fmse, fpsnr. An empty mask gives NaN for fmse and fpsnr; identical images give an infinite PSNR
    (about 108 dB where the protocol has an eps and peak 255); a peak of zero (a constant prediction under ``bcmi256``,
    a black target under ``idih256``) gives NaN for both PSNRs. Under ``s2am_t4`` (S2AM-T4 equation 8) mse and fmse are
    of pixels in [-1,1] and summed over channels; the paper names no scale and this is the plausible reading of it: its
    0.1304 is 706.6 per channel on the 0-255 scale (`from_s2am_t4`).

    Raises HarmonyError for shapes that do not fit, a mask outside [0,1], a real image outside [0,255] or that seems to
    be in [0,1], and pixels that are not finite. Formulas: the top of this module.
    """
    scores = score_batch(
        _planes(prediction, "prediction"),
        _planes(real, "real"),
        _planes(mask, "mask"),
        protocol,
        None if blend is None else _planes(blend, "blend"),
    )
    return {name: values.item() for name, values in scores.items()}


@torch.no_grad()
def score_batch(
    prediction: torch.Tensor,
    real: torch.Tensor,
    mask: torch.Tensor,
    protocol: str | Protocol = "bcmi256",
    blend: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """`score` for a batch: (B,3,H,W) in [0,255] and (B,1,H,W) in [0,1], on any one device.

    Returns float64 tensors of shape (B,) on that device. Differences and squares are taken in the inputs' precision
    (at least float32, where they are exact for 8-bit pixels); everything summed over pixels is float64.
    """
    rules = get_protocol(protocol)
    _check_shapes(prediction, real, mask, blend)
    kinds = (prediction.dtype, real.dtype, mask.dtype, mask.device.type, blend)
    if kinds == (torch.uint8, torch.uint8, torch.bool, "cpu", None):
        mse, fmse, peak = _errors_of_levels(prediction, real, mask, rules)
    else:
        # On a CPU a few pictures at a time: all that is calculated of them then stays in its cache.
        at_once = len(real) if real.device.type != "cpu" else max(1, CACHED_PIXELS // real[0, 0].numel())
        parts = [
            _errors(prediction[chosen], real[chosen], mask[chosen], rules, None if blend is None else blend[chosen])
            for chosen in (slice(start, start + at_once) for start in range(0, len(real), at_once))
        ]
        mse, fmse, peak = (torch.cat(values) for values in zip(*parts, strict=True))
    return {"mse": mse, "psnr": _psnr(mse, peak, rules.eps), "fmse": fmse, "fpsnr": _psnr(fmse, peak, rules.eps)}


def _errors(prediction, real, mask, rules: Protocol, blend) -> tuple[torch.Tensor, ...]:
    """MSE, fMSE and the peak (B,) of pictures as `score_batch` has them."""
    low, high = _check_range(prediction, "prediction", None)
    _check_range(real, "real", 255)
    _check_range(mask, "mask", 1)
    dtype = torch.promote_types(torch.promote_types(prediction.dtype, real.dtype), torch.float32)
    if mask.is_floating_point():
        dtype = torch.promote_types(dtype, mask.dtype)
    levels = mask.view(torch.uint8) if mask.dtype == torch.bool else mask  # bool converts slowly
    weight = levels[:, 0].to(dtype)
    if low < 0 or high > 255:
        prediction = prediction.clamp(0, 255)
    if blend is not None:
        _check_range(blend, "blend", 255)
        prediction = torch.lerp(blend.to(dtype), prediction.to(dtype), weight[:, None])

    squares = prediction.to(dtype, copy=True).sub_(real.to(dtype)).square_()
    error = (squares[:, 0] + squares[:, 1]).add_(squares[:, 2])  # (B,H,W); `sum` over channels takes four times as long
    masked_error = error * weight
    image_error = masked_error if rules.mse == "masked" else error
    mse = rules.scale * _sum(image_error) / (3 * error[0].numel())
    foreground_error = masked_error if rules.fmse_power == 1 else masked_error * weight
    area = _sum(weight)
    fmse = rules.scale * _sum(foreground_error) / (3 * area + rules.eps)
    return mse, fmse.masked_fill(area == 0, torch.nan), _peak(rules, prediction, real, mse)


def _errors_of_levels(prediction, real, mask, rules: Protocol) -> tuple[torch.Tensor, ...]:
    """The same of 8-bit pictures and a hard mask, in whole numbers: exact, and several times as fast."""
    mse, fmse = [], []
    for predicted, wanted, inside in zip(prediction, real, mask[:, 0].numpy(), strict=True):
        predicted, wanted = (picture.permute(1, 2, 0).contiguous().numpy() for picture in (predicted, wanted))
        difference = np.maximum(predicted, wanted) - np.minimum(predicted, wanted)
        foreground = difference.view("V3")[..., 0][inside].view(np.uint8)  # a pixel is moved as one item
        of_foreground, area = _squares(foreground[None]), np.count_nonzero(inside)
        total = of_foreground if rules.mse == "masked" else _squares(difference.reshape(len(inside), -1))
        mse.append(total / (3 * inside.size))
        fmse.append(of_foreground / (3 * area + rules.eps) if area else np.nan)
    mse, fmse = (rules.scale * torch.tensor(values, dtype=torch.float64) for values in (mse, fmse))
    return mse, fmse, _peak(rules, prediction, real, mse)


def _squares(levels: np.ndarray) -> int:
    """The sum of the squares of uint8 (rows, N), row by row."""
    fits = levels.shape[1] < 2**16  # 255^2 * 2^16 is below 2^32
    squares = np.multiply(levels, levels, dtype=np.uint16)
    return int(squares.sum(axis=1, dtype=np.uint32 if fits else np.uint64).sum(dtype=np.uint64))


def _sum(values: torch.Tensor) -> torch.Tensor:
    """(B,H,W) -> (B,), in float64 (float32 on MPS, which has no float64)."""
    return values.sum((1, 2), dtype=torch.float32 if values.device.type == "mps" else torch.float64)


def _peak(rules: Protocol, prediction: torch.Tensor, real: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    if rules.peak == "prediction_range":
        return (prediction.amax((1, 2, 3)) - prediction.amin((1, 2, 3))).to(like.dtype)
    if rules.peak == "target_max":
        return real.amax((1, 2, 3)).to(like.dtype)
    return torch.full_like(like, rules.peak)


def _psnr(error: torch.Tensor, peak: torch.Tensor, eps: float) -> torch.Tensor:
    return (10 * torch.log10(peak.square() / (error + eps))).masked_fill(peak == 0, torch.nan)


def _planes(array, name: str) -> torch.Tensor:
    """HxWx3 or HxW -> (1,3,H,W) or (1,1,H,W)."""
    array = np.asarray(array)
    wanted = "HxW" if name == "mask" else "HxWx3"
    if array.ndim != (2 if name == "mask" else 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise HarmonyError(f"{name} has shape {array.shape}: expected {wanted}")
    if array.dtype.kind not in "buif":
        raise HarmonyError(f"{name} has dtype {array.dtype}: expected real numbers")
    if array.dtype not in (np.bool_, np.uint8, np.float32, np.float64):
        array = array.astype(np.float64)
    tensor = torch.tensor(np.ascontiguousarray(array))
    return tensor[None, None] if name == "mask" else tensor.permute(2, 0, 1)[None]


def _check_shapes(prediction, real, mask, blend) -> None:
    shape = tuple(real.shape)
    if len(shape) != 4 or shape[1] != 3 or 0 in shape:
        raise HarmonyError(f"real has shape {shape}: expected (B,3,H,W) with at least one image and one pixel")
    wanted = {"prediction": (prediction, shape), "mask": (mask, (shape[0], 1, *shape[2:])), "blend": (blend, shape)}
    for name, (tensor, expected) in wanted.items():
        if tensor is not None and tuple(tensor.shape) != expected:
            raise HarmonyError(
                f"{name} does not fit the real image: (batch, channels, height, width) is {tuple(tensor.shape)}, "
                f"expected {expected}; resize both to the evaluation size first"
            )


def _check_range(tensor: torch.Tensor, name: str, high: int | None) -> tuple[float, float]:
    """The smallest and the largest value; HarmonyError where they are not finite or outside [0,high]."""
    if tensor.dtype == torch.bool or (tensor.dtype == torch.uint8 and high != 1):
        return 0, 255  # it can hold nothing else
    low_value, high_value = tensor.amin().item(), tensor.amax().item()  # a third of the time of torch.aminmax
    if not (np.isfinite(low_value) and np.isfinite(high_value)):
        raise HarmonyError(f"{name} has pixels that are not finite (NaN or infinity): look at what produced it")
    if high is None:
        return low_value, high_value
    slack = 1e-3 if high == 255 else 1e-6  # what rescaling in float32 may leave
    if low_value < -slack or high_value > high + slack:
        raise HarmonyError(f"{name} holds values from {low_value:g} to {high_value:g}: expected [0,{high}]")
    if name == "real" and high_value <= 1 and bool((tensor != tensor.round()).any()):
        raise HarmonyError("real seems to be in [0,1] (fractions, none above 1): multiply images by 255")
    return low_value, high_value


# ---------------------------------------------------------------------------------- from files to evaluation size


def read_triplet(
    composite_path: str | PathLike,
    mask_path: str | PathLike,
    real_path: str | PathLike,
    protocol: str | Protocol = "bcmi256",
    size: int | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read one triplet from its original files and bring it to the protocol's evaluation size.

    Returns composite and real, HxWx3 float32 holding 8-bit values, and the mask, HxW float64 in [0,1]. `size` overrides
    the protocol's 256 (see `caption`). Raises HarmonyError for a file that is missing, truncated or of an unsupported
    kind, and for three files of unequal size.
    """
    composite, mask, real = (open_image(path) for path in (composite_path, mask_path, real_path))
    for path, image in ((mask_path, mask), (real_path, real)):
        if image.size != composite.size:
            raise HarmonyError(
                f"{path} is {image.width}x{image.height} but {composite_path} is {composite.width}x{composite.height}: "
                "a triplet's files must have one size"
            )
    images = (resize_image(image, protocol, size).astype(np.float32) for image in (composite, real))
    return *images, resize_mask(mask, protocol, size)


def open_image(path: str | PathLike) -> Image.Image:
    """Open and fully decode a picture file, or raise HarmonyError naming it."""
    try:
        with reading.picture(reading.content(path), reading.PIXELS) as image:
            return reading.load(image)
    except FileNotFoundError:
        raise HarmonyError(f"{path}: no such file; copy it from its source") from None
    except PermissionError:
        raise HarmonyError(f"{path}: may not be read; chmod u+r it, or the folders above it") from None
    except reading.UNDECODED as error:
        reason = one_line(str(error).replace(str(path), "file")) or type(error).__name__
        raise HarmonyError(
            f"{path}: cannot be read as a picture ({reason}); the copy is damaged, fetch or save it again"
        ) from None


def resize_image(image, protocol: str | Protocol = "bcmi256", size: int | None = None) -> np.ndarray:
    """A picture at the protocol's evaluation size: size x size x 3 uint8 (own size under ``fullres``).

    image: a PIL image, or an HxWx3 array in [0,255]; other dtypes than uint8 are rounded to 8 bits first, as saving
    them would.
    """
    rules = get_protocol(protocol)
    side = _side(rules, size)
    if isinstance(image, Image.Image):
        image = _eight_bit(image).convert("RGB")
    else:
        array = np.asarray(image)
        if array.ndim != 3 or array.shape[2] != 3:
            raise HarmonyError(f"image has shape {array.shape}: expected HxWx3")
        image = Image.fromarray(_to_uint8(array, "image"))
    if side is None:
        return np.array(image)
    if rules.resampler == "bilinear_no_antialias":
        return _bilinear(np.array(image), side)
    return np.array(image.resize((side, side), PILLOW_FILTERS[rules.resampler]))


def resize_mask(mask, protocol: str | Protocol = "bcmi256", size: int | None = None) -> np.ndarray:
    """A mask at the protocol's evaluation size: size x size float64 in [0,1] (own size under ``fullres``).

    mask: a PIL image (white is foreground), or an HxW array, bool or in [0,255]. Binary protocols take > 127 as
    foreground, without dithering, and then the nearest pixel; the others keep value / 255 soft.
    """
    rules = get_protocol(protocol)
    side = _side(rules, size)
    if isinstance(mask, Image.Image):
        mask = np.array(_eight_bit(mask).convert("L"))
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise HarmonyError(f"mask has shape {mask.shape}: expected HxW")
    levels = mask.astype(np.uint8) * 255 if mask.dtype == bool else _to_uint8(mask, "mask")
    if rules.mask == "binary":
        binary = Image.fromarray((levels > 127).astype(np.uint8))
        if side is not None:
            binary = binary.resize((side, side), Image.Resampling.NEAREST)
        return np.array(binary, dtype=np.float64)
    soft = levels / 255
    return soft if side is None else _bilinear(soft, side)


def _side(rules: Protocol, size: int | None) -> int | None:
    if size is None:
        return rules.size
    if rules.size is None:
        raise HarmonyError(f"protocol {rules.name} measures at the picture's own size: leave size out")
    if size < 1:
        raise HarmonyError(f"size {size} is not a picture's side: give 1 or more pixels")
    return size


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        raise HarmonyError(f"picture has mode {image.mode} (more than 8 bits): convert it to 8 bits first")
    return image


def _to_uint8(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if not np.isfinite(array).all():
        raise HarmonyError(f"{name} has pixels that are not finite (NaN or infinity): look at what produced it")
    return np.rint(np.clip(array, 0, 255)).astype(np.uint8)


def _bilinear(array: np.ndarray, side: int) -> np.ndarray:
    """HxW or HxWxC at side x side as OpenCV's INTER_LINEAR does it: half-pixel centres, two taps, no antialias.

    For uint8 OpenCV calculates in fixed point, with 11 bits for each weight, and drops bits on the way. That lowers the
    result by up to one level, which moves the scores by 0.1 %, so it is done here too.
    """
    top, bottom, down = _taps(array.shape[0], side)
    left, right, across = _taps(array.shape[1], side)
    down = down.reshape(side, 1, *[1] * (array.ndim - 2))
    across = across.reshape(side, *[1] * (array.ndim - 2))
    fixed_point = array.dtype == np.uint8
    one = 2048 if fixed_point else 1
    if fixed_point:
        down, across = (np.rint(weight * one).astype(np.int64) for weight in (down, across))
    upper, lower = (
        array[rows[:, None], left] * (one - across) + array[rows[:, None], right] * across for rows in (top, bottom)
    )
    if not fixed_point:
        return upper * (one - down) + lower * down
    quarters = ((upper >> 4) * (one - down) >> 16) + ((lower >> 4) * down >> 16)
    return ((quarters + 2) >> 2).astype(np.uint8)


def _taps(length: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two neighbours of each of `side` pixel centres along an axis of `length` pixels, and the second's weight."""
    position = np.clip((np.arange(side) + 0.5) * (length / side) - 0.5, 0, length - 1)
    first = position.astype(np.int64)
    return first, np.minimum(first + 1, length - 1), position - first


# ------------------------------------------------------------------------------------------------ averages


def summarise(rows: pd.DataFrame, by: str | Sequence[str] | None = None) -> pd.DataFrame:
    """Means of per-image values: one row a group, in order of appearance (one row in all without `by`).

    rows: one row an image, with columns mse, psnr, fmse, fpsnr and those named in `by`. Returned beside the `by`
    columns and the four means: n (images), left_out (images with a NaN metric: an empty mask, a constant prediction)
    and infinite (images with an infinite PSNR or fPSNR: perfect pixels, one of which would make the mean infinite).
    Both kinds stay out of the means of the metrics concerned and only of those. A mean over no image is NaN. Raises
    HarmonyError for a missing column.
    """
    keys = [by] if isinstance(by, str) else list(by or [])
    missing = [name for name in (*METRICS, *keys) if name not in rows]
    if missing:
        raise HarmonyError(
            f"per-image rows lack the column {missing[0]!r}: they have {', '.join(map(str, rows.columns))}"
        )
    values = rows[list(METRICS)].astype(float)
    table = values.where(np.isfinite(values))
    table["n"] = 1
    table["left_out"] = values.isna().any(axis=1).astype(int)
    table["infinite"] = np.isinf(values).any(axis=1).astype(int)
    how = dict.fromkeys(METRICS, "mean") | dict.fromkeys(("n", "left_out", "infinite"), "sum")
    order = ["n", *METRICS, "left_out", "infinite"]
    if not keys:
        return table.agg(how).to_frame().T[order].astype({"n": int, "left_out": int, "infinite": int})
    groups = [rows[key] for key in keys]
    return table.groupby(groups, sort=False, dropna=False, observed=True).agg(how)[order].reset_index()


def ratio_bin(foreground_ratio: float) -> str:
    """The field's bin of a foreground ratio in [0,1]: [0, 5 %), [5 %, 15 %) or [15 %, 100 %]."""
    if not 0 <= foreground_ratio <= 1:
        raise HarmonyError(f"foreground ratio {foreground_ratio} is not a share: expected a number in [0,1]")
    return RATIO_BINS[(foreground_ratio >= 0.05) + (foreground_ratio >= 0.15)]

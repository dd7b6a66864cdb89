"""Anybody's pictures: read whatever comes, change an object's pixels, and write the rest as it was.

Inside, a picture is upright RGB of 8 or 16 bits. Greyscale, CMYK, an alpha channel, a colour profile, EXIF data and a
JPEG's own tables come back when it is written. Colours are taken for sRGB; an RGB profile is kept, not applied.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, JpegImagePlugin

from harmonylib import reading, sixteen_bits
from harmonylib.errors import HarmonyError, one_line
from harmonylib.paths import whole_file

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"}
PIXELS = Image.MAX_IMAGE_PIXELS * 2  # 179 megapixels, from which on Pillow refuses them
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601
ORIENTATION = 274
TURNED = {  # EXIF's orientation: how to stand upright
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}
TIFF_WORDS = (270, 271, 272, 305, 306, 315, 33432)  # of a TIFF's tags, those that do not describe its own bytes
JPEG_QUALITY = 95  # where the source is no JPEG, whose own tables are used again
PNG_END = b"IEND\xaeB`\x82"
MOST_DOTS = 65536  # an inch, that a JPEG can state
PNG_LEVEL = 3  # of compression: half the time of the usual 6, a few per cent more bytes


@dataclass(frozen=True)
class Picture:
    """pixels: (H, W, 3), or (H, W) where it is grey, uint8 or uint16, upright; alpha: (H, W) of that type, or None.

    cmyk: (H, W, 4) where that is what it came as. kept: what else it carries, by Pillow's words for it, and a JPEG's
    `tables`. orientation: EXIF's, by which it was turned upright.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    cmyk: np.ndarray | None = None
    kept: dict = field(default_factory=dict)
    orientation: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """width, height"""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def rgb(self) -> np.ndarray:
        """(H, W, 3)"""
        return self.pixels if self.pixels.ndim == 3 else np.repeat(self.pixels[..., None], 3, axis=2)

    @property
    def layers(self) -> np.ndarray:
        """The pixels, with the alpha channel last where there is one."""
        return self.pixels if self.alpha is None else np.dstack([self.pixels, self.alpha])

    def with_rgb(self, rgb: np.ndarray) -> "Picture":
        """The picture with other colours (H, W, 3) of the same type; whatever does not change keeps its bits."""
        if self.pixels.ndim == 2:
            luma = np.rint(rgb @ LUMA).astype(rgb.dtype)
            return replace(self, pixels=np.where((rgb == self.rgb).all(2), self.pixels, luma))
        if self.cmyk is None:
            return replace(self, pixels=rgb)
        changed = (rgb != self.pixels).any(2)[..., None]
        inks = _converted(Image.fromarray(rgb), "CMYK", self.kept.get("icc_profile"))
        inks = np.where(changed, np.asarray(inks), self.cmyk)
        return replace(self, pixels=rgb, cmyk=inks)


def read(path: str | Path) -> Picture:
    """Raises HarmonyError, naming the file: not there, of no known format, damaged, of several frames, of 32 bits."""
    with _opened(path) as (image, content):
        deep = sixteen_bits.has(image, content)
        reading.load(image)
        if image.format == "PNG" and PNG_END not in content:  # Pillow lets it pass
            raise ValueError("file is truncated")
        return of(image, sixteen_bits.read(image, content) if deep else None)


def size_of(path: str | Path) -> tuple[int, int]:
    """width, height as the file's header has them. Raises HarmonyError: not there, of no known format."""
    with _opened(path) as (image, _):
        return image.size


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Image.Image, bytes]]:
    """A picture that is not decoded yet, and its file's content; whatever is raised meanwhile names the file."""
    path = Path(path)
    try:
        content = reading.content(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damage that is an error below, of sizes short of Pillow's limit
            with reading.picture(content, PIXELS) as image:
                yield image, content
    except HarmonyError as error:
        raise HarmonyError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    except FileNotFoundError:
        raise HarmonyError(f"{path}: no such file; name a picture") from None
    except IsADirectoryError:
        raise HarmonyError(f"{path}: is a folder; name a picture, or folders on all three sides") from None
    except PermissionError:
        raise HarmonyError(f"{path}: may not be read; change its permissions") from None
    except Exception as error:  # decoders raise whatever the damage makes of them
        reason = one_line(error) or type(error).__name__
        reason = "the format is not known" if "cannot identify" in reason else reason
        raise HarmonyError(
            f"{path}: cannot be read as JPEG, PNG, TIFF or WebP ({reason}); save it again as one of these"
        ) from None


def of(image: Image.Image, deep: np.ndarray | None = None) -> Picture:
    """A Pillow image as a Picture; `deep` are its pixels where Pillow has lost half of their bits."""
    if getattr(image, "is_animated", False) and image.format != "MPO":  # to count frames takes as long as they like
        raise HarmonyError("holds several frames or pages; save one of them as a picture of its own")
    exif = image.getexif()
    orientation = exif.get(ORIENTATION, 1)
    turn = TURNED.get(orientation, np.asarray)
    kept, cmyk, alpha = _kept(image, exif), None, None
    if deep is not None:
        pixels = deep[..., None] if deep.ndim == 2 else deep
        pixels, alpha = (pixels[..., :-1], pixels[..., -1]) if pixels.shape[2] in (2, 4) else (pixels, None)
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    elif image.mode.startswith("I;16"):
        pixels = np.asarray(image).astype(np.uint16)
    elif image.mode in ("I", "F", "LAB"):
        raise HarmonyError(f"pixels of mode {image.mode} are not supported; save it as RGB of 8 or 16 bits")
    elif image.mode == "CMYK":
        cmyk, pixels = np.asarray(image), np.asarray(_converted(image, "RGB", kept.get("icc_profile")))
    else:
        clear = "transparency" in image.info or image.mode in ("RGBA", "LA", "RGBa", "La", "PA")
        grey = image.mode in ("1", "L", "LA", "La")
        pixels = np.asarray(image.convert(("LA" if clear else "L") if grey else ("RGBA" if clear else "RGB")))
        if clear:
            pixels, alpha = pixels[..., 0 if grey else slice(3)], pixels[..., -1]
    return Picture(
        turn(pixels), None if alpha is None else turn(alpha), None if cmyk is None else turn(cmyk), kept, orientation
    )


def to_pil(picture: Picture) -> Image.Image:
    """As a Pillow image, of 8 bits unless it is grey. Raises HarmonyError for RGB of 16 bits, which Pillow has not."""
    if picture.pixels.dtype == np.uint16 and (picture.pixels.ndim == 3 or picture.alpha is not None):
        raise HarmonyError("Pillow has no RGB of 16 bits; use arrays, or the command")
    if picture.cmyk is not None:
        return Image.fromarray(picture.cmyk, "CMYK")
    return Image.fromarray(np.ascontiguousarray(picture.layers))


def write(picture: Picture, path: str | Path) -> None:
    """Write whole or not at all, in the format of the name. Raises HarmonyError where that cannot hold the picture."""
    path = Path(path)
    format_of(path)
    content = encode(picture, path.suffix.lower(), path)
    with whole_file(path) as file:
        file.write(content)


def encode(picture: Picture, suffix: str, name: str | Path = "picture") -> bytes:
    """The bytes of a file of one of `FORMATS`. Raises HarmonyError: it cannot hold 16 bits, alpha or the size."""
    kind = FORMATS[suffix]
    deep = picture.pixels.dtype == np.uint16
    if kind in ("JPEG", "WEBP") and deep:
        raise HarmonyError(f"{name}: {kind} cannot hold 16 bits a channel; write .png or .tif")
    if kind == "JPEG" and picture.alpha is not None:
        raise HarmonyError(f"{name}: JPEG cannot hold the alpha channel; write .png, .tif or .webp")
    kept = dict(picture.kept)
    tables = kept.pop("tables", {})
    if picture.cmyk is not None and kind in ("PNG", "WEBP"):  # these have no inks: sRGB, as it was computed
        picture = replace(picture, cmyk=None)
        kept.pop("icc_profile", None)
    if deep:
        layers, profile = np.atleast_3d(picture.layers), kept.get("icc_profile")
        if kind == "TIFF":
            return sixteen_bits.tiff(layers, profile)
        return sixteen_bits.png(layers, profile, kept.get("exif"))
    image, target = to_pil(picture), io.BytesIO()
    own = tables if tables and image.mode == tables["mode"] else {}
    options = {
        "JPEG": {k: v for k, v in own.items() if k != "mode"} or {"quality": JPEG_QUALITY, "subsampling": 0},
        "PNG": {"compress_level": PNG_LEVEL},
        "TIFF": {"compression": "tiff_adobe_deflate"},
        "WEBP": {"lossless": True, "exact": True, "method": 0},
    }[kind]
    try:
        with reading.silent() if kind == "TIFF" else nullcontext():
            image.save(target, kind, **options, **kept)
    except Exception as error:  # encoders raise whatever they make of the EXIF data of others
        raise HarmonyError(f"{name}: cannot be written as {kind} ({one_line(error)}); write .png or .tif") from None
    return target.getvalue()


def format_of(path: str | Path) -> str:
    """JPEG, PNG, TIFF or WEBP, by the ending. Raises HarmonyError for any other."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS or "\0" in str(path):
        raise HarmonyError(f"{path}: cannot be written; end its name in {', '.join(FORMATS)}")
    return FORMATS[suffix]


def _kept(image: Image.Image, exif: Image.Exif) -> dict:
    profile = image.info.get("icc_profile")  # of a TIFF, whatever type its tag has
    kept = {"icc_profile": profile} if profile and isinstance(profile, bytes) else {}
    if all(1 <= dots < MOST_DOTS for dots in image.info.get("dpi", (0,))):  # not so in files made up
        kept["dpi"] = image.info["dpi"]
    if image.format == "TIFF":
        words, exif = exif, Image.Exif()
        exif.update({tag: words[tag] for tag in TIFF_WORDS if tag in words})
    elif ORIENTATION in exif:
        exif[ORIENTATION] = 1
    if len(exif):
        kept["exif"] = exif.tobytes()
    if image.format in ("JPEG", "MPO"):
        kept["tables"] = {"mode": image.mode, "qtables": image.quantization, "subsampling": _sampling(image)}
    return kept


def _sampling(image: Image.Image) -> int:
    return max(0, JpegImagePlugin.get_sampling(image)) if image.mode == "RGB" else 0


def _converted(image: Image.Image, mode: str, inks: bytes | None) -> Image.Image:
    """CMYK to RGB or back by the profile of the inks, or as Pillow does it where there is none that can be read."""
    try:
        profiles = ImageCms.ImageCmsProfile(io.BytesIO(inks or b"")), ImageCms.createProfile("sRGB")
        source, target = profiles if mode == "RGB" else profiles[::-1]
        return ImageCms.profileToProfile(image, source, target, outputMode=mode)
    except (OSError, ImageCms.PyCMSError):
        return image.convert(mode)

"""PNG and TIFF of 16 bits a channel, which Pillow reads as 8: decoded by torchvision and tifffile.

No library at hand writes such a PNG with its colour profile; the format needs so little that it is done here.
Format: w3.org/TR/png-3.
"""

import io
import logging
import math
import struct
import zlib

import numpy as np
from PIL import Image

from harmonylib.errors import HarmonyError
from harmonylib.reading import silent

BITS_PER_SAMPLE = 258  # a TIFF tag
DEFLATED = (8, 32946)  # a TIFF's compressions
UNBOUNDED = (32773, 34925, 50000)  # PackBits, LZMA, Zstandard: tifffile unpacks all there is
SEPARATE = 2  # planar configuration: one colour after another
PIECE = 1 << 16  # bytes, which zlib makes 67 MB of at most
PNG_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}  # channels: colour type


def has(image: Image.Image, content: bytes) -> bool:
    """Whether a file that Pillow has opened holds 16 bits a channel that Pillow would not give."""
    if image.mode.startswith("I"):
        return False
    if image.format == "PNG":
        return content[24] == 16
    return image.format == "TIFF" and set(image.tag_v2.get(BITS_PER_SAMPLE, ())) == {16}


def read(image: Image.Image, content: bytes) -> np.ndarray:
    """(H, W) or (H, W, channels) uint16, as the file has it. Raises HarmonyError: a PNG holds far more than its pixels,
    a TIFF is compressed unusually, or its numbers are others."""
    if image.format == "PNG":
        _check_rows(image, content)
        import torch  # only here: few pictures need it
        from torchvision.io import ImageReadMode, decode_png

        with silent():
            decoded = decode_png(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.UNCHANGED)
        return decoded.permute(1, 2, 0).numpy()
    import tifffile

    logging.getLogger("tifffile").disabled = True
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages[0]  # what it says of other pages, files and dimensions does not count
            if (page.imagewidth, page.imagelength, page.imagedepth) != (*image.size, 1):
                raise TypeError("its size is told twice")
            _check_unpacked(page, content)
            found = page.asarray()
        found = np.moveaxis(found, 0, -1) if page.planarconfig == SEPARATE else found
    except ValueError as error:  # compressed in a way that needs imagecodecs
        raise HarmonyError(f"a TIFF of 16 bits that cannot be decoded ({error}); pip install imagecodecs") from None
    if found.dtype != np.uint16:
        raise HarmonyError(f"a TIFF with numbers of type {found.dtype}; save it with whole numbers of 8 or 16 bits")
    return found


def _check_rows(image: Image.Image, content: bytes) -> None:
    """Raises HarmonyError where a PNG unpacks to far more than its rows, which libpng takes its time to throw away."""
    most, at, packer = 9 * image.width * image.height + 64 * image.height + 4096, 8, zlib.decompressobj()
    while at + 8 <= len(content) and not packer.eof:
        length, name = struct.unpack_from(">I4s", content, at)
        for start in range(at + 8, at + 8 + length, PIECE) if name == b"IDAT" else ():
            most -= len(packer.decompress(content[start : min(start + PIECE, at + 8 + length)]))
            if most < 0:
                raise HarmonyError("a PNG of 16 bits that holds far more than its pixels; save it again")
        at += 12 + length


def _check_unpacked(page, content: bytes) -> None:
    """Raises HarmonyError where a strip or tile unpacks to more than its pixels, which tifffile would all make."""
    most = 2 * min(math.prod(page.chunks), 4 * page.size + 4096)  # a tile may be larger than a small picture
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        unpacked = count
        if page.compression in DEFLATED:
            unpacked = len(zlib.decompressobj().decompress(content[offset : offset + count], most + 1))
        if unpacked > most or page.compression in UNBOUNDED:
            raise HarmonyError("a TIFF of 16 bits packed in an unusual way; save it deflated, or as it is")


def png(pixels: np.ndarray, profile: bytes | None, exif: bytes | None) -> bytes:
    """A PNG of (H, W, 1 to 4) uint16, each row stored as its difference from the one above (filter 2)."""
    height, width, channels = pixels.shape
    rows = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    differences = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    filtered = np.concatenate([np.full((height, 1), 2, np.uint8), differences], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 16, PNG_COLOURS[channels], 0, 0, 0)
    chunks = [(b"IHDR", header)]
    if profile:
        chunks.append((b"iCCP", b"profile\0\0" + zlib.compress(profile)))
    if exif:
        chunks.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes(), 3)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def tiff(pixels: np.ndarray, profile: bytes | None) -> bytes:
    """A TIFF of (H, W, 1 to 4) uint16, deflated; grey with alpha as RGB, for Pillow does not know the other."""
    import tifffile

    if pixels.shape[2] == 2:
        pixels = pixels[..., [0, 0, 0, 1]]
    channels, target = pixels.shape[2], io.BytesIO()
    tifffile.imwrite(
        target,
        pixels if channels > 1 else pixels[..., 0],
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels == 4 else None,
        iccprofile=profile,
        compression="adobe_deflate",
        metadata=None,
    )
    return target.getvalue()

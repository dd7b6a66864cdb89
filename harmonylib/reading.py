"""Files from anywhere: read whole, or refused in one line. Nothing is waited for, unpacked or run.

What never ends (a pipe, a device), what is larger than such files are, and what would take the memory or the time of
far more than its bytes is refused before it is read.
"""

import csv
import io
import json
import math
import os
import re
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pandas as pd
from PIL import Image, PngImagePlugin

from harmonylib.errors import HarmonyError, one_line

MOST = 1 << 30  # bytes of a file that is read whole
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")  # Pillow knows dozens, and starts a program for one
PIXELS = 1 << 26  # of a picture in a set, where several are decoded at once
SCANS = 100  # of a JPEG; progressive ones have about ten, and each takes the time of the whole picture
MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")  # of a JPEG: what begins a part; libjpeg gives others no length
MARKERS = 50_000
PARTS = 10_000  # chunks of a PNG besides its pixels
TILE = 1 << 20  # px of a TIFF's, beyond what its picture has
PngImagePlugin.MAX_TEXT_CHUNK = 1 << 24  # bytes: a profile of inks has some millions
COLUMNS = 1000  # of a table; pandas takes minutes over a row of a million commas
JSON = 1 << 20  # bytes of settings, of averages; one that is read takes thirty times its bytes
_ALONE = threading.Lock()
DAMAGE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)  # of unexpected content
UNDECODED = (OSError, SyntaxError, Image.DecompressionBombError, struct.error, zlib.error, *DAMAGE)  # of Pillow


def ordinary(path: str | Path, most: int = MOST) -> Path:
    """The path of a file of at most so many bytes. Raises HarmonyError for others, OSError where there is none."""
    found = os.stat(path)
    if stat.S_ISREG(found.st_mode) and found.st_size > most:
        raise HarmonyError(f"{path}: {found.st_size / 1e9:.3g} GB; files of this kind have {most / 1e9:.3g} at most")
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise HarmonyError(f"{path}: is a pipe or a device; name a file")
    return Path(path)


def content(path: str | Path, most: int = MOST) -> bytes:
    """The bytes of a file. Raises as `ordinary` and `open` do."""
    return ordinary(path, most).read_bytes()


def inside(root: Path, file: Path) -> Path:
    """The file. Raises HarmonyError where a link leads out of `root` on the way to it; the root itself may be one."""
    if not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(root)):
        raise HarmonyError(f"{file}: leads out of {root.name or root} through a link; keep the files inside it")
    return file


def check_links(root: Path, files: Iterable[Path]) -> None:
    """Raises HarmonyError where one of them is a link out of `root`: results may be a stranger's."""
    for file in files:
        if file.is_symlink():
            inside(root, file)


def read_json(path: Path, advice: str, keys: Sequence[str] = (), most: int = JSON) -> dict:
    """An object of JSON with these keys. Raises HarmonyError with the `advice` for anything else, OSError for none."""
    try:
        found = json.loads(content(path, most))
    except (ValueError, RecursionError) as error:
        raise HarmonyError(f"{path}: no JSON ({one_line(error)}); {advice}") from None
    missing = [key for key in keys if not isinstance(found, dict) or key not in found]
    if missing or not isinstance(found, dict):
        raise HarmonyError(f"{path}: no object of JSON{' with ' if keys else ''}{', '.join(keys)}; {advice}")
    return found


def read_table(file: str | Path, columns: Sequence[str], advice: str, most: int = MOST, **how) -> pd.DataFrame:
    """A CSV. Raises HarmonyError with the `advice`: no such file, no table, a column missing."""
    try:
        text = content(file, most)
        _narrow(text, how.get("skipinitialspace", False))
        # the bytes, and not the name: of a name pandas fetches addresses and unpacks archives
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            table = pd.read_csv(io.BytesIO(text), index_col=False, **how)
    except FileNotFoundError:
        raise HarmonyError(f"{file}: no such file; {advice}") from None
    except (*DAMAGE, OSError, csv.Error, pd.errors.ParserWarning) as error:
        raise HarmonyError(f"{file}: not a table ({one_line(error)}); {advice}") from None
    missing = [column for column in columns if column not in table]
    if missing:
        raise HarmonyError(f"{file}: lacks the column {missing[0]}; {advice}")
    return table


def _narrow(text: bytes, spaced: bool) -> None:
    """Raises ValueError, csv.Error and what pandas raises where a table is too wide, before that takes its time."""
    at = 0
    while at < len(text):  # lines of fewer bytes than COLUMNS cannot be too wide, and many are stepped over at once
        end = text.rfind(b"\n", at, at + COLUMNS)
        if end < 0:
            end = text.find(b"\n", at)
            end = len(text) if end < 0 else end
            if text.count(b",", at, end) >= COLUMNS:
                raise ValueError(f"more than {COLUMNS:,} columns")
        at = end + 1
    first = re.match(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*([^\r\n]*)", text)[1]
    header, *after = csv.reader([first.decode(), ""], skipinitialspace=spaced)
    if not after:
        raise ValueError("a quote that does not end in the first line")
    # pandas asks every row but the second whether it is too long; without a header it asks that one too
    how = {"names": range(len(header) + 1), "header": None, "dtype": str, "skipinitialspace": spaced}
    pd.read_csv(io.BytesIO(text), nrows=2, index_col=False, **how)


def load(image: Image.Image) -> Image.Image:
    """Decode a picture."""
    with silent() if image.format == "TIFF" else nullcontext():
        image.load()
    return image


@contextmanager
def silent() -> Iterator[None]:
    """The process's own stderr leads nowhere meanwhile: libtiff and libpng write to it."""
    with _ALONE:
        own, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(own, 2)
            os.close(own)
            os.close(nowhere)


def picture(file: bytes, pixels: int) -> Image.Image:
    """A picture, opened and not decoded. Raises ValueError where it is too large or slow, and what Pillow raises."""
    if file.startswith(b"\xff\xd8") and _scans(file) > SCANS:  # before Pillow gathers its parts
        raise ValueError(f"a JPEG of more than {SCANS} scans, or {MARKERS:,} parts, which is made to take long")
    if file.startswith(b"\x89PNG") and _parts(file) > PARTS:
        raise ValueError(f"a PNG with more than {PARTS:,} parts besides its pixels, which is made to take long")
    image = Image.open(io.BytesIO(file), formats=FORMATS)
    if image.width * image.height > pixels:
        raise ValueError(f"{image.width}x{image.height} px; at most {pixels / 1e6:.0f} megapixels are read")
    if image.mode in ("LAB", "La"):  # nothing turns it into RGB without a profile; Pillow does not, of grey with alpha
        raise ValueError(f"{'CIELAB' if image.mode == 'LAB' else 'grey with associated alpha'} in place of RGB")
    if image.format == "TIFF":  # a tile is unpacked whole, however little of it is picture
        tile = math.prod(int(image.tag_v2.get(tag, 0)) for tag in (322, 323))
        if tile > TILE + 4 * image.width * image.height:
            raise ValueError(f"tiles of {tile} px for a picture of {image.width}x{image.height}")
    return image


def _parts(png: bytes) -> int:
    """How many chunks a PNG has besides its pixels', as far as the limit."""
    count, at = 0, 8
    while at + 8 <= len(png) and count <= PARTS:
        count += png[at + 4 : at + 8] != b"IDAT"
        at += 12 + int.from_bytes(png[at : at + 4], "big")
    return count


def _scans(jpeg: bytes) -> int:
    """How many scans a JPEG has before its own end, behind which phones put a film; too many where its parts are."""
    count, at = 0, 2
    for _ in range(MARKERS):
        found = MARKER.search(jpeg, at)
        if found is None or found[0] == b"\xff\xd9":
            return count
        count += found[0] == b"\xff\xda"
        at = found.end() + int.from_bytes(jpeg[found.end() : found.end() + 2], "big")
    return SCANS + 1

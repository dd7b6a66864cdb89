"""Malicious pictures and masks, and sets of them: cases for `malice`."""

import io
import json
import lzma
import math
import os
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin

from torture import readers_of_sets
from torture.malice import Case, fifo, sparse
from torture.strategies import picture, png

SIDE = (24, 16)
NASTY = "<img src=x onerror=alert(1)>|\n%&\\=cmd()\x1b[2J"


def composite(folder: Path) -> list:
    (folder / "composite.png").write_bytes(picture("png", 4, SIDE))
    (folder / "mask.png").write_bytes(half())
    return ["harmonize", "composite.png", "mask.png", "-o", "out.png", "--model", "reinhard"]


def half() -> bytes:
    mask, target = np.zeros(SIDE[::-1], np.uint8), io.BytesIO()
    mask[:, :9] = 255
    Image.fromarray(mask).save(target, "PNG")
    return target.getvalue()


def with_composite(content, folder: Path) -> list:
    words = composite(folder)
    (folder / "composite.png").write_bytes(content() if callable(content) else content)
    return words


def with_both(content, folder: Path) -> list:
    """A composite, and a mask that has its size."""
    words = with_composite(content, folder)
    with Image.open(folder / "composite.png") as image, Image.open(folder / "mask.png") as mask:
        mask.resize(image.size).save(folder / "mask.png")
    return words


def with_mask(content: bytes, folder: Path, name: str = "mask.json") -> list:
    words = composite(folder)
    (folder / name).write_bytes(content)
    return [*words[:2], name, *words[3:]]


def zigzag(size: tuple[int, int], folder: Path) -> list:
    """Polygons of which every row of the picture meets every edge."""
    corners = [[n % size[0], n % 2 * size[1]] for n in range(19_998)]
    words = with_mask(json.dumps([corners]).encode(), folder)
    Image.new("L", size, 90).save(folder / "composite.png")
    return words


def instead(make, which: int, folder: Path) -> list:
    """Something else in place of the composite (1) or the mask (2)."""
    words = composite(folder)
    (folder / words[which]).unlink()
    make(folder / words[which])
    return words


def header(kind: str, place: int, numbers: bytes) -> bytes:
    """A small picture whose header states another size."""
    file = bytearray(picture(kind, 1, SIDE))
    file[place : place + len(numbers)] = numbers
    return bytes(file)


def giant_jpeg() -> bytes:
    file = picture("jpg", 1, SIDE)
    place = file.index(b"\xff\xc0") + 5
    return file[:place] + b"\xff\xdc\xff\xdc" + file[place + 4 :]


def many_scans() -> bytes:
    target = io.BytesIO()
    Image.new("L", (8000, 8000), 128).save(target, "JPEG", progressive=True)
    file = target.getvalue()
    return file[:-2] + file[file.rindex(b"\xff\xda") : -2] * 3000 + b"\xff\xd9"


def hidden_scans() -> bytes:
    """A JPEG of 3,000 scans that lie in what seems a part of an unknown kind: a decoder looks for a restart there."""
    target = io.BytesIO()
    Image.new("L", (3000, 3000), 128).save(target, "JPEG", progressive=True)
    file = target.getvalue()
    start, last = file.index(b"\xff\xda"), file.rindex(b"\xff\xda")
    table, scan = file[file.rindex(b"\xff\xc4", 0, last) : last], file[last : last + 10] + b"\0\0"
    restarts, part = b"\xff\xdd\0\x04\0\x64", b"\xff\x02" + struct.pack(">H", 2 + 3000 * len(scan))
    return file[:start] + restarts + table + scan + part + scan * 3000 + b"\xff\xd9"


def many_frames() -> bytes:
    target, frames = io.BytesIO(), [Image.new("L", SIDE, n % 255) for n in range(3000)]
    frames[0].save(target, "GIF", save_all=True, append_images=frames[1:])
    return target.getvalue()


def deep_tiff(**words) -> bytes:
    import tifffile

    target = io.BytesIO()
    tifffile.imwrite(target, np.full((*SIDE[::-1], 3), 9000, np.uint16), photometric="rgb", **words)
    return target.getvalue()


def packed_tiff() -> bytes:
    """A small picture of 16 bits whose only strip unpacks to 2.5 GB."""
    import tifffile

    file = bytearray(deep_tiff(compression="adobe_deflate"))
    with tifffile.TiffFile(io.BytesIO(file)) as opened:
        places = [opened.pages[0].tags[name].valueoffset for name in ("StripOffsets", "StripByteCounts")]
    packer = zlib.compressobj(9)
    zeros = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)
    strip = zeros + zeros[2:] * 150  # the first two bytes say how it is packed
    for place, number in zip(places, (len(file), len(strip)), strict=True):
        struct.pack_into("<I", file, place, number)
    return bytes(file) + strip


def lzma_tiff() -> bytes:
    """A picture of 16 bits whose strip, shorter than its pixels, unpacks to 2.5 GB."""
    packer, zeros = lzma.LZMACompressor(preset=0), bytes(2**24)
    strip = b"".join(packer.compress(zeros) for _ in range(150)) + packer.flush()
    side = math.isqrt(len(strip)) + 1
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    words = {256: side, 257: side, 258: (16, 16, 16), 259: 34925, 262: 2, 273: 0, 277: 3, 278: side, 279: len(strip)}
    for tag, value in words.items():
        tags.tagtype[tag] = 3 if tag == 258 else 4
        tags[tag] = value  # of 273, where the strip begins: counted from the end of the tags
    return b"II*\0\x08\0\0\0" + tags.tobytes(8) + strip


def with_film() -> bytes:
    """A JPEG as phones write it, with megabytes of something else behind its end."""
    return picture("jpg", 1, SIDE) + np.random.default_rng(0).bytes(12_000_000)


def resolution(value: tuple[int, int]) -> bytes:
    target, tags = io.BytesIO(), TiffImagePlugin.ImageFileDirectory_v2()
    tags[282] = tags[283] = TiffImagePlugin.IFDRational(*value)
    Image.new("RGB", SIDE, (90, 120, 60)).save(target, "TIFF", tiffinfo=tags)
    return target.getvalue()


def as_format(content: bytes, ending: str, folder: Path) -> list:
    words = with_composite(content, folder)
    return [*words[:4], f"out.{ending}", *words[5:]]


def named(name: str, folder: Path) -> list:
    words = composite(folder)
    return [words[0], name, *words[2:]]


def postscript(folder: Path) -> list:
    (folder / "composite.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 16\n(x) (w) file\n%%EOF\n")
    return ["score", "--pred", "composite.png", "--real", "composite.png", "--mask", "composite.png"]


DEEP = b"[" * 100_000
PICTURES = (
    *(Case(f"gigapixel {kind}", partial(with_composite, content)) for kind, content in {
        "PNG": png(60_000, 60_000), "PNG of 16 bits": png(60_000, 60_000, bits=16), "JPEG": giant_jpeg,
        "BMP": header("bmp", 18, b"\x60\xea\0\0\x60\xea\0\0"), "GIF": header("gif", 6, b"\xff\xff\xff\xff"),
        "WebP": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff" + b"\0" * 8,
    }.items()),
    Case("PNG of wrong width", partial(with_composite, png(2**31 - 1, 1))),
    Case("text of a gigabyte", partial(with_composite, png(*SIDE, (b"zTXt", b"a\0\0" + zlib.compress(b" " * 2**28)))),
         codes=(0, 2)),
    Case("profile of a gigabyte",
         partial(with_composite, png(*SIDE, (b"iCCP", b"a\0\0" + zlib.compress(b" " * 2**28)))), codes=(0, 2)),
    Case("profile of two megabytes", partial(with_composite, lambda: png(
        *SIDE, (b"iCCP", b"a\0\0" + zlib.compress(np.random.default_rng(0).bytes(2**21))))), codes=(0,)),
    Case("PNG of 16 bits with some rows too many", partial(
        with_composite, png(*SIDE, (b"IDAT", zlib.compress(bytes(4000))), bits=16, colour=2)), codes=(0,)),
    Case("JPEG of 3,000 scans", partial(with_composite, many_scans), "scans"),
    Case("JPEG of 3,000 scans in a part of an unknown kind", partial(with_composite, hidden_scans), "scans"),
    Case("JPEG with a film behind it", partial(with_composite, with_film), codes=(0,)),
    *(Case(f"TIFF of 16 bits that unpacks to gigabytes{how}", partial(with_both, make), "unusual way")
      for how, make in (("", packed_tiff), (", by LZMA", lzma_tiff))),
    Case("PNG of 16 bits that unpacks to gigabytes", partial(
        with_composite, lambda: png(*SIDE, (b"IDAT", zlib.compress(bytes(2**28))), bits=16, colour=2)), "far more"),
    Case("TIFF with a number for a profile", partial(
        with_composite, lambda: deep_tiff(extratags=[(34675, "I", 1, 5, True)])), codes=(0,)),
    Case("EXIF data in a circle, as TIFF", partial(as_format, png(*SIDE, (b"eXIf", bytes.fromhex(
        "49492a000800000001006987040001000000080000000800000000"))), "tif"), codes=(0, 2)),
    Case("mask of 169 megapixels", partial(instead, lambda path: Image.new("L", (13_000, 13_000)).save(path), 2), "same size"),
    Case("picture of 169 megapixels, by its header", partial(with_composite, png(13_000, 13_000)), "same size"),
    Case("GIF of 3,000 frames", partial(with_composite, many_frames), "frames"),
    Case("TIFF that claims a million pages", partial(with_composite, lambda: deep_tiff(
        description="ImageJ=1.11a\nimages=1000000\nslices=1000000\n")), codes=(0, 2)),
    Case("TIFF that names other files", partial(with_composite, lambda: deep_tiff(description=(
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels '
        'DimensionOrder="XYCZT" ID="Pixels:0" SizeC="3" SizeT="9999999" SizeX="24" SizeY="16" SizeZ="1" Type="uint16">'
        '<TiffData IFD="0"><UUID FileName="../../../etc/passwd">urn:uuid:0</UUID></TiffData></Pixels></Image></OME>'))),
        codes=(0, 2)),
    *(Case(f"{value[0]}/{value[1]} dots an inch, as {ending}", partial(as_format, resolution(value), ending), codes=(0, 2))
      for value in ((4294967295, 1), (0, 0), (1, 4294967295)) for ending in ("jpg", "png", "tif", "webp")),
    *(Case(f"{what} as {('', 'composite', 'mask')[which]}", partial(instead, make, which), said)
      for which in (1, 2) for what, make, said in (
        ("a pipe", fifo, "pipe"), ("/dev/zero", lambda path: path.symlink_to("/dev/zero"), "device"),
        ("ten gigabytes of nothing", sparse, "GB"), ("nothing", Path.touch, ""),
        ("a loop of links", lambda path: path.symlink_to(path.name), ""), ("a folder", Path.mkdir, ""))),
    Case("a name with newlines, HTML and escapes", partial(named, NASTY.replace("/", "")), "no such file"),
    Case("PostScript under the name of a PNG", postscript, "cannot be read"),
    *(Case(f"polygons: {what}", partial(with_mask, content), codes=codes) for what, content, codes in (
        ("brackets without end", DEEP, (2,)), ("a number of 5,000 digits", b"[[" + b"9" * 5000 + b",1,2,3,4,5]]", (2,)),
        ("infinity", b"[[1e999,1,2,3,4,5]]", (2,)), ("NaN", b"[[NaN,1,2,3,4,5]]", (2,)),
        ("a million corners", json.dumps([[i % 97 for i in range(2_000_000)]]).encode(), (2,)),
        ("far away", b"[[-1e300,-1e300,1e300,0,5,1e300]]", (0, 2)))),
    Case("polygons of 18 MB", partial(with_mask, b"[" + b"[]," * (6 << 20) + b"[]]"), "0.0168 at most"),
    *(Case(f"polygons: a zigzag over {size[0]}x{size[1]} px", partial(zigzag, size), "too much to draw")
      for size in ((4000, 3000), (10, 10**6))),
)  # fmt: skip


def a_set(change, words: list, folder: Path) -> list:
    root = folder / "set"
    root.mkdir()
    readers_of_sets.write_set(root)
    outside(folder)
    change(root)
    return words


def outside(folder: Path) -> Path:
    """A private picture that no set should lead to."""
    (folder / "private").mkdir(exist_ok=True)
    (folder / "private/photo.jpg").write_bytes(picture("jpg", 1, SIDE, 7))
    return folder / "private/photo.jpg"


def replaced(name: str, make):
    def change(root: Path) -> None:
        (root / name).unlink()
        make(root / name)

    return change


def line(text: bytes):
    return lambda root: (root / "IHD_test.txt").write_bytes(readers_of_sets.LINES + text + b"\n")


def strange_names(root: Path) -> None:
    for name in (NASTY.replace("/", "").encode(), b"\xff\xfe.jpg", "\u202egpj.exe".encode(), b"a\rb.jpg"):
        Path(os.fsdecode(os.fsencode(root / "HCOCO/composite_images") + b"/" + name)).touch()


FIRST = "HCOCO/composite_images/c1_1_1.jpg"
VERIFY, PREPARE = ["data", "verify", "set"], ["data", "prepare", "set", "--size", "16"]
EVALUATE = ["evaluate", "--data", "set", "--method", "identity", "--out", "out.csv", "--size", "16"]
PRIVATE = "../../../private/photo.jpg"


def of_every_command(name: str, change, said: str, reported: str) -> list[Case]:
    """What `verify` reports as a fault and the other two refuse."""
    return [Case(f"{name}: {words[0]} {words[1] if words[0] == 'data' else ''}".rstrip(), partial(a_set, change, words),
                 reported if words is VERIFY else said,
                 codes=(1,) if words is VERIFY else (2,)) for words in (VERIFY, EVALUATE, PREPARE)]  # fmt: skip


SETS = (
    *(case for what, text, said in (
        ("a line that climbs", b"HCOCO/composite_images/../../../private/photo_1_1.jpg", "climbs out"),
        ("an absolute line", b"/etc/c1_1_1.jpg", "climbs out"), ("a line of Windows", b"HCOCO\\..\\c1_1_1.jpg", "climbs"),
        ("a line with NUL", b"HCOCO/composite_images/c1_1_\0.jpg", "climbs out"),
        ("a name of a million letters", b"HCOCO/composite_images/c1_1_" + b"a" * 10**6 + b".jpg", "no composite"),
        ("a line that moves the cursor", b"HCOCO/composite_images/\x1b[2J\x1b[1;1H.jpg", "no composite"),
      ) for case in of_every_command(what, line(text), said, "line: 1")),
    *of_every_command("a list of 2.5 million letters", line(b"a\n" * 2_500_000), "no composite", "line: 10000"),
    *of_every_command("a list of ten gigabytes", replaced("IHD_test.txt", sparse), "GB", "list: 2"),
    *of_every_command("a list that is a pipe", replaced("IHD_test.txt", fifo), "no such list", "list: 1"),
    *of_every_command("a link out", replaced(FIRST, lambda p: p.symlink_to(PRIVATE)), "leads out", "leads out"),
    *of_every_command("a link to a device", replaced(FIRST, lambda p: p.symlink_to("/dev/zero")), "leads out", "leads out"),
    *of_every_command("a loop of links", replaced(FIRST, lambda p: p.symlink_to(p.name)), "c1_1_1", "c1_1_1"),
    *of_every_command("a pipe as composite", replaced(FIRST, fifo), "c1_1_1", "is a pipe"),
    *of_every_command("a folder as composite", replaced(FIRST, Path.mkdir), "c1_1_1", "unreadable"),
    *of_every_command("a composite of ten gigabytes", replaced(FIRST, sparse), "GB", "GB"),
    *of_every_command("a gigapixel composite", replaced(FIRST, lambda p: p.write_bytes(png(60_000, 60_000))), "c1_1_1", "unreadable"),
    *of_every_command("a composite of 100 megapixels", replaced(FIRST, lambda p: p.write_bytes(png(10**4, 10**4))),
                      "megapixels", "megapixels"),
    Case("names of any kind", partial(a_set, strange_names, VERIFY), "not listed", codes=(1,)),
    Case("outputs that lead out", partial(a_set, lambda root: _outputs(root), [*EVALUATE[:4], "made", *EVALUATE[5:]]),
         "leads out"),
)  # fmt: skip


def _outputs(root: Path) -> None:
    made = root.parent / "made"
    made.mkdir()
    for name in ("c1_1_1", "c1_1_2", "c2_1_1"):
        (made / f"{name}.jpg").symlink_to("../private/photo.jpg")

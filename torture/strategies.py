"""How files are spoilt: bytes, trees of JSON, tables, pictures and archives, each from small sound ones."""

import copy
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as some
from PIL import Image

FORMATS = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF", "webp": "WEBP", "gif": "GIF", "bmp": "BMP"}
MODES = {"png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "jpg": ("L", "RGB", "CMYK"),
         "tif": ("1", "L", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16", "F"), "webp": ("RGB", "RGBA"),
         "gif": ("L", "P"), "bmp": ("1", "L", "RGB")}  # fmt: skip
NAMES = ("../../up.jpg", "/etc/passwd", "a\nb", "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a|b",
         "%s&amp;", "\\input{x}", "=cmd()", "\x1b[2J", "nul\0", "é🙂", "C:\\x", "\u202egpj.exe",
         "x" * 5000)  # fmt: skip
VALUES = (None, True, 0, -1, 0.5, 10**9, 10**30, -(10**400), float("nan"), float("inf"), "", [], {}, [[]], *NAMES)
RAW = (b"1e999", b"-1e999", b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"\xff\xfe", b'"\\ud800"', b"NaN", b"\0", b"")
CELLS = ("", "nan", "inf", "-1", "1e999", "9" * 400, "0x10", '"', *NAMES)


@some.composite
def edited_bytes(draw, sound: list[bytes], words: tuple[bytes, ...] = RAW) -> bytes:
    """A sound file, cut, changed, doubled, or with something put into it, a few times."""
    file = bytearray(draw(some.sampled_from(sound)))
    for _ in range(draw(some.integers(0, 4))):
        place = draw(some.integers(0, len(file)))
        match draw(some.sampled_from(["change", "cut", "insert", "word", "double", "number"])):
            case "change":
                file[place : place + 1] = bytes([draw(some.integers(0, 255))])
            case "cut":
                del file[place:]
            case "insert":
                file[place:place] = draw(some.binary(max_size=20))
            case "word":
                file[place:place] = draw(some.sampled_from(words))
            case "double":
                file[place:place] = file[place : place + draw(some.integers(1, 200))]
            case "number":  # of 32 bits, as lengths and sizes are
                file[place : place + 4] = struct.pack(draw(some.sampled_from("<>")) + "I", draw(NUMBERS))
    return bytes(file)


NUMBERS = some.sampled_from([0, 1, 255, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]) | some.integers(0, 2**32 - 1)


def edited_json(sound: list) -> some.SearchStrategy[bytes]:
    """A sound document with values replaced, taken away or doubled; sometimes its text is spoilt as well."""
    texts = edited_trees(sound).map(lambda tree: json.dumps(tree, default=str).encode())
    return texts | texts.flatmap(lambda text: edited_bytes([text]))


@some.composite
def edited_trees(draw, sound: list):
    """A tree of dicts and lists with a few nodes of another kind."""
    tree = copy.deepcopy(draw(some.sampled_from(sound)))
    for _ in range(draw(some.integers(0, 3))):
        nodes = list(_nodes(tree))
        if not nodes:
            break
        parent, key = draw(some.sampled_from(nodes))
        match draw(some.sampled_from(["replace", "replace", "delete", "double", "wrap"])):
            case "replace":
                parent[key] = draw(values() | some.integers() | some.floats() | some.text(max_size=9))
            case "delete":
                del parent[key]
            case "double" if isinstance(parent, list):
                parent.insert(key, copy.deepcopy(parent[key]))
            case "wrap":
                parent[key] = [parent[key]]
    return tree if draw(some.integers(0, 30)) else draw(values())


def values() -> some.SearchStrategy:
    return some.sampled_from(VALUES).map(copy.deepcopy)  # lists are edited in their turn


def _nodes(tree) -> Iterator[tuple]:
    """(parent, key) of every node below the root."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from _nodes(tree[key])


def edited_tables(sound: list[bytes]) -> some.SearchStrategy[bytes]:
    """A CSV with cells, rows and columns spoilt; sometimes its text is spoilt as well."""
    tables = _edited_tables(sound)
    return tables | tables.flatmap(lambda text: edited_bytes([text], (*RAW, b",,,,", b"\r", b'"')))


@some.composite
def _edited_tables(draw, sound: list[bytes]) -> bytes:
    rows = [line.split(",") for line in draw(some.sampled_from(sound)).decode().splitlines()]
    for _ in range(draw(some.integers(0, 4))):
        row = draw(some.integers(0, len(rows) - 1))
        column = draw(some.integers(0, max(0, len(rows[row]) - 1)))
        match draw(some.sampled_from(["cell", "cell", "row", "no row", "no column", "column", "all"])):
            case "cell" if rows[row]:
                rows[row][column] = draw(some.sampled_from(CELLS) | some.text(max_size=9) | some.floats().map(str))
            case "row":
                rows.insert(row, list(rows[row]))
            case "no row" if len(rows) > 1:
                del rows[row]
            case "no column":
                rows = [cells[:column] + cells[column + 1 :] for cells in rows]
            case "column":
                rows = [cells[:column] + cells[column : column + 1] + cells[column:] for cells in rows]
            case "all":
                word = draw(some.sampled_from(CELLS))
                rows[1:] = [[*cells[:column], word, *cells[column + 1 :]] for cells in rows[1:]]
    quoted = [[f'"{c}"' if set(c) & set(",\n") and draw(some.booleans()) else c for c in cells] for cells in rows]
    return "\n".join(",".join(cells) for cells in quoted).encode("utf-8", "surrogatepass")


@some.composite
def edited_pictures(draw, size: tuple[int, int] | None = None) -> bytes:
    """A picture of some format and mode, mostly damaged afterwards."""
    made = picture(
        draw(some.sampled_from(sorted(FORMATS))),
        draw(some.integers(0, 99)),
        size or draw(some.tuples(some.integers(1, 24), some.integers(1, 24))),
        draw(some.integers(0, 99)),
    )
    return draw(edited_bytes([made], (b"\xff\xda", b"\xff\xd8", b"IEND\xaeB`\x82", b"Exif\0\0", b"\0" * 9)))


def picture(ending: str, mode: int, size: tuple[int, int], seed: int = 0) -> bytes:
    """Noise as a file; `mode` numbers those that its format has."""
    mode = MODES[ending][mode % len(MODES[ending])]
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise)
    if mode == "LAB":
        image = Image.frombytes("LAB", size, noise.tobytes())
    else:
        image = image.convert("L").convert(mode) if mode in ("I;16", "F") else image.convert(mode)
    target = io.BytesIO()
    image.save(target, FORMATS[ending])
    return target.getvalue()


def png(width: int, height: int, *chunks: tuple[bytes, bytes], bits: int = 8, colour: int = 0) -> bytes:
    """A grey PNG, or one of another type of colour, that says it has this size, with hardly any pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


@some.composite
def edited_archives(draw, member: str, listing: bytes) -> bytes:
    """A zip with the member that is looked for, and others under names of any kind."""
    target = io.BytesIO()
    names = some.sampled_from((member, member.upper(), "a.jpg", *NAMES[:-2])) | some.text(min_size=1, max_size=9)
    with zipfile.ZipFile(target, "w") as archive:
        for name in [member, *draw(some.lists(names, max_size=3))]:
            info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode())
            info.external_attr = draw(some.sampled_from([0o644, 0o120777, 0o20666, 0o10644])) << 16
            info.compress_type = draw(some.sampled_from([0, 8, 12, 14]))
            archive.writestr(info, listing)
    return draw(edited_bytes([target.getvalue()], (b"PK\x01\x02", b"PK\x05\x06", b"../", b"\xff" * 8)))

"""The prepared cache: every training triplet at one size, as memory-mapped uint8, with the hashes of its files.

What is held in memory is a name and a hash of each file, however large the pictures: these pass through in order, a few
at a time. Pictures are resized by Pillow's bicubic filter, masks are binarised (> 127 of 255) and then resized by
nearest neighbour, as the default protocol ``bcmi256`` does. Photographs and masks are kept once, however many
composites share them. `sha256sum -c` reads the list of hashes. Evaluation does not read the cache: it starts from the
original files, because one cache cannot serve several resamplers.
"""

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np
import pandas as pd
import PIL

from harmonylib.data.layout import Entry, open_mask, open_rgb, problems
from harmonylib.errors import HarmonyError, one_line
from harmonylib.metrics import resize_image, resize_mask
from harmonylib.paths import alone, beside, building, data_dir, shown
from harmonylib.reading import DAMAGE, read_json, read_table

FORMAT = 2
INDEX = ("subset", "name", "photo", "group", "kind", "real", "mask")
KINDS = {"name": str, "photo": str, "group": str, "real": int, "mask": int}
AGAIN = "delete its folder, and it is made again"
ROUND, SHARE = 256, 8  # files that threads take on at once, and how many each of them


@dataclass(frozen=True)
class Cache:
    """Prepared triplets. Row i of `index` says which composite, real and mask belong together.

    composite (N, S, S, 3), real (P, S, S, 3) and mask (M, S, S) are uint8; mask is 0 or 1.
    """

    folder: Path
    size: int
    composite: np.ndarray
    real: np.ndarray
    mask: np.ndarray
    index: pd.DataFrame  # name, subset, photo, group, kind, real, mask
    data_hash: str  # of the manifest: the same photographs, masks and composites give the same hash

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, entries: list[Entry]) -> np.ndarray:
        """Row numbers of the given entries. Raises HarmonyError if one was not prepared."""
        where = {(s, n): i for i, (s, n) in enumerate(zip(self.index["subset"], self.index["name"], strict=True))}
        try:
            return np.array([where[e.subset, e.name] for e in entries], dtype=np.int64)
        except KeyError as error:
            raise HarmonyError(
                f"{error.args[0]}: not in the cache {shown(self.folder)}; run `data prepare` again"
            ) from None


def prepare(entries: list[Entry], size: int, workers: int | None = None, say=print) -> Cache:
    """Decode, check and resize `entries` into a cache of side `size`; an up-to-date cache is opened as it is.

    A source file counts as unchanged while its length and time of change are; the data hash is made of contents.
    Raises HarmonyError, naming the first bad file and how many more there are, before anything is written.
    """
    root = entries[0].root
    files = sorted({str(path) for e in entries for path in e.files})
    key = _key(size, files, (f"{e.subset}/{e.name}" for e in entries))
    folder = data_dir() / "cache" / f"{root.name}-{size}-{key}"
    if not (folder / "manifest.json").is_file():
        with _alone(folder, say):
            if not (folder / "manifest.json").is_file():
                _prepare(folder, entries, files, size, workers)
                say(f"prepared {len(entries)} composites at {size} px in {shown(folder)}")
    return open_cache(folder)


def _prepare(folder: Path, entries: list[Entry], files: list[str], size: int, workers: int | None) -> None:
    workers = workers or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        bad = [line for found in _in_order(pool, problems, _by_photograph(entries)) for line in found]
        if bad:
            more = f" (and {len(bad) - 1} more: `python -m harmonylib data verify` lists them)" if len(bad) > 1 else ""
            raise HarmonyError(bad[0] + more)
        with building(folder) as started:
            _write_arrays(started, entries, size, pool)
            _write_manifest(started, files, entries[0].root, size, pool)


@dataclass(frozen=True)
class Photographs:
    """Prepared photographs without masks or composites: pixels (N, S, S, 3), uint8, memory-mapped."""

    pixels: np.ndarray
    data_hash: str


def prepare_photographs(files: Sequence[Path], size: int, say=print) -> Photographs:
    """Resize photographs as `prepare` does; an up-to-date cache is opened as it is. Unreadable files are an error."""
    root = Path(os.path.commonpath({os.path.dirname(file) for file in files}))
    folder = data_dir() / "cache" / f"{root.name}-{size}-{_key(size, files)}"
    if not (folder / "manifest.json").is_file():
        with _alone(folder, say):
            if not (folder / "manifest.json").is_file():
                with building(folder) as started, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
                    _write_array(started / "real.npy", files, lambda path: _picture(path, size), (size, size, 3), pool)
                    _write_manifest(started, files, root, size, pool)
                say(f"prepared {len(files)} photographs at {size} px in {shown(folder)}")
    with _of_one_piece(folder):
        found = Photographs(_mapped(folder / "real.npy"), _manifest(folder)[1])
        if found.pixels.shape != (len(files), size, size, 3):
            raise ValueError("its array is not that of its photographs")
        return found


def _alone(folder: Path, say):
    return alone(beside(folder, "lock"), lambda: say(f"{shown(folder)}: another process prepares it; waiting"))


def open_cache(folder: Path) -> Cache:
    """Map a prepared cache into memory. Raises HarmonyError where its files are damaged or do not go together."""
    with _of_one_piece(folder):
        size, data_hash = _manifest(folder)
        composite, real, mask = (_mapped(folder / f"{name}.npy") for name in ("composite", "real", "mask"))
        index = read_table(folder / "index.csv", INDEX, AGAIN, dtype=KINDS)
        rows = {"real": len(real), "mask": len(mask)}
        sound = len(index) == len(composite) and all(index[k].between(0, n - 1).all() for k, n in rows.items())
        if not sound or [a.shape[1:] for a in (composite, real, mask)] != [(size, size, 3)] * 2 + [(size, size)]:
            raise ValueError("its arrays are not those of its index")
    return Cache(folder, size, composite, real, mask, index, data_hash)


@contextmanager
def _of_one_piece(folder: Path) -> Iterator[None]:
    """Raises HarmonyError for whatever damage does to a reader; NumPy reads the head of an array as Python would."""
    try:
        yield
    except (OSError, EOFError, SyntaxError, TokenError, *DAMAGE) as error:
        raise HarmonyError(f"{shown(folder)}: a damaged cache ({one_line(error)}); {AGAIN}") from None


def _mapped(file: Path) -> np.ndarray:
    array = np.lib.format.open_memmap(file, mode="r")
    if array.dtype.kind not in "ub" or array.itemsize > 1 or not array.size:
        raise ValueError(f"{file.name} is of {array.dtype}, or empty")
    return array


def _manifest(folder: Path) -> tuple[int, str]:
    """The side of the pictures, and the hash of the data."""
    manifest = read_json(folder / "manifest.json", AGAIN, ("size", "data_hash"))
    if not isinstance(manifest["data_hash"], str):
        raise ValueError("its hash is none")
    return manifest["size"], manifest["data_hash"]


def _picture(path: str | Path, size: int) -> np.ndarray:
    return resize_image(open_rgb(Path(path)), "bcmi256", size)


def _mask(path: str, size: int) -> np.ndarray:
    return resize_mask(open_mask(Path(path)), "bcmi256", size) > 0.5


def _write_arrays(folder: Path, entries: list[Entry], size: int, pool: Executor) -> None:
    """composite.npy, real.npy, mask.npy, and index.csv with the rows of the last two that belong to each composite."""
    reals, masks = sorted({str(e.real) for e in entries}), sorted({str(e.mask) for e in entries})
    _write_array(folder / "composite.npy", entries, lambda e: _picture(e.composite, size), (size, size, 3), pool)
    _write_array(folder / "real.npy", reals, lambda path: _picture(path, size), (size, size, 3), pool)
    _write_array(folder / "mask.npy", masks, lambda path: _mask(path, size), (size, size), pool)
    real_row, mask_row = ({path: i for i, path in enumerate(paths)} for paths in (reals, masks))
    with (folder / "index.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(INDEX)
        for e in entries:
            found = real_row[str(e.real)], mask_row[str(e.mask)]
            rows.writerow([e.subset, e.name, e.photo, e.group, e.kind, *found])


def _write_array(target: Path, items: Sequence, read: Callable, shape: tuple, pool: Executor) -> None:
    """Row i is what `read` makes of items[i]. Not through a mapping, whose pages would count as memory in use."""
    start = np.lib.format.open_memmap(target, "w+", np.uint8, (len(items), *shape)).offset
    with target.open("r+b") as file:
        file.seek(start)
        for picture in _in_order(pool, read, items):
            file.write(np.ascontiguousarray(picture, np.uint8))


def _write_manifest(folder: Path, files: list[str], root: Path, size: int, pool: Executor) -> None:
    """files.sha256, one line a file, and manifest.json with the side and the hash of the data.

    That hash is of {"files": {name: hash, ...}, "size": side} as JSON, names in order and none held in memory.
    """
    data = hashlib.sha256(b'{"files": {')
    hashes = _in_order(pool, lambda file: _digest(Path(file).read_bytes()), files)
    with (folder / "files.sha256").open("w", errors="surrogateescape") as listed:
        for number, (file, digest) in enumerate(zip(files, hashes, strict=True)):
            name = Path(file).relative_to(root).as_posix()
            data.update(f'{", " if number else ""}{json.dumps(name)}: "{digest}"'.encode())
            listed.write(f"{digest}  {name}\n")
    data.update(f'}}, "size": {size}}}'.encode())
    manifest = {"size": size, "files": len(files), "data_hash": data.hexdigest()[:16]}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def _key(size: int, files: Sequence[str], names: Iterable[str] = ()) -> str:
    """What a cache is made from, in twelve letters; lengths and times of change stand for the files' contents.

    Names are hashed as bytes, for some are no text.
    """
    found = hashlib.sha256(json.dumps([FORMAT, size, PIL.__version__]).encode())
    for name in names:
        found.update(os.fsencode(f"{name}\n"))
    for file in files:
        status = os.stat(file)
        found.update(os.fsencode(f"{file} {status.st_size} {status.st_mtime_ns}\n"))
    return found.hexdigest()[:12]


def _by_photograph(entries: list[Entry]) -> list[list[Entry]]:
    """Entries that share a target or a mask, together."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        found.setdefault((entry.subset, entry.photo), []).append(entry)
    return list(found.values())


def _in_order(pool: Executor, work: Callable, items: Sequence) -> Iterator:
    """What `work` makes of each item, a few hundred at a time: an executor's own `map` takes all on at once."""

    def share(start: int) -> list:
        return [work(item) for item in items[start : start + SHARE]]

    for start in range(0, len(items), ROUND):
        for done in pool.map(share, range(start, min(start + ROUND, len(items)), SHARE)):
            yield from done


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

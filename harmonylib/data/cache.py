"""The prepared cache: every training triplet at one size, as memory-mapped uint8, with a manifest of hashes.

Pictures are resized by Pillow's bicubic filter, masks are binarised (> 127 of 255) and then resized by nearest
neighbour, as the default protocol ``bcmi256`` does. Photographs and masks are kept once, however many composites share
them. Evaluation does not read the cache: it starts from the original files, because one cache cannot serve several
resamplers.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import PIL

from harmonylib.data.layout import Entry, open_mask, open_rgb, problems
from harmonylib.errors import HarmonyError
from harmonylib.metrics import resize_image, resize_mask
from harmonylib.paths import building, data_dir, shown

FORMAT = 1
ROUND, PARTS = 4096, 16  # files that threads take on at once, and in how many shares


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
    files = sorted({path for e in entries for path in (e.composite, e.mask, e.real)})
    key = _key(size, files, (f"{e.subset}/{e.name}" for e in entries))
    folder = data_dir() / "cache" / f"{entries[0].root.name}-{size}-{key}"
    if (folder / "manifest.json").is_file():
        return open_cache(folder)

    workers = workers or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        chunks = [entries[i::workers] for i in range(workers)]
        bad = [line for found in pool.map(problems, chunks) for line in found]
        if bad:
            more = f" (and {len(bad) - 1} more: `python -m harmonylib data verify` lists them)" if len(bad) > 1 else ""
            raise HarmonyError(bad[0] + more)
        hashes = _hashes(files, pool)
        with building(folder) as started:
            index = _write_arrays(started, entries, size, pool)
            index.to_csv(started / "index.csv", index=False)
            root = entries[0].root
            manifest = {"size": size, "files": {p.relative_to(root).as_posix(): hashes[p] for p in files}}
            (started / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    say(f"prepared {len(entries)} composites at {size} px in {shown(folder)}")
    return open_cache(folder)


@dataclass(frozen=True)
class Photographs:
    """Prepared photographs without masks or composites: pixels (N, S, S, 3), uint8, memory-mapped."""

    pixels: np.ndarray
    data_hash: str


def prepare_photographs(files: list[Path], size: int, say=print) -> Photographs:
    """Resize photographs as `prepare` does; an up-to-date cache is opened as it is. Unreadable files are an error."""
    folder = data_dir() / "cache" / f"{files[0].parent.name}-{size}-{_key(size, files)}"
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        with building(folder) as started, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            hashes = _hashes(files, pool)
            _write_array(started / "real.npy", files, _reader(size), (size, size, 3), pool)
            content = {"size": size, "files": {p.name: hashes[p] for p in files}}
            (started / "manifest.json").write_text(json.dumps(content, indent=1) + "\n")
        say(f"prepared {len(files)} photographs at {size} px in {shown(folder)}")
    content = json.loads(manifest.read_text())
    return Photographs(np.load(folder / "real.npy", mmap_mode="r"), _digest(json.dumps(content, sort_keys=True))[:16])


def open_cache(folder: Path) -> Cache:
    """Map a prepared cache into memory."""
    manifest = json.loads((folder / "manifest.json").read_text())
    arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("composite", "real", "mask")]
    index = pd.read_csv(folder / "index.csv", dtype={"name": str, "photo": str, "group": str})
    return Cache(folder, manifest["size"], *arrays, index, _digest(json.dumps(manifest, sort_keys=True))[:16])


def _reader(size: int) -> Callable[[Path], np.ndarray]:
    return lambda path: resize_image(open_rgb(path), "bcmi256", size)


def _write_array(target: Path, paths: list[Path], read: Callable, shape: tuple, pool: ThreadPoolExecutor) -> None:
    array = np.lib.format.open_memmap(target, "w+", np.uint8, (len(paths), *shape))
    # each worker writes its own rows, so that nothing piles up however large the set is
    _for_each(pool, lambda i: array.__setitem__(i, read(paths[i])), range(len(paths)))
    array.flush()


def _write_arrays(folder: Path, entries: list[Entry], size: int, pool: ThreadPoolExecutor) -> pd.DataFrame:
    reals, masks = sorted({e.real for e in entries}), sorted({e.mask for e in entries})
    picture = _reader(size)

    def mask(path: Path) -> np.ndarray:
        return resize_mask(open_mask(path), "bcmi256", size) > 0.5

    _write_array(folder / "composite.npy", [e.composite for e in entries], picture, (size, size, 3), pool)
    _write_array(folder / "real.npy", reals, picture, (size, size, 3), pool)
    _write_array(folder / "mask.npy", masks, mask, (size, size), pool)
    real_row, mask_row = ({path: i for i, path in enumerate(paths)} for paths in (reals, masks))
    columns = ["subset", "name", "photo", "group", "kind", "real", "mask"]
    rows = [(e.subset, e.name, e.photo, e.group, e.kind, real_row[e.real], mask_row[e.mask]) for e in entries]
    return pd.DataFrame(rows, columns=columns)


def _key(size: int, files: list[Path], names: Iterable[str] = ()) -> str:
    """What a cache is made from, in twelve letters; lengths and times of change stand for the files' contents."""
    found = hashlib.sha256(json.dumps([FORMAT, size, PIL.__version__]).encode())
    for name in names:
        found.update(f"{name}\n".encode())
    for path in files:
        status = path.stat()
        found.update(f"{path.as_posix()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return found.hexdigest()[:12]


def _hashes(files: list[Path], pool: ThreadPoolExecutor) -> dict[Path, str]:
    found: dict[Path, str] = {}
    _for_each(pool, lambda path: found.__setitem__(path, _digest(path.read_bytes())), files)
    return found


def _for_each(pool: ThreadPoolExecutor, work: Callable, items: Sequence) -> None:
    """Do `work` on every item, a few hundred at a time: an executor's own `map` keeps two kilobytes for each."""

    def one_after_another(part: Sequence) -> None:
        for item in part:
            work(item)

    for start in range(0, len(items), ROUND):
        block = items[start : start + ROUND]
        list(pool.map(one_after_another, [block[i::PARTS] for i in range(PARTS)]))


def _digest(content: bytes | str) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()

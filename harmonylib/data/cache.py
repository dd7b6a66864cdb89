"""The prepared cache: every training triplet at one size, as memory-mapped uint8, with a manifest of hashes.

Pictures are resized by Pillow's bicubic filter, masks are binarised (> 127 of 255) and then resized by nearest
neighbour, as the default protocol ``bcmi256`` does. Photographs and masks are kept once, however many composites share
them. Evaluation does not read the cache: it starts from the original files, because one cache cannot serve several
resamplers.
"""

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import PIL

from harmonylib.data.layout import Entry, open_mask, open_rgb, problems
from harmonylib.errors import HarmonyError
from harmonylib.metrics import resize_image, resize_mask
from harmonylib.paths import data_dir, shown

FORMAT = 1


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
    stamps = [[path.as_posix(), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    key = _digest(json.dumps([FORMAT, size, PIL.__version__, [[e.subset, e.name] for e in entries], stamps]))
    folder = data_dir() / "cache" / f"{entries[0].root.name}-{size}-{key[:12]}"
    if (folder / "manifest.json").is_file():
        return open_cache(folder)

    workers = workers or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        chunks = [entries[i::workers] for i in range(workers)]
        bad = [line for found in pool.map(problems, chunks) for line in found]
        if bad:
            more = f" (and {len(bad) - 1} more: `python -m harmonylib data verify` lists them)" if len(bad) > 1 else ""
            raise HarmonyError(bad[0] + more)
        hashes = dict(zip(files, pool.map(lambda p: _digest(p.read_bytes()), files), strict=True))
        building = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        try:
            index = _write_arrays(building, entries, size, pool)
            index.to_csv(building / "index.csv", index=False)
            root = entries[0].root
            manifest = {"size": size, "files": {p.relative_to(root).as_posix(): hashes[p] for p in files}}
            (building / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
            if folder.exists():  # somebody else was faster, or a folder without a manifest was left behind
                shutil.rmtree(folder)
            os.replace(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    say(f"prepared {len(entries)} composites at {size} px in {shown(folder)}")
    return open_cache(folder)


def open_cache(folder: Path) -> Cache:
    """Map a prepared cache into memory."""
    manifest = json.loads((folder / "manifest.json").read_text())
    arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("composite", "real", "mask")]
    index = pd.read_csv(folder / "index.csv", dtype={"name": str, "photo": str, "group": str})
    return Cache(folder, manifest["size"], *arrays, index, _digest(json.dumps(manifest, sort_keys=True))[:16])


def _write_arrays(folder: Path, entries: list[Entry], size: int, pool: ThreadPoolExecutor) -> pd.DataFrame:
    reals, masks = sorted({e.real for e in entries}), sorted({e.mask for e in entries})

    def picture(path: Path) -> np.ndarray:
        return resize_image(open_rgb(path), "bcmi256", size)

    def mask(path: Path) -> np.ndarray:
        return resize_mask(open_mask(path), "bcmi256", size) > 0.5

    for name, paths, read, shape in (
        ("composite", [e.composite for e in entries], picture, (size, size, 3)),
        ("real", reals, picture, (size, size, 3)),
        ("mask", masks, mask, (size, size)),
    ):
        array = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, (len(paths), *shape))
        # each worker writes its own rows, so that nothing piles up however large the set is
        list(
            pool.map(
                lambda i, array=array, paths=paths, read=read: array.__setitem__(i, read(paths[i])), range(len(paths))
            )
        )
        array.flush()
    real_row, mask_row = ({path: i for i, path in enumerate(paths)} for paths in (reals, masks))
    columns = ["subset", "name", "photo", "group", "kind", "real", "mask"]
    rows = [(e.subset, e.name, e.photo, e.group, e.kind, real_row[e.real], mask_row[e.mask]) for e in entries]
    return pd.DataFrame(rows, columns=columns)


def _digest(content: bytes | str) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()

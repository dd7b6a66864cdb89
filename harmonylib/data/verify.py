"""`data verify`: everything that can be wrong with a set in iHarmony4's layout, found in one pass over its files.

Other commands stop at the first thing that is wrong with the triplets they need. Here nothing stops: every list line
and every file is looked at, once, a few photographs at a time, so that a set of any size fits in memory.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from harmonylib.data import QUIET
from harmonylib.data.layout import FOLDERS, KNOWN, SPLITS, Entry, lines_of, lists_of, open_mask, open_rgb, parse_line
from harmonylib.errors import HarmonyError, one_line
from harmonylib.reading import content

ADVICE = {  # kinds of faults, and what to do about each
    "folder": "rename it as the lists spell it",
    "list": "copy the list again from the set's source",
    "line": "mend or remove the line",
    "listed twice": "remove one of the lines",
    "composite on both sides": "remove it from one of the lists: it would be trained and tested on",
    "photograph on both sides": "move all composites of the photograph to one side: split by photograph",
    "views on both sides": "move all views of the thing to one side",
    "missing": "copy the file from the set's source, or remove its lines from the lists",
    "unreadable": "the copy is damaged: copy the file again",
    "size": "take composite, mask and target from the same copy of the set",
    "mask": "fix the mask, or remove its composites from the lists",
    "background": "composite and target are not of one photograph: copy both again",
    "duplicate": "the same bytes under two names: copy both again, or remove one from the lists",
    "official count": "the copy is incomplete, or its lists are not the official ones: copy them again",
    "do-nothing row": "scores on this copy cannot be compared with published ones until it is clear why",
    "not listed": "add it to a list or remove it; no command reads it",
}
LINES = 10_000  # that are wrong in a subset's lists of one split: then it is no list, and may have millions
BACKGROUND = 100.0  # squared levels outside the mask; re-encoding a JPEG costs 0.2 to 3
LOOK = 256  # px a side that backgrounds are compared at


@dataclass(frozen=True)
class Fault:
    """Something wrong: the file (relative to the root), one of the kinds of `ADVICE`, and what exactly."""

    file: str
    kind: str
    detail: str


def verify(root: str | Path, workers: int = 4) -> tuple[dict[str, list[Entry]], list[Fault]]:
    """The triplets of each list by split, and every fault of the set, in the order of the files.

    Raises HarmonyError where there is no such folder, or none of the four subsets in it.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise HarmonyError(f"{root}: no such folder; give the folder that holds {', '.join(KNOWN)}")
    faults = list(_folders(root))
    subsets = [name for name in KNOWN if (root / name).is_dir()]
    if not subsets:
        raise HarmonyError(f"{root}: none of the folders {', '.join(KNOWN)} is in it; give the set's top folder")
    sides: dict[str, list[Entry]] = {split: [] for split in SPLITS}
    for subset in subsets:
        for split in SPLITS:
            entries, found = _list(root, subset, split)
            sides[split] += entries
            faults += found
    faults += _both_sides(sides)
    entries = sorted({e for side in sides.values() for e in side}, key=lambda e: (e.subset, e.photo, e.name))
    faults += _files(root, entries, workers)
    faults += _not_listed(root, subsets, entries)
    return sides, sorted(set(faults), key=lambda f: (f.file, f.kind, f.detail))


def sound(entries: list[Entry], faults: list[Fault]) -> list[Entry]:
    """The triplets whose three files can be read and go together."""
    bad = {fault.file for fault in faults if fault.kind in ("missing", "unreadable", "size", "mask")}
    return [e for e in entries if not bad & {_name(e, path) for path in e.files}]


def report(faults: list[Fault]) -> pd.DataFrame:
    """One row a fault: file, kind, detail, advice."""
    rows = [(f.file, f.kind, f.detail, ADVICE[f.kind]) for f in faults]
    return pd.DataFrame(rows, columns=["file", "kind", "detail", "advice"])


def summary(faults: list[Fault]) -> list[str]:
    """A line for each kind of fault, the most frequent first: how many, the first of them, what to do."""
    kinds = defaultdict(list)
    for fault in faults:
        kinds[fault.kind].append(fault)
    ordered = sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))
    return [one_line(f"{kind}: {len(f)}, first {f[0].file} ({f[0].detail}); {ADVICE[kind]}") for kind, f in ordered]


def _folders(root: Path) -> Iterator[Fault]:
    """Folders that differ from the layout's names only in case."""
    right = {name.lower(): name for name in (*KNOWN, *FOLDERS)}
    for folder in sorted([*root.iterdir(), *(child for name in KNOWN for child in (root / name).glob("*"))]):
        name = right.get(folder.name.lower())
        if name and folder.name != name and folder.is_dir():
            yield Fault(folder.relative_to(root).as_posix(), "folder", f"wrong case, the lists say {name}")


def _list(root: Path, subset: str, split: str) -> tuple[list[Entry], list[Fault]]:
    """The triplets of one list, and what is wrong with it; where there are two of it, both must say the same."""
    named, faults = [], []
    for path in lists_of(root, subset, split):
        if not path.is_file():
            continue
        file, entries = path.relative_to(root).as_posix(), []
        try:
            for line, where in lines_of(path, subset):
                try:
                    entries.append(parse_line(root, subset, line, where))
                except HarmonyError as error:
                    faults.append(Fault(file, "line", _inside(root, error)))
                    if len(faults) >= LINES:
                        raise HarmonyError(f"{LINES:,} lines and more are wrong; the others were not read") from None
        except HarmonyError as error:
            faults.append(Fault(file, "list", _inside(root, error)))
            continue
        faults += [Fault(file, "listed twice", e.name) for e, count in Counter(entries).items() if count > 1]
        named.append(set(entries))
    if not named and split != "val":
        own, common = lists_of(root, subset, split)
        faults.append(Fault(own.relative_to(root).as_posix(), "list", f"no such list, nor {common.name}"))
    if len(named) == 2 and named[0] != named[1]:
        only = sorted(e.name for e in named[0] ^ named[1])
        faults.append(
            Fault(f"IHD_{split}.txt", "list", f"differs from {subset}_{split}.txt in {len(only)}, first {only[0]}")
        )
    return sorted(set().union(*named), key=lambda e: e.name), faults


def _both_sides(sides: dict[str, list[Entry]]) -> Iterator[Fault]:
    """Composites, and photographs with different composites, that are trained on and tested on."""
    test = set(sides["test"])
    train = set(sides["train"]) | set(sides["val"])
    for entry in train & test:
        yield Fault(_name(entry, entry.composite), "composite on both sides", "in a test list and in another one")
    of_test = {(e.subset, e.photo) for e in test}
    things_of_test = {(e.subset, e.group) for e in test}
    reals = {e.real: e for e in train - test if (e.subset, e.group) in things_of_test}
    for path, entry in reals.items():
        kind = "photograph" if (entry.subset, entry.photo) in of_test else "views"
        yield Fault(_name(entry, path), f"{kind} on both sides", "in a test list and in another one")


def _files(root: Path, entries: list[Entry], workers: int) -> Iterator[Fault]:
    """Decode every file once. What is kept of a file is a hash of its bytes."""
    seen: dict[bytes, str] = {}
    photographs = (list(group) for _, group in groupby(entries, key=lambda e: (e.subset, e.photo)))
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(entries), unit="composite", desc=root.name, disable=QUIET) as bar,
    ):
        while chunk := list(islice(photographs, 8 * workers)):
            for of_photograph, (faults, hashes) in zip(chunk, pool.map(_photograph, chunk), strict=True):
                yield from faults
                for file, digest in hashes:
                    if digest in seen:
                        yield Fault(file, "duplicate", f"the same bytes as {seen[digest]}")
                    seen.setdefault(digest, file)
                bar.update(len(of_photograph))


def _photograph(entries: list[Entry]) -> tuple[list[Fault], list[tuple[str, bytes]]]:
    """The faults of one photograph's files, and the hashes of its pictures (masks may well be alike)."""
    faults, hashes = [], []

    def read(entry: Entry, path: Path, opened):
        file = _name(entry, path)
        try:
            digest = hashlib.blake2b(content(path), digest_size=16).digest()
            picture = opened(path)
        except FileNotFoundError:
            faults.append(Fault(file, "missing", "listed, but not there"))
        except (HarmonyError, OSError) as error:
            kind = "mask" if "mask is empty" in str(error) else "unreadable"
            faults.append(Fault(file, kind, _inside(entry.root, error)))
        else:
            if opened is open_rgb:
                hashes.append((file, digest))
            return picture
        return None

    real = read(entries[0], entries[0].real, open_rgb)
    masks = {e.mask: e for e in entries}
    masks = {path: read(entry, path, open_mask) for path, entry in masks.items()}
    for path, mask in masks.items():
        if mask and np.asarray(mask).min() > 127:
            faults.append(Fault(path.relative_to(entries[0].root).as_posix(), "mask", "covers the whole picture"))
    for entry in entries:
        composite, mask = read(entry, entry.composite, open_rgb), masks[entry.mask]
        for path, other in ((entry.real, real), (entry.mask, mask)):
            if composite and other and other.size != composite.size:
                detail = f"{other.width}x{other.height} px, but {entry.name} is {composite.width}x{composite.height}"
                faults.append(Fault(_name(entry, path), "size", detail))
        if composite and mask and real and composite.size == mask.size == real.size:
            error = _background_error(composite, mask, real)
            if error > BACKGROUND:
                faults.append(Fault(_name(entry, entry.composite), "background", f"MSE {error:.0f} outside the mask"))
    return faults, hashes


def _background_error(composite, mask, real) -> float:
    """MSE outside the mask, on pixels a few apart: enough to tell two photographs from one."""
    step = max(1, max(composite.size) // LOOK)
    first, second, inside = (np.asarray(picture)[::step, ::step] for picture in (composite, real, mask))
    outside = inside < 1  # not at the soft edge either
    difference = first[outside].astype(np.float32) - second[outside]
    return float(np.square(difference).mean()) if outside.any() else 0.0


def _not_listed(root: Path, subsets: list[str], entries: list[Entry]) -> Iterator[Fault]:
    """Files in the three folders that no list leads to."""
    wanted = {str(path) for e in entries for path in e.files}
    for folder in (root / subset / name for subset in subsets for name in FOLDERS):
        for path in folder.iterdir() if folder.is_dir() else ():
            if str(path) not in wanted and not path.name.startswith("."):
                yield Fault(path.relative_to(root).as_posix(), "not listed", "in no list")


def _name(entry: Entry, path: Path) -> str:
    return path.relative_to(entry.root).as_posix()


def _inside(root: Path, error: Exception) -> str:
    """An error's words without the path of the set, which is the same for all."""
    return one_line(str(error).replace(f"{root}/", ""))

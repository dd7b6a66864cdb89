"""iHarmony4's on-disk layout: the one layout that every rung of the data ladder ends in.

    <root>/IHD_train.txt, IHD_test.txt            lines: HCOCO/composite_images/c1_2_3.jpg
    <root>/<subset>/<subset>_train.txt, ..._test.txt   lines: c1_2_3.jpg
    <root>/<subset>/composite_images/<photo>_<object>_<variant>.jpg
    <root>/<subset>/masks/<photo>_<object>.png
    <root>/<subset>/real_images/<photo>.jpg

Source of the layout: bcmi/Image-Harmonization-Dataset-iHarmony4, ``README.md``.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from harmonylib.errors import HarmonyError, one_line
from harmonylib.metrics import open_image
from harmonylib.reading import inside, ordinary

SUBSETS = ("HCOCO", "HAdobe5k", "HFlickr", "Hday2night")
REALHM = "RealHM"  # no part of iHarmony4: a set of its own, converted into the layout (`realhm`)
KNOWN = (*SUBSETS, REALHM)
SPLITS = ("train", "val", "test")
FOLDERS = ("composite_images", "masks", "real_images")
LIST, LONGEST = 1 << 28, 255  # bytes of a list, and of a file's name
PICTURES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, slots=True)  # slots: a large set has a hundred thousand of them
class Entry:
    """One triplet: the composite, its mask, and the real photograph (the target)."""

    root: Path
    subset: str
    name: str  # the composite's file name without suffix, <photo>_<object>_<variant>

    @property
    def photo(self) -> str:
        return self.name.split("_", 1)[0]

    @property
    def group(self) -> str:
        """What must stay on one side of a split: the photograph; ``<thing>-<view>``: all views count as one."""
        return self.photo.split("-", 1)[0]

    @property
    def kind(self) -> str:
        """``scene`` for the procedural scenes of the embedded set, else ``photo``."""
        return "scene" if self.photo[1:].startswith("scene") else "photo"

    @property
    def composite(self) -> Path:
        return self.root / self.subset / "composite_images" / f"{self.name}.jpg"

    @property
    def mask(self) -> Path:
        return self.root / self.subset / "masks" / f"{self.name.rsplit('_', 1)[0]}.png"

    @property
    def real(self) -> Path:
        return self.root / self.subset / "real_images" / f"{self.photo}.jpg"

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """composite, mask, real."""
        return self.composite, self.mask, self.real


def read_entries(root: str | Path, subset: str = "all", split: str = "test", val_share: float = 0.1) -> list[Entry]:
    """The triplets of one split, in the order of the lists; every file is there, none lies outside `root`.

    Where the lists name no validation split, the `val_share` of the training photographs with the smallest hashes is
    ``val`` and leaves ``train``; a photograph is never on both sides.

    Raises HarmonyError: no such root, subset, split or list, a folder in the wrong case, a malformed line, a line that
    climbs out of the root, a listed file that is missing, an empty split.
    """
    root = Path(root)
    if split not in SPLITS:
        raise HarmonyError(f"split {split!r}: there is no such split; use one of {', '.join(SPLITS)}")
    if subset != "all" and subset not in KNOWN:
        raise HarmonyError(f"subset {subset!r}: there is no such subset; use all or one of {', '.join(KNOWN)}")
    if not root.is_dir():
        raise HarmonyError(f"{root}: no such folder; give the folder that holds {', '.join(KNOWN)}")
    _check_folder_names(root)
    present = [name for name in KNOWN if (root / name).is_dir()]
    if subset != "all" and subset not in present:
        raise HarmonyError(
            f"{root / subset}: no such folder; the set has {', '.join(present) or 'none of the subsets'}"
        )
    wanted = [subset] if subset != "all" else present
    if not wanted:
        raise HarmonyError(f"{root}: none of the folders {', '.join(KNOWN)} is in it; give the set's top folder")

    entries = [entry for name in wanted for entry in _split_of_subset(root, name, split, val_share)]
    if not entries:
        raise HarmonyError(f"{root}: the {split} lists of {', '.join(wanted)} are empty; check the *_{split}.txt files")
    missing = [path for entry in entries for path in entry.files if not path.is_file()]
    if missing:
        raise HarmonyError(
            f"{missing[0]}: listed for {split} but missing{_and_more(missing)}; "
            "copy it from the set's source or take its line out of the list"
        )
    return entries


def write_lists(root: Path, lists: dict[str, list[Entry]]) -> None:
    """Write the lists of a new set, by split: the common ones, and one for each subset whose folder is there."""
    for split, entries in lists.items():
        common = [f"{e.subset}/composite_images/{e.name}.jpg\n" for e in entries]
        (root / f"IHD_{split}.txt").write_text("".join(common))
        for subset in KNOWN:
            if (root / subset).is_dir():
                own = [f"{e.name}.jpg\n" for e in entries if e.subset == subset]
                (root / subset / f"{subset}_{split}.txt").write_text("".join(own))


def hold_out(entries: list[Entry], share: float, by: str = "group", salt: str = "") -> tuple[list[Entry], list[Entry]]:
    """Divide into (kept, held out): the `share` of the groups (or of the names) with the smallest hashes is held out.

    A hash and not a shuffle, so that the side of a photograph depends neither on the order of the lists nor on what
    else is in the set's other subsets.
    """
    keys = sorted({getattr(e, by) for e in entries}, key=lambda key: _hash(salt + key))
    held = set(keys[: max(1, round(share * len(keys)))]) if share > 0 and len(keys) > 1 else set()
    return [e for e in entries if getattr(e, by) not in held], [e for e in entries if getattr(e, by) in held]


def take_share(entries: list[Entry], share: float) -> list[Entry]:
    """The given share of the photographs, smallest hashes first, so that smaller shares lie inside larger ones."""
    return entries if share >= 1 else hold_out(entries, share, salt="share")[1]


def problems(entries: list[Entry]) -> list[str]:
    """Decode every file once and say, one line each, what is wrong: unreadable, sizes that differ, an empty mask."""
    found, sizes = [], {}
    for entry in entries:
        for path in entry.files:
            if path not in sizes:
                try:
                    sizes[path] = (open_mask(path) if path == entry.mask else open_rgb(path)).size
                except HarmonyError as error:
                    sizes[path] = None
                    found.append(str(error))
        expected = sizes[entry.composite]
        for path in (entry.mask, entry.real):
            if expected and sizes[path] and sizes[path] != expected:
                found.append(size_mismatch(entry, path, sizes[path], expected))
    return list(dict.fromkeys(found))


def size_mismatch(entry: Entry, path: Path, size: tuple[int, int], expected: tuple[int, int]) -> str:
    """The line that says that a mask or a real image does not fit its composite."""
    return (
        f"{path}: {size[0]}x{size[1]} px, but its composite {entry.composite.name} is {expected[0]}x{expected[1]}; "
        "take the three files from the same copy of the set"
    )


def mask_of(stem: str, folder: Path, endings: Iterable[str] = PICTURES) -> Path | None:
    """The mask of a composite's name, or of it without its last part: iHarmony4's variants of an object share one."""
    return file_of(stem, folder, endings, fewer=1)


def file_of(stem: str, folder: Path, endings: Iterable[str] = PICTURES, fewer: int = 2) -> Path | None:
    """The file of a composite's name, or of it without its last parts: iHarmony4's masks and targets are shared."""
    names = [stem.rsplit("_", parts)[0] if parts else stem for parts in range(fewer + 1)]
    found = (folder / f"{name}{ending}" for name in names for ending in endings)
    return next((file for file in found if file.is_file()), None)


class Files(Sequence[Path]):
    """Paths that are made when they are asked for: a large list of them takes ten times the memory of their names."""

    def __init__(self, names: list[str]):
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, place):
        return Files(self._names[place]) if isinstance(place, slice) else Path(self._names[place])


def pictures_below(folder: Path) -> Files:
    """Every picture file in a folder and the folders in it, sorted; none where there is no such folder."""
    return Files(
        sorted(
            os.path.join(inside, name)
            for inside, _, names in os.walk(folder)
            for name in names
            if os.path.splitext(name)[1].lower() in PICTURES
        )
    )


def open_rgb(path: Path) -> Image.Image:
    """The decoded picture as RGB. Raises HarmonyError naming the file if it is missing, truncated or no picture."""
    return open_image(path).convert("RGB")


def open_mask(path: Path) -> Image.Image:
    """The decoded mask as 8-bit grey. Raises HarmonyError naming the file if it cannot be read or is empty."""
    mask = open_image(path).convert("L")
    if not np.asarray(mask).max() > 127:
        raise HarmonyError(
            f"{path}: the mask is empty (no pixel above 127 of 255); fix the mask or drop its composites"
        )
    return mask


def _split_of_subset(root: Path, subset: str, split: str, val_share: float) -> list[Entry]:
    if split == "test":
        return _read_list(root, subset, "test", required=True)
    train, val = _read_list(root, subset, "train", required=True), _read_list(root, subset, "val", required=False)
    if val:
        named = {entry.group for entry in val}
        train = [entry for entry in train if entry.group not in named]
    else:
        train, val = hold_out(train, val_share)
    return train if split == "train" else val


def _read_list(root: Path, subset: str, split: str, required: bool) -> list[Entry]:
    """The subset's own list, else its lines of the set's common list."""
    own, common = lists_of(root, subset, split)
    path = own if own.is_file() else common
    if not path.is_file():
        if required:
            raise HarmonyError(
                f"{own}: no such list, nor {common.name} in {root}; copy the lists from the set's source"
            )
        return []
    return [parse_line(root, subset, line, where) for line, where in lines_of(path, subset)]


def lists_of(root: Path, subset: str, split: str) -> tuple[Path, Path]:
    """The two places of a list: the subset's own, and the set's common one."""
    return root / subset / f"{subset}_{split}.txt", root / f"IHD_{split}.txt"


def lines_of(path: Path, subset: str) -> Iterator[tuple[str, str]]:
    """(subset/composite_images/name, where) of the lines that are a subset's, or no subset's. Raises: it is no text."""
    common, others = path.name.startswith("IHD_"), set(KNOWN) - {subset}
    try:
        with ordinary(path, LIST).open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(map(str.strip, lines), 1):
                folder, slash, _ = line.partition("/")
                if line and not (common and slash and folder in others):
                    whole = line if common or slash else f"{subset}/composite_images/{line}"
                    yield whole, f"{path}, line {number}"
    except (UnicodeDecodeError, OSError) as error:
        reason = f"not a text file in UTF-8 ({one_line(error)})"
        raise HarmonyError(f"{path}: {reason}; copy the list again from the set's source") from None


def parse_line(root: Path, subset: str, line: str, where: str) -> Entry:
    """The triplet that subset/composite_images/name stands for. Raises HarmonyError where it is none of the subset."""
    path = PurePosixPath(line)
    if "\\" in line or "\0" in line or ".." in path.parts or path.is_absolute():
        raise HarmonyError(
            f"{where}: {line!r} climbs out of the set's folder; a line holds a composite's file name only"
        )
    named = path.suffix == ".jpg" and path.stem.count("_") >= 2 and len(path.name.encode()) <= LONGEST
    if path.parts[:-1] != (subset, "composite_images") or not named:
        raise HarmonyError(
            f"{where}: {line!r} is no composite of {subset}; "
            f"expected {subset}/composite_images/<photo>_<object>_<variant>.jpg"
        )
    entry = Entry(root, subset, path.stem)
    for file in entry.files:
        if _through_link(file):
            inside(root, file)
    return entry


def _through_link(file: Path) -> bool:
    """Whether the file, its folder or its subset's is a link: to resolve every path of a large set takes minutes."""
    return file.is_symlink() or file.parent.is_symlink() or file.parent.parent.is_symlink()


def _check_folder_names(root: Path) -> None:
    right = {name.lower(): name for name in KNOWN}
    for folder in root.iterdir():
        spelled = right.get(folder.name.lower())
        if spelled and folder.name != spelled:
            raise HarmonyError(f"{folder}: wrong case; the lists say {spelled}, rename the folder to {spelled}")
        if spelled and folder.is_dir():
            inside = {child.name.lower(): child.name for child in folder.iterdir() if child.is_dir()}
            for name in FOLDERS:
                if inside.get(name, name) != name:
                    raise HarmonyError(f"{folder / inside[name]}: wrong case; rename the folder to {name}")


def _and_more(items: list) -> str:
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()

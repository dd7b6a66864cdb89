"""From the name of a rung of the data ladder to its folder."""

import os
from pathlib import Path

from harmonylib.data import embedded
from harmonylib.data.layout import KNOWN, Files, pictures_below
from harmonylib.errors import HarmonyError
from harmonylib.paths import data_dir, shown

PHOTOGRAPHS = {  # what LEMaRT pre-trains on: folder under the data folder, and where it comes from
    "unlabelled": ("coco-unlabeled2017", "COCO's 123,403 unlabelled photographs (`data fetch coco-unlabeled2017`)"),
    "open-images": ("open-images", "photographs of Open Images V6 (`data fetch open-images`)"),
}
LADDER = ("iharmony4", "coco-mini", "embedded")  # best first: what `auto` looks for
HOW = {
    "iharmony4": "put or link your copy there (data/README.md says where the official one is)",
    "coco-mini": "make it: python -m harmonylib data prepare coco-mini",
}
ALIASES = {"iharmony4": ("iharmony4", "iHarmony4")}


def find(name: str) -> Path | None:
    """The folder of a real set under the data folder, or None."""
    for folder in ALIASES.get(name, (name,)):
        root = data_dir() / folder
        if any((root / subset).is_dir() for subset in KNOWN):
            return root
    return None


def auto() -> str:
    """The best set at hand: iharmony4, else coco-mini, else embedded; with a GPU in Colab coco-mini even if it is still
    to be made."""
    best = next(name for name in LADDER if name == "embedded" or find(name))
    return "coco-mini" if best == "embedded" and _gpu_in_colab() else best


def _gpu_in_colab() -> bool:
    if "COLAB_RELEASE_TAG" not in os.environ:
        return False
    import torch  # only here: naming a set should not wait for torch

    return torch.cuda.is_available()


def name_of(data: str) -> str:
    """The name that results carry: a rung of the ladder, or the last part of a folder's path.

    A folder of that name is not the embedded set: what is committed of it would be taken for the folder's.
    """
    name = auto() if data == "auto" else data
    if name in LADDER:
        return name
    last = Path(name).expanduser().resolve().name
    return "embedded-folder" if last == "embedded" else last


def locate(data: str, scene_count: int = embedded.SCENES, say=print) -> tuple[str, Path]:
    """(name, folder) of a set: ``auto``, a rung of the ladder, or a path to a folder in iHarmony4's layout.

    The embedded set is written on first use, and so is coco-mini where ``auto`` chose it. Raises HarmonyError where a
    set is not there, saying how to get it.
    """
    name = auto() if data == "auto" else data
    if name == "embedded":
        return name, embedded.ensure(scene_count, say=say)
    if name in LADDER:
        root = find(name)
        if root is None and data == "auto":
            root = _make_coco_mini(say)
        if root is None:
            raise HarmonyError(f"{name}: not found in {shown(data_dir())}; {HOW[name]}")
        return name, root
    root = Path(name).expanduser()
    if not root.is_dir():
        raise HarmonyError(
            f"{data}: neither one of {', '.join(LADDER)} nor a folder; give a set's name or its top folder"
        )
    return name_of(data), root


def _make_coco_mini(say) -> Path:
    from harmonylib.data import coco_mini, fetch  # only here: most studies make no set

    say(
        "coco-mini is not here yet: its 5,000 photographs (1.1 GB) are fetched and about 20,000 pairs made from them, "
        'once, in about 20 minutes on 2 cores; DATA = "embedded" needs neither'
    )
    coco_mini.build(fetch.fetch("coco-val2017", say=say), data_dir() / "coco-mini", say=say)
    return data_dir() / "coco-mini"


def photographs(name: str, root: Path) -> Files:
    """Files of the photographs that LEMaRT perturbs, sorted: of a name in `PHOTOGRAPHS`, or of a folder.

    A set may bring its own in a folder of that name, as the embedded one does with `unlabelled`. Raises HarmonyError
    where there are none.
    """
    folder, words = PHOTOGRAPHS.get(name, (name, "photographs"))
    candidates = [root / name, data_dir() / folder] if name in PHOTOGRAPHS else [Path(name).expanduser()]
    for candidate in candidates:
        if files := pictures_below(candidate):
            return files
    raise HarmonyError(
        f"photographs {name!r}: none in {shown(candidates[-1])}; put or link {words} there, or name target or a folder"
    )

"""From the name of a rung of the data ladder to its folder."""

from pathlib import Path

from harmonylib.data import embedded
from harmonylib.data.layout import SUBSETS
from harmonylib.errors import HarmonyError
from harmonylib.paths import data_dir, shown

LADDER = ("iharmony4", "coco-mini", "embedded")  # best first: what `auto` looks for
ALIASES = {"iharmony4": ("iharmony4", "iHarmony4")}


def find(name: str) -> Path | None:
    """The folder of a real set under the data folder, or None."""
    for folder in ALIASES.get(name, (name,)):
        root = data_dir() / folder
        if any((root / subset).is_dir() for subset in SUBSETS):
            return root
    return None


def auto() -> str:
    """The best set at hand: iharmony4, else coco-mini, else embedded."""
    return next(name for name in LADDER if name == "embedded" or find(name))


def name_of(data: str) -> str:
    """The name that results carry: a rung of the ladder, or the last part of a folder's path."""
    name = auto() if data == "auto" else data
    return name if name in LADDER else Path(name).expanduser().resolve().name


def locate(data: str, scene_count: int = embedded.SCENES, say=print) -> tuple[str, Path]:
    """(name, folder) of a set: ``auto``, a rung of the ladder, or a path to a folder in iHarmony4's layout.

    The embedded set is written on first use. Raises HarmonyError where a set is not there, saying how to get it.
    """
    name = auto() if data == "auto" else data
    if name == "embedded":
        return name, embedded.ensure(scene_count, say=say)
    if name in LADDER:
        root = find(name)
        if root is None:
            raise HarmonyError(
                f"{name}: not found in {shown(data_dir())}; put or link the set there (data/README.md says how)"
            )
        return name, root
    root = Path(name).expanduser()
    if not root.is_dir():
        raise HarmonyError(
            f"{data}: neither one of {', '.join(LADDER)} nor a folder; give a set's name or its top folder"
        )
    return name_of(data), root

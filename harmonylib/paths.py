"""Where things live: the checkout, the data, the results. Environment variables move the last two."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from harmonylib.errors import HarmonyError

ROOT = Path(__file__).resolve().parent.parent


def data_dir() -> Path:
    """Prepared data and caches: ``$HARMONY_DATA``, else ``data/`` of the checkout."""
    return Path(os.environ.get("HARMONY_DATA") or ROOT / "data")


def results_dir(profile: str, data: str = "embedded") -> Path:
    """``results/<profile>`` on embedded data, ``results/<profile>-<data>`` on other; ``$HARMONY_RESULTS`` moves it."""
    base = Path(os.environ.get("HARMONY_RESULTS") or ROOT / "results")
    return base / (profile if data == "embedded" else f"{profile}-{data}")


def shown(path: Path) -> str:
    """The path as a reader should see it: relative to the checkout where it lies inside."""
    path = Path(path)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()


def check_writable(path: Path | None) -> None:
    """Before the work, not after it: raises HarmonyError where a file cannot be written for want of a folder."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise HarmonyError(f"{path}: {'is a folder' if path.is_dir() else 'no such folder'}; name a file to write")


def check_free(path: Path, force: bool) -> None:
    """Raises HarmonyError where a file would be overwritten without having been asked to."""
    if path.exists() and not force:
        raise HarmonyError(f"{path}: is there already; name another, or add --force to overwrite")


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that takes its place when everything in it is written, and goes otherwise."""
    started = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(started, ignore_errors=True)
    started.mkdir(parents=True)
    try:
        yield started
        if folder.exists():  # somebody else was faster, or an older or broken one lies there
            shutil.rmtree(folder)
        os.replace(started, folder)
    finally:
        shutil.rmtree(started, ignore_errors=True)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place when all of it is on the disk, and goes otherwise."""
    building = path.with_name(f".{path.name[:40]}.{os.getpid()}")
    try:
        with building.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(building, path)
    finally:
        building.unlink(missing_ok=True)

"""Where things live (the checkout, the data, the results), and how they get there: whole, or not at all.

Environment variables move data and results.
"""

import glob
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from harmonylib.errors import HarmonyError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

ROOT = Path(__file__).resolve().parent.parent
MY_DRIVE = Path("/content/drive/MyDrive")  # in Colab
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has none

for _name in ("HARMONY_DATA", "HARMONY_RESULTS"):  # once and for all: processes that are started work in another folder
    if os.environ.get(_name):
        os.environ[_name] = os.path.abspath(os.path.expanduser(os.environ[_name]))


def data_dir() -> Path:
    """Prepared data and caches: ``$HARMONY_DATA``, else ``data/`` of the checkout."""
    return Path(os.environ.get("HARMONY_DATA") or ROOT / "data")


def results_dir(profile: str, data: str = "embedded") -> Path:
    """``results/<profile>`` on embedded data, ``results/<profile>-<data>`` on other; ``$HARMONY_RESULTS`` moves it."""
    base = Path(os.environ.get("HARMONY_RESULTS") or ROOT / "results")
    return base / (profile if data == "embedded" else f"{profile}-{data}")


def keep_on_drive(asked: bool) -> None:
    """In Colab: results and checkpoints go to the reader's Google Drive if asked for, else to the machine's disk."""
    folder = MY_DRIVE / "harmony-companion"
    if asked:
        from google.colab import drive

        drive.mount(str(MY_DRIVE.parent))
        folder.mkdir(exist_ok=True)
        os.environ["HARMONY_RESULTS"] = str(folder)
        print(f"results and checkpoints are kept in {folder}; runs found there are kept or resumed")
    elif os.environ.get("HARMONY_RESULTS") == str(folder):
        del os.environ["HARMONY_RESULTS"]


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
    if os.path.lexists(path) and not force:  # a link to nowhere would be written through
        raise HarmonyError(f"{path}: is there already; name another, or add --force to overwrite")


def check_missing(folder: Path) -> None:
    """Raises HarmonyError where a set would be made that is there already."""
    if folder.exists():
        raise HarmonyError(f"{shown(folder)}: is there already; take it away, or name another folder")


def beside(path: Path, kind: str) -> Path:
    """A hidden name in the same folder; names are cut, as they have 255 bytes."""
    return path.with_name(f".{path.name[:40]}.{kind}")


@contextmanager
def alone(lock: Path, busy: Callable[[], None]) -> Iterator[None]:
    """One process at a time under the file `lock`; the others call `busy` once, which may raise, and wait.

    The system holds it, so that it goes with the process, however that ends. Where no lock can be had (nothing can be
    written, a file system without them) the work goes on without.
    """
    from filelock import FileLock, SoftFileLock, Timeout  # here: `doctor` speaks where nothing is installed

    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        if not isinstance(held, SoftFileLock):
            busy()
            held.acquire(poll_interval=0.5)
    except (OSError, NotImplementedError):  # the second is what older filelocks raise where there is no `flock`
        held = None
    if isinstance(held, SoftFileLock):  # filelock's own way without `flock`: a file that outlives a killed owner
        held.release()
        held = None
    try:
        yield
    finally:
        if held:
            with suppress(OSError):  # who waits for it finds the work done, or does it
                lock.unlink()
            held.release()


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that takes its place when everything in it is on the disk, and goes otherwise.

    For one process at a time (`alone`): what others have left behind is removed.
    """
    started, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{word}part") for word in ("", "old."))
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*.part"):
        shutil.rmtree(left, ignore_errors=True)
    started.mkdir()  # not its parents: a disk that has vanished is not made anew elsewhere
    try:
        yield started
        with suppress(AttributeError):  # Windows has none
            os.sync()  # one call: file by file, a large set would take minutes
        if folder.exists():  # an older or broken one: first out of sight, for it does not go at once
            os.replace(folder, old)
            shutil.rmtree(old)
        os.replace(started, folder)
    except OSError as error:
        _name(error, folder)
        raise
    finally:
        shutil.rmtree(started, ignore_errors=True)


@contextmanager
def making(folder: Path) -> Iterator[Path]:
    """`building` of what is not there yet. Raises HarmonyError: it is, or another process is making it."""

    def busy():
        raise HarmonyError(f"{shown(folder)}: another process makes it; wait for it, or name another folder")

    check_missing(folder)
    with alone(beside(folder, "lock"), busy):
        check_missing(folder)
        with building(folder) as started:
            yield started


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place when all of it is on the disk, and goes otherwise.

    What a killed process has left of it is written over. A link stays one; what is no file (/dev/stdout) is written to.
    """
    path = path.resolve() if path.is_symlink() else path
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    part = beside(path, "part")
    try:
        with _opened_alone(part) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(part, path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        _name(error, path)
        raise


def _name(error: OSError, path: Path) -> None:
    """A write that fails does not say of what."""
    if error.errno is not None and error.filename is None:
        error.filename = str(path)


def _opened_alone(part: Path) -> BinaryIO:
    """An empty file that no other process is writing; closing it lets the next one in."""
    while True:
        if part.is_symlink():  # not of this package, and it leads elsewhere
            part.unlink()
        file = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | NOFOLLOW, 0o666), "r+b")
        with suppress(OSError, AttributeError):  # no locks: in this file system, on this system
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), part.stat()):
                file.truncate(0)
                return file
        file.close()  # the other has finished: its file has another name now


def write_text(path: Path, text: str) -> None:
    """A text file in UTF-8, whole or not at all. A name of bytes that are no text is escaped."""
    with whole_file(path) as file:
        file.write(text.encode(errors="backslashreplace"))

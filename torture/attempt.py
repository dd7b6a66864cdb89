"""One input to one reader: what counts as survived."""

import hashlib
import os
import resource
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harmonylib.errors import HarmonyError, one_line
from harmonylib.paths import ROOT

CRASHES = ROOT / "build" / "torture"
SECONDS = 60  # for one input, on a machine that is busy
MEMORY = 2.5e9  # bytes that the process may ever hold, about 0.6e9 of them before the first input


class Lost(Exception):
    """Something that an input should not have done."""


def attempt(reader, content: bytes, folder: Path) -> None:
    """Raises `Lost`, or whatever the reader let through."""
    beside = sorted(os.listdir(folder.parent))
    with time_limit(SECONDS):
        try:
            reader.read(content, folder)
        except HarmonyError as error:
            line = one_line(error)
            if not line or "\n" in line or not line.isprintable():
                raise Lost(f"refused without a line: {line!r}") from error
    if sorted(os.listdir(folder.parent)) != beside:
        raise Lost("wrote beside its folder")
    if peak() > MEMORY:
        raise Lost(f"took {peak() / 1e9:.1f} GB")


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def stop(*_):
        raise Lost(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def peak() -> int:
    """Bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def told(error: BaseException) -> str:
    """What it is and where in the package it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "harmonylib" in f.filename]
    return f"{type(error).__name__} ({own[-1] if own else 'outside the package'})"


def kept(reader: str, content: bytes, error: BaseException) -> str:
    """Save what was lost by, and say so in a sentence."""
    CRASHES.mkdir(parents=True, exist_ok=True)
    file = CRASHES / f"{reader.replace(' ', '-').replace(':', '')}-{hashlib.sha256(content).hexdigest()[:12]}"
    file.write_bytes(content)
    return one_line(f"{told(error)}: {error}; {file.relative_to(ROOT)}")

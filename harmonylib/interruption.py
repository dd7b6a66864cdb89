"""SIGTERM, which Slurm and Colab send some time before they end a process: what was done is saved, the exit code tells.

Signals reach the main thread alone; in any other, `noted` and `leaving` have no effect.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harmonylib.errors import HarmonyError

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on
PARENT = "HARMONY_PARENT"  # environment variable: the process that wants the work of those it starts
LOOK_EVERY = 0.5  # s
PATIENCE = 120  # s until a process that nobody waits for has saved its work


class Interrupted(HarmonyError):
    """A run stopped after a step, because of SIGTERM, and is saved."""

    exit_code = EXIT_CODE


class Terminated(KeyboardInterrupt):
    """SIGTERM where there is nothing to save first: everything takes it for Ctrl-C, but for the exit code."""


@contextmanager
def noted() -> Iterator[Callable[[], bool]]:
    """SIGTERM is noted instead of obeyed: what this gives says whether it came.

    Who takes notice raises `Interrupted`. After a block that ended without, the signal is sent again.
    """
    came: list[int] = []
    with _handled_by(lambda number, _: came.append(number)):
        yield lambda: bool(came)
    if came:
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def leaving() -> Iterator[None]:
    """SIGTERM raises `Terminated`."""

    def leave(*_):
        raise Terminated

    with _handled_by(leave):
        yield


@contextmanager
def _handled_by(handler: Callable) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def end_with_starter() -> None:
    """`end_with` the process that has put its number into the environment, for this process and not for its own."""
    if parent := os.environ.pop(PARENT, ""):
        end_with(int(parent))


def end_with(parent: int) -> None:
    """From now on this process gets SIGTERM when the one that has started it is gone: nobody waits for its work.

    Where it waits for others that are gone too, in code that hears no signal, it ends a while later.
    """

    def watch():
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE)
        os._exit(EXIT_CODE)

    threading.Thread(target=watch, daemon=True).start()

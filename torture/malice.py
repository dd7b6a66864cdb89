"""Files that mean harm, made by hand, each given to the command that reads it.

    python -m torture.malice [NAMES ...]

runs every case in a process of its own and prints a line of JSON for each: its name, and what was
lost. A command refuses in one line, or ends in a result; it neither hangs, nor takes gigabytes, nor writes or runs
anything else.
"""

import contextlib
import io
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

AT_ONCE = 2
SECONDS = 100  # for one command, on a machine that is busy
MEMORY = 2.2e9  # bytes at its peak, half a gigabyte of them libraries
FENCE = 6 << 30  # bytes of address space besides those libraries: no case may take the machine's memory
MARK = "executed"  # a file that no command writes: code in a file has


@dataclass(frozen=True)
class Case:
    """make: writes the files into an empty folder and returns the command; said: words of its line."""

    name: str
    make: Callable[[Path], list]
    said: str = ""
    codes: tuple[int, ...] = (2,)  # 0: a result will do, 1: a fault is reported


def main(names: list[str]) -> int:
    chosen = [case for case in cases() if not names or case.name in names]
    wrong = 0
    for case, lost in outcomes(chosen):
        print(json.dumps({"case": case.name, "lost": lost}), flush=True)
        wrong += lost is not None
    return 1 if wrong else 0


def cases() -> list[Case]:
    from torture import malicious_documents, malicious_pictures  # these need `Case`

    of_pictures = (*malicious_pictures.PICTURES, *malicious_pictures.SETS)
    of_documents = (*malicious_documents.OBJECTS, *malicious_documents.CHECKPOINTS, *malicious_documents.RECORDS)
    return [*of_pictures, *of_documents]


def outcomes(cases: list[Case]) -> Iterator[tuple[Case, str | None]]:
    """Each case with what was lost, or None. Processes are forked, after one import of everything."""
    import torch

    from harmonylib import cli, community, evaluation, export, fullres, leaderboard, report, votes  # noqa: F401
    from harmonylib.data import coco_mini, verify  # noqa: F401

    torch.set_num_threads(1)  # a fork has no use for the threads of its parent
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from zip(cases, pool.map(outcome, cases), strict=True)


def outcome(case: Case) -> str | None:
    """What was lost in one case."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve() / "in"
        folder.mkdir()
        words = [str(word) for word in case.make(folder)]
        before = listed(folder)
        code, told, peak = run(words, folder)
        return wrong(case, code, told, peak, sorted(listed(folder) - before), folder)


def run(words: list[str], folder: Path) -> tuple[int, tuple[str, str], int]:
    """(exit code, (stdout, stderr), bytes at the peak) of a command, run in a fork inside `folder`."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as lines:
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                _become(words, folder, (out, lines))
            os._exit(99)
        _, status, used = os.wait4(child, 0)
        told = []
        for stream in (out, lines):
            stream.seek(0)
            told.append(stream.read().decode("utf-8", "backslashreplace"))
    return os.waitstatus_to_exitcode(status), tuple(told), 1024 * used.ru_maxrss


def _become(words: list[str], folder: Path, streams: tuple) -> None:
    """The command, in this process; it does not return."""
    from harmonylib import cli

    for number, stream in enumerate(streams, 1):
        os.dup2(stream.fileno(), number)
    os.chdir(folder)
    os.environ |= {"HARMONY_DATA": str(folder / "data"), "HARMONY_RESULTS": str(folder / "results")}
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (mapped + FENCE, mapped + FENCE))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)
    sys.stdout, sys.stderr = (io.TextIOWrapper(os.fdopen(number, "wb"), encoding="utf-8") for number in (1, 2))
    try:
        code = cli.main(words)
    except SystemExit as stopped:
        code = stopped.code
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 98
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 97)


def listed(folder: Path) -> set[str]:
    return {os.path.relpath(os.path.join(inside, name), folder) for inside, folders, names in os.walk(folder)
            for name in (*folders, *names)}  # fmt: skip


def wrong(case: Case, code: int, told: tuple[str, str], peak: int, added: list[str], folder: Path) -> str | None:
    """What should not have happened, or None."""
    out, lines = told[0], told[1].splitlines()
    if code == -signal.SIGALRM:
        return f"took more than {SECONDS} s"
    if code not in case.codes:
        return f"exit code {code}; {' / '.join((out.splitlines() + lines)[-3:])}"
    if (code == 2 and len(lines) != 1) or (code != 2 and lines):
        return f"{len(lines)} lines: {' / '.join(lines[:4])}"
    if case.said not in (told[1] if code == 2 else out) and code:
        return f"said {' / '.join(lines or out.splitlines()[:3])}, not {case.said!r}"
    if not (out + told[1]).replace("\n", "").isprintable():
        return f"printed what a terminal obeys: {out + told[1]!r}"
    if peak > MEMORY:
        return f"took {peak / 1e9:.1f} GB"
    empty = ("data", "data/cache")  # where its lock was
    strange = [n for n in added if (code == 2 and n not in empty) or not n.startswith(("out", "data", "results"))]
    if strange or (folder.parent / MARK).exists():
        return f"left {strange[:3] or MARK}"
    return None


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def sparse(path: Path, size: int = 10 << 30) -> Path:
    """A file of ten gigabytes that takes none of the disk."""
    path.touch()
    os.truncate(path, size)
    return path


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

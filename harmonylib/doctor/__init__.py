"""``python -m harmonylib doctor``: what works here, what does not, and what to do about it.

It must speak where nothing else does. So nothing but Python's own library is imported here, packages are tried in
processes of their own, and every check runs beside the others and has a time limit.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Thread
from time import monotonic

OK, NOTE, FIX = "ok", "note", "FIX"  # a note hinders one use, which it names; what is to be fixed stands in the way
SECONDS = 30  # that a check may take: a network folder or a driver may never answer
IMPORTS = 240  # seconds for the packages, which may come from a cold disk on a busy machine
Check = Callable[[], Iterator[tuple[str, str]]]


def run(data: str = "auto") -> int:
    """Print one line a finding; 0 if nothing stands in the way, else 1."""
    from harmonylib.doctor import files, machine, packages

    checks: dict[str, Check] = {
        "Python": machine.python, "variables": machine.variables, "checkout": files.checkout,
        "packages": packages.packages, "notebooks": files.notebooks, "memory": machine.memory, "disk": machine.disk,
        "data": lambda: files.data(data), "results": files.results, "network": machine.network,
    }  # fmt: skip
    stands_in_the_way = False
    for begun in [_Begun(name, check) for name, check in checks.items()]:
        for kind, words in begun.findings():
            print(f"{kind:4} {' '.join(words.split())}", flush=True)
            stands_in_the_way |= kind == FIX
    return int(stands_in_the_way)


class _Begun:
    """A check in a thread that nobody waits for once its time is over."""

    def __init__(self, name: str, check: Check):
        self.name, self.check, self.found = name, check, []
        self.until = monotonic() + (IMPORTS if name == "packages" else SECONDS)
        self.thread = Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            self.found.extend(self.check())
        except Exception as error:  # whatever it is, the other findings should be read
            self.found.append((FIX, f"{self.name}: cannot be looked at ({type(error).__name__}: {error})"))

    def findings(self) -> list[tuple[str, str]]:
        self.thread.join(max(0.0, self.until - monotonic()))
        late = (
            FIX,
            f"{self.name}: no answer in time; a network folder or driver hangs? mend it, or use a local folder",
        )
        return [*self.found, late] if self.thread.is_alive() else self.found


def hiding(packages: Iterable[str] = ()) -> list[Path]:
    """Files that hide a module of Python, or in the folder one is in one of these packages."""
    own, found = sys.stdlib_module_names, []
    folders = {Path(folder): own for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder}
    for folder, names in (folders | {Path.cwd(): own.union(packages)}).items():
        for path in sorted(folder.glob("*")) if not (folder / "site-packages").is_dir() else ():  # not Python's library
            if path.name.split(".")[0] in names and (
                path.suffix in (".py", ".pyc") or (path / "__init__.py").is_file()
            ):
                found.append(path)
    return found


def step_aside() -> None:
    """Take folders with files that hide modules of Python off the path, so that the rest can be looked at."""
    try:
        folders = {path.parent.absolute() for path in hiding()}
    except OSError:  # the folder one is in is gone: `files.checkout` says so
        return
    sys.path[:] = [folder for folder in sys.path if Path(folder).absolute() not in folders]

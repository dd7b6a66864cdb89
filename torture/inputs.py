"""Rubbish and malice for everything that reads a file: `make torture`'s part "inputs".

Malicious files made by hand go through their commands (`malice`); then every reader gets what hypothesis invents and
what a coverage-guided fuzzer finds (`fuzz`), in processes of their own, two at once.
"""

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator

from harmonylib.paths import ROOT
from torture import Trial

AT_ONCE = 2
INVENTED = 1 / 3  # of a reader's time for hypothesis; the rest is the fuzzer's
START = 20  # s, that a process needs to begin and end with, on a machine that is busy


def trials(seconds: float, seed: int) -> Iterator[Trial]:
    """The malicious files first, all of them; the rest of the time is shared out among the readers."""
    started = time.perf_counter()
    yield by_hand()
    left = max(0.0, seconds - (time.perf_counter() - started))
    names = told("-c", "from torture.readers import READERS; import json; print(json.dumps(list(READERS)))")[0]
    guided = importlib.util.find_spec("atheris") is not None
    ways = {"hypothesis": INVENTED, "atheris": 1 - INVENTED} if guided else {"hypothesis": 1}
    each = max(3.0, (left - len(ways) * START) * AT_ONCE / len(names))
    found = {way: {} for way in ways}
    for way, share in ways.items():
        words = ("--seconds", f"{share * each:.1f}", "--seed", str(seed), "--at-once", str(AT_ONCE))
        found[way] = {line["reader"]: line for line in told("-m", "torture.fuzz", way, *words)}
    for name in names:
        lines = {way: found[way].get(name, {"tried": 0, "lost": [f"{way} did not come to {name}"]}) for way in ways}
        counts = [f"{line['tried']:,} by {way}" for way, line in lines.items()]
        note = ", ".join(counts) + ("" if guided else "; without atheris, which is for Linux: not guided by coverage")
        lost = tuple(dict.fromkeys(loss for line in lines.values() for loss in line["lost"]))
        yield Trial("inputs", name, sum(line["tried"] for line in lines.values()), lost, note)


def by_hand() -> Trial:
    """Each command with each of the files that were made for it."""
    lines = told("-m", "torture.malice")
    lost = tuple(f"{line['case']}: {line['lost']}" for line in lines if line["lost"])
    return Trial("inputs", "malicious files, each through its command", len(lines), lost or _none(lines))


def _none(lines: list) -> tuple[str, ...]:
    return () if lines else ("no case was run",)


def told(*words: str) -> list:
    """The lines of JSON that a Python process prints."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, errors="replace")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "["))]

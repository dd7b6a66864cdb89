"""The promises of time: `make reproduce` from nothing and again, and every notebook in the smoke profile.

    python -m benchmarks.promises [--out results/bench]

They take half an hour: they are run by this command, in a fresh clone, and the table of lines reads what it recorded.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from benchmarks import FOLDER, slug
from benchmarks.timing import Machine, Row, counted
from harmonylib import records
from harmonylib.paths import ROOT

LEAST = 0.05  # seconds: what is recorded as 0.0 took less
PROMISED = {  # minutes, on 2 CPU cores
    "make reproduce, from nothing": ("reproduce", 15),
    "make reproduce, again": ("reproduce", 0.5),
    "make smoke": ("smoke", 5),
}


def rows(machine: Machine) -> Iterator[Row]:
    recorded = FOLDER / f"{slug()}-promises.csv"
    if not recorded.is_file():
        print("promises: not recorded on this device; `python -m benchmarks.promises` takes half an hour")
        return
    for row in pd.read_csv(recorded).itertuples():
        note = f"recorded at {row.git_sha[:7]}; {row.kernels} notebooks run"
        yield counted(row.what, "the promise", "s", max(row.seconds, LEAST), row.promised, aim=1, note=note)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.promises", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--clone", type=Path, help="keep the clone, and with it the results, in this folder")
    options = parser.parse_args()
    environment = records.environment()
    with tempfile.TemporaryDirectory() as folder:
        clone = options.clone or Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        table = pd.DataFrame([_timed(what, target, clone, 60 * m) for what, (target, m) in PROMISED.items()])
    for key in ("git_sha", "device", "threads", "python"):
        table[key] = environment[key]
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / f"{slug()}-promises.csv", index=False, lineterminator="\n")


def _timed(what: str, target: str, clone: Path, promised: float) -> dict:
    """Run a target with this environment's Python, which needs no setting up; a failure ends the command."""
    venv = Path(sys.prefix)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HARMONY_", "MAKE"))}
    started = time.perf_counter()
    done = subprocess.run(
        ["make", target, f"VENV={venv}", f"--old-file={venv}/.ready"],
        cwd=clone,
        env=inherited,
        text=True,
        capture_output=True,
        check=False,
    )
    spent = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stdout[-4000:] + done.stderr[-4000:])
    kernels = done.stdout.count("-m papermill") if target == "reproduce" else len(list(clone.glob("notebooks/*.ipynb")))
    print(f"{what}: {spent:.0f} s, {kernels} notebooks run; promised {promised:.0f} s", flush=True)
    return {"what": what, "promised": promised, "seconds": round(spent, 1), "kernels": kernels}


if __name__ == "__main__":
    main()

"""What is tried on a simulated machine, a notebook at a time, as a reader would run it."""

import itertools
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from colab.machine import Failed, Kernel, Machine

READS_RECORDS = "06"  # of the notebooks before it: in Colab through Drive, every notebook having a machine of its own
ON_DRIVE = "harmony-companion/smoke"
OPENING = 3  # cells: parameters, clone, data
LOST = "03"  # the notebook that the lost machine is tried with
LONG = """
from dataclasses import replace
from harmonylib import training

training.CHECKPOINT_SECONDS = 0
_ = study.run(replace(experiments.resolve(experiments.UNET, study.profile, study.data), name="long", steps=400))
"""  # a run that is longer than this profile's, and that keeps every step
KEPT, RESUMED = re.compile(r"finished before .*; kept"), re.compile(r"resumed at step (\d+) of (\d+)")


def all_of(folder: Path, python: Path, notebooks: Path, beginnings: tuple[str, ...]) -> Iterator[dict]:
    """Rows of the table: notebook, run, passed, cells, seconds, note."""
    github, drive = notebooks.parent.parent / "github", folder / "drive"
    drive.mkdir(parents=True)
    folders = (folder / f"machine{number}" for number in itertools.count())

    def new(drive: Path | None = None) -> Machine:
        return Machine(next(folders), python, github, drive)

    for path in sorted(notebooks.glob("*.ipynb")):
        if not path.name.startswith(beginnings):
            continue
        for name, outcome in of_one(path, new, drive):
            yield {"notebook": path.stem, "run": name, **outcome}


def of_one(path: Path, new: Callable, drive: Path) -> Iterator[tuple[str, dict]]:
    """The runs of one notebook; what it made is put on Drive, for the one that reads it."""
    asked = None
    if path.name.startswith(READS_RECORDS):
        yield "without any records", once(new(), code(path))
        asked = drive
    cells, times, machine = code(path, drive=bool(asked)), [], new(asked)
    with machine.kernel() as kernel:
        yield "top to bottom", run(kernel, cells, times)
        yield "again in the same kernel", run(kernel, cells)
    made = machine.content / "companion" / "results" / "smoke"
    if made.is_dir():
        shutil.copytree(made, drive / ON_DRIVE, dirs_exist_ok=True)
    machine.lose()
    yield "restarted in the middle", restarted(new(asked), cells, times)
    if path.name.startswith(LOST):
        yield "machine lost, Drive asked for", lost(new, code(path, drive=True), drive.with_name("another drive"))


def code(path: Path, drive: bool = False) -> list[str]:
    """The code cells, with the box DRIVE ticked or as it is."""
    cells = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    return [source.replace("DRIVE = False", f"DRIVE = {drive}") for source in sources]


def once(machine: Machine, cells: list[str]) -> dict:
    with machine.kernel() as kernel:
        outcome = run(kernel, cells)
    machine.lose()
    return outcome


def restarted(machine: Machine, cells: list[str], times: list[float]) -> dict:
    """The kernel is killed halfway through its longest cell, the opening of the data apart; then top to bottom again.

    Where that cell trains, at least one run is finished by then. times: seconds that each cell took before.
    """
    longest = max(range(OPENING, len(times)), key=times.__getitem__, default=0)
    runs, trains = machine.content / "companion" / "results" / "smoke" / "runs", "run_all" in cells[longest]

    def halfway() -> bool:
        return time.monotonic() > half and (not trains or any(runs.glob("*/seed*/checkpoint.pt")))

    with machine.kernel() as kernel:
        run(kernel, cells[:longest])
        half = time.monotonic() + times[longest] / 2
        with suppress(Failed):
            kernel.run(cells[longest], until=halfway)
    outcome = once(machine, cells)
    return outcome | {"note": f"killed in cell {longest + 1} of {len(cells)}; {outcome['note']}".rstrip("; ")}


def lost(new: Callable, cells: list[str], drive: Path) -> dict:
    """The machine is taken away in the middle of a run; a new one goes on from what lies on Drive.

    It passed only if the run that was broken off was resumed where it was, those that were finished were kept, and
    nothing but Drive was written to.
    """
    drive.mkdir()
    machine, checkpoint = new(drive), drive / ON_DRIVE / "runs" / "long" / "seed0" / "checkpoint.pt"
    with machine.kernel() as kernel:
        before = run(kernel, cells)
        with suppress(Failed):
            kernel.run(LONG, until=checkpoint.is_file)
    elsewhere = (machine.content / "companion" / "results" / "smoke").exists()
    machine.lose()
    outcome = once(new(drive), [*cells, LONG])
    went_on = "kept" in outcome["note"] and "resumed" in outcome["note"]
    return outcome | {"passed": before["passed"] and outcome["passed"] and went_on and not elsewhere}


def run(kernel: Kernel, cells: list[str], times: list[float] | None = None) -> dict:
    """Cells one after another, until one fails; appends to `times` the seconds of each."""
    printed, took, error = [], [] if times is None else times, ""
    for number, cell in enumerate(cells, 1):
        started = time.monotonic()
        try:
            printed.append(kernel.run(cell))
        except Failed as failed:
            error = f"cell {number}: {failed}"
            break
        took.append(time.monotonic() - started)
    said = "".join(printed)
    notes = [f"{len(KEPT.findall(said))} runs kept"] if KEPT.search(said) else []
    notes += [found[0] for found in RESUMED.finditer(said)]
    return {"passed": not error, "cells": len(took), "seconds": round(sum(took), 1), "note": error or ", ".join(notes)}


def sentence(row: dict) -> str:
    note, passed = f" ({row['note']})" if row["note"] else "", "passed" if row["passed"] else "FAILED"
    what = f"Python {row['python']}, {row['notebook']}, {row['run']}"
    return f"{what}: {passed}, {row['cells']} cells in {row['seconds']} s{note}"

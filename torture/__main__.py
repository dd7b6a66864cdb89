"""Kill it, starve it, feed it rubbish: is anything lost? A line a kind of trial, and what they come to.

    python -m torture [PARTS ...] [--minutes 20] [--seed 0] [--out results/torture]

Where all parts were run, writes torture.csv and prints the README's table of it. Exit code 1 where anything was lost.
"""

import argparse
import importlib
import time
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from harmonylib import records
from torture import FOLDER, Trial

HEADINGS = {
    "kills": "kills survived",
    "faults": "faults injected",
    "processes": "two processes at once",
    "inputs": "inputs tried",
}
PARTS = {"kills": 0.45, "faults": 0.2, "inputs": 0.35}  # a module each, and its share of the time


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PARTS", help=f"some of {', '.join(PARTS)}; all of them by default")
    parser.add_argument("--minutes", type=float, default=18, help="for all parts together (default 18)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the inputs (default 0)")
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]!r}; choose from {', '.join(PARTS)}")
    started, trials = time.perf_counter(), []
    for name in options.parts or PARTS:
        run = importlib.import_module(f"torture.{name}").trials
        for trial in run(60 * options.minutes * PARTS[name], options.seed):
            trials.append(trial)
            print(sentence(trial), flush=True)
    minutes = (time.perf_counter() - started) / 60
    print(f"{summary(trials)}, in {minutes:.1f} minutes")
    if not options.parts:
        write(trials, options.out)
    return 1 if any(trial.lost for trial in trials) else 0


def sentence(trial: Trial) -> str:
    note = f" ({trial.note})" if trial.note else ""
    return "\n".join([f"{trial.part}: {trial.what}: {trial.times}{note}", *(f"    LOST {loss}" for loss in trial.lost)])


def summary(trials: Iterable[Trial]) -> str:
    """Kills survived, faults injected, inputs tried, and what was lost."""
    trials = list(trials)
    counts = {
        part: sum(trial.times for trial in trials if trial.part == part) for part in {t.part: None for t in trials}
    }
    lost = sum(len(trial.lost) for trial in trials)
    return "; ".join([*(f"{part}: {count:,}" for part, count in counts.items()), f"lost: {lost or 'nothing'}"])


def write(trials: list[Trial], folder: Path) -> None:
    environment = records.environment()
    rows = [{"part": t.part, "what": t.what, "times": t.times, "lost": len(t.lost), "note": t.note} for t in trials]
    table = pd.DataFrame(rows).assign(device=environment["device"], python=environment["python"])
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "torture.csv", index=False, lineterminator="\n")
    print(markdown(table))


def markdown(table: pd.DataFrame) -> str:
    """The table of the README, from torture.csv: a row a part."""
    rows = ["| | times | of what | lost |", "|---|---|---|---|"]
    for part, found in table.groupby("part", sort=False):
        of = ", ".join(f"{row.what.removeprefix('records: ')} {row.times:,}" for row in found.itertuples())
        rows.append(f"| {HEADINGS[part]} | {found['times'].sum():,} | {of} | {found['lost'].sum() or 'nothing'} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())

"""What does it cost, beside what a reader would otherwise use? Every line in one process, in turn, as a ratio.

    python -m benchmarks [LINES ...] [--out results/bench]

Writes <device>.csv, with the versions, and <device>.png. Exit code 1 where a line misses its aim.
"""

import argparse
import importlib
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch

from benchmarks import FOLDER, slug
from benchmarks.timing import Machine, Row
from harmonylib import records

LINES = ("loading", "perturbing", "scoring", "transferring", "attention", "networks", "promises")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("lines", nargs="*", metavar="LINES", help=f"some of {', '.join(LINES)}; all of them by default")
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    unknown = [name for name in options.lines if name not in LINES]
    if unknown:
        parser.error(f"no lines {unknown[0]!r}; choose from {', '.join(LINES)}")
    torch.manual_seed(0)
    machine, rows = Machine.here(), []
    print(f"{records.environment()['device']}: {describe(machine)}", flush=True)
    for name in options.lines or LINES:
        for row in importlib.import_module(f"benchmarks.{name}").rows(machine):
            rows.append(row)
            print(sentence(row), flush=True)
    if not options.lines:  # a part of the table would overwrite the whole
        write(rows, options.out)
    missed = [row for row in rows if not row.met]
    print(f"{len(rows) - len(missed)} of {len(rows)} aims met")
    return 1 if missed else 0


def write(rows: list[Row], folder: Path) -> None:
    """<device>.csv and <device>.png."""
    from benchmarks import figure  # only here: a single line needs no pictures

    environment = records.environment()
    table = pd.DataFrame([{**asdict(row), "met": row.met} for row in rows])
    for key in ("device", "threads", "python"):
        table[key] = environment[key]
    for name, version in environment["packages"].items():
        table[name] = version
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / f"{slug()}.csv", index=False, float_format="%.4g", lineterminator="\n")
    figure.draw(table, folder / f"{slug()}.png")


def describe(machine: Machine) -> str:
    rates = f"{machine.flops / 1e9:,.0f} GFLOP/s in float32, {machine.half_flops / 1e9:,.0f} in bfloat16"
    return f"{torch.get_num_threads()} threads, {rates}, {machine.bandwidth / 1e9:.1f} GB/s"


def sentence(row: Row) -> str:
    verdict = "met" if row.met else "MISSED"
    share = f", {row.share:.0%} of the {row.limit} limit" if row.limit else ""
    spread = f" [{row.low:.2f}, {row.high:.2f}]" if row.rounds > 1 else ""
    note = f"; {row.note}" if row.note else ""
    return (
        f"{row.line} | against {row.against}: {row.ours:.4g} to {row.theirs:.4g} {row.unit}, {row.ratio:.2f}x{spread}, "
        f"aim {row.aim:g}x {verdict}{share}{note}"
    )


if __name__ == "__main__":
    raise SystemExit(main())

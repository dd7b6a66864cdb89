"""Is it still the same? Every result of `drift.values` against the committed reference.

    python -m drift [--out results/drift/NAME.csv]     # exit code 1 where something drifted
    python -m drift --made FILE                        # what `python -m drift.values FILE` wrote on another machine
    python -m drift --write                            # make the reference anew (with the lock's versions, Python 3.11)

The results are made twice, in two processes, whose bytes must be the same.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from drift import KINDS, REFERENCE
from harmonylib.paths import ROOT, shown

FINEST = 1e-9  # where bytes differ and the numbers that are kept, of nine digits, do not
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "PYTHONHASHSEED": "0"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m drift", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="CSV", help="write the table here, with the versions")
    parser.add_argument("--made", type=Path, metavar="FILE", help="compare what was made elsewhere; makes nothing")
    parser.add_argument("--reference", type=Path, default=REFERENCE, help=f"default {shown(REFERENCE)}")
    parser.add_argument("--write", action="store_true", help="write the reference instead of comparing with it")
    options = parser.parse_args()
    first, *others = [options.made.read_bytes()] if options.made else make(times=2)
    same = all(other == first for other in others)
    if options.write:
        options.reference.parent.mkdir(parents=True, exist_ok=True)
        options.reference.write_bytes(first)
        return 0 if same else 1
    made, reference = json.loads(first), json.loads(options.reference.read_text())
    elsewhere = made["versions"].get("avx512") != reference["versions"].get("avx512")
    table = compare(reference["values"], made["values"], elsewhere)
    if others:
        table.loc[len(table)] = ["made twice, in two processes", "data", same, 0.0 if same else math.inf, 0.0, same]
    print(table.to_string(index=False, float_format="%.2g"))
    print(summary(table))
    if elsewhere:
        print("one of both was made with AVX-512 and the other without: tolerances are wider")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        table.assign(**made["versions"]).to_csv(options.out, index=False, float_format="%.3g", lineterminator="\n")
    return 0 if table["ok"].all() else 1


def make(times: int) -> list[bytes]:
    """What `drift.values` writes, each time in a process of its own; all of them at once."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.json" for number in range(times)]
        command, environment = [sys.executable, "-m", "drift.values"], os.environ | ENVIRONMENT
        running = [subprocess.Popen([*command, str(file)], cwd=ROOT, env=environment) for file in files]
        if sum(process.wait() != 0 for process in running):
            raise SystemExit("drift: results could not be made; see the message above")
        return [file.read_bytes() for file in files]


def compare(reference: dict[str, dict], made: dict[str, dict], elsewhere: bool = False) -> pd.DataFrame:
    """One row a result: what, kind, whether all bytes are the same, difference, tolerance, ok.

    What only one side has is not ok; what needs ONNX is left out where that is not installed. `elsewhere`: one with
    AVX-512 and one without, where a digest without numbers says only that scenes differ, and not by how much: NaN.
    """
    names = [name for name in reference if name in made or "ONNX" not in name]
    names += [name for name in made if name not in reference]
    rows = []
    for name in names:
        both = [reference.get(name), made.get(name)]
        kind, off = (both[0] or both[1])["kind"], difference(*both)
        tolerance = KINDS[kind].elsewhere if elsewhere else KINDS[kind].tolerance
        if elsewhere and kind == "scenes" and all(both) and not any("numbers" in side for side in both):
            off = off and math.nan
        rows.append((name, kind, off == 0, off, tolerance, not off > tolerance))
    return pd.DataFrame(rows, columns=["what", "kind", "bytes", "difference", "tolerance", "ok"])


def difference(reference: dict | None, made: dict | None) -> float:
    """0 where all bytes are the same, else the largest difference of the kept numbers as a share of the largest."""
    if reference is None or made is None:
        return math.inf
    if reference["digest"] == made["digest"]:
        return 0.0
    before, now = reference.get("numbers"), made.get("numbers")
    if not before or not now or len(before) != len(now):
        return math.inf
    largest = 255 if reference["kind"] == "levels" else max(map(abs, before)) or 1.0
    off = max(abs(b - a) for a, b in zip(before, now, strict=True)) / largest
    return max(off, FINEST) if off == off else math.inf


def summary(table: pd.DataFrame) -> str:
    """How many are the same, and the largest difference of each kind."""
    same, drifted = int(table["bytes"].sum()), table[~table["ok"]]
    worst = [f"{kind} {off:.2g}" for kind, off in table.groupby("kind", sort=False)["difference"].max().items() if off]
    told = f"{same} of {len(table)} the same to the last bit"
    told += f"; largest differences: {', '.join(worst)}" if worst else ""
    return told + (f"; DRIFTED: {', '.join(drifted['what'])}" if len(drifted) else "; nothing drifted")


if __name__ == "__main__":
    raise SystemExit(main())

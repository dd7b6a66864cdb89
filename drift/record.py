"""One run of the profile quick, from scratch, against the committed record of it.

    python -m drift.record [swinih|unet] [--seed 0] [--out build/verify/again]

Byte for byte where processor, threads and versions are the record's; elsewhere within `drift.RUNS`. Exit code 1 beyond,
or where the data are not the record's although both were made with AVX-512, or both without.
"""

import argparse
import math
import os
import shutil
from pathlib import Path

import numpy as np

from drift import RUNS
from harmonylib import experiments
from harmonylib.paths import ROOT, shown
from harmonylib.records import Record

COMMITTED = ROOT / "results" / "quick" / "runs"
SAME = ("device", "threads", "packages")  # of env.json: with these alike, bytes are


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m drift.record", description=__doc__.splitlines()[0])
    parser.add_argument("experiment", nargs="?", default="swinih", choices=RUNS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "verify" / "again", help="emptied first")
    options = parser.parse_args()
    committed = Record(COMMITTED / options.experiment / f"seed{options.seed}")
    shutil.rmtree(options.out, ignore_errors=True)
    found = again(committed, options.out)
    good, words = compare(committed, found)
    print(f"{shown(committed.folder)} again: {words}")
    return 0 if good else 1


def again(committed: Record, out: Path) -> Record:
    """The run, made now with the record's number of threads."""
    import torch

    from harmonylib.study import open_study

    os.environ["HARMONY_RESULTS"] = str(out)
    os.environ.pop("HARMONY_PROFILE", None)
    torch.set_num_threads(committed.env["threads"])
    study = open_study("quick", "embedded")
    declared = experiments.resolve(experiments.get(committed.experiment), study.profile, study.data)
    return study.run(declared, committed.seed)


def compare(committed: Record, found: Record) -> tuple[bool, str]:
    """Whether `found` is what the committed record says, and in words how near."""
    other_data = committed.env["data_hash"] != found.env["data_hash"]
    alike = committed.env.get("avx512", True) == found.env.get("avx512", True)  # what is older was made with it
    if other_data and alike:
        return False, f"its data are {committed.env['data_hash']}, here {found.env['data_hash']}: the set has drifted"
    same = alike and all(committed.env[name] == found.env[name] for name in SAME)
    rows = [(record.folder / "per_image.csv").read_bytes() for record in (committed, found)]
    keyless = [{**record.metrics, "key": None} for record in (committed, found)]  # it changes with every comment
    if rows[0] == rows[1] and keyless[0] == keyless[1]:
        return True, "byte for byte the same"
    off = difference(committed, found)
    words = f"on {len(committed.rows('bcmi256'))} test pictures they differ by {off:.2g} on average"
    if same:
        return False, f"{words}, on the processor and with the versions of the record, where bytes should be the same"
    limit = RUNS[committed.experiment]
    why = "no AVX-512, other pixels in some scenes" if other_data else "other processor or versions"
    return off <= limit, f"{words}, {'within' if off <= limit else 'BEYOND'} {limit:g}; {why}"


def difference(committed: Record, found: Record) -> float:
    """The mean distance of two runs on a test picture, as a share of the mean: of MSE or fMSE, the larger."""
    keys = ["protocol", "name"]
    rows = [record.per_image.query("split == 'test'").sort_values(keys) for record in (committed, found)]
    if rows[0][keys].to_numpy().tolist() != rows[1][keys].to_numpy().tolist():
        return math.inf
    pairs = [[table[metric].to_numpy() for table in rows] for metric in ("mse", "fmse")]
    return float(max(np.nanmean(np.abs(now - before)) / np.nanmean(before) for before, now in pairs))


if __name__ == "__main__":
    raise SystemExit(main())

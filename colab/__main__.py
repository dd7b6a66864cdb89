"""Every notebook in a simulated Colab: top to bottom, again in the same kernel, and after a restart in the middle.

    python -m colab [PYTHON ...] [--notebooks 01 03] [--out results/colab]

PYTHON: interpreters (default: this one) that have what `colab/installed.txt` lists, or to make a virtual environment
from. The last commit is what is tried. Writes colab.csv where all notebooks were run. Exit code 1 where a cell failed,
2 where nothing could be tried. Linux only: /content is put in place by a mount namespace (`unshare`).
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from colab import ROOT, machine, trials

VERSIONS = ("torch", "numpy", "pandas", "ipython", "ipykernel")  # the rest is in installed.txt


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m colab", description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs="*", default=[sys.executable], metavar="PYTHON")
    parser.add_argument("--notebooks", nargs="+", default=[""], metavar="NN", help="those whose names begin so")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "colab")
    options = parser.parse_args()
    try:
        rows = list(_run(options.pythons, tuple(options.notebooks)))
        if not rows:
            raise machine.Failed(f"no notebook's name begins with {', '.join(options.notebooks)}")
    except (machine.Failed, subprocess.CalledProcessError) as error:
        print(f"colab: {error}", file=sys.stderr)
        return 2
    failed = [row for row in rows if not row["passed"]]
    notebooks = len({row["notebook"] for row in rows})
    print(f"{notebooks} notebooks, {len(rows)} runs on {len(options.pythons)} Pythons; failed: {len(failed) or 'none'}")
    if options.notebooks == [""]:
        _write(rows, options.out)
    return 1 if failed else 0


def _run(pythons: list[str], beginnings: tuple[str, ...]) -> Iterator[dict]:
    machine.namespace()
    environments = [machine.environment(python) for python in pythons]
    with tempfile.TemporaryDirectory(prefix="colab-", ignore_cleanup_errors=True) as folder:
        notebooks = machine.github(Path(folder))
        for number, (version, python) in enumerate(environments):
            for trial in trials.all_of(Path(folder) / f"machines{number}", python, notebooks, beginnings):
                row = {"python": version, **trial}
                print(trials.sentence(row), flush=True)
                yield row


def _write(rows: list[dict], folder: Path) -> None:
    wanted = [pin.replace("==", " ") for pin in machine.pins() if pin.split("==")[0] in VERSIONS]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "colab.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "versions"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | {"versions": ", ".join(wanted)} for row in rows)


if __name__ == "__main__":
    raise SystemExit(main())

"""Is a contributed record whole, and does it say what its own rows say? Checked without the data it was made on.

What can be checked from afar: averages follow from the rows of single pictures, every run saw the same pictures of the
same data, doing nothing is there beside it, on the official lists it scores as published, and nothing that should stay
at home (pictures, weights, paths of a machine) came along. What cannot: that the rows were measured at all. The commit
and the hashes say how to measure them again.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from harmonylib import official, records, statistics
from harmonylib.config import experiment_from
from harmonylib.data.verify import Fault
from harmonylib.errors import HarmonyError
from harmonylib.records import Record

NEEDED = ("config.json", "env.json", "metrics.json", "per_image.csv")
ALLOWED = (*NEEDED, "log.csv")
METRICS = ("mse", "psnr", "fmse", "fpsnr")
AGREES = 1e-4  # relative: the rows are written with six digits
HOME = re.compile(r"/(home|Users|root|mnt|content/drive)/|[A-Z]:\\+Users")  # paths that name a person or a machine


def check(folder: str | Path) -> tuple[list[Record], list[Fault]]:
    """The records of ``<folder>/runs/<experiment>/seed<k>/``, and what is wrong with them, by file.

    Raises HarmonyError where there are none.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise HarmonyError(f"{folder}: no such folder; give the one that holds runs/")
    places = sorted(path for path in (folder / "runs").glob("*/seed*") if path.is_dir())
    if not places:
        raise HarmonyError(f"{folder}: no runs/<experiment>/seed<k>/ in it; give the folder that holds runs/")
    faults = list(_files(folder))
    made = []
    for place in places:
        found = list(_record(folder, Record(place)))
        faults += found
        if not any(fault.kind in ("missing", "unreadable") for fault in found):
            made.append(Record(place))
    return made, faults + list(_together(folder, made))


def summary(made: list[Record]) -> pd.DataFrame:
    """One row an experiment and protocol: seeds, pictures, fMSE, doing nothing's, and the share with its interval.

    A run is compared with doing nothing on the same pictures.
    """
    runs: dict[str, list[Record]] = {}
    for record in made:
        runs.setdefault(record.experiment, []).append(record)
    idle = [record for record in made if record.experiment.startswith("identity")]
    table = []
    for name, seeds in runs.items():
        first = seeds[0].per_image
        for protocol in first.loc[first["split"] == "test", "protocol"].unique():
            rows = pd.concat(_tests(r.per_image, protocol) for r in seeds)
            nothing = next((n for n in (_tests(i.per_image, protocol) for i in idle) if _same(n, rows)), None)
            row = {"run": name, "seeds": len(seeds), "protocol": protocol, "n": rows["name"].nunique()}
            row |= {"fmse": rows["fmse"].mean()}
            if nothing is not None:
                other = rows[["subset", "name"]].merge(nothing, on=["subset", "name"])["fmse"]
                share = statistics.paired_bootstrap(rows["fmse"], other, rows["group"], statistic="ratio")
                row |= {"doing nothing": nothing["fmse"].mean(), "share": str(share)}
            table.append(row)
    return pd.DataFrame(table)


def _files(folder: Path) -> Iterator[Fault]:
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        file = path.relative_to(folder).as_posix()
        if path.name == records.MADE_HERE or path.name.lower() == "readme.md":
            continue
        if path.name not in ALLOWED:
            yield Fault(file, "left over", "records hold no pictures, weights or other files: leave it out")
        elif HOME.search(path.read_text(encoding="utf-8", errors="replace")):
            yield Fault(file, "private", "holds a path of your machine: name the data by a shorter path and run again")


def _record(folder: Path, record: Record) -> Iterator[Fault]:
    """What is wrong with one record by itself."""
    name = record.folder.relative_to(folder).as_posix()
    for file in NEEDED:
        if not (record.folder / file).is_file():
            yield Fault(f"{name}/{file}", "missing", "a record has " + ", ".join(NEEDED))
            return
    try:
        config, values, env, rows = record.config, record.metrics, record.env, record.per_image
        tests = {p: _tests(rows, p) for p in rows.loc[rows["split"] == "test", "protocol"].unique()}
        means = {
            p: {m: float(t[m].replace([np.inf, -np.inf], np.nan).mean()) for m in METRICS} for p, t in tests.items()
        }
        claimed = {p: {m: values["test"][p][m] for m in METRICS} for p in values["test"]}
        seed = config.get("seed", 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        yield Fault(name, "unreadable", f"not as records are written ({type(error).__name__}: {error})")
        return
    if "steps" in config:
        try:
            experiment_from(config)
        except (HarmonyError, TypeError) as error:
            yield Fault(f"{name}/config.json", "config", str(error))
        if not (record.folder / "log.csv").is_file():
            yield Fault(f"{name}/log.csv", "missing", "a trained run has its learning curve")
    if config.get("name") != record.experiment or seed != record.seed:
        yield Fault(
            f"{name}/config.json", "config", f"says {config.get('name')}, seed {seed}: the folder says otherwise"
        )
    if claimed.keys() != means.keys():
        yield Fault(f"{name}/metrics.json", "averages", f"protocols {_and(claimed)}, but rows of {_and(means)}")
    for protocol in claimed.keys() & means.keys():
        for metric, value in claimed[protocol].items():
            if not math.isclose(value or math.nan, means[protocol][metric], rel_tol=AGREES):
                detail = f"{metric} under {protocol}: {value}, but its rows average {means[protocol][metric]:.6g}"
                yield Fault(f"{name}/metrics.json", "averages", detail)
    for protocol, test in tests.items():
        twice = [key for key, count in Counter(zip(test["subset"], test["name"], strict=True)).items() if count > 1]
        if twice:
            yield Fault(f"{name}/per_image.csv", "rows", f"{'/'.join(twice[0])} stands there twice under {protocol}")
        if (test[["mse", "fmse"]] < 0).any(axis=None) or (test["fmse"] < test["mse"] * (1 - 1e-6)).any():
            yield Fault(
                f"{name}/per_image.csv", "rows", f"errors that cannot be under {protocol}: fMSE below MSE, or below 0"
            )
    if not re.fullmatch("[0-9a-f]{40}", str(env.get("git_sha"))) or env.get("git_dirty") is not False:
        yield Fault(f"{name}/env.json", "commit", "made from no commit, or from changed files: commit first, then run")


def _together(folder: Path, made: list[Record]) -> Iterator[Fault]:
    """What does not go together: other data, other source, other pictures; no do-nothing row; not the official one."""
    for key in ("data_hash", "source_hash", "data", "profile"):
        found = Counter(str(record.env.get(key)) for record in made)
        if len(found) > 1:
            yield Fault(
                "runs", "not of one piece", f"{key} differs: {_and(found)}; contribute them in separate folders"
            )
    idle = {r.experiment: r for r in made if r.experiment.startswith("identity")}
    for record in made:
        rows = record.per_image
        for protocol in rows.loc[rows["split"] == "test", "protocol"].unique():
            if not any(_same(_tests(other.per_image, protocol), _tests(rows, protocol)) for other in idle.values()):
                name = record.folder.relative_to(folder).as_posix()
                detail = (
                    f"no runs/identity/seed0 with the same pictures under {protocol}: run notebook 02 on the same data"
                )
                yield Fault(name, "doing nothing", detail)
    if any(record.env.get("data") == "iharmony4" for record in made):
        yield from _as_published(idle)


def _as_published(idle: dict[str, Record]) -> Iterator[Fault]:
    """Whether doing nothing has the official number of rows, and scores as published, per subset."""
    for name, record in idle.items():
        if record.config.get("split") == "composite":  # a split of our own
            continue
        rows = _tests(record.per_image, "bcmi256")
        for subset, part in rows[rows["subset"].isin(official.COUNTS)].groupby("subset"):
            published = official.COUNTS[subset][1]
            if len(part) != published:
                yield Fault(f"runs/{name}", "official count", f"{subset}: {len(part)} pictures, officially {published}")
            for metric, value in official.NOTHING[subset].items():
                measured = part[metric].mean()
                if not abs(measured / value - 1) <= official.AGREES:
                    detail = f"{subset} {metric} {measured:.2f}, published {value}: {official.REASON}"
                    yield Fault(f"runs/{name}", "do-nothing row", detail)
        if not len(rows):
            yield Fault(f"runs/{name}", "do-nothing row", "no rows under bcmi256, which the published ones are on")


def _tests(rows: pd.DataFrame, protocol: str) -> pd.DataFrame:
    return rows[(rows["split"] == "test") & (rows["protocol"] == protocol)]


def _same(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """Whether both are about the same pictures."""
    keys = [set(zip(rows["subset"], rows["name"], strict=True)) for rows in (first, second)]
    return bool(keys[0]) and keys[0] == keys[1]


def _and(words) -> str:
    return ", ".join(sorted(map(str, words)))

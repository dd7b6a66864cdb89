"""Is a contributed record whole, and does it say what its own rows say? Checked without the data it was made on.

What can be checked from afar: averages follow from the rows of single pictures, every run saw the same pictures of the
same data, doing nothing is there beside it, on the official lists it scores as published, and nothing that should stay
at home (pictures, weights, paths of a machine) came along. What cannot: that the rows were measured at all. The commit
and the hashes say how to measure them again.
"""

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
from harmonylib.reading import DAMAGE, JSON, content
from harmonylib.records import Record

NEEDED = ("config.json", "env.json", "metrics.json", "per_image.csv")
ALLOWED = (*NEEDED, "log.csv")
METRICS = ("mse", "psnr", "fmse", "fpsnr")
COLUMNS = ("split", "name", "subset", "group", "protocol", "foreground_ratio", *METRICS)
PROTOCOLS = 20  # of one record; rows are gone through for each, and there are four
AGREES = 1e-4  # relative: the rows are written with six digits
HOME = re.compile(rb"/(home|Users|root|mnt|content/drive)/|[A-Z]:\\+Users")  # paths that name a person or a machine


def check(folder: str | Path) -> tuple[list[Record], list[Fault]]:
    """The sound records of ``<folder>/runs/<experiment>/seed<k>/``, and what is wrong with the others, by file.

    Raises HarmonyError where there are none.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise HarmonyError(f"{folder}: no such folder; give the one that holds runs/")
    places = sorted(path for path in (folder / "runs").glob("*/*") if path.is_dir())
    if not places:
        raise HarmonyError(f"{folder}: no runs/<experiment>/seed<k>/ in it; give the folder that holds runs/")
    faults, made = list(_files(folder)), []
    for place in places:
        if re.fullmatch(r"seed\d+", place.name):
            found = list(_record(folder, Record(place)))
        else:
            found = [Fault(place.relative_to(folder).as_posix(), "left over", "runs lie in seed0, seed1, ...")]
        faults += found
        if not found:
            made.append(Record(place))
    return made, faults + list(_together(folder, made))


def summary(made: list[Record]) -> pd.DataFrame:
    """One row an experiment and protocol: seeds, pictures, fMSE, doing nothing's, and the share with its interval.

    A run is compared with doing nothing on the same pictures; "-" where there is none, or one photograph alone.
    """
    runs: dict[str, list[Record]] = {}
    for record in made:
        if "diverged" not in record.metrics:
            runs.setdefault(record.experiment, []).append(record)
    idle, table = _idle(made), []
    for name, seeds in runs.items():
        for protocol in _protocols(seeds[0].per_image):
            rows = pd.concat(_tests(r.per_image, protocol) for r in seeds)
            nothing = _nothing_for(rows, idle, protocol)
            row = {"run": name, "seeds": len(seeds), "protocol": protocol, "n": rows["name"].nunique()}
            row |= {"fmse": rows["fmse"].mean(), "doing nothing": float("nan"), "share": "-"}
            if nothing is not None:
                row |= {"doing nothing": nothing["fmse"].mean(), "share": _share(rows, nothing)}
            table.append(row)
    return pd.DataFrame(table)


def _share(rows: pd.DataFrame, nothing: pd.DataFrame) -> str:
    other = rows[["subset", "name"]].merge(nothing, on=["subset", "name"])["fmse"]
    try:
        return str(statistics.paired_bootstrap(rows["fmse"], other, rows["group"], statistic="ratio"))
    except HarmonyError:
        return "-"


def _files(folder: Path) -> Iterator[Fault]:
    for path in sorted(p for p in folder.rglob("*") if not p.is_dir() or p.is_symlink()):
        file = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file():
            yield Fault(file, "no file", "a link or a pipe: records are plain files")
        elif path.name == records.MADE_HERE or path.name.lower() == "readme.md":
            continue
        elif path.name not in ALLOWED:
            yield Fault(file, "left over", "records hold no pictures, weights or other files: leave it out")
        elif path.stat().st_size > (most := JSON if path.suffix == ".json" else records.MOST):
            yield Fault(file, "left over", f"has more than {most:,} bytes; no record does")
        elif HOME.search(content(path)):
            yield Fault(file, "private", "holds a path of your machine: name the data by a shorter path and run again")


def _record(folder: Path, record: Record) -> Iterator[Fault]:
    """What is wrong with one record by itself."""
    name = record.folder.relative_to(folder).as_posix()
    try:
        diverged = "diverged" in record.metrics
        needed = [file for file in NEEDED if not (diverged and file == "per_image.csv")]
        missing = [file for file in needed if not (record.folder / file).is_file()]
        if missing:
            yield Fault(f"{name}/{missing[0]}", "missing", "a record has " + ", ".join(needed))
            return
        yield from _settings(name, record)
        if not diverged:
            yield from _rows(name, record)
        env = dict(record.env)
    except (FileNotFoundError, IsADirectoryError) as error:
        yield Fault(f"{name}/{Path(error.filename).name}", "missing", "a record has " + ", ".join(NEEDED))
    except (HarmonyError, *DAMAGE) as error:
        yield Fault(name, "unreadable", f"not as records are written ({type(error).__name__}: {error})")
    else:
        if not re.fullmatch("[0-9a-f]{40}", str(env.get("git_sha"))) or env.get("git_dirty") is not False:
            yield Fault(f"{name}/env.json", "commit", "made from no commit, or from changed files: commit, then run")


def _settings(name: str, record: Record) -> Iterator[Fault]:
    config = dict(record.config)
    known = config["name"]
    hash(record.prepared)
    if "steps" in config:
        try:
            experiment_from(config)
        except (HarmonyError, TypeError) as error:
            yield Fault(f"{name}/config.json", "config", str(error))
        if not (record.folder / "log.csv").is_file():
            yield Fault(f"{name}/log.csv", "missing", "a trained run has its learning curve")
    own = [known] if "steps" in config else [known, f"{known}_leaky", f"{known}_all"]  # two more test lists
    if record.experiment not in own or config.get("seed", 0) != record.seed:
        yield Fault(f"{name}/config.json", "config", f"says {known}, seed {config.get('seed', 0)}: not its folder")


def _rows(name: str, record: Record) -> Iterator[Fault]:
    """Whether the rows are possible, and the averages theirs."""
    rows = record.per_image
    lacking = [column for column in COLUMNS if column not in rows]
    if lacking:
        yield Fault(f"{name}/per_image.csv", "rows", f"no column {_and(lacking)}")
        return
    protocols = _protocols(rows)
    if len(protocols) > PROTOCOLS:
        yield Fault(f"{name}/per_image.csv", "rows", f"{len(protocols):,} protocols, at most {PROTOCOLS} are looked at")
        return
    tests = {protocol: _tests(rows, protocol) for protocol in protocols}
    claimed = record.metrics["test"]
    if claimed.keys() != tests.keys():
        yield Fault(f"{name}/metrics.json", "averages", f"protocols {_and(claimed)}, but rows of {_and(tests)}")
    for protocol, test in tests.items():
        means = test[list(METRICS)].replace([np.inf, -np.inf], np.nan).mean()
        for metric in METRICS if protocol in claimed else ():
            value = claimed[protocol][metric]
            if not np.isclose(np.nan if value is None else value, means[metric], rtol=AGREES, equal_nan=True):
                detail = f"{metric} under {protocol}: {value}, but its rows average {means[metric]:.6g}"
                yield Fault(f"{name}/metrics.json", "averages", detail)
        twice = [key for key, count in Counter(zip(test["subset"], test["name"], strict=True)).items() if count > 1]
        if twice:
            yield Fault(f"{name}/per_image.csv", "rows", f"{'/'.join(twice[0])} stands there twice under {protocol}")
        # the whole picture's error holds the foreground's, whatever became of the background
        least = test["foreground_ratio"] * test["fmse"] * (1 - 1e-3)
        if (test[["mse", "fmse"]] < 0).any(axis=None) or (test["mse"] < least - 1e-9).any():
            yield Fault(
                f"{name}/per_image.csv", "rows", f"impossible under {protocol}: MSE below the foreground's part"
            )


def _together(folder: Path, made: list[Record]) -> Iterator[Fault]:
    """What does not go together: other data, other source, other pictures; no do-nothing row; not the official one."""
    for key in ("source_hash", "data", "profile"):
        yield from _one_piece(key, made)
    prepared: dict[tuple, list[Record]] = {}
    for record in made:
        prepared.setdefault(record.prepared, []).append(record)
    for records_of_it in prepared.values():
        yield from _one_piece("data_hash", records_of_it)
    idle = _idle(made)
    for record in made:
        for protocol in () if "diverged" in record.metrics else _protocols(record.per_image):
            rows = _tests(record.per_image, protocol)
            if _nothing_for(rows, idle, protocol) is None:
                name = record.folder.relative_to(folder).as_posix()
                detail = f"no runs/identity/seed0 on the same pictures under {protocol}: run notebook 02 on this data"
                yield Fault(name, "doing nothing", detail)
    if is_official(made):
        for record in idle:
            if record.config.get("split") != "composite":  # that split is our own
                yield from _as_published(f"runs/{record.experiment}", record)


def _one_piece(key: str, made: list[Record]) -> Iterator[Fault]:
    found = {str(record.env.get(key)) for record in made}
    if len(found) > 1:
        yield Fault("runs", "not of one piece", f"{key} differs: {_and(found)}; make a folder of each")


def is_official(made: list[Record]) -> bool:
    """Whether the records say that they were made on iHarmony4, so that published values can be asked for."""
    return any(str(record.env.get("data")).lower() == "iharmony4" for record in made)


def _as_published(name: str, record: Record) -> Iterator[Fault]:
    """Whether doing nothing has the official number of rows, and scores as published, per subset."""
    rows, subset = _tests(record.per_image, "bcmi256"), record.config.get("subset", "all")
    if subset not in ("all", *official.COUNTS):
        yield Fault(name, "official count", f"subset {subset!r} is none of iHarmony4's")
        return
    for wanted in official.COUNTS if subset == "all" else (subset,):
        part, published = rows[rows["subset"] == wanted], official.COUNTS[wanted][1]
        if len(part) != published:
            yield Fault(name, "official count", f"{wanted}: {len(part)} pictures at 256 px, officially {published}")
            continue
        for detail in official.differences(wanted, part):
            yield Fault(name, "do-nothing row", f"{wanted} {detail}")


def _idle(made: list[Record]) -> list[Record]:
    return [record for record in made if record.config.get("name") == "identity"]


def _nothing_for(rows: pd.DataFrame, idle: list[Record], protocol: str) -> pd.DataFrame | None:
    """The rows of doing nothing on the same pictures, if there are any."""
    candidates = (_tests(record.per_image, protocol) for record in idle)
    return next((nothing for nothing in candidates if _same(nothing, rows)), None)


def _protocols(rows: pd.DataFrame) -> list[str]:
    return list(rows.loc[rows["split"] == "test", "protocol"].unique())


def _tests(rows: pd.DataFrame, protocol: str) -> pd.DataFrame:
    return rows[(rows["split"] == "test") & (rows["protocol"] == protocol)]


def _same(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """Whether both are about the same pictures."""
    keys = [set(zip(rows["subset"], rows["name"], strict=True)) for rows in (first, second)]
    return bool(keys[0]) and keys[0] == keys[1]


def _and(words) -> str:
    return ", ".join(sorted(map(str, words)))

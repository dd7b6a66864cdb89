"""Methods side by side, whoever wrote them: rows that `evaluate` made, ranked under one protocol.

Numbers of papers stand in a table of their own: neither paper states its protocol, and a rank across protocols would be
an accident of resampling and peaks.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from harmonylib import paper_values, statistics
from harmonylib.errors import HarmonyError
from harmonylib.metrics import METRICS, summarise
from harmonylib.reading import read_table

KEYS = ("subset", "name")
NEEDED = ("method", "protocol", "group", *KEYS, *METRICS)
RANKS = 1000  # methods times subsets; the intervals of one take milliseconds, of many pictures a second
UNSTATED = "as printed (protocol unstated, not ranked with the above)"


def read(files: Sequence[str | Path]) -> pd.DataFrame:
    """The rows of several files of `evaluate`; a method and protocol in two of them counts once if it is the same.

    Raises HarmonyError: no such file, not made by `evaluate`, one method and protocol with two scores for a picture.
    """
    kinds = dict.fromkeys(("method", "protocol", "group", *KEYS), str) | dict.fromkeys(METRICS, float)
    tables = [read_table(file, NEEDED, "make it with `evaluate --out`", dtype=kinds) for file in files]
    for file, table in zip(files, tables, strict=True):
        if table.empty or table[["method", "protocol", "group", *KEYS]].isna().any(axis=None):
            raise HarmonyError(f"{file}: no rows, or some without {', '.join(KEYS)}; make it with `evaluate --out`")
    rows = pd.concat(tables, ignore_index=True).drop_duplicates([*KEYS, "method", "protocol", "fmse"])
    twice = rows.duplicated([*KEYS, "method", "protocol"])
    if twice.any():
        first = rows[twice].iloc[0]
        raise HarmonyError(
            f"{first['method']} has two scores for {first['name']} under {first['protocol']}; name one run of it"
        )
    return rows


def under(rows: pd.DataFrame, protocol: str | None) -> pd.DataFrame:
    """The rows of one protocol.

    Raises HarmonyError: there are several and none is named, none of that name, too many methods and subsets to rank.
    """
    found = list(dict.fromkeys(rows["protocol"]))
    if protocol is None and len(found) > 1:
        raise HarmonyError(
            f"rows of {len(found)} protocols ({', '.join(found)}): these do not mix; name one with --protocol"
        )
    if protocol is not None and protocol not in found:
        raise HarmonyError(f"protocol {protocol}: no rows; there are {', '.join(found)}")
    rows = rows[rows["protocol"] == (protocol or found[0])]
    ranks = len(rows[["method", "subset"]].drop_duplicates())
    if ranks > RANKS:
        raise HarmonyError(f"leaderboard: {ranks:,} methods and subsets; at most {RANKS:,}: name fewer files of rows")
    return rows


def ranked(rows: pd.DataFrame, subset: str | None = None) -> pd.DataFrame:
    """One row a method, lowest fMSE first: n, the four means, the interval of fMSE, the share of doing nothing's.

    rows: of one protocol. Raises HarmonyError where there are none, or the methods' are of other pictures.
    """
    rows = rows if subset is None else rows[rows["subset"] == subset]
    if rows.empty:
        raise HarmonyError(f"leaderboard: no rows{'' if subset is None else f' of {subset}'}; nothing can be ranked")
    pictures = {method: part.set_index(list(KEYS)).sort_index() for method, part in rows.groupby("method", sort=False)}
    first = next(iter(pictures))
    for method, part in pictures.items():
        if not part.index.equals(pictures[first].index):
            odd = len(part.index.symmetric_difference(pictures[first].index))
            raise HarmonyError(
                f"{method} and {first} were not scored on the same pictures ({odd} differ); score both on one list"
            )
    idle, table = pictures.get("identity"), []
    for method, part in pictures.items():
        row = {"method": method} | summarise(part).iloc[0][["n", *METRICS]].to_dict()
        row["fMSE, 95 %"] = _interval(statistics.bootstrap_mean, part["fmse"], part["group"])
        if idle is not None:
            ratio = partial(statistics.paired_bootstrap, statistic="ratio")
            row["share of doing nothing"] = _interval(ratio, part["fmse"], idle["fmse"], part["group"])
            better = (part["fmse"] < idle["fmse"]).astype(float)
            row["share improved"] = _interval(statistics.bootstrap_mean, better, part["group"])
        table.append(row)
    return pd.DataFrame(table).astype({"n": int}).sort_values("fmse", ignore_index=True)


def printed(subsets: Sequence[str]) -> pd.DataFrame:
    """What the two papers print for these subsets and for all: paper, method, and a column a subset and metric."""
    values = paper_values.load()
    values = values[
        (values["table"] == "table1") & values["metric"].isin(METRICS) & values["subset"].isin([*subsets, "all"])
    ]
    table = values.assign(what=values["subset"] + " " + values["metric"])
    return table.pivot_table(index=["paper", "method"], columns="what", values="value", sort=False).reset_index()


def _interval(estimate, *columns: pd.Series) -> str:
    """Over photographs; of a single one there is none."""
    try:
        return str(estimate(*(column.to_numpy() for column in columns)))
    except HarmonyError:
        return "one photograph"

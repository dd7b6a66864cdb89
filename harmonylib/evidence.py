"""From run records to the numbers that tables and claims are made of: seeds pooled, scenes and photographs apart."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from harmonylib import records, statistics
from harmonylib.errors import HarmonyError
from harmonylib.records import Record
from harmonylib.statistics import Interval

KEYS = ["name", "subset", "photo", "group", "kind", "foreground_ratio"]


@dataclass(frozen=True)
class Evidence:
    """All records of a results folder. Statements about methods rest on the scenes where there are any."""

    results: Path
    read: set[str] = field(default_factory=set)  # the experiments asked for since it was last cleared, for the manifest

    @cached_property
    def runs(self) -> dict[str, list[Record]]:
        return records.read_all(self.results)

    @cached_property
    def kinds(self) -> list[str]:
        """``scene`` first where the set has scenes; the first kind is the one that claims are tested on."""
        return sorted(self.of("identity")[0].rows("bcmi256")["kind"].unique(), key=["scene", "photo"].index)

    @property
    def kind(self) -> str:
        return self.kinds[0]

    def has(self, *names: str) -> bool:
        return all(name in self.runs for name in names)

    def of(self, name: str) -> list[Record]:
        """The records of an experiment, by seed. Raises HarmonyError if there is none."""
        if name not in self.runs:
            raise HarmonyError(
                f"run {name}: no record in {self.results}; run notebooks 02 and 03 (or `make reproduce`) first"
            )
        self.read.add(name)
        return self.runs[name]

    def per_image(self, name: str, protocol: str = "bcmi256", split: str = "test", kind: str | None = None, epoch=None):
        """Per-image rows of a method, each number the mean over its seeds; `kind` as in `kinds`, "any" for both."""
        kind = None if kind == "any" else kind or self.kind
        tables = [record.rows(protocol, split, kind, epoch) for record in self.of(name)]
        values = pd.concat(tables).groupby(KEYS, sort=True).mean(numeric_only=True).reset_index()
        return values.sort_values("name").reset_index(drop=True)

    def mean(self, name: str, column: str = "fmse", **where) -> Interval:
        """Mean over pictures, with the interval over photographs."""
        rows = self.per_image(name, **where)
        return statistics.bootstrap_mean(rows[column], rows["group"])

    def ratio(self, name: str, other: str = "identity", column: str = "fmse", **where) -> Interval:
        """mean(name) / mean(other) on the same pictures: against ``identity``, the share of doing nothing."""
        a, b = (self.per_image(n, **where) for n in (name, other))
        return statistics.paired_bootstrap(a[column], b[column], a["group"], statistic="ratio")

    def difference(self, name: str, other: str, column: str = "fmse", **where) -> Interval:
        """mean(name) - mean(other) on the same pictures."""
        a, b = (self.per_image(n, **where) for n in (name, other))
        return statistics.paired_bootstrap(a[column], b[column], a["group"])

    def by_seed(self, name: str, column: str = "fmse", protocol="bcmi256", split="test", epoch=None) -> list[float]:
        """The mean of each seed alone."""
        return [record.rows(protocol, split, self.kind, epoch)[column].mean() for record in self.of(name)]

    def protocol(self, name: str = "bcmi256") -> str:
        """A protocol's caption in these records: ``bcmi256@64`` below 256 px."""
        return self.of("identity")[0].rows(name)["protocol"].iloc[0]

"""From run records to the numbers that tables and claims are made of: seeds pooled, scenes and photographs apart."""

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from harmonylib import records, statistics
from harmonylib.errors import HarmonyError, one_line
from harmonylib.records import Record
from harmonylib.statistics import Interval

DOING_NOTHING = ("identity", "identity_all", "identity_leaky")  # the first is the one that is made first
KEYS = ["name", "subset", "photo", "group", "kind", "foreground_ratio"]


@dataclass(frozen=True)
class Evidence:
    """All records of a results folder. Statements about methods rest on the scenes where there are any."""

    results: Path
    _pooled: dict = field(default_factory=dict, repr=False, compare=False)
    read: set[str] = field(default_factory=set)  # the experiments asked for since it was last cleared, for the manifest

    @cached_property
    def everything(self) -> dict[str, list[Record]]:
        """Experiment -> its records, but for those made on other data than doing nothing, which it names: where a
        set was made anew, they cannot be compared until they are trained again."""
        found = records.read_all(self.results)
        _ = self.place
        current = {r.prepared: r.data_hash for name in reversed(DOING_NOTHING) for r in found.get(name, ())}
        kept = {
            n: [r for r in made if current.get(r.prepared, r.data_hash) == r.data_hash] for n, made in found.items()
        }
        stale = [name for name in found if len(kept[name]) < len(found[name])]
        if stale:
            print(f"left out, made on other data than identity, to be run again: {one_line(', '.join(stale))}")
        return {name: made for name, made in kept.items() if made}

    @cached_property
    def place(self) -> tuple[int, int]:
        """The disk, and the folder on it, that the records were read from."""
        found = self.results.stat()
        return found.st_dev, found.st_ino

    def check_place(self) -> None:
        """Before a result is written. Raises HarmonyError where the disk has vanished, and another folder is there."""
        found = self.results.stat() if self.results.is_dir() else None
        if found is None or (found.st_dev, found.st_ino) != self.place:
            raise HarmonyError(f"{self.results}: its disk has vanished; run the same command when it is back")

    @cached_property
    def runs(self) -> dict[str, list[Record]]:
        """Experiment -> its records; without those that diverged, which have nothing to score."""
        found = {name: [r for r in made if "diverged" not in r.metrics] for name, made in self.everything.items()}
        return {name: made for name, made in found.items() if made}

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
                f"run {name}: no record in {self.results}; run notebooks 02 to 05 (or `make reproduce`) first"
            )
        self.read.add(name)
        return self.runs[name]

    def nothing_for(self, name: str) -> str:
        """The record of doing nothing on the pictures that a run was tested on."""
        return self.on_all("identity") if self.runs[name][0].config.get("study") == "lemart" else "identity"

    def on_all(self, name: str) -> str | None:
        """The run of a method on the pictures that LEMaRT's runs are tested on, or None where there is none.

        On real data these are of all subsets, and methods without training have a second record for them,
        ``<name>_all``; the S2AM-T4 study is about HCOCO then, and its networks are not compared.
        """
        if self.has(f"{name}_all"):
            return f"{name}_all"
        ours = self.has(name) and self.runs[name][0].config.get("study") == "lemart"
        return name if ours or (self.has(name) and not self.has("identity_all")) else None

    def per_image(
        self,
        name: str,
        protocol="bcmi256",
        split="test",
        kind: str | None = None,
        epoch=None,
        subset: str | None = None,
    ) -> pd.DataFrame:
        """Per-image rows of a method, each number the mean over its seeds; `kind` as in `kinds`, "any" for both."""
        kind = None if kind == "any" else kind or self.kind
        made, key = self.of(name), (name, protocol, split, kind, epoch, subset)
        if key not in self._pooled:
            self._pooled[key] = self._pool(made, protocol, split, kind, epoch, subset)
        return self._pooled[key].copy()

    @staticmethod
    def _pool(made: list[Record], protocol, split, kind, epoch, subset) -> pd.DataFrame:
        tables = [record.rows(protocol, split, kind, epoch) for record in made]
        values = pd.concat(tables).groupby(KEYS, sort=True).mean(numeric_only=True).reset_index()
        values = values if subset is None else values[values["subset"] == subset]
        return values.sort_values("name").reset_index(drop=True)

    def mean(self, name: str, column: str = "fmse", **where) -> Interval:
        """Mean over pictures, with the interval over photographs."""
        rows = self.per_image(name, **where)
        return statistics.bootstrap_mean(rows[column], rows["group"])

    def ratio(self, name: str, other: str | None = None, column: str = "fmse", **where) -> Interval:
        """mean(name) / mean(other) on the same pictures; without `other`, the share of doing nothing."""
        a, b = (self.per_image(n, **where) for n in (name, other or self.nothing_for(name)))
        return statistics.paired_bootstrap(a[column], b[column], a["group"], statistic="ratio")

    def difference(self, name: str, other: str, column: str = "fmse", **where) -> Interval:
        """mean(name) - mean(other) on the same pictures."""
        a, b = (self.per_image(n, **where) for n in (name, other))
        return statistics.paired_bootstrap(a[column], b[column], a["group"])

    def by_seed(
        self, name: str, column="fmse", protocol="bcmi256", split="test", epoch=None, subset: str | None = None
    ) -> list[float]:
        """The mean of each seed alone."""
        tables = [record.rows(protocol, split, self.kind, epoch) for record in self.of(name)]
        return [rows[column][rows["subset"].eq(subset) | (subset is None)].mean() for rows in tables]

    def protocol(self, name: str = "bcmi256") -> str:
        """A protocol's caption in these records: ``bcmi256@64`` below 256 px."""
        found = self.of("identity")[0].rows(name)["protocol"].iloc[0]
        if not re.fullmatch(r"\w+(@\d+)?", found):  # it heads columns
            raise HarmonyError(f"run identity: protocol {found!r} is none of this project; run notebook 02 again")
        return found

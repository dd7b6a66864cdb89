"""What this project costs, beside what a reader would otherwise use: `make bench`. No part of the package."""

import re

import pandas as pd

from harmonylib import records
from harmonylib.paths import ROOT

COLUMNS = [
    "device",
    "threads",
    "line",
    "against",
    "unit",
    "ours",
    "theirs",
    "ratio",
    "low",
    "high",
    "aim",
    "met",
    "share",
]
FOLDER = ROOT / "results" / "bench"


def slug() -> str:
    """The device's name as a file's."""
    return re.sub(r"[^a-z0-9.]+", "-", records.environment()["device"].lower()).strip("-")


def recorded() -> pd.DataFrame:
    """The lines of every device that `make bench` was run on."""
    tables = [pd.read_csv(file) for file in sorted(FOLDER.glob("*.csv"))]
    found = [table for table in tables if {"line", "aim"} <= set(table)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=COLUMNS)

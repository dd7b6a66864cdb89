"""What this project costs, beside what a reader would otherwise use: `make bench`. No part of the package."""

import re

from harmonylib import records
from harmonylib.paths import ROOT

FOLDER = ROOT / "results" / "bench"


def slug() -> str:
    """The device's name as a file's."""
    return re.sub(r"[^a-z0-9.]+", "-", records.environment()["device"].lower()).strip("-")

"""What happens when things go wrong: `make torture`. No part of the package."""

from dataclasses import dataclass, field

from harmonylib.paths import ROOT

FOLDER = ROOT / "results" / "torture"


@dataclass(frozen=True)
class Trial:
    """One line of the table: what was done how often, and what did not survive it.

    `lost`: a sentence for each thing that was lost, differed afterwards, hung or ended in a traceback; none is the aim.
    """

    part: str  # kills, faults, processes, inputs
    what: str
    times: int
    lost: tuple[str, ...] = field(default=())
    note: str = ""

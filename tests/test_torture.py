"""What `make torture` came to, as the README prints it."""

import re

import pandas as pd

from harmonylib.paths import ROOT
from torture import FOLDER, Trial
from torture.__main__ import markdown, summary


def test_the_readme_prints_the_last_whole_run():
    table = pd.read_csv(FOLDER / "torture.csv")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    printed = re.search(r"<!-- torture -->\n(.*?)<!-- /torture -->", readme, re.DOTALL).group(1)
    assert printed == markdown(table)
    assert {"kills", "faults", "inputs"} <= set(table["part"])
    assert table.loc[table["part"] == "kills", "times"].sum() >= 50
    assert table["lost"].sum() == 0


def test_what_is_lost_is_told():
    trials = [
        Trial("kills", "U-Net", 3),
        Trial("kills", "S2AM", 1200, ("its checkpoint",)),
        Trial("faults", "full disk", 2),
    ]
    assert summary(trials) == "kills: 1,203; faults: 2; lost: 1"
    assert summary(trials[:1]) == "kills: 3; lost: nothing"
    rows = pd.DataFrame([{"part": t.part, "what": t.what, "times": t.times, "lost": len(t.lost)} for t in trials])
    assert markdown(rows).splitlines()[2:] == [
        "| kills survived | 1,203 | U-Net 3, S2AM 1,200 | 1 |",
        "| faults injected | 2 | full disk 2 | nothing |",
    ]

"""What `benchmarks.scale` measures on is a sound set, and what it fits to the times is an exponent."""

import pandas as pd
import pytest

from benchmarks import scale
from harmonylib.data.coco import read_objects
from harmonylib.data.layout import read_entries
from harmonylib.data.verify import verify


def test_the_tree_is_a_sound_set(tmp_path):
    files = scale.write_tree(tmp_path / "tree", 40)
    written = [path for path in (tmp_path / "tree/HCOCO").rglob("*") if path.is_file()]
    sides, faults = verify(tmp_path / "tree")
    assert len(written) == files == 70
    assert {fault.kind for fault in faults} <= {"duplicate"} and sum(map(len, sides.values())) == 40
    assert len(read_entries(tmp_path / "tree", "all", "test")) == 4
    assert len(read_objects(tmp_path / "tree/coco")) == 40


def test_the_exponent():
    rows = [
        {"step": "verify", "composites": n, "count": n, "seconds": 1e-3 * n**1.5, "mib": 7.4} for n in (25, 50, 100)
    ]
    table = scale.summarise(pd.DataFrame(rows)).iloc[0]
    assert table["exponent"] == pytest.approx(1.5, abs=0.1) and table["MiB at 100"] == 7

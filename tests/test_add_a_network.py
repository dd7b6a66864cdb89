"""A network enters LEMaRT's Table 3 by one file and one line."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from harmonylib.paths import ROOT

NETWORK = '''"""A colour curve that the mask switches on: the smallest network there is."""

import torch
from torch import Tensor, nn

from harmonylib.models import Harmonizer


class TinyAffine(Harmonizer):
    """One gain and one offset a channel."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.offset = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def predict(self, image: Tensor, mask: Tensor) -> Tensor:
        return image + mask * (self.gain * image + self.offset)
'''
LINE = '    "tiny_affine": "tiny_affine:TinyAffine",\n'
WHAT_HAPPENS = """
import json
import sys

import harmonylib
from harmonylib import claims_lemart, cli, experiments, report
from harmonylib.config import PROFILES
from harmonylib.evidence import Evidence
from harmonylib.study import open_study, results_of

data = ["--profile", "smoke", "--data", sys.argv[1]]
codes = [cli.main(["train", name, *data]) for name in ("tiny_affine", "tiny_affine_lemart")]
open_study("smoke", sys.argv[1]).run_baseline("identity")
evidence = Evidence(results_of("smoke", sys.argv[1]))
manifest = {"tables": {}}
table = report.write_table(evidence, "lemart_table3", manifest)
found = {
    "from": harmonylib.__file__,
    "codes": codes,
    "planned": {profile.name: [p.experiment.name for p in experiments.plan(profile)] for profile in PROFILES.values()},
    "claims": [claim.id for claim in claims_lemart.CLAIMS],
    "start": evidence.of("tiny_affine_lemart")[0].config["start"],
    "parameters": [evidence.of(name)[0].metrics["parameters"] for name in ("tiny_affine", "pretrain_tiny_affine")],
    "rows": table.to_dict("records"),
    "runs": manifest["tables"]["lemart_table3"]["runs"],
}
print("\\n" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory, tiny_set) -> dict:
    """What a copy of the package, with the network added, plans, claims, trains and tabulates."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "harmonylib", root / "harmonylib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    (root / "harmonylib/models/tiny_affine.py").write_text(NETWORK)
    listing = root / "harmonylib/models/__init__.py"
    before, table, after = listing.read_text().partition("TABLE_3 = {")
    assert table
    entries, end, rest = after.partition("}\n")
    listing.write_text(before + table + entries + LINE + end + rest)

    pictures = root / "set"
    shutil.copytree(tiny_set, pictures)
    shutil.copytree(pictures / "HCOCO/real_images", pictures / "unlabelled")  # what LEMaRT pre-trains on
    environment = os.environ | {
        "PYTHONPATH": str(root),
        "OMP_NUM_THREADS": "1",
        "HARMONY_DATA": str(root / "data"),
        "HARMONY_RESULTS": str(root / "results"),
    }
    environment.pop("HARMONY_PROFILE", None)
    command = [sys.executable, "-c", WHAT_HAPPENS, str(pictures)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["from"].startswith(str(root))
    return told


def test_it_is_planned_in_every_profile(found):
    for profile, planned in found["planned"].items():
        assert {"tiny_affine", "pretrain_tiny_affine", "tiny_affine_lemart"} <= set(planned), profile


def test_there_is_a_claim_for_it(found):
    assert "lemart_helps_tiny_affine" in found["claims"]


def test_it_trains_with_and_without_pretraining(found):
    assert found["codes"] == [0, 0]
    assert found["start"] == "pretrain_tiny_affine"
    assert found["parameters"] == [6, 6]


def test_it_has_its_rows_in_table_3(found):
    rows = {row["LEMaRT"]: row for row in found["rows"] if "tiny_affine" in row["network"]}
    assert rows.keys() == {"without", "with"}
    for row in rows.values():
        assert row["fMSE (printed)"] == "not printed"
        assert float(row["fMSE (here)"].split()[0]) > 0
        assert float(row["share of doing nothing"].split()[0]) > 0
    assert {"runs/tiny_affine/seed0", "runs/tiny_affine_lemart/seed0"} <= set(found["runs"])

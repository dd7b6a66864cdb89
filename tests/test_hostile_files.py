"""Malicious files, each given to the command that reads it, in a process of its own: `python -m torture.malice`."""

import json
import subprocess
import sys

import pytest

from harmonylib.paths import ROOT
from torture.malice import cases

if sys.platform == "win32":
    pytest.skip("forks, pipes and limits are of POSIX", allow_module_level=True)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str | None]:
    done = subprocess.run([sys.executable, "-m", "torture.malice"], cwd=ROOT, capture_output=True, text=True)
    return {line["case"]: line["lost"] for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", [case.name for case in cases()])
def test_nothing_is_lost(outcomes, name):
    assert name in outcomes, "the process ended before it"
    assert outcomes[name] is None

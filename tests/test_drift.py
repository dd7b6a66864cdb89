"""Does the check of drift find drift, and only drift?"""

import json
import shutil

import pandas as pd
import pytest
import torch
import yaml

import drift.__main__ as check
from drift import KINDS, REFERENCE, RUNS, record, values
from harmonylib.paths import ROOT
from harmonylib.records import Record


@pytest.fixture
def reference() -> dict[str, dict]:
    return json.loads(REFERENCE.read_text())["values"]


def test_the_reference_is_of_the_locks_versions():
    lock = (ROOT / "requirements.lock").read_text()
    versions = json.loads(REFERENCE.read_text())["versions"]
    assert versions["python"].startswith("3.11.")
    pinned = [name for name in versions if name not in ("python", "device", "avx512")]
    assert pinned and all(f"{name}=={versions[name]}\n" in lock for name in pinned)


def test_what_is_made_here_is_the_reference(reference, monkeypatch):
    """Scores, intervals, colour statistics and the harmonizer, on whatever machine and versions this is."""
    monkeypatch.setattr(values, "PARTS", (values.scores,))
    threads = torch.get_num_threads()
    made = values.everything()
    torch.set_num_threads(threads)
    assert len(made) > 10
    elsewhere = values.versions()["avx512"] != json.loads(REFERENCE.read_text())["versions"]["avx512"]
    table = check.compare({name: reference[name] for name in made}, made, elsewhere)
    assert table["ok"].all(), check.summary(table)


def mutated(reference: dict, name: str, factor: float) -> dict:
    """The reference with one number of one result made larger, as a share of the largest."""
    result = reference[name]
    numbers = list(result["numbers"])
    numbers[3] += factor * max(map(abs, numbers))
    return reference | {name: result | {"digest": "0" * 16, "numbers": numbers}}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].tolerance])
def test_a_number_may_differ_by_its_tolerance_and_no_more(reference, kind):
    name = next(name for name, result in reference.items() if result["kind"] == kind)
    for factor, good in ((0.5, True), (2.0, False)):
        table = check.compare(reference, mutated(reference, name, factor * KINDS[kind].tolerance))
        (row,) = table[~table["bytes"]].itertuples()
        assert (row.what, row.ok) == (name, good)
        assert ("DRIFTED: " + name in check.summary(table)) == (not good)


def test_data_may_not_differ_at_all(reference):
    name = next(name for name, result in reference.items() if result["kind"] == "data")
    for elsewhere in (False, True):
        table = check.compare(reference, reference | {name: reference[name] | {"digest": "0" * 16}}, elsewhere)
        assert table.loc[~table["ok"], "what"].tolist() == [name]


def test_scenes_may_differ_on_another_processor_and_no_more(reference):
    digests = "embedded: pixels of masks"
    other = reference | {digests: reference[digests] | {"digest": "0" * 16}}
    assert not check.compare(reference, other)["ok"].all()
    assert check.compare(reference, other, elsewhere=True)["ok"].all()
    numbers, limit = "prepared at 32 px: composite", KINDS["scenes"].elsewhere
    for factor, good in ((0.5, True), (2.0, False)):
        table = check.compare(reference, mutated(reference, numbers, factor * limit), elsewhere=True)
        assert table["ok"].all() == good


def test_a_result_that_is_missing_or_new_or_not_finite(reference):
    name = "interval of a ratio"
    less = {key: result for key, result in reference.items() if key != name}
    assert not check.compare(reference, less)["ok"].all()
    assert not check.compare(less, reference)["ok"].all()
    wrong = reference[name] | {"digest": "", "numbers": [float("nan")] * len(reference[name]["numbers"])}
    assert not check.compare(reference, reference | {name: wrong})["ok"].all()
    onnx = {key: result for key, result in reference.items() if "ONNX" not in key}
    assert check.compare(reference, onnx)["ok"].all()


@pytest.mark.parametrize("drifted", [False, True])
def test_the_command(reference, tmp_path, monkeypatch, capsys, drifted):
    made = json.dumps({"versions": {"torch": "2.99"}, "values": reference}).encode()
    monkeypatch.setattr(check, "make", lambda times: [made] * times)
    copy = mutated(reference, "unet: before training", 0.01) if drifted else reference
    (tmp_path / "reference.json").write_text(json.dumps({"versions": {}, "values": copy}))
    words = ["drift", "--reference", str(tmp_path / "reference.json"), "--out", str(tmp_path / "out/table.csv")]
    monkeypatch.setattr("sys.argv", words)
    assert check.main() == int(drifted)
    told = capsys.readouterr().out.splitlines()[-1]
    assert ("DRIFTED: unet: before training" in told) == drifted
    table = pd.read_csv(tmp_path / "out/table.csv")
    assert len(table) == len(reference) + 1 and str(table["torch"].iloc[0]) == "2.99"


def test_two_processes_that_do_not_agree(reference, tmp_path, monkeypatch, capsys):
    other = mutated(reference, "unet: losses", 1e-9)
    both = [json.dumps({"versions": {}, "values": made}).encode() for made in (reference, other)]
    monkeypatch.setattr(check, "make", lambda times: both)
    monkeypatch.setattr("sys.argv", ["drift"])
    assert check.main() == 1
    assert "DRIFTED: made twice" in capsys.readouterr().out


def test_a_run_against_its_record(tmp_path):
    committed, limit = Record(ROOT / "results/quick/runs/swinih/seed0"), RUNS["swinih"]

    def again(**changes) -> Record:
        folder = tmp_path / "again"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(committed.folder, folder)
        metrics = json.loads((folder / "metrics.json").read_text()) | {"key": "of another source"}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        if "times" in changes:
            rows = committed.per_image
            rows.assign(fmse=rows["fmse"] * changes.pop("times")).to_csv(folder / "per_image.csv", index=False)
        (folder / "env.json").write_text(json.dumps(committed.env | changes))
        return Record(folder)

    assert record.compare(committed, again()) == (True, "byte for byte the same")
    good, words = record.compare(committed, again(times=1 + limit / 2))
    assert not good and "bytes should be the same" in words
    good, words = record.compare(committed, again(times=1 + limit / 2, device="another"))
    assert good and f"{limit / 2:.2g} on average, within {limit:g}" in words
    good, words = record.compare(committed, again(times=1 + 2 * limit, device="another"))
    assert not good and "BEYOND" in words
    assert not record.compare(committed, again(data_hash="another"))[0]
    assert not record.compare(committed, again(data_hash="another", device="another"))[0]
    good, words = record.compare(committed, again(times=1 + limit / 2, data_hash="another", avx512=False))
    assert good and "other pixels" in words


def test_the_weekly_job():
    job = yaml.safe_load((ROOT / ".github/workflows/weekly.yml").read_text())
    assert job[True]["schedule"][0]["cron"]  # YAML reads "on" as true
    (work,) = job["jobs"].values()
    assert work["strategy"]["matrix"] == {"python": ["3.11", "3.12", "3.13"], "versions": ["lock", "newest"]}
    commands = "\n".join(step.get("run", "") for step in work["steps"])
    for wanted in ("make setup", "python -m drift", "make smoke", "--upgrade"):
        assert wanted in commands
    assert "secrets." not in (ROOT / ".github/workflows/weekly.yml").read_text()

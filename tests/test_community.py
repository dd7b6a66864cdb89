"""A made-up contribution: a sound one passes, and every way to spoil it is found and named."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harmonylib import community, experiments, official, records
from harmonylib.cli import main
from harmonylib.paths import ROOT

PICTURES = [(f"c{photo}_1_{variant}", f"c{photo}") for photo in range(25) for variant in (1, 2)]


def rows_of(share: float, seed: int) -> pd.DataFrame:
    """Test rows of a method that leaves `share` of the error of doing nothing."""
    generator = np.random.default_rng(7)
    ratio, idle = generator.uniform(0.05, 0.4, len(PICTURES)), generator.uniform(500, 1500, len(PICTURES))
    fmse = idle * (share + (seed and generator.normal(0, 0.02, len(PICTURES))))
    names, photos = zip(*PICTURES, strict=True)
    decibels = [10 * np.log10(65025 / error) for error in (fmse * ratio, fmse)]
    columns = {"split": "test", "name": names, "subset": "HCOCO", "photo": photos, "group": photos, "kind": "photo",
               "protocol": "bcmi256", "foreground_ratio": ratio, "mse": fmse * ratio, "psnr": decibels[0],
               "fmse": fmse, "fpsnr": decibels[1], "epoch": ""}  # fmt: skip
    return pd.DataFrame(columns)


def write(folder, name: str, seed: int, share: float, data: str) -> None:
    rows = rows_of(share, seed)
    config = {"name": name, "model": name, "size": 256, "split": "photo", "subset": "HCOCO"}
    log = None
    if name in experiments.EXPERIMENTS:
        config = replace(experiments.get(name), seed=seed).to_dict()
        log = pd.DataFrame({"step": [0, 10], "train_loss": [None, 0.5]})
    means = {metric: float(f"{rows[metric].mean():.6g}") for metric in community.METRICS}
    env = {"git_sha": "a" * 40, "git_dirty": False, "data_hash": "d", "source_hash": "s", "data": data, "profile": "t4"}
    place = folder / "runs" / name / f"seed{seed}"
    place.mkdir(parents=True, exist_ok=True)
    records.write(place, config, {"test": {"bcmi256": means | {"n": 50.0}}}, rows, log, env)


@pytest.fixture
def contribution(tmp_path):
    folder = tmp_path / "someone-t4"
    for name, seed, share in (("identity", 0, 1.0), ("s2am", 0, 0.5), ("s2am", 1, 0.52)):
        write(folder, name, seed, share, "coco-mini")
    return folder


def edit_json(path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_rows(path, change) -> None:
    rows = pd.read_csv(path)
    change(rows).to_csv(path, index=False)


def test_a_sound_contribution_passes(contribution, capsys):
    assert main(["check-records", str(contribution)]) == 0
    told = capsys.readouterr().out
    assert "3 sound records; no fault" in told and "published values were not asked for" in told
    table = community.summary(community.check(contribution)[0]).set_index("run")
    assert table.loc["s2am", "seeds"] == 2 and table.loc["s2am", "n"] == len(PICTURES)
    assert float(table.loc["s2am", "share"].split()[0]) == pytest.approx(0.51, abs=0.01)
    assert table.loc["identity", "share"].startswith("1 [")


SPOILS = {
    "missing": lambda f: (f / "runs/s2am/seed0/env.json").unlink(),
    "unreadable": lambda f: (f / "runs/s2am/seed0/metrics.json").write_text("{"),
    "left over": lambda f: (f / "runs/s2am/seed0/checkpoint.pt").write_bytes(b"weights"),
    "private": lambda f: edit_json(f / "runs/s2am/seed0/config.json", start="/mnt/disk/pretrained.pt"),
    "config": lambda f: edit_json(f / "runs/s2am/seed0/config.json", stepz=3),
    "averages": lambda f: edit_rows(f / "runs/s2am/seed1/per_image.csv", lambda r: r.assign(fmse=r["fmse"] * 1.001)),
    "rows": lambda f: edit_rows(f / "runs/identity/seed0/per_image.csv", lambda r: pd.concat([r, r[:1]])),
    "commit": lambda f: edit_json(f / "runs/s2am/seed0/env.json", git_dirty=True),
    "not of one piece": lambda f: edit_json(f / "runs/s2am/seed0/env.json", data_hash="another"),
    "doing nothing": lambda f: edit_rows(f / "runs/identity/seed0/per_image.csv", lambda r: r[:-1]),
}


@pytest.mark.parametrize("kind", SPOILS)
def test_what_is_wrong_is_found(contribution, kind, capsys):
    SPOILS[kind](contribution)
    assert kind in {fault.kind for fault in community.check(contribution)[1]}
    assert main(["check-records", str(contribution)]) == 1
    assert f"{kind}: runs" in capsys.readouterr().out


def test_a_path_of_a_machine_among_bytes_that_are_no_text(contribution):
    path = contribution / "runs/s2am/seed0/log.csv"
    path.write_bytes(path.read_bytes() + b"\xff\xfe/home/me\n")
    assert "private" in {fault.kind for fault in community.check(contribution)[1]}


def test_rows_that_cannot_be_or_lack_a_column(contribution):
    path = contribution / "runs/s2am/seed0/per_image.csv"
    edit_rows(path, lambda r: r.assign(mse=r["mse"] * 0.5))
    assert "below the foreground's part" in " ".join(fault.detail for fault in community.check(contribution)[1])
    edit_rows(path, lambda r: r.drop(columns="subset"))
    assert "no column subset" in {fault.detail for fault in community.check(contribution)[1]}


def test_other_folders_and_runs_that_diverged(contribution):
    (contribution / "runs/s2am/seed0-old").mkdir()
    assert [fault.kind for fault in community.check(contribution)[1]] == ["left over"]
    (contribution / "runs/s2am/seed0-old").rmdir()
    seed = contribution / "runs/s2am/seed1"
    edit_json(seed / "metrics.json", diverged="at step 3")
    (seed / "per_image.csv").unlink()
    made, faults = community.check(contribution)
    assert faults == [] and len(made) == 3
    assert community.summary(made).set_index("run").loc["s2am", "seeds"] == 1


def test_the_repository_s_own_records_pass(capsys):
    """What `make reproduce` writes, but for figures' pictures, which records of photographs must not hold."""
    made, faults = community.check(ROOT / "results" / "quick")
    kinds = {fault.kind for fault in faults if not fault.file.endswith((".png", "memory_lab.csv"))}
    assert len(made) > 60 and kinds <= {"left over"}
    assert {record.experiment for record in made} >= {"identity", "identity_leaky", "unet", "swinih_lemart"}
    kinds = {fault.kind for fault in faults if fault.file.startswith("runs/")}
    assert kinds <= {"left over"}


def test_seed_and_name_must_be_those_of_the_folder(contribution):
    (contribution / "runs/s2am/seed1").rename(contribution / "runs/s2am/seed2")
    faults = community.check(contribution)[1]
    assert [fault.kind for fault in faults] == ["config"] and "seed 1" in faults[0].detail


def test_official_data_must_score_as_published(tmp_path, monkeypatch):
    for name, share in (("identity", 1.0), ("s2am", 0.5)):
        write(tmp_path, name, 0, share, "iHarmony4")
    kinds = {fault.kind for fault in community.check(tmp_path)[1]}
    assert kinds == {"official count"}
    monkeypatch.setitem(official.COUNTS, "HCOCO", (10, len(PICTURES)))
    kinds = {fault.kind for fault in community.check(tmp_path)[1]}
    assert kinds == {"do-nothing row"}
    measured = rows_of(1.0, 0)[["mse", "psnr", "fmse"]].mean()
    monkeypatch.setitem(official.NOTHING, "HCOCO", (measured * 1.005).to_dict())
    assert community.check(tmp_path)[1] == []


def test_bad_input(tmp_path, capsys):
    assert main(["check-records", str(tmp_path / "nowhere")]) == 2
    assert main(["check-records", str(tmp_path)]) == 2
    assert "runs/" in capsys.readouterr().err

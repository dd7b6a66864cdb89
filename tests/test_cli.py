"""The commands: help everywhere, one line and exit code 2 for whatever is wrong, results that agree with the API."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from harmonylib import cli, evaluation, experiments, metrics, plan, records
from harmonylib.data.layout import read_entries
from harmonylib.study import open_study

COMMANDS = [
    "doctor",
    "data fetch",
    "data prepare",
    "data verify",
    "train",
    "sweep",
    "evaluate",
    "score",
    "composites",
    "plan",
]
COMMANDS += ["report", "check-records", "harmonize", "leaderboard", "votes", "export"]


def run(capsys, *words):
    """(exit code, stdout, stderr) of a command in this process."""
    try:
        code = cli.main([str(word) for word in words])
    except SystemExit as left:
        code = left.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def refuses(capsys, tmp_path):
    """A command that ends in one line on stderr and exit code 2 and leaves no file behind."""

    def check(*words, naming=""):
        before = set(tmp_path.rglob("*"))
        code, _, err = run(capsys, *words)
        assert code == 2
        assert err.count("\n") == 1 and err.endswith("\n")
        assert naming in err
        assert "Traceback" not in err
        assert {path for path in tmp_path.rglob("*") if path.is_file()} <= before

    return check


@pytest.fixture
def triplet(tiny_set):
    entry = read_entries(tiny_set, "HCOCO", "test")[0]
    return entry.composite, entry.mask, entry.real


def separate(*words, **environment):
    """A command as a user starts it."""
    command = [sys.executable, "-m", "harmonylib", *map(str, words)]
    root = Path(__file__).resolve().parent.parent
    return subprocess.run(command, cwd=root, env=os.environ | environment, capture_output=True, text=True, check=False)


# -------------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("command", ["", "data", *COMMANDS])
def test_help(capsys, command):
    code, out, err = run(capsys, *command.split(), "--help")
    assert (code, err) == (0, "")
    assert "usage:" in out


def test_every_command_is_tested_here():
    def names(parser):
        for action in parser._subparsers._group_actions if parser._subparsers else ():
            for name, sub in action.choices.items():
                yield from [f"{name} {inner}" for inner in names(sub)] or [name]

    assert sorted(names(cli._parser())) == sorted(COMMANDS)


def test_the_module_runs_as_a_program():
    asked = separate("--version")
    assert (asked.returncode, asked.stderr) == (0, "")
    wrong = separate("trian", "unet")
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert "trian" in wrong.stderr


# --------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("words", "naming"),
    [
        ("", "COMMAND"),
        ("harmonise", "harmonise"),
        ("--nonsense", ""),
        ("data", "ACTION"),
        ("data fetch-all", "fetch-all"),
        ("data verify", "ROOT"),
        ("data verify {tiny} --fast", "--fast"),
        ("data verify nowhere", "nowhere"),
        ("data verify {picture}", "{picture}"),
        ("data prepare nowhere", "nowhere"),
        ("data prepare {picture}", "{picture}"),
        ("data prepare coco-mini --source nowhere", "nowhere"),
        ("data prepare realhm", "realhm"),
        ("data prepare {tiny} --size 0", "--size 0"),
        ("data prepare {tiny} --size big", "big"),
        ("data prepare {tiny} --subset COCO", "COCO"),
        ("train", "EXPERIMENT"),
        ("train unett --data {tiny} --profile smoke", "unett"),
        ("train unet --data {tiny} --profile tiny", "tiny"),
        ("train unet --data nowhere --profile smoke", "nowhere"),
        ("train unet --data {tiny} --profile smoke --set steps", "steps"),
        ("train unet --data {tiny} --profile smoke --set stepz=3", "stepz"),
        ("train unet --data {tiny} --profile smoke --set batch_size=two", "batch_size"),
        ("train unet --data {tiny} --profile smoke --set share=2", "share"),
        ("train unet --data {tiny} --profile smoke --seed one", "one"),
        ("train unet --data {tiny} --profile smoke --seed -1", "-1"),
        ("evaluate --data {tiny} --out {out}", "--method"),
        ("evaluate --data {tiny} --method identity", "--out"),
        ("evaluate --data {tiny} --method magic --out {out}", "magic"),
        ("evaluate --data {tiny} --method {picture} --out {out}", "{picture}"),
        ("evaluate --data {tiny} --method {tiny} --out {out}", "{tiny}"),
        ("evaluate --data {tiny} --method identity --protocol psnr --out {out}", "psnr"),
        ("evaluate --data {tiny} --method identity --split dev --out {out}", "dev"),
        ("evaluate --data {tiny} --method identity --subset COCO --out {out}", "COCO"),
        ("evaluate --data {tiny} --method identity --size 0 --out {out}", "0"),
        ("evaluate --data {tiny} --method identity --size -8 --out {out}", "-8"),
        ("evaluate --data {tiny} --method identity --protocol fullres --size 64 --out {out}", "fullres"),
        ("evaluate --data nowhere --method identity --out {out}", "nowhere"),
        ("evaluate --data {tiny} --method identity --size 16 --out nowhere/rows.csv", "nowhere"),
        ("evaluate --data {tiny} --method identity --size 16 --out {tiny}", "{tiny}"),
        ("score --pred {picture} --real {picture}", "--mask"),
        ("score --pred nowhere.png --real {picture} --mask {mask}", "nowhere.png"),
        ("score --pred {picture} --real {list} --mask {mask}", "{list}"),
        ("score --pred {tiny} --real {picture} --mask {mask}", "{tiny}"),
        ("score --pred {picture} --real {picture} --mask {mask} --protocol best", "best"),
        ("plan --profile huge --data {tiny}", "huge"),
        ("plan --profile smoke --data nowhere", "nowhere"),
        ("report --profile smoke --data {tiny}", "run"),
        ("report --profile smoke --data nowhere", "nowhere"),
        ("doctor now", "now"),
    ],
)
def test_bad_input_ends_in_one_line(refuses, tiny_set, triplet, tmp_path, words, naming):
    names = {
        "tiny": tiny_set,
        "picture": triplet[0],
        "mask": triplet[1],
        "list": tiny_set / "IHD_test.txt",
        "out": tmp_path / "o.csv",
    }
    refuses(*(word.format(**names) for word in words.split()), naming=naming.format(**names))


@pytest.mark.parametrize(
    "setting", ["options.width=0", "options.colour=red", "options.width=wide", "model=magic", "precision=float16"]
)
def test_settings_that_no_network_has(capsys, tiny_set, setting, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, _, err = run(capsys, "train", "unet", "--data", tiny_set, "--profile", "smoke", "--set", setting)
    assert (code, err.count("\n")) == (2, 1)


def test_three_files_of_unequal_size(refuses, triplet, tmp_path):
    composite, mask, real = triplet
    small = tmp_path / "small.png"
    Image.open(real).resize((20, 20)).save(small)
    refuses("score", "--pred", composite, "--real", small, "--mask", mask, naming="small.png")


def test_doctor_tells_a_data_set_that_is_not_there(capsys):
    code, out, err = run(capsys, "doctor", "--data", "nowhere")
    assert code in (1, 2)
    assert "nowhere" in out + err


def test_a_message_of_several_lines_becomes_one(refuses, monkeypatch):
    monkeypatch.setattr("harmonylib.doctor.run", lambda data: (_ for _ in ()).throw(cli.HarmonyError("a\nb\n\tc")))
    refuses("doctor", naming="a b c")


# --------------------------------------------------------------------------------------------------- good input


@pytest.mark.parametrize("protocol", metrics.PROTOCOLS)
def test_score_agrees_with_the_metrics(capsys, triplet, protocol):
    composite, mask, real = triplet
    words = ("score", "--pred", composite, "--real", real, "--mask", mask, "--protocol", protocol)
    code, out, err = run(capsys, *words, "--json")
    assert (code, err) == (0, "")
    prediction, target, region = metrics.read_triplet(composite, mask, real, protocol)
    expected = metrics.score(prediction, target, region, protocol)
    found = json.loads(out)
    assert found["protocol"] == protocol
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert f"{expected['fmse']:.6g}" in out


def test_score_of_a_folder_is_the_mean_of_its_pictures(capsys, refuses, tiny_set, tmp_path):
    subset, names = tiny_set / "HCOCO", ["cscene0000_1_1", "cscene0000_1_2", "cscene0001_1_1"]
    (tmp_path / "outputs").mkdir()
    for name in names:
        shutil.copy(subset / "composite_images" / f"{name}.jpg", tmp_path / "outputs")
    words = ("score", "--pred", tmp_path / "outputs", "--real", subset / "real_images", "--mask", subset / "masks")
    code, out, err = run(capsys, *words, "--json")
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["name"] for row in rows] == names
    for row in rows:
        scene = row["name"].rsplit("_", 2)[0]
        files = [subset / "composite_images" / f"{row['name']}.jpg", subset / "masks" / f"{scene}_1.png"]
        expected = metrics.score(
            *metrics.read_triplet(*files, subset / "real_images" / f"{scene}.jpg", "bcmi256"), "bcmi256"
        )
        assert {key: row[key] for key in expected} == pytest.approx(expected)
    _, out, _ = run(capsys, *words)
    assert f"{np.mean([row['fmse'] for row in rows]):.6g}" in out
    assert "mean of 3 pictures" in out
    shutil.copy(tmp_path / "outputs" / f"{names[0]}.jpg", tmp_path / "outputs" / "other.jpg")
    refuses("score", "--pred", tmp_path / "outputs", *words[3:], naming="other")
    refuses("score", "--pred", tmp_path, *words[3:], naming="no pictures")
    refuses(*words[:3], "--real", tmp_path / "outputs" / "other.jpg", *words[5:], naming="three folders")


def test_score_of_a_perfect_prediction_is_json_that_others_can_read(capsys, triplet):
    _, mask, real = triplet
    code, out, _ = run(capsys, "score", "--pred", real, "--real", real, "--mask", mask, "--json")

    def no_json(constant):
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads(out, parse_constant=no_json)
    assert (code, found["mse"], found["fmse"]) == (0, 0, 0)


def test_evaluate_writes_a_row_a_picture(capsys, tiny_set, tmp_path):
    out = tmp_path / "rows.csv"
    code, told, _ = run(capsys, "evaluate", "--data", tiny_set, "--method", "reinhard", "--size", 32, "--out", out)
    assert code == 0
    rows = pd.read_csv(out)
    expected = evaluation.evaluate(evaluation.baseline("reinhard"), read_entries(tiny_set), "bcmi256", 32)
    assert rows["name"].tolist() == expected["name"].tolist()
    np.testing.assert_allclose(rows["fmse"], expected["fmse"])
    assert set(rows["protocol"]) == {"bcmi256@32"}
    assert "doing nothing" in told
    for subset in ("HCOCO", "HAdobe5k", "HFlickr", "Hday2night", "all"):
        assert subset in told


def test_evaluate_several_methods_under_several_protocols(capsys, tiny_set, tmp_path):
    words = ("--method", "reinhard", "identity", "--protocol", "fullres", "s2am_t4", "--subset", "HFlickr")
    code, told, _ = run(capsys, "evaluate", "--data", tiny_set, *words, "--out", tmp_path / "rows.csv")
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert code == 0 and told.count("doing nothing") == 4 and told.count("share 1.000") == 2
    counts = rows.groupby(["method", "protocol"]).size()
    assert len(counts) == 4 and counts.nunique() == 1
    alone = evaluation.evaluate(evaluation.baseline("identity"), read_entries(tiny_set, "HFlickr"), "s2am_t4")
    ours = rows[(rows["method"] == "identity") & (rows["protocol"] == "s2am_t4")]
    np.testing.assert_allclose(ours["fmse"], alone["fmse"])


def test_evaluate_one_subset_of_one_split(capsys, tiny_set, tmp_path):
    words = ("--method", "identity", "--protocol", "fullres", "--subset", "HFlickr", "--split", "val")
    code, told, _ = run(capsys, "evaluate", "--data", tiny_set, *words, "--out", tmp_path / "rows.csv")
    assert code == 0
    assert set(pd.read_csv(tmp_path / "rows.csv")["subset"]) == {"HFlickr"}
    assert "share 1.000" in told


def test_verify(capsys, own_set, tmp_path):
    code, out, _ = run(capsys, "data", "verify", own_set)
    assert code == 0
    assert "16 in train, 8 in test" in out and "no fault" in out
    bad = ["HCOCO/composite_images/cscene0007_1_2.jpg", "HCOCO/real_images/cscene0003.jpg"]
    for name in bad:
        (own_set / name).write_bytes((own_set / name).read_bytes()[:300])
    code, out, _ = run(capsys, "data", "verify", own_set, "--report", tmp_path / "faults.csv")
    assert code == 1
    assert f"unreadable: 2, first {bad[0]}" in out
    faults = pd.read_csv(tmp_path / "faults.csv")
    assert list(faults["file"]) == bad and set(faults["kind"]) == {"unreadable"}


def test_verify_names_a_missing_file(capsys, own_set):
    name = "HCOCO/masks/cscene0003_1.png"
    (own_set / name).unlink()
    code, out, _ = run(capsys, "data", "verify", own_set)
    assert code == 1
    assert "missing: 1" in out and name in out


def test_prepare(capsys, tiny_set, tmp_path):
    code, out, _ = run(capsys, "data", "prepare", tiny_set, "--size", 16)
    assert code == 0
    assert "96 composites at 16 px" in out
    (cache,) = (tmp_path / "data/cache").glob("tiny-16-*/manifest.json")
    study = open_study("smoke", str(tiny_set)).like(replace(experiments.get("swinih"), subset="all", size=16))
    assert study.cache.folder == cache.parent  # training opens what was prepared
    capsys.readouterr()
    again = run(capsys, "data", "prepare", tiny_set, "--size", 16)[1]
    assert again.splitlines()[-1] == out.splitlines()[-1]
    assert not (tmp_path / "results").exists()


def test_doctor(capsys, tiny_set):
    code, out, err = run(capsys, "doctor")
    assert code in (0, 1)
    assert err == ""
    for word in ("Python", "torch", "embedded", "disk"):
        assert word in out


SMOKE = ("--profile", "smoke")


def test_train_end_to_end(capsys, tiny_set, tmp_path):
    code, out, _ = run(capsys, "train", "unet", "--data", tiny_set, *SMOKE, "--seed", 1)
    assert code == 0
    told = [line for line in out.splitlines() if "doing nothing" in line]
    assert [line.split(":")[0] for line in told] == ["bcmi256@32", "s2am_t4@32"]
    folder = tmp_path / "results/smoke-tiny/runs/unet/seed1"
    for name in ("config.json", "metrics.json", "per_image.csv", "log.csv", "env.json", "checkpoint.pt"):
        assert (folder / name).is_file()
    found = json.loads((folder / "metrics.json").read_text())
    assert f"fMSE {found['test']['bcmi256@32']['fmse']:.4g}" in told[0]
    nothing = pd.read_csv(tmp_path / "results/smoke-tiny/runs/identity/seed0/per_image.csv")
    nothing = nothing.query("split == 'test' and protocol == 'bcmi256@32'")["fmse"].mean()
    assert f"doing nothing {nothing:.4g}" in told[0]

    before = (folder / "per_image.csv").read_bytes()
    code, out, _ = run(capsys, "train", "unet", "--data", tiny_set, *SMOKE, "--seed", 1)
    assert code == 0
    assert "kept" in out
    assert (folder / "per_image.csv").read_bytes() == before

    rows = tmp_path / "rows.csv"
    for method in (folder, folder / "checkpoint.pt"):
        code, out, _ = run(
            capsys, "evaluate", "--data", tiny_set, "--subset", "HCOCO", "--method", method, "--out", rows
        )
        assert code == 0
        assert "bcmi256@32" in out  # a checkpoint is evaluated at the size it was trained at
        assert pd.read_csv(rows)["fmse"].mean() == pytest.approx(found["test"]["bcmi256@32"]["fmse"], rel=1e-4)


def test_a_run_that_is_recorded_has_doing_nothing_beside_it(capsys, tiny_set, tmp_path, monkeypatch):
    """A sweep whose run is killed takes the run's record as the sign that nothing is left to do."""
    nothing, seen = tmp_path / "results/smoke-tiny/runs/identity/seed0/metrics.json", []
    write = records.write

    def looking(folder, *parts):
        seen.append(nothing.is_file())
        return write(folder, *parts)

    monkeypatch.setattr(records, "write", looking)
    assert run(capsys, "train", "unet", "--data", tiny_set, *SMOKE)[0] == 0
    assert seen == [False, True]


def config_of(tmp_path):
    """(experiment's folder, config.json) of the only trained run."""
    (checkpoint,) = (tmp_path / "results/smoke-tiny/runs").rglob("checkpoint.pt")
    return checkpoint.parent, json.loads((checkpoint.parent / "config.json").read_text())


def test_a_changed_run_does_not_pass_for_the_declared_one(capsys, tiny_set, tmp_path):
    code, _, _ = run(capsys, "train", "unet", "--data", tiny_set, *SMOKE, "--set", "options.width=4")
    assert code == 0
    folder, config = config_of(tmp_path)
    assert config["options"]["width"] == 4
    assert folder.parent.name != "unet"  # tables and claims read runs/unet as the U-Net of the profile


def test_an_overridden_seed_is_the_seed(capsys, tiny_set, tmp_path):
    code, _, _ = run(capsys, "train", "unet", "--data", tiny_set, *SMOKE, "--set", "seed=3")
    assert code == 0
    folder, config = config_of(tmp_path)
    assert (folder.name, config["seed"]) == ("seed3", 3)


def test_an_overridden_size_is_the_size_it_trains_at(capsys, tiny_set, tmp_path):
    code, _, _ = run(capsys, "train", "unet", "--data", tiny_set, *SMOKE, "--set", "size=16")
    assert code == 0
    folder, config = config_of(tmp_path)
    assert config["size"] == 16
    assert set(pd.read_csv(folder / "per_image.csv")["protocol"]) == {"bcmi256@16", "s2am_t4@16"}


def test_an_overridden_subset_is_the_subset_it_trains_on(capsys, tiny_set, tmp_path):
    code, _, _ = run(capsys, "train", "unet", "--data", tiny_set, *SMOKE, "--set", "subset='HFlickr'")
    assert code == 0
    folder, config = config_of(tmp_path)
    assert config["subset"] == "HFlickr"
    assert set(pd.read_csv(folder / "per_image.csv")["subset"]) == {"HFlickr"}


@pytest.mark.parametrize("changes", [("steps=1",), ("steps=3", "epochs=5")])
def test_fewer_steps_than_epochs_still_make_numbers(capsys, tiny_set, tmp_path, changes):
    words = [word for change in changes for word in ("--set", change)]
    code, _, err = run(capsys, "train", "unet", "--data", tiny_set, *SMOKE, *words)
    if code == 2:  # to refuse it is as good
        assert err.count("\n") == 1
        return
    folder, _ = config_of(tmp_path)
    found = json.loads((folder / "metrics.json").read_text())
    assert all(np.isfinite(epoch["fmse"]) for epoch in found["validation"].values())


def test_plan(capsys, tiny_set, tmp_path, monkeypatch):
    names = ("unet", "pretrain_swinih", "swinih_lemart")
    monkeypatch.setattr(experiments, "EXPERIMENTS", {name: experiments.get(name) for name in names})
    code, out, err = run(capsys, "plan", *SMOKE, "--data", tiny_set)
    assert (code, err) == (0, "")
    for name in names:
        assert name in out
    assert not (tmp_path / "results").exists()


def test_hours_on_other_cards_follow_from_counted_operations(monkeypatch):
    monkeypatch.setattr(plan, "share_of_peak", lambda: 0.25)
    table = plan.on_cards()
    assert set(table["card"]) == set(plan.CARDS)
    # 30 epochs of 120,000 photographs in batches of 192, and 831 GFLOP a picture both ways
    row = table.query("run == 'pretrain_swinih' and card.str.startswith('A100')").iloc[0]
    assert row["optimiser steps"] == 18_750
    flops = 18_750 * 192 * plan.flops_per_picture("swinih", 256)
    assert plan.flops_per_picture("swinih", 256) == pytest.approx(6 * 138e9, rel=0.03)  # 138 GMAC forward
    assert float(row["hours"].replace(",", "")) == pytest.approx(flops / (0.25 * 312e12) / 3600, abs=0.06)
    assert (table["pictures at once"] >= 1).all()

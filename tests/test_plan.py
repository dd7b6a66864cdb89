"""`plan`: what it says of runs, of what does not fit, and of its own predictions."""

import dataclasses
import os
import time

import pandas as pd
import pytest

from harmonylib import experiments, memory, plan, probe, records
from harmonylib.config import PROFILES
from harmonylib.errors import HarmonyError
from harmonylib.study import open_study

NAMES = ("unet", "s2am", "swinih")
ENVIRONMENT = {"profile": "smoke", "data": "tiny", "seconds": 10.0, "scoring_seconds": 2.0}


@pytest.fixture
def study(tiny_set, tmp_path, monkeypatch):
    monkeypatch.setenv("HARMONY_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(experiments, "EXPERIMENTS", {name: experiments.get(name) for name in NAMES})
    return dataclasses.replace(open_study("smoke", str(tiny_set), say=lambda line: None), say=lambda line: None)


@pytest.fixture
def costs(monkeypatch):
    """Every step takes 6 s, every picture 0.1 s."""
    monkeypatch.setattr(plan, "all_costs", lambda names, *_: dict.fromkeys(names, probe.Cost(6.0, 0.1)))
    monkeypatch.setattr(plan, "notebooks", lambda: 2.0)


def test_minutes_are_steps_and_scores(study, costs):
    table = plan.runs(study).set_index("run")
    assert list(table.index) == list(NAMES)
    unet = experiments.resolve(experiments.get("unet"), PROFILES["smoke"], study.data)
    seconds = unet.steps * 6.0 + plan.scored(unet, study) * 0.1 + plan.RUN_SECONDS
    assert table.loc["unet", "minutes"] == pytest.approx(seconds / 60)
    assert table.loc["unet", "bytes"] == sum(
        p.nbytes for p in probe.models.build("unet", **unet.options).state_dict().values()
    )


def test_as_many_pictures_are_planned_as_a_run_scores(study, monkeypatch):
    scored = []
    original = plan.training.evaluation.score_rows
    monkeypatch.setattr(plan.training.evaluation, "score_rows", lambda *a: scored.append(len(a[0])) or original(*a))
    unet = experiments.resolve(experiments.get("unet"), study.profile, study.data)
    study.run(unet)
    assert plan.scored(unet, study) == sum(scored)


def test_the_prediction_is_compared_with_what_happened(study, costs, tmp_path, capsys):
    file = tmp_path / "plan.csv"
    plan.show(study, file)
    os.utime(file, (0, 0))
    folder = study.results / "runs" / "unet" / "seed0"
    folder.mkdir(parents=True)
    records.write_json(folder / "env.json", ENVIRONMENT)
    (folder / records.MADE_HERE).touch()
    capsys.readouterr()
    plan.compare(study, file)
    out = capsys.readouterr().out
    predicted = pd.read_csv(file).set_index("run").loc["unet", "minutes"]
    assert "s2am" not in out  # it was not made
    assert "in all" not in out
    assert f"plan: 1 runs, predicted {predicted:.1f} min, took 0.2 min: {predicted / 0.2:.2f} of it" in out


def test_all_of_it_is_compared_with_the_time_that_passed(study, costs, tmp_path, capsys):
    file = tmp_path / "plan.csv"
    plan.show(study, file)
    table = pd.read_csv(file).set_index("run")
    assert table.loc[plan.NOTEBOOKS, "minutes"] == 2.0
    os.utime(file, (time.time() - 600, time.time() - 600))
    for name in NAMES:
        for seed in range(int(table.loc[name, "seeds"])):
            folder = study.results / "runs" / name / f"seed{seed}"
            folder.mkdir(parents=True)
            records.write_json(folder / "env.json", ENVIRONMENT)
            (folder / records.MADE_HERE).touch()
    capsys.readouterr()
    plan.compare(study, file)
    whole = table.loc[list(NAMES), "minutes"].sum() / plan.processes(study) + 2.0
    assert f"in all, predicted {whole:.1f} min, 10.0 min have passed" in capsys.readouterr().out


def test_nothing_made_since_is_nothing_to_compare(study, costs, tmp_path, capsys):
    plan.show(study, tmp_path / "plan.csv")
    capsys.readouterr()
    plan.compare(study, tmp_path / "plan.csv")
    assert "nothing to compare" in capsys.readouterr().out
    pd.read_csv(tmp_path / "plan.csv").iloc[:-1].to_csv(tmp_path / "older.csv", index=False)
    plan.compare(study, tmp_path / "older.csv")
    assert "another version" in capsys.readouterr().out
    with pytest.raises(HarmonyError, match="--out"):
        plan.compare(study, tmp_path / "missing.csv")


def test_what_does_not_fit_is_named_with_what_would_make_it_fit(study, costs, monkeypatch):
    unet = experiments.resolve(experiments.get("unet"), study.profile, study.data)
    need = {b: memory.training_peak("unet", unet.options, b, unet.size)["total_peak"] for b in (1, 2)}
    monkeypatch.setattr(plan, "processes", lambda study: 1)
    monkeypatch.setattr(plan.memory, "room", lambda: (need[1] + need[2]) / 2)
    (line,) = [line for line in plan.misfits(study, plan.runs(study), 0) if line.split()[3] == "unet:"]
    assert "micro_batch=1" in line
    monkeypatch.setattr(plan.memory, "room", lambda: 1000)
    assert all("not even one picture" in line for line in plan.misfits(study, plan.runs(study), 0))
    assert "free" in plan.misfits(study, plan.runs(study), float("inf"))[-1]


def test_a_step_too_large_is_probed_smaller(monkeypatch):
    experiment = dataclasses.replace(experiments.get("unet"), batch_size=8, size=128, options={"width": 4})
    one = probe.operations(experiment)
    monkeypatch.setattr(probe, "AFFORDABLE", {"cpu": 2.5 * one, "cuda": 2.5 * one})
    small = probe._affordable(experiment)
    assert (small.batch_size, small.size) == (2, 128)
    monkeypatch.setattr(probe, "AFFORDABLE", {"cpu": one / 3, "cuda": one / 3})
    small = probe._affordable(experiment)
    assert (small.batch_size, small.size) == (1, 64)
    # the cost of the whole is that of the small one, times the operations that it has more
    monkeypatch.setattr(probe, "seconds", lambda work, device, *_: (work(0), 1.0)[1])
    assert probe.cost(experiment).step == pytest.approx(8 * one / probe.operations(small))


def test_costs_of_several_processes():
    found = probe.all_costs(["unet", "swinih"], "smoke", "embedded", 2)
    assert set(found) == {"unet", "swinih"}
    assert all(0 < cost.step < 60 and 0 < cost.picture < 60 for cost in found.values())


@pytest.mark.parametrize("name", ["s2am_linear", "s2am_s2asc", "ht"])
def test_operations_are_counted_without_data(name):
    experiment = experiments.resolve(experiments.get(name), PROFILES["quick"], "embedded")
    assert probe.operations(experiment) > 1e6

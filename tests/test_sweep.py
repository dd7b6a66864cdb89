"""The grid of runs on this machine: order, logs, what is kept, what fails beside what goes on."""

import pickle
import sys
from dataclasses import replace

import pytest

from harmonylib import records, sweep
from harmonylib.cli import main
from harmonylib.study import open_study

WORDS = ["--profile", "smoke", "--gpus", "0"]
TARGET = ["pretrain_swinih_target", "swinih_lemart_target"]


def quiet(*_):
    pass


@pytest.fixture
def study(tiny_set):
    return open_study("smoke", str(tiny_set), say=quiet)


def stand_in(job: sweep.Job, fails: str = "") -> sweep.Job:
    """The job with a program that writes its record at once, or does not."""
    folder, key = job.record
    body = f"""
from pathlib import Path
from harmonylib import records
Path({str(folder)!r}).mkdir(parents=True)
if {job.label!r} == {fails!r}:
    raise SystemExit("harmonylib: no space left")
records.write(Path({str(folder)!r}), {{}}, {{"key": {key!r}}}, None, None, {{}})
"""
    return replace(job, command=[sys.executable, "-c", body])


def test_levels_are_what_starts_from_what(study):
    levels, kept = sweep.plan(study, [TARGET[1], "unet"], None, [0, 1], sweep.Means())
    assert kept == 0
    assert [sorted(job.label for job in level) for level in levels] == [
        ["pretrain_swinih_target:0", "unet:0", "unet:1"],
        ["swinih_lemart_target:0", "swinih_lemart_target:1"],
    ]  # of the pre-training, the profile plans one seed
    child, parent = levels[1][0], levels[0][0]
    assert child.parent == parent.record
    assert pickle.loads(pickle.dumps(child)) == child


def test_a_failure_stops_only_what_starts_from_it(study, monkeypatch):
    levels, _ = sweep.plan(study, [TARGET[1], "unet"], None, [0], sweep.Means())
    levels = [[stand_in(job, fails="pretrain_swinih_target:0") for job in level] for level in levels]
    ended = {job.label: words for job, words in sweep._here(levels, sweep.Means(at_once=2), quiet)}
    assert ended["unet:0"] == "finished"
    assert ended["pretrain_swinih_target:0"].startswith("failed: harmonylib: no space left (")
    assert "starts from" in ended["swinih_lemart_target:0"] and "did not finish" in ended["swinih_lemart_target:0"]


def test_several_gpus_and_nodes_are_a_matter_of_torchrun(study):
    (job,), *_ = sweep.plan(study, ["unet"], None, [0], sweep.Means(gpus=8, nodes=2))[0]
    assert job.command[1:3] == ["-m", "torch.distributed.run"]
    assert {"--nnodes=2", "--nproc_per_node=8", "--rdzv_endpoint=$HEAD"} <= set(job.command)
    (job,), *_ = sweep.plan(study, ["unet"], None, [0], sweep.Means(gpus=1))[0]
    assert job.command[1:5] == ["-m", "harmonylib", "train", "unet"]


def test_finished_runs_are_kept(study, tiny_set, capsys):
    levels, _ = sweep.plan(study, ["unet"], None, [0], sweep.Means())
    ended = sweep._here([[stand_in(job) for job in level] for level in levels], sweep.Means(), quiet)
    ((job, _),) = ended
    (job.record[0] / "checkpoint.pt").touch()
    assert records.reusable(*job.record)
    assert main(["sweep", "unet", "--seeds", "0", "--data", str(tiny_set), *WORDS]) == 0
    assert "1 kept, 0 finished, 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nosuch"], "not declared"),
        (["unet", "--nodes", "2"], "need --slurm"),
        (["unet", "--at-most", "0"], "--at-most 0"),
        (["unet", "--slurm", "--sbatch", "account"], "key=value"),
        (["unet", "--gpus", "64"], "64 GPUs"),
    ],
)
def test_what_cannot_be_run(tiny_set, capsys, words, reason):
    assert main(["sweep", "--profile", "smoke", "--data", str(tiny_set), *words]) == 2
    told = capsys.readouterr().err
    assert reason in told and told.count("\n") == 1


def test_without_slurm(tiny_set, capsys, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "")
    assert main(["sweep", "unet", "--slurm", "--data", str(tiny_set), *WORDS]) == 2
    assert "no Slurm here" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert main(["sweep", "unet", "--slurm", "--data", str(tiny_set), *WORDS]) == 2
    assert "pip install submitit" in capsys.readouterr().err

"""The grid of runs on this machine: order, logs, what is kept, what fails beside what goes on."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harmonylib import records, sweep, workers
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
for name in ("checkpoint.pt", "log.csv", "per_image.csv"):
    (Path({str(folder)!r}) / name).touch()
(Path({str(folder)!r}) / "gpus").write_text(__import__("os").environ.get("CUDA_VISIBLE_DEVICES", ""))
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
    assert job.command[1:3] == ["-m", "harmonylib.torchrun"]
    assert {"--nnodes=2", "--nproc_per_node=8", "--rdzv_endpoint=$HEAD"} <= set(job.command)
    (job,), *_ = sweep.plan(study, ["unet"], None, [0], sweep.Means(gpus=1))[0]
    assert job.command[1:5] == ["-m", "harmonylib", "train", "unet"]


def test_finished_runs_are_kept(study, tiny_set, capsys):
    levels, _ = sweep.plan(study, ["unet"], None, [0], sweep.Means())
    ended = sweep._here([[stand_in(job) for job in level] for level in levels], sweep.Means(), quiet)
    ((job, _),) = ended
    assert job.finished()
    assert main(["sweep", "unet", "--seeds", "0", "--data", str(tiny_set), *WORDS]) == 0
    assert "1 kept, 0 finished, 0 failed" in capsys.readouterr().out
    (job.record[0] / "checkpoint.pt").unlink()  # what starts from it would have to train it
    assert records.reusable(*job.record) and not job.finished()


@pytest.mark.parametrize(
    ("seen", "count", "each", "slots"),
    [("", 4, 2, {"0,1", "2,3"}), ("3,4,5,6,7", 5, 2, {"3,4", "5,6"}), ("GPU-ab,GPU-cd", 2, 1, {"GPU-ab", "GPU-cd"})],
)
def test_runs_get_the_gpus_that_this_process_may_use(study, monkeypatch, seen, count, each, slots):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    levels, _ = sweep.plan(study, ["unet"], None, [0, 1, 2], sweep.Means())
    jobs = [replace(stand_in(job), parent=None) for job in levels[0]]
    ended = sweep._here([jobs], sweep.Means(gpus=each), quiet)
    assert [words for _, words in ended] == ["finished"] * 3
    assert {(job.record[0] / "gpus").read_text() for job in jobs} <= slots


def test_an_interrupt_starts_no_further_run(study, monkeypatch):
    """Also where more runs may be at once than there are GPUs, so that some wait for one."""
    monkeypatch.setattr(workers, "gpus", lambda: ["0"])
    levels, _ = sweep.plan(study, ["unet"], None, [0, 1, 2], sweep.Means())
    jobs = [replace(job, command=["sleep", "60"]) for job in levels[0]]

    def interrupt():
        while not any(job.process for job in jobs):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        sweep._here([jobs], sweep.Means(gpus=1, at_once=3), quiet)
    assert time.monotonic() - started < 50  # none has slept to its end
    assert sum(job.process is not None for job in jobs) == 1


def test_torchrun_ends_with_the_sweep_that_started_it(tmp_path):
    command = ["-m", "harmonylib.torchrun", "--standalone", "--nproc_per_node=2", "asleep.py"]
    (tmp_path / "asleep.py").write_text(
        "import os, pathlib, time\npathlib.Path(f'{os.getpid()}.pid').touch()\ntime.sleep(120)\n"
    )
    environment = {"PYTHONPATH": str(sweep.ROOT), "OMP_NUM_THREADS": "1"}
    code = f"""import os, subprocess, sys
own = {environment!r} | {{{sweep.PARENT!r}: str(os.getpid())}}
process = subprocess.Popen([sys.executable, *{command!r}], cwd={str(tmp_path)!r}, env=os.environ | own)
print(process.pid, flush=True)
process.wait()"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as p:
        pids = [int(p.stdout.readline())]
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("*.pid"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        pids += [int(file.stem) for file in tmp_path.glob("*.pid")]
        p.kill()
    assert len(pids) == 3
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


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

"""Whatever interrupts a run or a write: old or new is there, whole; the same command goes on to the same end."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import pytest
import torch
from test_training import UNET, prepared, quiet, same  # noqa: F401  prepared is a fixture

from harmonylib import checkpoints, interruption, paths, records, training, workers
from harmonylib.cli import main
from harmonylib.data import cache, coco_mini
from harmonylib.data.layout import read_entries
from harmonylib.errors import HarmonyError
from harmonylib.paths import alone, building, making, whole_file, write_text

ROOT = Path(__file__).resolve().parent.parent


def python(code: str, *arguments, **options) -> subprocess.Popen:
    """A process that runs `code`; it starts its work when its first line has been read."""
    command = [sys.executable, "-u", "-W", "ignore", "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_sweep_has_started_ends_with_it(tiny_set, tmp_path):
    often = {"HARMONY_RESULTS": str(tmp_path / "results"), "HARMONY_CHECKPOINT_SECONDS": "0.2"}
    command = [sys.executable, "-m", "harmonylib", "sweep", "unet", "--profile", "quick", "--data", str(tiny_set)]
    sweep = subprocess.Popen([*command, "--seeds", "0", "--gpus", "0"], cwd=ROOT, env=os.environ | often)
    until = time.monotonic() + 120

    def seen(pattern: str, words: str = "") -> bool:
        assert time.monotonic() < until
        time.sleep(0.1)
        return any(words in file.read_text(errors="replace") for file in (tmp_path / "results").glob(pattern))

    while not seen("*/runs/unet/seed0/checkpoint.pt"):
        assert sweep.poll() is None
    sweep.kill()
    sweep.wait()
    while not seen("*/logs/unet-seed0.log", "as SIGTERM asked"):
        pass


def test_a_folder_that_has_vanished_is_not_made_anew(tmp_path):
    with pytest.raises(OSError, match="gone"), building(tmp_path / "gone" / "examples"):
        pass
    assert names(tmp_path) == []


# ----------------------------------------------------------------------------------------------------- links


def test_a_link_where_a_file_is_begun_leads_nowhere(tmp_path):
    (tmp_path / "other").write_text("another's")
    (tmp_path / ".file.part").symlink_to(tmp_path / "other")
    write_text(tmp_path / "file", "mine")
    assert (tmp_path / "other").read_text() == "another's"
    assert (tmp_path / "file").read_text() == "mine" and not (tmp_path / "file").is_symlink()


def test_a_link_to_nowhere_is_there_already(tmp_path):
    (tmp_path / "file").symlink_to(tmp_path / "nowhere")
    with pytest.raises(HarmonyError, match="--force"):
        paths.check_free(tmp_path / "file", force=False)
    paths.check_free(tmp_path / "file", force=True)


def test_a_name_that_is_no_text_is_escaped(tmp_path):
    write_text(tmp_path / "file", os.fsdecode(b"caf\xe9.png"))
    assert (tmp_path / "file").read_text() == "caf\\udce9.png"


# ----------------------------------------------------------------------------------------------------- SIGTERM


@pytest.mark.parametrize(("moment", "code"), [("before", 75), ("after", 0)])
def test_sigterm_before_a_command_has_begun_and_when_it_is_over(moment, code):
    """Its imports, and the end of Python, take a second each."""
    script = """import atexit, os, runpy, signal, sys, harmonylib.cli
def sigterm():
    os.kill(os.getpid(), signal.SIGTERM)
    return 0
harmonylib.cli.main = sigterm
if sys.argv[1] == "after":
    harmonylib.cli.main = lambda: 0
    atexit.register(sigterm)
runpy.run_module("harmonylib", run_name="__main__")"""
    done = subprocess.run([sys.executable, "-c", script, moment], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code, done.stderr


@pytest.fixture
def terminate_at(monkeypatch):
    """SIGTERM reaches this process in the middle of a step, counted from 0."""

    def at(step: int) -> None:
        rate = training._learning_rate

        def signalled(experiment, now, steps):
            if now == step:
                os.kill(os.getpid(), signal.SIGTERM)
            return rate(experiment, now, steps)

        monkeypatch.setattr(training, "_learning_rate", signalled)

    return at


def test_a_run_saves_stops_and_goes_on_to_the_same_bits(prepared, tmp_path, terminate_at, monkeypatch):  # noqa: F811
    whole = training.train(UNET, *prepared, tmp_path / "whole.pt", key="k", say=quiet)
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    terminate_at(4)
    with pytest.raises(interruption.Interrupted, match="stopped at step 5 of 9"):
        training.train(UNET, *prepared, checkpoint, key="k", say=quiet)
    assert names(checkpoint.parent) == ["checkpoint.pt"]
    monkeypatch.undo()
    said = []
    assert same(whole, training.train(UNET, *prepared, checkpoint, key="k", say=said.append))
    assert "resumed at step 5 of 9" in said[0]


def test_a_signal_after_the_last_step_is_passed_on_when_the_run_is_saved(prepared, tmp_path, terminate_at):  # noqa: F811
    terminate_at(8)
    with interruption.leaving(), pytest.raises(interruption.Terminated):
        training.train(UNET, *prepared, tmp_path / "checkpoint.pt", key="k", say=quiet)
    assert training.load_model(tmp_path / "checkpoint.pt")


def test_the_handler_before_comes_back_and_threads_have_none():
    def own(*_):
        raise AssertionError("not asked for")

    before = signal.signal(signal.SIGTERM, own)
    try:
        with pytest.raises(interruption.Interrupted), interruption.noted() as asked:
            os.kill(os.getpid(), signal.SIGTERM)
            assert asked()
            raise interruption.Interrupted("saved")
        assert signal.getsignal(signal.SIGTERM) is own
        seen = []
        thread = threading.Thread(target=lambda: seen.append(_inside()))
        thread.start()
        thread.join()
        assert seen == [own]
    finally:
        signal.signal(signal.SIGTERM, before)


def _inside():
    with interruption.noted(), interruption.leaving():
        return signal.getsignal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (interruption.Interrupted("unet, seed 0: stopped at step 3"), 75, "stopped at step 3"),
        (interruption.Terminated(), 75, "the same command goes on"),
        (KeyboardInterrupt(), 130, "the same command goes on"),
        (HarmonyError("no"), 2, "no"),
        (OSError(28, "No space left on device", "/x/y"), 2, "/x/y: No space left"),
    ],
)
def test_exit_codes(monkeypatch, capsys, error, code, words):
    def fail(options):
        raise error

    monkeypatch.setattr("harmonylib.cli._doctor", fail)
    assert main(["doctor"]) == code
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and words in told


def test_sigterm_ends_a_command_with_75(monkeypatch, capsys):
    monkeypatch.setattr("harmonylib.cli._doctor", lambda options: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(9))
    assert main(["doctor"]) == 75


@pytest.mark.parametrize("text", ["soon", "-1", "nan"])
def test_seconds_between_checkpoints(monkeypatch, refused, text):
    monkeypatch.setenv(checkpoints.SECONDS, "7.5")
    assert checkpoints.interval(300) == 7.5
    monkeypatch.setenv(checkpoints.SECONDS, "")
    assert checkpoints.interval(300) == 300
    monkeypatch.setenv(checkpoints.SECONDS, text)
    with refused(checkpoints.SECONDS, text):
        checkpoints.interval(300)


def test_a_process_whose_parent_was_killed_ends():
    child = (
        "import os, time; from harmonylib import interruption as i; i.end_with({}); print(os.getpid()); time.sleep(60)"
    )
    code = f"""import os, subprocess, sys
code = {child!r}.format(os.getpid())
subprocess.Popen([sys.executable, "-u", "-c", code])
sys.stdin.read()"""
    with python(code) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
        assert parent.stdout.read() == ""  # the child holds the other end, until it has ended
    with pytest.raises(ProcessLookupError):
        for _ in range(600):
            os.kill(pid, 0)
            time.sleep(0.05)


# ------------------------------------------------------------------------------------------------------ writing


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(RuntimeError), whole_file(file) as out:
        out.write(b"ne")
        raise RuntimeError
    assert file.read_text() == "old" and names(tmp_path) == ["a.txt"]
    write_text(file, "new")
    assert file.read_text() == "new" and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_disk_that_fails_is_named_and_leaves_the_old_file(tmp_path, monkeypatch, failing):
    file = tmp_path / "a.txt"
    write_text(file, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(paths.os, failing, full)
    with pytest.raises(OSError, match="No space left") as told:
        write_text(file, "new")
    assert told.value.filename == str(file)
    assert file.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_what_a_killed_process_left_is_written_over(tmp_path):
    code = """import sys; from pathlib import Path; from harmonylib.paths import whole_file
with whole_file(Path(sys.argv[1])) as file:
    file.write(b"half of something longer"); file.flush(); print("half"); sys.stdin.read()"""
    with python(code, tmp_path / "a.txt") as process:
        process.stdout.readline()
        process.kill()
    assert names(tmp_path) == [".a.txt.part"]
    write_text(tmp_path / "a.txt", "whole")
    assert names(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "whole"


def test_two_that_write_one_file_take_turns(tmp_path):
    file, order = tmp_path / "a.txt", []

    def second():
        write_text(file, "second")
        order.append("second")

    thread = threading.Thread(target=second)
    with whole_file(file) as out:
        thread.start()
        out.write(b"first")
        thread.join(0.3)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert file.read_text() == "second" and names(tmp_path) == ["a.txt"]


def test_links_stay_links_and_devices_are_written_to(tmp_path):
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink() and target.read_text() == "new"
    write_text(Path("/dev/null"), "gone")
    assert not Path("/dev/null").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_a_full_disk_under_a_checkpoint_is_told_as_such(tmp_path):
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(Path("/dev/full"), {"experiment": {}, "model": {"a": torch.zeros(100_000)}})


@pytest.mark.parametrize("failing", ["in it", "replace"])
def test_a_folder_is_the_old_one_until_the_new_one_is_whole(tmp_path, monkeypatch, failing):
    folder = tmp_path / "set"
    with building(folder) as started:
        (started / "a").write_text("old")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk"), building(folder) as started:
        (started / "a").write_text("new")
        if failing == "in it":
            raise OSError("disk")
        patch.setattr(paths.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    assert (folder / "a").read_text() == "old" and names(tmp_path) == ["set"]


def test_what_killed_builders_left_is_swept_and_nothing_else(tmp_path):
    for name in (".set.12.part", ".set.12.old.part", ".set-80.7.part", "set"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    with building(tmp_path / "set") as started:
        (started / "whole").touch()
    assert names(tmp_path) == [".set-80.7.part", "set"] and names(tmp_path / "set") == ["whole"]


def record(folder: Path, value: float):
    rows = pd.DataFrame({"name": ["a"], "fmse": [value]})
    return records.write(folder, {"name": "x", "size": 8}, {"key": "k", "value": value}, rows, rows, {})


@pytest.mark.parametrize("after", range(5))
def test_a_record_between_two_writes_is_not_taken_for_one(tmp_path, monkeypatch, after):
    """Files are replaced one by one; whenever that ends, there is no record, and nothing in it is half a file."""
    record(tmp_path, 1.0)
    left = [after]

    def replace(source, target, really=os.replace):
        if not left[0]:
            raise OSError(28, "No space left on device")
        left[0] -= 1
        really(source, target)

    monkeypatch.setattr(paths.os, "replace", replace)
    with pytest.raises(OSError, match="No space"):
        record(tmp_path, 2.0)
    assert records.reusable(tmp_path, "k") is None
    for path in tmp_path.iterdir():
        whole(path)
    monkeypatch.undo()
    assert records.reusable(record(tmp_path, 2.0).folder, "k").metrics["value"] == 2.0


def whole(path: Path) -> None:
    """Old or new, a file of a record is all there."""
    text = path.read_text()
    if path.suffix == ".json":
        json.loads(text)
    elif path.suffix == ".csv":
        assert text in ("name,fmse\na,1\n", "name,fmse\na,2\n")
    else:
        assert path.name == records.MADE_HERE


@pytest.mark.parametrize("content", ["", '{"key": "k"', "\0" * 30])
def test_a_damaged_record_is_made_again(tmp_path, content):
    record(tmp_path, 1.0)
    (tmp_path / "metrics.json").write_text(content)
    assert records.reusable(tmp_path, "k") is None


@pytest.mark.parametrize("name", ["config.json", "env.json", "per_image.csv"])
def test_a_record_that_lacks_a_part_is_made_again(tmp_path, name):
    record(tmp_path, 1.0)
    (tmp_path / name).unlink()
    assert records.reusable(tmp_path, "k") is None


def test_what_a_run_has_besides(tmp_path):
    """A checkpoint, which others start from, and its log."""
    record(tmp_path, 1.0)
    assert records.trained(tmp_path, "k") is None
    (tmp_path / "checkpoint.pt").touch()
    assert records.trained(tmp_path, "k")
    (tmp_path / "log.csv").unlink()
    assert records.trained(tmp_path, "k") is None


# ------------------------------------------------------------------------------------------------- two at once


def test_without_flock_an_older_filelock_raises(tmp_path, monkeypatch):
    """From 3.12 on, which is the least that is asked for, until it fell back on a file; the work goes on without."""

    def none(*_):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "_acquire", none)
    with alone(tmp_path / ".lock", lambda: pytest.fail("waits")):
        pass


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_without_flock_nobody_waits_for_a_killed_owner(tmp_path, monkeypatch):
    """filelock takes a file then, which outlives its owner."""
    fcntl = pytest.importorskip("fcntl")

    def none(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    (tmp_path / ".lock").write_text("1\nanother-machine\n")
    for _ in range(2):
        with alone(tmp_path / ".lock", lambda: pytest.fail("waits")):
            pass


def test_the_second_waits_and_a_killed_owner_holds_nothing(tmp_path):
    lock = tmp_path / "run" / ".lock"
    code = """import sys; from pathlib import Path; from harmonylib.paths import alone
with alone(Path(sys.argv[1]), lambda: print("waits")):
    print("inside"); sys.stdin.read()"""
    with python(code, lock) as first, python(code, lock) as second:
        lines = {process: process.stdout.readline().strip() for process in (first, second)}
        assert sorted(lines.values()) == ["inside", "waits"]
        owner = next(process for process, line in lines.items() if line == "inside")
        other = first if owner is second else second
        owner.kill()
        assert other.stdout.readline().strip() == "inside"
        other.stdin.close()
    assert names(lock.parent) == []


def test_a_folder_that_cannot_be_locked_can_be_worked_in(tmp_path, monkeypatch):
    class Refuses(filelock.FileLock):
        def acquire(self, *_, **__):
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(filelock, "FileLock", Refuses)
    with alone(tmp_path / ".lock", lambda: pytest.fail("nobody is at it")):
        pass


def test_a_cache_that_another_process_has_made_meanwhile_is_opened(tiny_set, monkeypatch):
    entries, said = read_entries(tiny_set, "HCOCO", "train"), []
    first = cache.prepare(entries, 24, say=quiet)
    (first.folder / "manifest.json").rename(first.folder / "away")

    def meanwhile(folder, say):
        (folder / "away").rename(folder / "manifest.json")
        return alone(folder.with_name(".lock"), lambda: None)

    monkeypatch.setattr(cache, "_alone", meanwhile)
    second = cache.prepare(entries, 24, say=said.append)
    assert second.data_hash == first.data_hash and said == []
    np.testing.assert_array_equal(first.composite, second.composite)


def test_a_set_is_made_once(tmp_path, refused):
    with making(tmp_path / "set"), refused("another process"), making(tmp_path / "set"):
        pass
    with refused("is there already"), making(tmp_path / "set"):
        pass
    with refused("is there already"):
        coco_mini.build(tmp_path, tmp_path / "set")


def test_two_that_start_one_run(tiny_set, tmp_path):
    """Real processes, real training: one trains, the other waits for it and opens its record."""
    code = f"""from harmonylib import study
from harmonylib.config import Experiment
s = study.open_study('smoke', {str(tiny_set)!r})
print('ready'); input()
s.run(Experiment('two', 'unet', options={{'width': 4}}, size=32, batch_size=2, steps=30, epochs=1, subset='all'))"""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [python(code, env=environment) for _ in range(2)]
    for process in processes:
        assert "ready\n" in iter(process.stdout.readline, "")
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted("step 30/30" in text for text in said) == [False, True]
    assert any("waiting for it" in text or "kept" in text for text in said)
    (folder,) = (tmp_path / "results").rglob("two/seed0")
    assert [name for name in names(folder) if name.startswith(".")] == [records.MADE_HERE]


def test_sigterm_reaches_the_processes_that_train_and_waits_for_them(monkeypatch):
    program = f"""import signal, sys, time
def save(*_):
    time.sleep(0.3); print("saved", flush=True); sys.exit(75)
signal.signal(signal.SIGTERM, save)
for line in sys.stdin:
    print("trains", flush=True); time.sleep(60); print({workers.DONE!r}, flush=True)"""
    popen = subprocess.Popen
    monkeypatch.setattr(
        workers.subprocess, "Popen", lambda command, **options: popen([sys.executable, "-c", program], **options)
    )
    said = []

    def say(line):
        said.append(line)
        if said == ["trains"] * 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(interruption.Terminated):
        workers.run("smoke", "embedded", ["a:0", "b:0", "c:0"], {}, 2, say)
    assert said == ["trains"] * 2 + ["saved"] * 2


def test_a_record_is_not_written_where_its_disk_has_been(tmp_path):
    with pytest.raises(FileNotFoundError):
        record(tmp_path / "gone" / "seed0", 1.0)
    assert names(tmp_path) == []

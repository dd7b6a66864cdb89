"""Several runs at once: every job once, after the one it needs, and nobody waits for what has failed."""

import sys
import threading

import pytest

from harmonylib import workers
from harmonylib.errors import HarmonyError

JOBS = ["pre:0", "pre:1", "alone:0", "tuned:0", "tuned:1"]
NEEDS = {"tuned:0": "pre:0", "tuned:1": "pre:1"}


def test_jobs_are_taken_in_order_and_once():
    queue = workers.Queue(["a:0", "b:0", "c:0"], {})
    assert [queue.take() for _ in range(4)] == ["a:0", "b:0", "c:0", None]


def test_a_job_waits_for_the_one_it_needs():
    queue = workers.Queue(["pre:0", "tuned:0"], NEEDS)
    assert queue.take() == "pre:0"
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(queue.take()))
    waiting.start()
    waiting.join(0.2)
    assert taken == [] and waiting.is_alive()
    queue.done("pre:0")
    waiting.join(5)
    assert taken == ["tuned:0"]


def test_what_is_needed_may_be_finished_already():
    assert workers.Queue(["tuned:0"], NEEDS).take() == "tuned:0"


def test_nobody_waits_after_a_failure():
    queue = workers.Queue(["pre:0", "tuned:0"], NEEDS)
    queue.take()
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(queue.take()))
    waiting.start()
    queue.stop()
    waiting.join(5)
    assert taken == [None]


def stand_in(monkeypatch, body: str) -> None:
    """Processes that run `body` for every line they read, in place of ones that train."""
    lines = (
        "import sys",
        "for line in sys.stdin:",
        " job = line.strip()",
        f" {body}",
        f" print({workers.DONE!r}, flush=True)",
    )
    program = "\n".join(lines)
    popen = workers.subprocess.Popen
    monkeypatch.setattr(workers.subprocess, "Popen", lambda command, **k: popen([sys.executable, "-c", program], **k))


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_every_job_is_done_after_what_it_needs(monkeypatch, processes):
    stand_in(monkeypatch, "print('did', job, flush=True)")
    told = []
    workers.run("quick", "embedded", JOBS, NEEDS, processes, told.append)
    assert sorted(told) == sorted(f"did {job}" for job in JOBS)
    assert all(told.index(f"did {need}") < told.index(f"did {job}") for job, need in NEEDS.items())


@pytest.mark.parametrize("ending", ["print('no space left'); sys.exit(2)", "sys.exit(1)"])
def test_a_failure_names_the_job_and_the_reason(monkeypatch, ending):
    stand_in(monkeypatch, f"exec({ending!r}) if job == 'pre:1' else None")
    with pytest.raises(HarmonyError, match=r"pre:1: (no space left|ended without a word)"):
        workers.run("quick", "embedded", JOBS, NEEDS, 2, lambda line: None)

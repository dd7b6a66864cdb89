"""A grid of runs on a real Slurm: an array, one job of it preempted in the middle, and a second call that has nothing
to do. ``tests/slurm/slurm.sh test FOLDER`` starts a Slurm for it; `SLURM_LOG` names a file for what was seen.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
RUNS = ["unet", "s2am_mse", "pretrain_swinih_target", "swinih_lemart_target"]  # one starts from the one before it
LIMIT = 1500  # s, on a machine that has much else to do


def there() -> bool:
    """Whether a Slurm answers."""
    return bool(shutil.which("sinfo")) and subprocess.run(["sinfo"], capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not there(), reason="no Slurm answers; as root: tests/slurm/slurm.sh test FOLDER"),
]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """``log(heading, text)``: what was seen, without the paths and the name of this machine."""
    folder, seen = tmp_path_factory.getbasetemp(), []
    hidden = {str(folder): "TMP", str(ROOT): "CHECKOUT", sys.prefix: "VENV", platform.node(): "HOST"}
    if "SLURM_CONF" in os.environ:
        hidden[str(Path(os.environ["SLURM_CONF"]).parent)] = "SLURM"

    def note(heading: str, text: str) -> None:
        for own, word in sorted(hidden.items(), key=lambda pair: -len(pair[0])):
            text = text.replace(own, word)
        seen.append(f"$ {heading}\n{text.strip()}\n")

    yield note
    if "SLURM_LOG" in os.environ:
        file = ROOT / os.environ["SLURM_LOG"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(seen))


def ask(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def sweep(results: Path, data: Path, *words: str, names=RUNS) -> subprocess.Popen:
    command = [sys.executable, "-m", "harmonylib", "sweep", *names, "--profile", "quick", "--data", str(data)]
    often = {"HARMONY_CHECKPOINT_SECONDS": "1"}
    environment = os.environ | often | {"HARMONY_RESULTS": str(results), "TQDM_DISABLE": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*command, "--seeds", "0", *words], cwd=ROOT, env=environment, **pipes)


def wait_for(what) -> None:
    deadline = time.monotonic() + LIMIT
    while not what():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.2)


def weights(results: Path, name: str) -> dict:
    (file,) = results.glob(f"*/runs/{name}/seed0/checkpoint.pt")
    return torch.load(file, weights_only=True)["model"]


def test_a_run_that_is_left_in_the_queue_and_taken_out_of_it(tiny_set, tmp_path, log):
    words, names = ["--slurm", "--gpus", "0", "--sbatch", "begin=now+1hour"], ["vit"]
    leaves = sweep(tmp_path, tiny_set, *words, "--leave", names=names)
    told, _ = leaves.communicate(timeout=LIMIT)
    log(f"python -m harmonylib sweep vit --profile quick --seeds 0 {' '.join(words)} --leave", told)
    assert leaves.returncode == 0 and "submitted 1 runs" in told and "0 failed, 1 queued" in told
    (job,) = re.findall(r"queued: job (\d+)", told)
    waits = sweep(tmp_path, tiny_set, *words, names=names)
    wait_for(lambda: "waiting for them" in waits.stdout.readline())
    ask("scancel", job)
    told, _ = waits.communicate(timeout=LIMIT)
    log(f"the same without --leave, and scancel {job}", told)
    assert waits.returncode == 1 and "submitted" not in told and "failed: did not begin" in told


def test_a_grid_with_a_preempted_job(tiny_set, tmp_path, log):
    log("sinfo --version; sinfo", ask("sinfo", "--version") + ask("sinfo"))
    on_slurm, here = tmp_path / "slurm", tmp_path / "here"
    grid = sweep(on_slurm, tiny_set, "--slurm", "--gpus", "0")

    def halfway() -> bool:
        assert grid.poll() is None, grid.stdout.read()
        return any("step 338/675" in file.read_text() for file in on_slurm.glob("*/logs/unet-seed0.log"))

    wait_for(halfway)
    log("squeue, when unet is halfway", ask("squeue", "--array"))
    (file,) = on_slurm.glob("*/logs/s2am_mse-seed0.log")
    wait_for(lambda: list(on_slurm.glob("*/runs/s2am_mse/seed0/checkpoint.pt")))  # it is training
    (second,) = (job for job in ask("squeue", "--array", "--noheader", "--format=%i").split() if job.endswith("_1"))
    ask("scancel", "--signal=USR2", second)  # as Slurm does when the time is nearly up
    wait_for(lambda: "as SIGTERM asked" in file.read_text())
    log("squeue, after the signal of the end of the time to s2am_mse", ask("squeue", "--array"))
    ask("sbatch", "--partition=urgent", "--nodes=2", "--output=/dev/null", "--job-name=urgent", "--wrap=sleep 2")
    (file,) = on_slurm.glob("*/logs/unet-seed0.log")
    wait_for(lambda: "as SIGTERM asked" in file.read_text())
    log("squeue, when a more urgent job has come", ask("squeue", "--array"))
    told, _ = grid.communicate(timeout=LIMIT)
    log(f"python -m harmonylib sweep {' '.join(RUNS)} --profile quick --seeds 0 --slurm --gpus 0", told)
    jobs = ask("scontrol", "--oneliner", "show", "jobs")
    log("scontrol show jobs", jobs)
    assert grid.returncode == 0, told
    for name in RUNS[:2]:
        (file,) = on_slurm.glob(f"*/logs/{name}-seed0.log")
        log(f"cat logs/{name}-seed0.log", file.read_text())
        assert re.search(r"stopped at step \d+ of 675.*resumed at step \d+ of 675", file.read_text(), re.DOTALL)
    assert len(re.findall(r"Restarts=[1-9]", jobs)) == 2

    again, _ = sweep(on_slurm, tiny_set, "--slurm", "--gpus", "0").communicate(timeout=LIMIT)
    log("the same again", again)
    assert "submitted" not in again and f"{len(RUNS)} kept, 0 finished" in again

    local = sweep(here, tiny_set)
    told, _ = local.communicate(timeout=LIMIT)
    log("the same without --slurm, elsewhere", told)
    assert local.returncode == 0, told
    for name in RUNS:
        ours, theirs = weights(here, name), weights(on_slurm, name)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    log("weights of both", "equal to the bit: " + ", ".join(RUNS))

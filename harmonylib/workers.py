"""Several runs at once, each in a process with one thread: small networks leave two threads waiting for each other.

    python -m harmonylib.workers PROFILE DATA NAME:SEED [NAME:SEED ...]

One thread a run also makes its weights independent of how many cores the machine has.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from harmonylib.errors import HarmonyError
from harmonylib.paths import ROOT

MOST = 4  # processes; each holds torch and the training pictures, about 1 GB


def run(profile: str, data: str, jobs: list[str], workers: int, say: Callable = print) -> None:
    """Run jobs (``name:seed``) on `workers` processes and pass their lines on.

    Raises HarmonyError with the message of the first that failed; what the others finished stays.
    """
    shares = [jobs[i::workers] for i in range(min(workers, len(jobs)))]
    processes = [_start(profile, data, share) for share in shares]
    with ThreadPoolExecutor(len(processes)) as pool:
        try:
            endings = list(pool.map(lambda process: _follow(process, say), processes))
        except BaseException:  # an interrupt of the notebook reaches this process only
            for process in processes:
                process.terminate()
            raise
    for share, ending in zip(shares, endings, strict=True):
        if ending is not None:
            raise HarmonyError(f"{' '.join(share)}: {ending}")


def _start(profile: str, data: str, jobs: list[str]) -> subprocess.Popen:
    command = [sys.executable, "-u", "-W", "ignore", "-m", "harmonylib.workers", profile, data, *jobs]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)


def _follow(process: subprocess.Popen, say: Callable) -> str | None:
    """Pass a process's lines on; its last line if it failed."""
    line = ""
    for line in process.stdout:
        if not line.startswith("profile "):  # what the study says of itself was said before
            say(line.rstrip())
    return (line.strip() or "ended without a word") if process.wait() else None


def main(arguments: list[str]) -> int:
    from harmonylib import experiments
    from harmonylib.study import open_study

    profile, data, *jobs = arguments
    try:
        study = open_study(profile, data)
        for job in jobs:
            name, seed = job.split(":")
            study.run(experiments.resolve(experiments.get(name), study.profile, study.data), int(seed))
    except HarmonyError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""Several runs at once, each in a process with one thread: small networks leave two threads waiting for each other.

    python -m harmonylib.workers PROFILE DATA        (reads NAME:SEED from its input, a line a job)

One thread a run also makes its weights independent of how many cores the machine has.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Condition

from harmonylib.errors import HarmonyError, one_line
from harmonylib.interruption import PARENT, end_with_starter, leaving
from harmonylib.paths import ROOT

DONE = "--- done ---"
MOST = 4  # processes; each holds torch and the training pictures, about 1 GB


def run(
    profile: str,
    data: str,
    jobs: list[str],
    needs: dict[str, str],
    workers: int,
    say: Callable = print,
    module: str = "harmonylib.workers",
) -> None:
    """Run jobs (``name:seed``) on `workers` processes and pass their lines on.

    `needs` says of a job which other job must end before it; `module` is run with profile and data, and reads jobs.
    Raises HarmonyError with the message of the first that failed; what was finished stays.
    """
    queue = Queue(jobs, needs)
    processes = [_start(module, profile, data, number) for number in range(min(workers, len(jobs)))]
    with leaving(), ThreadPoolExecutor(len(processes)) as pool:
        try:
            endings = list(pool.map(lambda process: _work(process, queue, say), processes))
        except BaseException:  # an interrupt of the notebook reaches this process only; the others save and leave
            queue.stop()
            for process in processes:
                process.terminate()
            raise
    for ending in filter(None, endings):
        raise HarmonyError(ending)


class Queue:
    """Jobs that several threads take in order, each after the job that it needs."""

    def __init__(self, jobs: list[str], needs: dict[str, str]):
        self.waiting, self.needs, self.changed = list(jobs), needs, Condition()
        self.missing = set(jobs)  # not finished yet

    def take(self) -> str | None:
        """The next job that can start; None when all are taken, or after a failure."""
        with self.changed:
            while self.waiting:
                ready = [job for job in self.waiting if self.needs.get(job) not in self.missing]
                if ready:
                    self.waiting.remove(ready[0])
                    return ready[0]
                self.changed.wait()
        return None

    def done(self, job: str) -> None:
        with self.changed:
            self.missing.discard(job)
            self.changed.notify_all()

    def stop(self) -> None:
        with self.changed:
            self.waiting.clear()
            self.changed.notify_all()


def _start(module: str, profile: str, data: str, number: int) -> subprocess.Popen:
    command = [sys.executable, "-u", "-W", "ignore", "-m", module, profile, data]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", PARENT: str(os.getpid())} | gpu(number)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, bufsize=1, **pipes)


def gpu(number: int) -> dict[str, str]:
    """The environment of a process that is to see one of this machine's GPUs alone; nothing where there is none."""
    seen = gpus()
    return {"CUDA_VISIBLE_DEVICES": seen[number % len(seen)]} if seen else {}


def gpus() -> list[str]:
    """What this process sees of the machine's GPUs, by their names for CUDA_VISIBLE_DEVICES."""
    import torch  # only here: a worker starts sooner without

    count = torch.cuda.device_count()
    return (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))).split(",")[:count]


def _work(process: subprocess.Popen, queue: Queue, say: Callable) -> str | None:
    """Feed one process until no job is left; what it said last if it failed."""
    job, line = None, ""
    with process:
        try:
            while (job := queue.take()) is not None:
                process.stdin.write(f"{job}\n")
                for line in iter(process.stdout.readline, ""):
                    if line.strip() == DONE:
                        break
                    if not line.startswith("profile "):  # what the study says of itself was said before
                        say(line.rstrip())
                else:
                    return f"{job}: {line.strip() or 'ended without a word'}"
                queue.done(job)
            process.stdin.close()
        finally:
            if job is not None:  # failed or interrupted: nobody waits for what will not come
                queue.stop()
                process.terminate()
    return None


def main(arguments: list[str]) -> int:
    from harmonylib import experiments
    from harmonylib.study import open_study

    profile, data = arguments
    end_with_starter()
    try:
        study = open_study(profile, data)
        for job in map(str.strip, sys.stdin):
            name, seed = job.split(":")
            study.run(experiments.resolve(experiments.get(name), study.profile, study.data), int(seed))
            print(DONE)
    except (HarmonyError, OSError) as error:
        print(one_line(error))
        return getattr(error, "exit_code", 2)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

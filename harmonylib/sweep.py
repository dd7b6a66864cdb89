"""``python -m harmonylib sweep``: the grid of experiments, a process a run, on this machine or as jobs of Slurm.

Finished runs are skipped, what others start from comes first, every run has its log, and a failure stops no other run.
Slurm gets one array of jobs for all that start from nothing, and a second one, after it, for what starts from these.
A job that is preempted, requeued or out of time goes on from its checkpoint.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from harmonylib import experiments, records, workers
from harmonylib.config import Experiment
from harmonylib.errors import HarmonyError
from harmonylib.interruption import EXIT_CODE, PARENT, leaving
from harmonylib.paths import ROOT, alone, shown, write_text
from harmonylib.reading import inside, ordinary, read_json
from harmonylib.study import Study, label

LOOK_EVERY, TRIES = 5.0, 60  # s, at the queue, and how often until it answers
PORT = "$((20000 + SLURM_JOB_ID % 20000))"  # of a job on several nodes: another may begin on the same node
SAVING = 60  # s that a run has for its checkpoint, of the 90 that submitit lets Slurm give notice
RETURNS = 1000  # times that a job may run out of its hours and go on


@dataclass
class Job:
    """One run as a command of its own. Slurm's nodes get it as a pickle, and call it."""

    label: str  # name:seed
    command: list[str]
    log: Path
    record: tuple[Path, str]  # the folder that it will be in, and its key
    parent: tuple[Path, str] | None  # of what it starts from
    environment: dict[str, str]
    process: subprocess.Popen | None = field(default=None, repr=False)

    def finished(self) -> bool:
        return records.trained(*self.record) is not None

    def run(self, **environment: str) -> int:
        """Its exit code. SIGUSR2, by which Slurm tells submitit that the time is up, is not for the run."""
        if self.parent and records.trained(*self.parent) is None:
            self._note(f"{self.label}: starts from {shown(self.parent[0])}, which did not finish; see its log")
            return 2
        with self.log.open("a") as log:
            pipes = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
            shielded = ["sh", "-c", 'trap "" USR2; exec "$@"', "sh", *map(os.path.expandvars, self.command)]
            everything = os.environ | self.environment | environment
            self.process = subprocess.Popen(shielded, cwd=ROOT, env=everything, **pipes)
        while self.process.poll() is None:  # not `wait`: `checkpoint` interrupts it, and waits itself
            time.sleep(0.2)
        return self.process.returncode

    def __call__(self) -> None:
        """On a node of Slurm's. A run that SIGTERM has ended is queued again, unless Slurm itself does so."""
        if self.finished():
            return
        told: list[int] = []
        signal.signal(signal.SIGTERM, lambda *_: told.append(1))  # reaches the run as well
        code = self.run()
        if code and (told or code == EXIT_CODE) and f"{os.environ['SLURM_JOB_ID']}:RUNNING" in _queue("%A:%T"):
            signal.raise_signal(signal.SIGUSR2)
        if code:
            raise RuntimeError(f"{self.label}: exit code {code}; {self.last_words()}")

    def checkpoint(self):
        """submitit asks for this when the time is up: what to put into the queue again."""
        import submitit

        if self.process and self.process.poll() is None:
            self.process.terminate()
            deadline = time.monotonic() + SAVING
            while self.process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
        return submitit.helpers.DelayedSubmission(replace(self, process=None))

    def last_words(self) -> str:
        """What the run said last, of itself if it did."""
        said = self.log.read_text(errors="replace") if self.log.is_file() else ""
        lines = [line for line in said.splitlines() if line.strip()]
        return ([line for line in lines if line.startswith("harmonylib:")] or lines or ["did not begin"])[-1]

    def _note(self, line: str) -> None:
        with self.log.open("a") as log:
            log.write(f"harmonylib: {line}\n")


@dataclass(frozen=True)
class Means:
    """What a run gets, and where."""

    gpus: int = 0  # of every node
    cpus: int = 1  # threads of every process
    nodes: int = 1
    at_once: int | None = None  # runs; None: as many as there are GPUs or processors
    hours: float = 24.0
    partition: str | None = None
    sbatch: dict = field(default_factory=dict)  # further options of sbatch


def run(
    study: Study, names: Iterable[str], of: str | None, seeds: list[int], means: Means, slurm: bool, wait: bool
) -> bool:
    """Make every run of the grid, those named or all of a study's plan, and print how each ended; True if all did.

    Raises HarmonyError where there is no Slurm, no submitit, or no such experiment.
    """
    levels, kept = plan(study, names, of, seeds, means)
    ended = _on_slurm(study, levels, means, wait) if slurm else _here(levels, means, study.say)
    for job, words in ended:
        study.say(f"{job.label:36s} {words}")
    counts = {word: sum(words.startswith(word) for _, words in ended) for word in ("finished", "failed", "queued")}
    study.say(f"sweep: {kept} kept, " + ", ".join(f"{n} {word}" for word, n in counts.items()))
    return counts["failed"] == 0


def plan(
    study: Study, names: Iterable[str], of: str | None, seeds: list[int], means: Means
) -> tuple[list[list[Job]], int]:
    """The runs to make, level by level: each starts from one of a level before. And how many are finished."""
    profile, data = study.profile, study.data
    chosen = [experiments.resolve(experiments.get(name), profile, data) for name in names]
    chosen = chosen or [planned.experiment for planned in experiments.plan(profile, data, of)]
    levels: list[list[Job]] = []
    known: dict[str, int] = {}  # level of each run; -1: finished

    def add(experiment: Experiment) -> int:
        if label(experiment) not in known:
            level = -1
            if not study.finished(experiment):
                parent = experiments.parent(experiment, profile, data)
                level = 0 if parent is None else add(parent) + 1
                levels.extend([] for _ in range(level + 1 - len(levels)))
                levels[level].append(_job(study, experiment, parent, means))
            known[label(experiment)] = level
        return known[label(experiment)]

    for experiment in chosen:
        declared = experiments.get(experiment.name)
        for seed in seeds or range(experiments.seeds(declared, profile)):
            add(replace(experiment, seed=seed))
    return levels, list(known.values()).count(-1)


def _job(study: Study, experiment: Experiment, parent: Experiment | None, means: Means) -> Job:
    command = ["-m", "harmonylib", "train", experiment.name, "--seed", str(experiment.seed)]
    command += ["--profile", study.profile.name, "--data", study.given]
    if means.nodes > 1:
        where = ["--rdzv_backend=c10d", "--rdzv_endpoint=$HEAD", "--rdzv_id=$SLURM_JOB_ID"]
    else:
        where = ["--standalone"]
    if means.gpus > 1 or means.nodes > 1:
        shape = [f"--nnodes={means.nodes}", f"--nproc_per_node={max(1, means.gpus)}"]
        command = ["-m", "harmonylib.torchrun", *where, *shape, *command]
    log = study.results / "logs" / f"{experiment.name}-seed{experiment.seed}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    inside(study.results, log)
    if log.exists():
        ordinary(log)
    environment = {"OMP_NUM_THREADS": str(means.cpus), "TQDM_DISABLE": "1", "PYTHONUNBUFFERED": "1"}
    came_from = None if parent is None else study.place(parent)
    return Job(label(experiment), [sys.executable, *command], log, study.place(experiment), came_from, environment)


def _here(levels: list[list[Job]], means: Means, say: Callable) -> list[tuple[Job, str]]:
    gpus = workers.gpus() if means.gpus else []
    if means.gpus > len(gpus):
        raise HarmonyError(f"sweep: a run is to have {means.gpus} GPUs, this machine has {len(gpus)}; set --gpus")
    firsts = range(0, len(gpus) - means.gpus + 1, means.gpus or 1) if gpus else ()  # what is left over stays idle
    slots = [",".join(gpus[first : first + means.gpus]) for first in firsts]
    most = means.at_once or len(slots) or max(1, min(workers.MOST, (os.cpu_count() or 1) // means.cpus))
    free: queue.Queue[str] = queue.Queue()
    stopped = threading.Event()
    for slot in slots or [""] * most:
        free.put(slot)

    def one(job: Job) -> tuple[Job, str]:
        slot = free.get()
        try:
            if not stopped.is_set():
                say(f"{job.label}: started; log {shown(job.log)}")
                own = {"CUDA_VISIBLE_DEVICES": slot} if slots else {}
                job.run(**own, **{PARENT: str(os.getpid())})
        finally:
            free.put(slot)
        return _ended(job)

    ended: list[tuple[Job, str]] = []
    for jobs in levels:
        with leaving(), ThreadPoolExecutor(most) as pool:
            waiting = [pool.submit(one, job) for job in jobs]
            try:
                ended += [future.result() for future in waiting]
            except BaseException:  # Ctrl-C, SIGTERM: what runs is saved, what waits does not begin
                stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                for job in jobs:
                    if job.process:
                        job.process.terminate()
                raise
    return ended


def _on_slurm(study: Study, levels: list[list[Job]], means: Means, wait: bool) -> list[tuple[Job, str]]:
    """An array of jobs a level, after that of the level before. What an earlier call has queued is not queued again."""
    executor = _executor(study.results / "logs" / "slurm", means)
    with alone(executor.folder / ".lock", lambda: study.say("another sweep submits its jobs; waiting for it")):
        queued = _submit(executor, levels, study.say)
    jobs = [job for level in levels for job in level]
    if wait and jobs:
        study.say("waiting for them; Ctrl-C leaves them in the queue, and the same command waits again")
    while (there := _queue()) & {queued[job.label] for job in jobs} and wait:
        time.sleep(LOOK_EVERY)
    return [(job, f"queued: job {queued[job.label]}") if queued[job.label] in there else _ended(job) for job in jobs]


def _submit(executor, levels: list[list[Job]], say: Callable) -> dict[str, str]:
    """The number of each run's job, by label; a file beside the jobs' own tells it to the next call."""
    listed = executor.folder / "queued.json"
    queued: dict[str, str] = read_json(listed, "delete it") if listed.is_file() else {}
    there, before = _queue(), ""
    for jobs in filter(None, levels):
        new = [job for job in jobs if queued.get(job.label) not in there]
        if new:
            executor.update_parameters(slurm_dependency=f"afterany:{before}" if before else None)
            for job, submitted in zip(new, executor.submit_array(new), strict=True):
                queued[job.label] = submitted.job_id
            write_text(listed, json.dumps(queued, indent=1) + "\n")
            say(f"submitted {len(new)} runs as job {queued[new[0].label].split('_')[0]}")
        before = ":".join(sorted({queued[job.label].split("_")[0] for job in jobs}))
    return queued


def _executor(folder: Path, means: Means):
    try:
        import submitit
    except ImportError:
        raise HarmonyError("sweep --slurm: needs submitit; pip install submitit") from None
    try:
        executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=RETURNS)
    except RuntimeError:
        raise HarmonyError(
            "sweep --slurm: no Slurm here (srun is missing); without --slurm runs are made here"
        ) from None
    executor.update_parameters(
        name="harmony",
        timeout_min=max(1, round(60 * means.hours)),
        nodes=means.nodes,
        tasks_per_node=1,
        cpus_per_task=means.cpus * max(1, means.gpus),
        slurm_array_parallelism=means.at_once or 256,
        slurm_setup=[f"export PYTHONPATH={ROOT}", f"export HEAD=$(scontrol show hostnames | head -n 1):{PORT}"],
        slurm_additional_parameters={"requeue": True} | means.sbatch,
        **({"gpus_per_node": means.gpus} if means.gpus else {}),
        **({"slurm_partition": means.partition} if means.partition else {}),
    )
    return executor


def _queue(form: str = "%i") -> set[str]:
    """The jobs that wait or run, each of an array. Raises HarmonyError where Slurm does not answer for long."""
    for _ in range(TRIES):
        command = ["squeue", "--noheader", "--array", f"--format={form}", "--user", str(os.getuid())]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return set(done.stdout.split())
        time.sleep(LOOK_EVERY)
    raise HarmonyError(f"squeue: {done.stderr.strip()}; the jobs go on, and the same command waits for them again")


def _ended(job: Job) -> tuple[Job, str]:
    return job, "finished" if job.finished() else f"failed: {job.last_words()} ({shown(job.log)})"

"""SIGKILL at every kind of command, again and again; then the command once more, undisturbed: is anything lost?

Half of the kills come at moments drawn uniformly over the time that the undisturbed command takes. These seldom hit a
write, so the other half comes at one: before the n-th time a process opens a file for writing, renames or removes one
(n drawn from as many as the undisturbed command has), or some milliseconds later. Either all processes of the command
are killed at once or one alone, whose children or parent live on for a while. After every kill, what lies under its own
name must be what it is in the end; after the last, the command must end well, with everything as if never disturbed
(`commands.state` says what is compared), nothing left behind and no process alive. Unix only.
"""

import atexit
import json
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import count
from pathlib import Path

from torture import Trial, commands, given
from torture.commands import KINDS, Ended, Kind

AT_ONCE = 2  # trials
LEAST = 50  # kills in all; fewer are no result
WAIT_FOR_ORPHANS = 20  # s


@dataclass
class Reference:
    """The undisturbed command."""

    state: dict[str, str]
    seconds: float
    operations: int  # on files, of the process that had most of them
    bytes: int  # of all files that it leaves
    largest: int  # bytes of one file


@dataclass
class Survived:
    at_random: int = 0
    at_writes: int = 0
    restarts: int = 0
    lost: list[str] = field(default_factory=list)


def trials(seconds: float, seed: int) -> Iterator[Trial]:
    """A line a kind of command, as many kills as fit into the time; less than `LEAST` in all are reported as a loss."""
    until = time.monotonic() + seconds
    survived = {kind.what: Survived() for kind in KINDS}
    references = References(base())

    def one(number: int, kind: Kind) -> None:
        trial(kind, references, number, seed, survived[kind.what])

    def fits(job: tuple[int, Kind], left: float) -> bool:
        return references.fits(job[1], left, 0.6 * job[1].kills + 1)

    in_turn(enumerate(shuffled(seed)), one, fits, until)
    for kind in KINDS:
        told = survived[kind.what]
        note = f"{told.at_random} at random moments, {told.at_writes} at writes; {told.restarts} ends compared"
        yield Trial("kills", kind.what, told.at_random + told.at_writes, tuple(told.lost), note)
    times = sum(told.at_random + told.at_writes for told in survived.values())
    if times < LEAST:
        yield Trial(
            "kills", "all of them", 0, (f"only {times} kills in {seconds / 60:.1f} minutes; {LEAST} are wanted",)
        )


def in_turn(jobs: Iterator[tuple], work: Callable, fits: Callable, until: float) -> None:
    """`AT_ONCE` jobs at a time, as long as one `fits` into the seconds that are left; a job that raises ends it all."""
    lock = threading.Lock()

    def worker() -> None:
        refused = 0
        while refused < len(KINDS):
            with lock:
                job = next(jobs)
            if fits(job, until - time.monotonic()):
                work(*job)
                refused = 0
            else:
                refused += 1

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for ended in [pool.submit(worker) for _ in range(AT_ONCE)]:
            ended.result()


@cache
def base() -> Path:
    """What all trials of this process share; it goes with the process."""
    folder = tempfile.mkdtemp(prefix="torture-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    prepare(Path(folder) / "base")
    return Path(folder) / "base"


def prepare(base: Path) -> None:
    """What all trials start from, made by the commands themselves."""
    base.mkdir()
    made = commands.run(commands.PREPARED, base, base)
    if made.code != 0:
        raise SystemExit(f"torture: {made.said.strip().splitlines()[-1]}")
    shutil.copytree(base / "results" / "smoke" / "runs" / "unet" / "seed0", base / "unet")
    embedded = base / "data" / "embedded-80"
    given.write_coco(embedded, base / "coco")
    given.write_pictures(embedded, base)
    given.write_venv(base)
    given.serve(base)


def shuffled(seed: int) -> Iterator[Kind]:
    """Every kind in every round, in an order that the seed decides."""
    for number in count():
        kinds = list(KINDS)
        if number:
            random.Random(f"{seed} {number}").shuffle(kinds)
        yield from kinds


class References:
    """Each command once undisturbed, when it is first asked for."""

    def __init__(self, base: Path):
        self.base, self.found = base, {}
        self.locks = {kind.what: threading.Lock() for kind in KINDS}

    def fits(self, kind: Kind, seconds: float, times: float) -> bool:
        """Whether so many times the undisturbed command are likely to end in these seconds, or not long after."""
        known = self.found.get(kind.what)
        return seconds > 0 and (known is None or times * known.seconds < seconds + 30)

    def of(self, kind: Kind) -> Reference:
        with self.locks[kind.what]:
            if kind.what not in self.found:
                kept = self.base / f"reference-{KINDS.index(kind)}.json"  # for the processes of other parts
                if not kept.is_file():
                    kept.write_text(json.dumps(asdict(self._run(kind))))
                self.found[kind.what] = Reference(**json.loads(kept.read_text()))
        return self.found[kind.what]

    def _run(self, kind: Kind) -> Reference:
        folder = new_folder(kind, self.base, "reference")
        counted = folder.with_suffix(".count")
        ended = commands.run(kind, self.base, folder, TORTURE_COUNT=str(counted))
        if ended.code != 0:
            raise SystemExit(f"torture: {kind.what}: does not run here: {ended.said.strip()[-500:]}")
        operations = max(map(int, counted.read_text().split()))
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        return Reference(commands.state(folder), ended.seconds, operations, sum(sizes), max(sizes))


def new_folder(kind: Kind, base: Path, name: str) -> Path:
    folder = base / "trials" / f"{name}-{KINDS.index(kind)}" / "own"
    folder.mkdir(parents=True)
    if kind.results:
        shutil.copytree(base / kind.results, folder / "results")
    if kind.what.startswith("notebook"):
        (folder / "build").mkdir()
        for there in ("plan.csv", "01_data_prep.ipynb"):
            (folder / "build" / there).write_text("{}\n")
    return folder


def trial(kind: Kind, references: References, number: int, seed: int, told: Survived) -> None:
    """Kill the command some times, look after each, and let it end; what is lost goes to `told`."""
    wanted, rng, base = references.of(kind), random.Random(f"{seed} {number} {kind.what}"), references.base
    folder = new_folder(kind, base, str(number))
    label = f"trial {number}"
    for turn in range(kind.kills):
        if wanted.state.keys() <= commands.names(folder):  # the command would have nothing left to do
            shutil.rmtree(folder.parent)
            new_folder(kind, base, str(number))
        way = "at_writes" if (number + turn) % 2 else "at_random"
        hit = killed(kind, base, folder, wanted, rng, way == "at_writes", turn == 0)
        setattr(told, way, getattr(told, way) + hit)  # it may have ended before
        after = commands.half_written(folder, wanted.state)
        told.lost += [f"{label}, kill {turn + 1} ({way}): {line}" for line in after]
    ended = commands.run(kind, base, folder)
    told.restarts += 1
    told.lost += [f"{label}: {line}" for line in why_not_the_same(kind, folder, ended, wanted)]
    if not told.lost:
        shutil.rmtree(folder.parent)


def killed(
    kind: Kind, base: Path, folder: Path, wanted: Reference, rng: random.Random, at_write: bool, first: bool
) -> bool:
    """Start the command and kill it; False where it came to its end first."""
    log, whom = folder.with_suffix(".killed"), rng.choice(["group", "self"])
    if kind.what.startswith("notebook"):
        whom = "group"  # papermill without its make would write on beside the next one
    more = {}
    if at_write:
        if first and rng.random() < 0.5:
            at = rng.randint(max(1, wanted.operations - 9), wanted.operations)  # where names are given
        else:  # what has been begun has fewer left
            at = 1 + int(wanted.operations * rng.random() ** (1 if first else 2))
        after = rng.choice([0, 0, 0.001, 0.005, 0.02])
        more = {"TORTURE_AT": str(at), "TORTURE_AFTER": str(after), "TORTURE_WHOM": whom}
    process = commands.start(kind, base, folder, log, **more)
    if at_write:
        code = wait_for(process, commands.DEADLINE)
        hit = code != 0  # another process of the command may have been killed, and this one has said so
    else:
        code = wait_for(process, rng.uniform(0.02, 1) * wanted.seconds)
        hit = code is None
    if whom == "group":
        given.kill_group(process.pid)
        if rng.random() < 0.5:  # else a kernel, which has a session of its own, is left behind
            given.kill_all(folder)
    elif process.poll() is None:
        given.kill(process.pid)
    process.wait()
    return hit


def wait_for(process, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    return process.poll()


def why_not_the_same(kind: Kind, folder: Path, ended: Ended, wanted: Reference) -> list[str]:
    """Of a command that was started again: how it ended, what differs, what is left."""
    if ended.code is None:
        return [f"hung for {commands.DEADLINE} s"]
    if ended.code != 0:
        return [f"exit code {ended.code}: {ended.said.strip().splitlines()[-1:]}"]
    end = time.monotonic() + WAIT_FOR_ORPHANS
    while given.processes(folder) and time.monotonic() < end:
        time.sleep(0.1)
    left = [f"{len(given.processes(folder))} processes live on"] if given.processes(folder) else []
    given.kill_all(folder)
    return left + commands.differences(commands.state(folder), wanted.state)

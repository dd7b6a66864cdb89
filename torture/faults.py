"""What breaks around a command: the disk is full, read-only or gone, the clock jumps, SIGTERM comes, two start at once.

After each: one line and exit code 2 (75 after SIGTERM), never a traceback; what lies under its own name is what it is
in the end; and when the fault is over the same command ends with everything as if never disturbed (`commands.state`).

Disks are small tmpfs and bind mounts in a mount namespace of its own (`unshare`), which needs root or a system that
allows user namespaces. Elsewhere a file may have so many bytes and no more (RLIMIT_FSIZE) instead of the disk, and a
folder is renamed away instead of unmounted; the note of each line says which. The clock is time.time of every Python
process of the command (`injected/sitecustomize.py`).
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

from harmonylib.interruption import EXIT_CODE
from torture import Trial, commands, given, kills
from torture.commands import Ended, Kind
from torture.kills import References, why_not_the_same

NAMESPACES = (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"])
YEAR = 31_536_000
OF = {kind.what: kind for kind in commands.KINDS}
TRAINED = ("pre-training", "fine-tuning after its pre-training", "S2AM")
WRITTEN = (*TRAINED, "data prepare", "data fetch", "harmonize a folder", "data prepare coco-mini", "report")


@dataclass
class Tried:
    times: int = 0
    lost: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)


def trials(seconds: float, seed: int) -> Iterator[Trial]:
    """A line a fault, as many of each as fit into the time."""
    base = kills.base()
    inside = next((words for words in NAMESPACES if _can(words)), [])
    command = [*inside, sys.executable, "-m", "torture.faults", str(base), str(seconds), str(seed), str(bool(inside))]
    with subprocess.Popen(command, cwd=commands.ROOT, stdout=subprocess.PIPE, text=True) as process:
        yield from (Trial(**json.loads(line) | {"lost": tuple(json.loads(line)["lost"])}) for line in process.stdout)
    if process.returncode:
        yield Trial("faults", "the harness", 0, (f"{' '.join(command)} ended with {process.returncode}",))


def _can(words: list[str]) -> bool:
    with_tmpfs = [*words, "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /tmp"]
    return bool(shutil.which(words[0])) and subprocess.run(with_tmpfs, capture_output=True).returncode == 0


class Faults:
    """Each method: one fault at one command in a folder of its own; what was lost, or None where nothing happened."""

    def __init__(self, base: Path, mounts: bool):
        self.base, self.mounts, self.references = base, mounts, References(base)

    def run(self, kind: Kind, folder: Path, **more: str) -> Ended:
        return commands.run(kind, self.base, folder, **more)

    def again(self, kind: Kind, folder: Path) -> list[str]:
        wanted = self.references.of(kind)
        return why_not_the_same(kind, folder, self.run(kind, folder), wanted)

    def half_written(self, kind: Kind, folder: Path) -> list[str]:
        return commands.half_written(folder, self.references.of(kind).state)

    def full_disk(self, kind: Kind, folder: Path, rng: random.Random) -> list[str] | None:
        needed = self.references.of(kind)
        room = int(rng.uniform(0.02, 0.95) * (needed.bytes if self.mounts else needed.largest))
        if not self.mounts:
            ended = self.run(kind, folder, TORTURE_LARGEST=str(room))
            lost = refused(ended) + self.half_written(kind, folder)
            return None if ended.code == 0 else lost + self.again(kind, folder)
        with mounted(folder, "-t", "tmpfs", "-o", f"size={max(room, 65536)}", "tmpfs"):
            ended = self.run(kind, folder)
            lost = refused(ended) + self.half_written(kind, folder)
            mount("-o", "remount,size=1g", folder)
            return None if ended.code == 0 else lost + self.again(kind, folder)

    def read_only(self, kind: Kind, folder: Path, rng: random.Random) -> list[str] | None:
        """From the start, or from some moment on."""
        if not self.mounts:
            folder.chmod(0o555)
            lost = refused(self.run(kind, folder))
            folder.chmod(0o755)
            return lost + self.again(kind, folder)
        late = rng.random() < 0.5
        with mounted(folder, "--bind", folder):
            process = self.start(kind, folder)
            if late:
                self.wait(process, kind, rng)
            while process.poll() is None and not mount("-o", "remount,bind,ro", folder):
                time.sleep(0.003)  # not while a file in it is open for writing
            ended = self.end(process, folder)
            mount("-o", "remount,bind,rw", folder)
            lost = refused(ended) + self.half_written(kind, folder)
            return None if ended.code == 0 else lost + self.again(kind, folder)

    def read_only_data(self, kind: Kind, folder: Path, rng: random.Random) -> list[str] | None:
        """Prepared data that nobody may write to are all that training needs."""
        if not self.mounts:
            return None
        with mounted(self.base / "data", "--bind", self.base / "data"):
            readable = mount("-o", "remount,bind,ro", self.base / "data")  # unless another command writes into it now
            return self.again(kind, folder) if readable else None

    def vanished(self, kind: Kind, folder: Path, rng: random.Random) -> list[str] | None:
        away = folder.with_name("away")
        if self.mounts:
            shutil.copytree(folder, away)
            mount("--bind", away, folder)
        process = self.start(kind, folder)
        first = len(list(folder.rglob("*")))
        while process.poll() is None and len(list(folder.rglob("*"))) == first:
            time.sleep(0.01)  # a disk that it has never seen cannot vanish
        kills.wait_for(process, rng.uniform(0, 0.6) * self.references.of(kind).seconds)
        if self.mounts:
            subprocess.run(["umount", "--lazy", folder], check=True)
        else:
            folder.rename(away)
        ended = self.end(process, folder)
        elsewhere = [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
        before = [path for path in elsewhere if self.mounts and (away / path.relative_to(folder)).exists()]
        lost = [f"{path.name} was written where the disk had been" for path in elsewhere if path not in before]
        if self.mounts:
            mount("--bind", away, folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            away.rename(folder)
        lost += refused(ended) + self.half_written(kind, folder) + self.again(kind, folder)
        if self.mounts:
            subprocess.run(["umount", folder], check=True)
        return None if ended.code == 0 and not lost else lost

    def clock(self, kind: Kind, folder: Path, rng: random.Random) -> list[str]:
        """Forwards or backwards, by an hour or a year, in the middle; and on a clock that is right again."""
        wanted = self.references.of(kind)
        by = rng.choice([-1, 1]) * rng.choice([3600, YEAR])
        jump = f"{rng.uniform(0.2, 0.9) * wanted.seconds},{by}"
        lost = why_not_the_same(kind, folder, self.run(kind, folder, TORTURE_CLOCK=jump), wanted)
        return lost + self.again(kind, folder)

    def sigterm(self, kind: Kind, folder: Path, rng: random.Random) -> list[str] | None:
        process = self.start(kind, folder)
        self.wait(process, kind, rng)
        to = rng.choice([os.kill, os.killpg])
        if process.poll() is None:
            to(process.pid, signal.SIGTERM)
        ended = self.end(process, folder)
        if ended.code == 0:
            return None
        lost = [] if ended.code == EXIT_CODE else [f"exit code {ended.code} instead of {EXIT_CODE}"]
        lost += [line for line in ended.said.splitlines() if "Traceback" in line] + self.half_written(kind, folder)
        last = self.run(kind, folder)
        if "and saved" in ended.said and "resumed at step" not in last.said:
            lost.append("did not go on from where it was saved")
        return lost + why_not_the_same(kind, folder, last, self.references.of(kind))

    def two_at_once(self, kind: Kind, folder: Path, rng: random.Random) -> list[str]:
        """One works; the other waits and finds it done, or says that somebody else is at it. Then once more."""
        both = [self.start(kind, folder, str(number)) for number in range(2)]
        ended = [self.end(process, folder, str(number)) for number, process in enumerate(both)]
        lost = []
        if all(one.code != 0 for one in ended):
            lost.append("neither has ended well")
        for one in ended:
            if one.code != 0 and not (one.code == 2 and "another process" in one.said):
                lost += refused(one) or [f"exit code {one.code}: {one.said.strip().splitlines()[-1:]}"]
        return lost + self.again(kind, folder)

    def start(self, kind: Kind, folder: Path, number: str = "") -> subprocess.Popen:
        return commands.start(kind, self.base, folder, folder.with_suffix(f".log{number}"))

    def wait(self, process: subprocess.Popen, kind: Kind, rng: random.Random) -> None:
        kills.wait_for(process, rng.uniform(0.3, 1) * self.references.of(kind).seconds)

    def end(self, process: subprocess.Popen, folder: Path, number: str = "") -> Ended:
        try:
            code = process.wait(commands.DEADLINE)
        except subprocess.TimeoutExpired:
            code = None
            given.kill_all(folder)
            process.wait()
        return Ended(code, folder.with_suffix(f".log{number}").read_text(errors="replace"), 0)


SHAPES = {  # fault: (method, the commands it happens to, what the line is called)
    "two at once": (Faults.two_at_once, (*TRAINED, "data prepare", "data fetch", "data prepare coco-mini")),
    "SIGTERM": (Faults.sigterm, (*TRAINED, "data prepare", "data fetch", "harmonize a folder")),
    "full disk": (Faults.full_disk, WRITTEN[:-1]),
    "disk turned read-only": (Faults.read_only, WRITTEN),
    "read-only data": (Faults.read_only_data, TRAINED[:1]),
    "vanished mount": (Faults.vanished, WRITTEN),
    "clock jumps": (Faults.clock, ("pre-training", "data prepare", "data fetch")),
}


def refused(ended: Ended) -> list[str]:
    """What is wrong with how a command told of a fault: it should be one line and exit code 2."""
    if ended.code == 0:
        return []
    if ended.code != 2:
        return [f"exit code {ended.code}: {ended.said.strip().splitlines()[-1:]}"]
    told = [line for line in ended.said.splitlines() if line.startswith("harmonylib: ")]
    trace = ["a traceback: " + ended.said.strip().splitlines()[-1]] if "Traceback" in ended.said else []
    return trace or ([] if told else [f"no line that says why: {ended.said.strip().splitlines()[-1:]}"])


def mount(*words) -> bool:
    return subprocess.run(["mount", *map(str, words)], capture_output=True).returncode == 0


class mounted:
    def __init__(self, folder: Path, *words):
        self.folder, self.words = folder, words

    def __enter__(self):
        mount(*self.words, self.folder)

    def __exit__(self, *_):
        subprocess.run(["umount", "--lazy", self.folder], check=True)


def main(base: str, seconds: str, seed: str, mounts: str) -> None:
    faults, until = Faults(Path(base), mounts == "True"), time.monotonic() + float(seconds)
    given.serve(faults.base)
    tried: dict[str, Tried] = defaultdict(Tried)

    def one(number: int, what: str, kind: Kind) -> None:
        folder = kills.new_folder(kind, faults.base, f"fault-{number}")
        lost = SHAPES[what][0](faults, kind, folder, random.Random(f"{seed} {number}"))
        if lost is not None:  # else it came too late, or there was enough room
            tried[what].times += 1
            tried[what].kinds.append(kind.what)
            tried[what].lost += [f"{number}, {kind.what}: {line}" for line in lost]

    jobs = ((number, what, OF[kinds[turn % len(kinds)]]) for number, (turn, what, kinds) in enumerate(_turns()))
    kills.in_turn(jobs, one, lambda job, left: faults.references.fits(job[2], left, 3), until)
    for what, told in tried.items():
        means = {
            "full disk": "tmpfs" if faults.mounts else "RLIMIT_FSIZE",
            "vanished mount": "umount" if faults.mounts else "renamed",
        }
        note = "; ".join(filter(None, [means.get(what), ", ".join(dict.fromkeys(told.kinds))]))
        part = "processes" if what == "two at once" else "faults"
        print(json.dumps(asdict(Trial(part, what, told.times, tuple(told.lost), note))), flush=True)


def _turns() -> Iterator[tuple[int, str, tuple[str, ...]]]:
    return ((turn, what, kinds) for turn in count() for what, (_, kinds) in SHAPES.items())


if __name__ == "__main__":
    main(*sys.argv[1:])

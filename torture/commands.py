"""The commands that are interrupted, at toy size, and what they leave behind: the same, however often they were."""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harmonylib import checkpoints
from harmonylib.errors import HarmonyError
from harmonylib.paths import ROOT
from torture import given

INJECTED = Path(__file__).parent / "injected"
DEADLINE = 400  # s, after which a command hangs; a busy machine takes a minute for what takes ten seconds alone
SCENES = 40
PYTHON = [sys.executable, "-W", "ignore"]
HARMONY = [*PYTHON, "-m", "harmonylib"]
GRID = "swinih_lemart unet s2am_mse"
SWEEP = f"from harmonylib import study; study.open_study('smoke', 'embedded').run_all({GRID.split()})"
EMBEDDED = f"from harmonylib.data import embedded; embedded.ensure({SCENES}, workers=2)"
WEIGHTS = (
    "import sys, pathlib; from harmonylib import checkpoints as c; c.export_weights(*map(pathlib.Path, sys.argv[1:]))"
)


@dataclass(frozen=True)
class Kind:
    """One command. `arguments(base, folder)`: its words; `base` is what all trials share and none writes to."""

    what: str
    arguments: Callable[[Path, Path], list]
    environment: dict[str, str] = field(default_factory=dict)
    own_data: bool = False  # else the prepared data of `base`
    results: str = ""  # of the base, copied into the folder before
    kills: int = 4  # of a trial


def train(name: str, steps: int) -> Callable[[Path, Path], list]:
    return lambda base, folder: [
        *HARMONY,
        "train",
        name,
        "--profile",
        "smoke",
        "--data",
        "embedded",
        "--set",
        f"steps={steps}",
    ]


def harmony(words: str) -> Callable[[Path, Path], list]:
    """Words with {base} and {folder} in them."""
    return lambda base, folder: [*HARMONY, *(word.format(base=base, folder=folder) for word in words.split())]


def python(code: str, *words) -> Callable[[Path, Path], list]:
    return lambda base, folder: [*PYTHON, "-c", code, *(word.format(base=base, folder=folder) for word in words)]


def notebook(name: str) -> Callable[[Path, Path], list]:
    """Through the Makefile's own rule; what it depends on is there."""

    def arguments(base, folder):
        settings = {"PROFILE": "smoke", "DATA": "embedded", "VENV": base / "venv", "BUILD": folder / "build"}
        settings |= {"RESULTS": folder / "results" / "smoke", "SOURCES": ""}
        return ["make", *(f"{key}={value}" for key, value in settings.items()), folder / "build" / f"{name}.ipynb"]

    return arguments


PREPARED = Kind(
    "what all start from",
    python(
        "from harmonylib import study; s = study.open_study('smoke', 'embedded'); s.run_baselines();"
        "s.run_all(['unet', 's2am', 'swinih_lemart'])"
    ),
)
KINDS = (
    Kind("pre-training", train("pretrain_swinih", 40)),
    Kind("fine-tuning after its pre-training", train("swinih_lemart", 30)),
    Kind("S2AM", train("s2am", 30)),
    Kind("U-Net", train("unet", 60)),
    Kind("sweep of several processes", python(SWEEP), {"OMP_NUM_THREADS": "2"}),
    Kind("sweep, the command", harmony(f"sweep {GRID} --profile smoke --data embedded")),
    Kind("the embedded set", python(EMBEDDED), own_data=True),
    Kind("data prepare", harmony("data prepare {base}/data/embedded-80 --size 48"), own_data=True),
    Kind(
        "data prepare coco-mini",
        harmony("data prepare coco-mini --source {base}/coco --out {folder}/data/coco-mini --size 32"),
        own_data=True,
    ),
    Kind("data fetch", lambda base, folder: given.fetch(HARMONY, base, folder), own_data=True),
    Kind("export to ONNX", harmony("export --model {base}/unet -o {folder}/network.onnx --force"), kills=3),
    Kind("export to safetensors", python(WEIGHTS, "{base}/unet/checkpoint.pt", "{folder}/weights.safetensors")),
    Kind("harmonize a folder", harmony("harmonize {base}/pictures {base}/masks -o {folder}/out --force")),
    Kind("report", harmony("report --profile smoke --data embedded"), results="results", kills=3),
    Kind("notebook 02 by papermill", notebook("02_baselines")),
)  # fmt: skip


@dataclass
class Ended:
    """How a command ended: its exit code (None: it hung), what it said, and how long it took."""

    code: int | None
    said: str
    seconds: float


def environment(kind: Kind, base: Path, folder: Path, **more: str) -> dict[str, str]:
    own = {
        "HARMONY_DATA": str((folder if kind.own_data else base) / "data"),
        "HARMONY_RESULTS": str(folder / "results"),
        "HARMONY_CHECKPOINT_SECONDS": "0",
        "OMP_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(INJECTED),
        "TORTURE_FOLDER": str(folder),
        "MPLBACKEND": "agg",
    }
    if kind.what.startswith("notebook"):
        own.pop("MPLBACKEND")
    return os.environ | own | kind.environment | more


def start(kind: Kind, base: Path, folder: Path, log: Path, **more: str) -> subprocess.Popen:
    """The command, in a session of its own, with what it says in `log`."""
    with log.open("ab") as said:
        return subprocess.Popen(
            [str(word) for word in kind.arguments(base, folder)],
            cwd=ROOT,
            env=environment(kind, base, folder, **more),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def run(kind: Kind, base: Path, folder: Path, **more: str) -> Ended:
    """The command from its start to its end, undisturbed."""
    log, started = folder.with_suffix(".log"), time.monotonic()
    log.unlink(missing_ok=True)
    process = start(kind, base, folder, log, **more)
    try:
        code = process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        given.kill_group(process.pid)
        process.wait()
        code = None
    return Ended(code, log.read_text(errors="replace"), time.monotonic() - started)


def state(folder: Path) -> dict[str, str]:
    """What lies in a folder: the path of each file and a hash of what it holds.

    Compared are all bytes of: records (config.json, metrics.json, per_image.csv, log.csv, examples), tables, figures,
    claims.csv, manifest.json, report.html, prepared arrays and their index and hashes, sets of pictures with their
    lists and manifests, fetched files, ONNX and safetensors, harmonized pictures. Of checkpoints, the weights and the
    learning curve bit by bit; not the seconds it took. Left out: env.json (times), logs, the output of notebooks
    (it tells what was made and what was found). The names of caches lose the part that stands for times of change.
    """
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = re.sub(r"-[0-9a-f]{12}/", "/", path.relative_to(folder).as_posix())
        if hidden(name):
            found[name] = "on its way"
        elif path.suffix == ".ipynb":
            json.loads(path.read_text(encoding="utf-8"))
            found[name] = "a notebook"
        elif path.suffix == ".log":
            found[name] = "a log"
        elif path.name == "env.json":
            json.loads(path.read_text(encoding="utf-8"))
            found[name] = "where it was made"
        else:
            found[name] = weights(path) if path.name == "checkpoint.pt" else digest(path.read_bytes())
    return found


def names(folder: Path) -> set[str]:
    """The paths of its files, without the part of a cache's name that stands for times of change."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {re.sub(r"-[0-9a-f]{12}/", "/", path.relative_to(folder).as_posix()) for path in files}


def weights(checkpoint: Path) -> str:
    saved = checkpoints.load(checkpoint)
    if not saved["finished"]:
        return "unfinished"
    curve = json.dumps({key: value for key, value in saved["state"].items() if key != "seconds"})
    parts = [
        f"{name} {value.dtype} {tuple(value.shape)}".encode() + value.numpy().tobytes()
        for name, value in saved["model"].items()
    ]
    return digest(saved["key"].encode() + curve.encode() + b"".join(parts))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def hidden(name: str) -> bool:
    """Names that no reader looks at: on their way, or locks."""
    return any((part.startswith(".") and part != ".made_here") or ".part" in part for part in name.split("/"))


def differences(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """After the command has ended well."""
    lines = [f"{name} is missing" for name in wanted.keys() - found.keys()]
    lines += [f"{name} was left behind" for name in found.keys() - wanted.keys()]
    return sorted(lines + [f"{name} differs" for name in wanted.keys() & found.keys() if found[name] != wanted[name]])


def half_written(folder: Path, wanted: dict[str, str]) -> list[str]:
    """After a kill: files under their own name that are neither whole nor what they are in the end."""
    try:
        found = state(folder)
    except (HarmonyError, ValueError) as error:
        return [f"half-written: {error}"]
    shown = {name: value for name, value in found.items() if not hidden(name) and value != "unfinished"}
    return sorted(f"{name} is half-written" for name, value in shown.items() if wanted.get(name) != value)

"""Run records: one folder a run, ``runs/<experiment>/seed<k>/``, and what made it.

config.json (the resolved experiment), metrics.json, per_image.csv, log.csv, env.json, and checkpoint.pt (not for git).
Tables, figures and claims read these and nothing else.
"""

import hashlib
import json
import math
import os
import platform
import subprocess
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd

from harmonylib.errors import HarmonyError
from harmonylib.paths import ROOT, shown, write_text
from harmonylib.reading import read_json, read_table

MADE_HERE = ".made_here"  # an empty file that git ignores
MOST = 1 << 28  # bytes of a table; the rows of iHarmony4 under four protocols take an eighth of it
AGAIN = "make the run again, or copy its record again"
PACKAGES = ("torch", "torchvision", "numpy", "pandas", "pillow", "scikit-image", "accelerate", "matplotlib")
TRAINING_SOURCE = (  # how the data were made is in the data's own hash
    "data/layout.py",
    "data/cache.py",
    "masks.py",
    "transforms.py",
    "lemart.py",
    "models/*.py",
    "batches.py",
    "losses.py",
    "distributed.py",
    "training.py",
    "evaluation.py",
    "metrics.py",
    "baselines.py",
)


@dataclass(frozen=True)
class Record:
    """One finished run on disk."""

    folder: Path

    @property
    def experiment(self) -> str:
        return self.folder.parent.name

    @property
    def seed(self) -> int:
        return int(self.folder.name.removeprefix("seed"))

    @cached_property
    def config(self) -> dict:
        return self._json("config.json", "name", "size")

    @cached_property
    def metrics(self) -> dict:
        return self._json("metrics.json")

    @cached_property
    def env(self) -> dict:
        return self._json("env.json")

    @property
    def prepared(self) -> tuple:
        """What the hash of the data is of: a subset, at one size."""
        return self.config.get("subset"), self.config.get("size")

    @property
    def data_hash(self) -> str | None:
        return self.env.get("data_hash")

    @cached_property
    def per_image(self) -> pd.DataFrame:
        return self._csv("per_image.csv")

    @cached_property
    def log(self) -> pd.DataFrame:
        return self._csv("log.csv")

    def rows(
        self, protocol: str, split: str = "test", kind: str | None = None, epoch: int | None = None
    ) -> pd.DataFrame:
        """Per-image rows of one split under one protocol (any size), sorted by name."""
        table = self.per_image
        chosen = (table["split"] == split) & (table["protocol"].str.split("@").str[0] == protocol)
        if kind is not None:
            chosen &= table["kind"] == kind
        if epoch is not None:
            chosen &= table["epoch"] == epoch
        return table[chosen].sort_values("name").reset_index(drop=True)

    def _json(self, name: str, *keys: str) -> dict:
        return read_json(self.folder / name, AGAIN, keys)

    def _csv(self, name: str) -> pd.DataFrame:
        return read_table(self.folder / name, (), AGAIN, MOST, dtype={"name": str, "photo": str, "group": str})


def read_all(results: Path) -> dict[str, list[Record]]:
    """Experiment name -> its records, by seed. Raises HarmonyError if there is none."""
    found: dict[str, list[Record]] = {}
    for path in sorted((results / "runs").glob("*/seed*/metrics.json")):
        record = Record(path.parent)
        if path.parent.name.removeprefix("seed").isdecimal():
            found.setdefault(record.experiment, []).append(record)
    if not found:
        raise HarmonyError(
            f"{shown(results / 'runs')}: no run records; run notebooks 02 and 03 (or `make reproduce`) first"
        )
    for runs in found.values():
        runs.sort(key=lambda record: record.seed)
    return found


def write(
    folder: Path,
    config: dict,
    metrics: dict,
    per_image: pd.DataFrame | None,
    log: pd.DataFrame | None,
    environment: dict,
) -> Record:
    """Write a record into a folder that is there; metrics.json comes last, so that a folder with it is whole.

    Raises OSError where the folder is gone: on a disk that has vanished, nothing is made anew.
    """
    (folder / "metrics.json").unlink(missing_ok=True)
    write_json(folder / "config.json", config)
    for name, table in (("per_image", per_image), ("log", log)):
        if table is not None:
            write_text(folder / f"{name}.csv", table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    write_json(folder / "env.json", environment)
    write_json(folder / "metrics.json", metrics)
    (folder / MADE_HERE).touch()
    return Record(folder)


def reusable(folder: Path, key: str) -> Record | None:
    """The record in `folder`, if this machine made it from what the key stands for; committed ones are for reading."""
    if not (folder / MADE_HERE).is_file() or not (folder / "metrics.json").is_file():
        return None
    try:
        metrics = Record(folder).metrics
        parts = ["config.json", "env.json"] + ["per_image.csv"] * ("diverged" not in metrics)
        whole = all((folder / name).is_file() for name in parts)
        return Record(folder) if whole and metrics.get("key") == key else None
    except (ValueError, HarmonyError):  # a damaged disk; what this package writes is whole
        return None


def trained(folder: Path, key: str) -> Record | None:
    """`reusable`, of a run: what starts from it reads its checkpoint. A run that diverged has none."""
    kept = reusable(folder, key)
    there = kept and all((folder / name).is_file() for name in ("checkpoint.pt", "log.csv"))
    return kept if there or (kept and "diverged" in kept.metrics) else None


def write_json(path: Path, content: dict) -> None:
    write_text(path, json.dumps(_finite(content), indent=1, sort_keys=True, allow_nan=False) + "\n")


def _finite(value):
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def run_key(parts: list[str]) -> str:
    """One short name for all that a trained network depends on."""
    return hashlib.sha256("-".join(parts).encode()).hexdigest()[:16]


@lru_cache
def source_hash() -> str:
    """Of the modules on the path from data to weights and per-image rows; tables and figures are not among them."""
    base = ROOT / "harmonylib"
    files = sorted(path for pattern in TRAINING_SOURCE for path in base.glob(pattern))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def environment(**extra) -> dict:
    """Where and with what a run was made."""
    import torch

    from harmonylib.distributed import world_size

    cuda = torch.cuda.is_available()
    return {
        "harmonylib": _version_of_checkout(),
        **_git(),
        "source_hash": source_hash(),
        "python": platform.python_version(),
        "packages": {name: _installed(name) for name in PACKAGES},
        "system": platform.system(),
        "device": torch.cuda.get_device_name() if cuda else _cpu_name(),
        "avx512": avx512(),
        "compute_capability": list(torch.cuda.get_device_capability()) if cuda else None,
        "threads": torch.get_num_threads(),
        "processes": world_size(),
        "host": "colab" if "COLAB_RELEASE_TAG" in os.environ else "slurm" if "SLURM_JOB_ID" in os.environ else "local",
        **extra,
    }


def _version_of_checkout() -> str:
    from harmonylib import __version__

    return __version__


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@lru_cache
def _git() -> dict:
    """The commit, and whether source files differ from it (results are products and do not count)."""

    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def ask(*words: str) -> str | None:
        try:
            told = subprocess.run(["git", *words], cwd=ROOT, env=plain, capture_output=True, text=True, check=True)
            return told.stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    if not (ROOT / ".git").exists():  # unpacked, perhaps below another repository
        return {"git_sha": None, "git_dirty": None}
    status = ask("status", "--porcelain", "--", "harmonylib", "notebooks", "pyproject.toml")
    return {"git_sha": ask("rev-parse", "HEAD"), "git_dirty": None if status is None else bool(status)}


def avx512() -> bool | None:
    """Whether NumPy's functions in single precision use AVX-512: without, they end in another bit. None: not known."""
    try:
        used = np.lib.introspect.opt_func_info("^exp$", "float32")["exp"]["ff"]["current"]
    except (AttributeError, KeyError):  # NumPy before 2.0; a build without any such code
        return None
    return used.startswith(("AVX512", "X86_V4"))


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

"""Checkpoints: written whole or not at all, loaded without running code, with every random state."""

import hashlib
import json
import math
import os
import pickletools
import random
import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save as safetensors_bytes

from harmonylib.errors import HarmonyError
from harmonylib.paths import ROOT, whole_file
from harmonylib.reading import ordinary

SAFETENSORS = ".safetensors"
SECONDS = "HARMONY_CHECKPOINT_SECONDS"  # environment variable
MOST = 1 << 36  # bytes of a checkpoint
WORDS = re.compile(r"collections OrderedDict|torch \w+Storage|torch\._utils _rebuild_(tensor_v2|parameter)")


def interval(usual: float) -> float:
    """Seconds between two checkpoints: ``$HARMONY_CHECKPOINT_SECONDS``, else `usual`. Raises HarmonyError."""
    text = os.environ.get(SECONDS) or str(usual)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise HarmonyError(f"{SECONDS}={text}: give a number of seconds, 0 or more")
    return seconds


def save(path: Path, content: dict) -> None:
    """Write beside `path`, then rename: an interruption leaves the old checkpoint, never half of a new one."""
    path.parent.mkdir(exist_ok=True)  # no more than that: a disk that has vanished is not made anew elsewhere
    with whole_file(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # in torch's words; a full disk is its context
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def load(path: Path) -> dict:
    """Load with ``weights_only=True``, or as safetensors. Raises HarmonyError if the file is missing, damaged or holds
    anything else."""
    try:
        ordinary(path, MOST)
        saved = _safetensors(path) if path.suffix == SAFETENSORS else _pickled(path)
    except HarmonyError:
        raise
    except FileNotFoundError:
        raise HarmonyError(f"{path}: no such checkpoint; train the experiment first (notebook 03 or `train`)") from None
    except Exception:  # torch's unpickler raises whatever the damage makes of it
        mend = f"git checkout -- {path}" if comes_along(path) else "delete it and train again"
        raise HarmonyError(f"{path}: no readable checkpoint (damaged, or it holds code); {mend}") from None
    if not isinstance(saved, dict) or "experiment" not in saved or "model" not in saved:
        raise HarmonyError(f"{path}: not a checkpoint of this project; it lacks the experiment or the weights")
    return saved


def _pickled(path: Path) -> dict:
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
            raise ValueError("`torch.save` compresses nothing: this would take more memory than it has bytes")
        for name in archive.namelist():
            if name.endswith("data.pkl"):
                _check_words(archive.read(name))
    return torch.load(path, "cpu", weights_only=True)


def _check_words(pickled: bytes) -> None:
    """What torch takes for harmless may still make a tensor of any size out of nothing. Raises ValueError."""
    for operation, name, _ in pickletools.genops(pickled):
        if re.search("GLOBAL|INST|EXT", operation.name) and not WORDS.fullmatch(str(name)):
            raise ValueError(f"{name} in it, which no checkpoint of this project has")


def _safetensors(path: Path) -> dict:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise HarmonyError(f"{path}: safetensors needs a path that is UTF-8; rename the folder, or copy it") from None
    with safe_open(path, "pt") as file:
        names = file.keys()
        weights = {name: file.get_tensor(name) for name in names}
        return {"experiment": json.loads(file.metadata()["experiment"]), "model": weights}


def export_weights(checkpoint: Path, out: Path) -> None:
    """Write a checkpoint's weights as safetensors, with the experiment that says what they are of."""
    saved = load(checkpoint)
    notes = {"experiment": json.dumps(saved["experiment"])}  # one alone: safetensors writes several in any order
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as file:
        file.write(safetensors_bytes({name: tensor.contiguous() for name, tensor in saved["model"].items()}, notes))


def find(name: str | Path) -> Path | None:
    """The checkpoint that a name stands for: a file, or that of a run's folder. None where there is none."""
    path = Path(name) / "checkpoint.pt" if Path(name).is_dir() else Path(name)
    return path if path.is_file() else None


def comes_along(path: Path) -> bool:
    """Whether a checkpoint is the package's own."""
    return path.is_relative_to(ROOT / "harmonylib")


def digest(path: Path) -> str:
    """A hash of a checkpoint's bytes. Raises HarmonyError if there is no such file."""
    try:
        with ordinary(path, MOST).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise HarmonyError(f"{path}: no readable checkpoint ({error.strerror}); name an experiment or a file") from None


def random_state() -> dict:
    """The state of every generator that training may draw from, as plain lists and tensors."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, keys.tolist(), position, has_gauss, gauss],
        "python": [version, list(internal), gauss_next],
    }


def restore_random_state(state: dict) -> None:
    torch.set_rng_state(state["torch"])
    for number, of_gpu in enumerate(state["cuda"][: torch.cuda.device_count()]):  # fewer or more than there were
        torch.cuda.set_rng_state(of_gpu, number)
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)

"""``python -m harmonylib doctor``: what works here, what does not, and what to do about it."""

import importlib
import shutil
import sys
from pathlib import Path

from harmonylib.data.embedded import SCENES
from harmonylib.data.layout import KNOWN
from harmonylib.data.locate import LADDER, PHOTOGRAPHS, find
from harmonylib.paths import data_dir, shown

NEEDED = ("torch", "torchvision", "numpy", "pandas", "PIL", "skimage", "matplotlib", "seaborn", "accelerate", "tqdm")
FREE_GB = 5


def run(data: str = "auto") -> int:
    """Print one line a finding; 0 if nothing stands in the way, else 1."""
    findings = [_python(), *(_package(name) for name in NEEDED), _device(), *_data(data), _disk()]
    for good, line in findings:
        print(f"{'ok  ' if good else 'FIX '} {line}")
    return 0 if all(good for good, _ in findings) else 1


def _python() -> tuple[bool, str]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = (3, 11) <= sys.version_info < (3, 14)
    return good, f"Python {version}" + ("" if good else ": use Python 3.11, 3.12 or 3.13")


def _package(name: str) -> tuple[bool, str]:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        return False, f"{name}: cannot be imported ({error}); run `make setup`"
    return True, f"{name} {getattr(module, '__version__', '')}"


def _device() -> tuple[bool, str]:
    try:
        import torch
    except ImportError:
        return False, "no torch, so no device; run `make setup`"
    if not torch.cuda.is_available():
        return True, f"no GPU: CPU with {torch.get_num_threads()} threads; profiles smoke and quick are made for it"
    gigabytes = torch.cuda.get_device_properties(0).total_memory / 1e9
    major, minor = torch.cuda.get_device_capability()
    half = "bfloat16" if (major, minor) >= (8, 0) else "float16"
    return (
        True,
        f"GPU {torch.cuda.get_device_name()}, {gigabytes:.1f} GB, capability {major}.{minor}, half precision: {half}",
    )


def _data(wanted: str) -> list[tuple[bool, str]]:
    found = []
    if wanted not in (*LADDER, "auto"):
        good = any((Path(wanted) / subset).is_dir() for subset in KNOWN)
        found.append((good, f"data: {wanted}" + ("" if good else f": holds none of the folders {', '.join(KNOWN)}")))
    for name in LADDER:
        folder = find(name)
        if name == "embedded" and folder is None:
            found.append((True, f"data: embedded will be written on first use ({SCENES} scenes, under a minute)"))
        elif folder is None:
            found.append(
                (name != wanted, f"data: {name} is not in {shown(data_dir())}; data/README.md says how to get it")
            )
        else:
            found.append((True, f"data: {name} in {shown(folder)}"))
    for name, (folder, words) in PHOTOGRAPHS.items():
        there = (data_dir() / folder).is_dir()
        where = f"in {shown(data_dir() / folder)}" if there else f"not in {shown(data_dir())}: {words}"
        found.append((True, f"photographs for LEMaRT: {name} {where}"))
    return found


def _disk() -> tuple[bool, str]:
    folder = data_dir() if data_dir().exists() else data_dir().parent
    free = shutil.disk_usage(folder).free / 1e9
    good = free > FREE_GB
    return good, f"disk: {free:.0f} GB free" + ("" if good else f"; free at least {FREE_GB} GB")

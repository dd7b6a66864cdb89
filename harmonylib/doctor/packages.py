"""The packages: are they there, recent enough, of one piece, and does the GPU take part?

Run as a file this is the other side: it imports what it is given and tells what happened, a line of JSON each.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from time import monotonic

MODULES = {  # of the distributions that are needed
    "torch": "torch", "torchvision": "torchvision", "accelerate": "accelerate", "numpy": "numpy", "pandas": "pandas",
    "pillow": "PIL", "scipy": "scipy", "scikit-image": "skimage", "matplotlib": "matplotlib", "seaborn": "seaborn",
    "timm": "timm", "safetensors": "safetensors", "tqdm": "tqdm", "requests": "requests", "filelock": "filelock",
    "pycocotools": "pycocotools.mask", "tifffile": "tifffile",
}  # fmt: skip
TRIED = (
    ("torch", "torchvision", "accelerate", "timm"),
    ("numpy", "pandas", "pillow", "scipy", "scikit-image", "matplotlib", "seaborn", "pycocotools"),
)
CODECS = ("jpg", "zlib", "webp")  # of Pillow
KEPT = ("PATH", "HOME", "SYSTEMROOT", "PYTHONPATH")
MEDDLE = r"LD_|DYLD_|TQDM_|TORCH|PYTORCH|PYTHON(?!PATH)|MKL_|KMP_|CUDA_|MPL"
ENDINGS = {
    -4: "this processor lacks instructions that it uses", -7: "a file of it is cut short", -9: "killed: out of memory?",
}  # fmt: skip
LIMITED = "failed to map segment|[Cc]annot allocate|MemoryError"  # what loaders say under `ulimit -v`
ROOM = "ulimit -v unlimited, or ask the batch system for more memory (h_vmem)"
MISSING = "not installed"
GPU_GB = 2  # free, that the small profiles want


def packages() -> Iterator[tuple[str, str]]:
    """What is wrong with each package, those that are sound, and the device that computes."""
    from harmonylib.doctor import FIX, IMPORTS, NOTE, OK

    until, mend, least, told = monotonic() + IMPORTS - 10, how_to_mend(), minimums(), {}
    for process in [_start(names) for names in TRIED]:
        told |= _read(process, until)
    failed = tuple(name for name in told if name in MODULES and told[name].get("error") not in (None, MISSING))
    plain = {name: os.environ[name] for name in KEPT if name in os.environ}
    again = _read(_start(failed, plain), until) if failed else {}
    set_here = " ".join(name for name in os.environ if re.match(MEDDLE, name))
    torch, pair = told.get("torch", {}), requirements("torchvision").get("torch", ("", ""))[1]
    sound, missing, abroad = [], [], {}
    for name in (name for name in MODULES if told.get(name, {}).get("from")):
        abroad.setdefault(told[name]["from"], []).append(name)
    mend = f"unset PYTHONPATH; if that is not it, {mend}" if abroad else mend
    for name in MODULES:
        found = told.get(name) or _installed(name)
        number, needed = found.get("version", ""), least.get(name, "0")
        if found.get("error") == MISSING:
            missing.append(name)
        elif "error" in found:
            beside = f"beside torch {torch.get('version')}: " if name == "torchvision" else ""
            cure = ROOM if re.search(LIMITED, found["error"]) else mend
            if set_here and "error" not in again.get(name, found):
                cure = f"an environment variable stands in its way, one of: unset {set_here}"
            yield FIX, f"{f'{name} {number}'.strip()}: {beside}cannot be imported ({found['error']}); {cure}"
        elif _numbers(number) < _numbers(needed):
            yield FIX, f"{name} {number}: {needed} or newer is needed; {mend}"
        elif name == "torchvision" and pair and _numbers(pair) != _numbers(torch.get("version", pair)):
            yield FIX, f"torchvision {number}: belongs to torch {pair}, not to {torch['version']}; {mend}"
        else:
            sound.append(f"{name} {number}")
    if missing:
        yield FIX, f"{', '.join(missing)}: not installed for {sys.executable}; {mend}"
    for folder, names in abroad.items():
        yield NOTE, f"{', '.join(names)}: from {folder} on PYTHONPATH, not of this Python; not meant? unset PYTHONPATH"
    if told.get("codecs"):
        yield FIX, f"pillow: built without {', '.join(told['codecs'])}; pip install --force-reinstall pillow"
    if sound:
        yield OK, ", ".join(sound)
    if "backend" in told:
        yield FIX, f"MPLBACKEND={os.environ['MPLBACKEND']}: cannot draw here ({told['backend']}); unset MPLBACKEND"
    if "error" not in torch:
        yield _device(told.get("device", {}))


def how_to_mend() -> str:
    """What brings this Python the right packages, or one to the right Python."""
    from harmonylib.paths import ROOT

    if Path(sys.prefix).resolve() == (ROOT / ".venv").resolve():
        return "rm -rf .venv && make setup"
    if (ROOT / ".venv" / ".ready").is_file() and any(path.exists() for path in (ROOT / ".venv").glob("*/python*")):
        return "`make setup` prepared another Python: source .venv/bin/activate"
    return "make setup && source .venv/bin/activate, or pip install -r requirements.lock"


def minimums() -> dict[str, str]:
    """The least version of each package, from pyproject.toml, or from the installation where there is no checkout."""
    import tomllib

    from harmonylib.paths import ROOT

    file = ROOT / "pyproject.toml"
    listed = tomllib.loads(file.read_text(encoding="utf-8"))["project"]["dependencies"] if file.is_file() else None
    return {name: number for name, (_, number) in requirements("harmony-companion", listed).items()}


def requirements(distribution: str, listed: list[str] | None = None) -> dict[str, tuple[str, str]]:
    """name -> (comparison, version), of a list of requirements or of an installed distribution."""
    try:
        listed = listed or requires(distribution) or []
    except PackageNotFoundError:
        return {}
    found = (re.match(r"([\w-]+)\s*\(?([=>]=)([\d.]+)", text) for text in listed)
    return {each[1]: (each[2], each[3]) for each in found if each}


def _device(told: dict) -> tuple[str, str]:
    """What torch computes on, and why not on the GPU where there is one."""
    from harmonylib.doctor import FIX, NOTE, OK

    name, hidden = f"GPU {told.get('name', '')}".strip(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if "error" in told:
        return FIX, f"{name}: {told['error']}; install a torch for it and its driver, or: export CUDA_VISIBLE_DEVICES="
    if "name" in told:
        (major, minor), free = told["capability"], told["free"] / 1e9
        half = "bfloat16" if major >= 8 else "float16"
        words = f"{name}, {free:.1f} GB free, capability {major}.{minor}, half precision: {half}"
        full = "; next to full: nvidia-smi lists who holds it, a smaller batch_size needs less"
        return (OK, words) if free > GPU_GB else (NOTE, words + full)
    cpu = f"CPU with {told.get('threads')} threads, which profiles smoke, quick and long are made for"
    if not shutil.which("nvidia-smi"):
        return OK, f"no GPU: {cpu}"
    if not told.get("cuda"):
        return NOTE, f"the GPU is not used, because this torch is built without CUDA, but the {cpu}; {how_to_mend()}"
    if hidden is not None:
        return NOTE, f"the GPU is hidden by CUDA_VISIBLE_DEVICES={hidden!r}: {cpu}; unset CUDA_VISIBLE_DEVICES"
    why = told.get("warning") or "nvidia-smi says more"
    return NOTE, f"torch for CUDA {told['cuda']} cannot use the GPU ({why}): {cpu}; update its driver"


def _start(names: tuple[str, ...], environment: dict[str, str] | None = None) -> subprocess.Popen:
    command = [sys.executable, "-P", __file__, *names]  # -P: without the folder of this file
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _read(process: subprocess.Popen, until: float) -> dict[str, dict]:
    """name -> version, or error where an import failed or did not end; also device and backend."""
    try:
        output = process.communicate(timeout=max(0.1, until - monotonic()))[0]
        end = ENDINGS.get(process.returncode, f"the process ended with code {process.returncode}")
    except subprocess.TimeoutExpired:
        process.kill()
        output, end = process.communicate()[0], "does not end: does its disk answer?"
    told = {}
    for line in output.splitlines():
        told |= json.loads(line) if line.startswith('{"') else {}
    told = told or {process.args[3]: None}
    return {name: {"error": end} if found is None else found for name, found in told.items()}


def _installed(name: str) -> dict[str, str]:
    try:
        return {"version": version(name)}
    except PackageNotFoundError:
        return {"error": MISSING}


def _numbers(text: str) -> list[int]:
    """2.11.0+cu130 -> [2, 11, 0]"""
    return [int(part) for part in re.findall(r"\d+", text.split("+")[0])[:3]]


def _try(name: str) -> dict[str, str]:
    try:
        module = importlib.import_module(MODULES[name])
    except BaseException as error:  # SystemExit too: a package may do anything
        if isinstance(error, ModuleNotFoundError) and error.name == MODULES[name].split(".")[0]:
            return {"error": MISSING}
        lines = str(error).strip().splitlines() or [""]
        line = next((line for line in lines if "rror was" in line), lines[0])  # NumPy begins with advice
        return {**_installed(name), "from": _abroad(name), "error": f"{type(error).__name__}: {line}"}
    number = getattr(module, "__version__", None) or _installed(name).get("version", "")
    return {"version": str(number), "from": _abroad(name)}


def _abroad(name: str) -> str:
    """The folder on PYTHONPATH that a package comes from; nothing where it is this Python's own."""
    found = importlib.util.find_spec(MODULES[name])
    folder = os.path.dirname(os.path.dirname(found.origin or "")) if found else ""
    return folder if folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) else ""


def _try_device() -> dict:
    """One sum on the GPU: it fails where memory, driver or this torch's kernels do."""
    import warnings

    import torch

    told = {}
    try:
        told |= {"cuda": torch.version.cuda, "threads": torch.get_num_threads()}
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            usable = torch.cuda.is_available()
        told["warning"] = str(said[0].message).split("(Triggered")[0] if said else ""
        if usable:
            told |= {"name": torch.cuda.get_device_name(), "capability": torch.cuda.get_device_capability()}
            torch.ones(8, device="cuda").sum().item()
            told["free"] = torch.cuda.mem_get_info()[0]
    except Exception as error:
        told["error"] = f"does not compute ({type(error).__name__}: {error})"
    return told


def _main(names: list[str]) -> None:
    def tell(**found) -> None:
        print(json.dumps(found), flush=True)

    backend = os.environ.pop("MPLBACKEND", None)
    for name in names:
        tell(**{name: None})  # so that the other side knows which one crashed
        tell(**{name: _try(name)})
    if "torch" in sys.modules:
        tell(device=_try_device())
    if "PIL" in sys.modules and (features := importlib.util.find_spec("PIL.features")):
        check = importlib.import_module(features.name).check
        tell(codecs=[name for name in CODECS if not check(name)])
    if backend and "matplotlib" in sys.modules:
        try:
            importlib.import_module("matplotlib.pyplot").switch_backend(backend)
        except Exception as error:
            tell(backend=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    _main(sys.argv[1:])

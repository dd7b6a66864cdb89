"""Files: the checkout and its environment, what notebooks need, data sets, and results.

The names of folders are written down again here (a test compares them): the modules that own them import NumPy.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from importlib.util import find_spec
from pathlib import Path

import harmonylib
from harmonylib.doctor import FIX, NOTE, OK, hiding
from harmonylib.doctor.packages import MODULES, how_to_mend
from harmonylib.paths import ROOT, data_dir, results_dir, shown

PARTS = ("harmonylib/paper_values.csv", "harmonylib/data/outlines.json", "harmonylib/weights/harmonizer.safetensors")
SUBSETS = ("HCOCO", "HAdobe5k", "HFlickr", "Hday2night", "RealHM")
FOLDERS = ("composite_images", "masks", "real_images")
LADDER = {  # folders that each may lie in, and how it gets there
    "iharmony4": (("iharmony4", "iHarmony4"), "put or link your copy there (data/README.md)"),
    "coco-mini": (("coco-mini",), "python -m harmonylib data prepare coco-mini"),
    "embedded": (("embedded",), "written on first use, in under a minute"),
}
USUAL = {"test", "tests", "docs", "examples", "scripts"}  # folders of one's own that some packages install too
ENDINGS = {"masks": ".png", "real_images": ".jpg"}
LOOKED_AT = 200  # lines of a list


def checkout() -> Iterator[tuple[str, str]]:
    """Is the code that runs the code one sees, all of it, with the environment that `make` made for it?"""
    try:
        here = Path.cwd()
    except OSError:
        yield FIX, "the folder you are in is gone; cd to the checkout"
        return
    own = {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()} | USUAL
    for path in hiding((set(packages_distributions()) | {name.split(".")[0] for name in MODULES.values()}) - own):
        yield FIX, f"{path}: hides the module {path.name.split('.')[0]} that is needed; rename it, or start elsewhere"
    beside = next((p for p in (here, *here.parents) if (p / "harmonylib/__init__.py").is_file()), ROOT).resolve()
    if beside != ROOT:
        yield FIX, f"the code that runs is in {ROOT}, not in {beside}; cd {beside}, or pip uninstall harmony-companion"
    try:
        other = Path(str(distribution("harmony-companion").locate_file("harmonylib")))
        if other.is_dir() and other.resolve() != ROOT / "harmonylib":
            number = distribution("harmony-companion").version
            words = f"scripts outside this checkout ({harmonylib.__version__}) use {other} ({number})"
            yield NOTE, f"another harmonylib is installed: {words}; pip uninstall harmony-companion"
    except PackageNotFoundError:
        pass
    wanted = PARTS + (("Makefile", "requirements.lock") if (ROOT / "pyproject.toml").is_file() else ())
    missing = [name for name in wanted if not (ROOT / name).is_file() or not (ROOT / name).stat().st_size]
    missing += [PARTS[-1]] if PARTS[-1] not in missing and not _is_weights(ROOT / PARTS[-1]) else []
    stale = [path for path in (ROOT / "harmonylib").rglob("*.pyc") if path.parent.name != "__pycache__"]
    if missing:
        mend = f"git checkout -- {missing[0]} (git lfs pull, where that is in use), or download everything again"
        yield FIX, f"{missing[0]}: not there, or not whole; {mend}"
    elif stale:
        yield FIX, f"{shown(stale[0])}: compiled, without its source, and runs in place of ours; rm {stale[0]}"
    else:
        yield OK, f"checkout {ROOT}, version {harmonylib.__version__}"
    yield from (*_git(), *_environment())


def _is_weights(path: Path) -> bool:
    """Whether a file of safetensors is as long as its head says; a pointer of Git LFS has no such head."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    try:
        ends = [of["data_offsets"][1] for name, of in json.loads(content[8 : 8 + length]).items() if name[0] != "_"]
    except (ValueError, LookupError, TypeError, AttributeError):
        return False
    return len(content) == 8 + length + max(ends)


def _git() -> Iterator[tuple[str, str]]:
    if not shutil.which("git") or not (ROOT / ".git").exists():
        lacking = "no .git (a ZIP?); git clone brings it" if shutil.which("git") else "no git; apt install git"
        yield NOTE, f"records cannot name their commit, all else works: {lacking}"
        return
    ask = ["git", "-C", str(ROOT), "status", "--porcelain", "--", "harmonylib", "notebooks", "pyproject.toml"]
    told = subprocess.run(ask, capture_output=True, text=True, check=False)
    changed = told.stdout.splitlines()
    if told.returncode:
        mend = f"git config --global --add safe.directory {ROOT}"
        yield NOTE, f"records cannot name their commit: {told.stderr}; if it is about ownership: {mend}"
    elif changed:
        yield (
            NOTE,
            f"changed files, {len(changed)}, first {changed[0].strip()}: records will say so; git diff, git stash",
        )


def _environment() -> Iterator[tuple[str, str]]:
    own, lock = ROOT / ".venv", ROOT / "requirements.lock"
    ready, python = own / ".ready", own / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if own.is_symlink() or own.exists():
        if not python.exists() or not ready.is_file():
            wrong = "`make setup` did not get to its end" if python.exists() else "its Python is gone (updated? moved?)"
            yield FIX, f".venv: {wrong}; rm -rf .venv && make setup"
        elif lock.is_file() and lock.stat().st_mtime > ready.stat().st_mtime:
            yield NOTE, ".venv: older than requirements.lock; make setup"
        elif Path(sys.prefix).resolve() != own.resolve():
            yield NOTE, f".venv: not in use here, this is {sys.executable}; source .venv/bin/activate"
    elif find_spec("ensurepip") is None:
        yield NOTE, "ensurepip: not there, so `make setup` cannot make .venv; on Debian: apt install python3-venv"


def notebooks() -> Iterator[tuple[str, str]]:
    """What Jupyter and `make` need besides the packages: notes, because the commands work without."""
    missing = [name for name in ("ipykernel", "papermill", "nbval") if find_spec(name) is None]
    if not shutil.which("make"):
        yield NOTE, "make: not installed, so no `make reproduce`; apt install make, xcode-select --install, or WSL"
    if missing:
        yield NOTE, f"{', '.join(missing)}: not installed, which notebooks and `make reproduce` need; {how_to_mend()}"
    if find_spec("jupyter_core"):
        from jupyter_core.paths import jupyter_path

        told = subprocess.run([sys.executable, "-c", "import ipykernel, papermill"], capture_output=True, text=True)
        if told.returncode and not missing:
            last = (told.stderr.strip().splitlines() or ["no word"])[-1]
            missing.append("ipykernel")
            yield NOTE, f"notebooks: ipykernel or papermill cannot be imported ({last}); {how_to_mend()}"
        named = [path for path in (Path(p, "python3/kernel.json") for p in jupyter_path("kernels")) if path.is_file()]
        try:
            program = json.loads(named[0].read_text())["argv"][0] if named else "python"
        except (ValueError, LookupError, TypeError):
            yield NOTE, f"notebooks: {named[0]} is damaged, so that none runs; rm -r {named[0].parent}"
            return
        if program != "python" and Path(program).parent.resolve() != Path(sys.executable).parent.resolve():
            mend = f"{sys.executable} -m ipykernel install --sys-prefix"
            if any(named[0].is_relative_to(p) for p in os.environ.get("JUPYTER_PATH", "").split(os.pathsep) if p):
                mend = "unset JUPYTER_PATH"
            yield NOTE, f"notebooks: their kernel python3 is {program} ({named[0]}), not this Python; {mend}"
        elif not missing:
            yield OK, "notebooks: kernel python3, papermill, nbval"


def data(wanted: str) -> Iterator[tuple[str, str]]:
    """The folder of all data, each rung of the ladder, the set that is asked for, and prepared caches."""
    folder = data_dir()
    told = f"HARMONY_DATA={folder}" if os.environ.get("HARMONY_DATA") else f"data folder {shown(folder)}"
    if folder.is_symlink() and not folder.exists():
        yield FIX, f"{told}: links to {folder.readlink()}, which is not there; mount or link it again"
    elif folder.exists() and not folder.is_dir():
        yield FIX, f"{told}: not a folder; unset HARMONY_DATA, or name one"
    elif not folder.exists():
        lost = not folder.absolute().parent.is_dir()
        yield (
            FIX if lost else NOTE,
            f"{told}: not there{'' if lost else ' yet'}; unset HARMONY_DATA, or mkdir -p {folder}",
        )
    elif _is_set(folder):
        yield FIX, f"{told}: is a set itself; name the folder above, or unset HARMONY_DATA and use --data {folder}"
    for name, (places, mend) in LADDER.items():
        there = [folder / place for place in places if (folder / place).exists()]
        links = [folder / place for place in places if (folder / place).is_symlink() and folder / place not in there]
        if links:
            yield (
                FIX,
                f"data: {shown(links[0])} links to {links[0].readlink()}, which is not there; link or mount it again",
            )
        elif there:
            yield from _set(there[0], name)
        else:
            kind = FIX if name == wanted != "embedded" else OK if name == "embedded" else NOTE
            yield kind, f"data: {name} is not in {shown(folder)}: {mend}"
    if wanted not in (*LADDER, "auto"):
        yield from _set(Path(wanted).expanduser(), wanted)
    for cache in sorted((folder / "cache").glob("*-*-*")):
        if not _is_json(cache / "manifest.json", "size", "data_hash") or not all(map(_is_array, cache.glob("*.npy"))):
            yield FIX, f"{shown(cache)}: a damaged cache; rm -r {cache}, and it is prepared again"


def _set(root: Path, name: str) -> Iterator[tuple[str, str]]:
    """One set in iHarmony4's layout: its level, and whether it is whole, as far as some hundred files tell."""
    told = f"data: {name}" if name == str(root) else f"data: {name} in {shown(root)}"
    try:
        inside = [path for path in root.iterdir() if path.is_dir()]
    except OSError as error:
        yield FIX, f"{told}: {error.strerror}; name {', '.join(LADDER)} or the top folder of a set that you can read"
        return
    present = [path for path in inside if path.name in SUBSETS]
    for path in inside:
        right = next((name for name in SUBSETS if name.lower() == path.name.lower() and name != path.name), None)
        if right:
            yield FIX, f"{told}: {path.name} is spelt otherwise than {right}; mv {path} {path.with_name(right)}"
            return
    if not present:
        deeper = [path for path in inside if _is_set(path)]
        if {path.name for path in inside} & set(FOLDERS):
            yield FIX, f"{told}: one subset of a set; name the folder above it, {root.absolute().parent}"
        elif deeper:
            yield FIX, f"{told}: one level too high; name {deeper[0]}, or move it up"
        else:
            yield FIX, f"{told}: holds none of the folders {', '.join(SUBSETS)}; name the set's top folder"
        return
    lost = [part for path in present for part in _missing(root, path)]
    if lost:
        mend = f"rm -r {root}, and it is written again" if name == "embedded" else "unpack or copy it again"
        yield FIX, f"{told}: not whole, {shown(lost[0])} is missing or empty; {mend}"
    else:
        yield OK, f"{told}: {', '.join(path.name for path in present)}; `data verify` looks at every file"


def _missing(root: Path, subset: Path) -> Iterator[Path]:
    """Folders and lists of one subset, and some of the composites on these lists, that are not there."""
    yield from (subset / name for name in FOLDERS if next((subset / name).glob("*"), None) is None)
    lists = [*subset.glob(f"{subset.name}_*.txt")] or [*root.glob("IHD_*.txt")]
    listed = {path: path.read_text(encoding="utf-8-sig", errors="replace").split() for path in lists}
    if not any(lines for path, lines in listed.items() if path.stem.endswith("_test")):
        yield subset / f"{subset.name}_test.txt"
    names = [{path.name for path in (subset / folder).glob("*")} for folder in FOLDERS[1:]]
    for path, lines in listed.items():
        lines = [line for line in lines if path.parent == subset or line.startswith(f"{subset.name}/")]
        for line in lines[:: len(lines) // LOOKED_AT + 1]:
            file = subset / FOLDERS[0] / line.rsplit("/", 1)[-1]
            if not file.is_file() or not file.stat().st_size:
                yield file
            for number, (folder, there) in enumerate(zip(FOLDERS[1:], names, strict=True), 1):
                wanted = file.stem.rsplit("_", number)[0] + ENDINGS[folder]  # c1_2_3: mask c1_2, photograph c1
                if wanted not in there:
                    yield subset / folder / wanted


def _is_set(folder: Path) -> bool:
    return any((folder / subset).is_dir() for subset in SUBSETS)


def _is_array(path: Path) -> bool:
    """Whether a file of bytes in NumPy's format is as long as its head says."""
    with path.open("rb") as file:
        head = file.read(256)
    shape, product = re.search(rb"'shape': \(([\d, ]+)\)", head), 1
    for side in shape[1].strip(b", ").split(b",") if shape else ():
        product *= int(side)
    return shape is not None and path.stat().st_size == 10 + int.from_bytes(head[8:10], "little") + product


def _is_json(path: Path, *keys: str) -> bool:
    try:
        content = json.loads(path.read_bytes())
        return isinstance(content, dict) and content.keys() >= set(keys)
    except (OSError, ValueError):
        return False


def results() -> Iterator[tuple[str, str]]:
    """Runs that were interrupted, checkpoints that are damaged, and folders that a crash left."""
    base = results_dir("quick").parent
    for path in sorted(base.glob("*/runs/*/seed*/metrics.json")):
        if not _is_json(path):
            mend = f"git checkout -- {path}, or rm -r {path.parent} and make the run again"
            yield FIX, f"{shown(path)}: damaged; {mend}"
    kept = sorted(base.glob("*/runs/*/seed*/checkpoint.pt"))
    begun = [path.parent for path in kept if not (path.parent / "metrics.json").is_file()]
    for path in (path for path in kept if not zipfile.is_zipfile(path)):
        yield FIX, f"{shown(path)}: damaged; rm {path}, and the run starts afresh"
    places = [ROOT / "build", base, data_dir() / "cache"]
    places += [path for place in places for path in place.glob("*") if path.is_dir()] + [*base.glob("*/runs/*")]
    for path in (path for path in places if path.is_dir() and not os.access(path, os.W_OK)):
        yield FIX, f"{shown(path)}: may not be written to by you (made by sudo?); sudo chown -R $USER {path}"
        break
    if begun:
        yield (
            NOTE,
            f"unfinished runs, {len(begun)}, first {shown(begun[0])}: the same command goes on, or starts afresh",
        )
    for place in {data_dir(), data_dir() / "cache", *(path.parent for path in kept)}:
        for path in sorted(place.glob(".*.*[0-9]")):
            if path.suffix[1:].isdigit() and not Path("/proc", path.suffix[1:]).exists() and Path("/proc").exists():
                yield NOTE, f"{shown(path)}: left by a process that has ended, takes up room; rm -r {path}"
    yield OK, f"results in {shown(base)}, {len(kept)} checkpoints"

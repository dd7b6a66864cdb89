"""The machine: its Python, environment variables, memory, disks and network."""

import errno
import locale
import os
import platform
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from harmonylib.doctor import FIX, NOTE, OK
from harmonylib.paths import data_dir, results_dir

VERSIONS = (3, 11), (3, 14)  # from, and below
INTEL_MAC = ("Darwin", "x86_64")
COMPILED = ("ctypes", "bz2", "lzma", "sqlite3", "ssl", "zlib")  # what a Python built from source may lack
FREE_GB = (5, 0.5, 0.5, 0.02)  # for data, results, temporary files, and in the home folder
FREE_FILES = 20_000  # the embedded set and its caches have half of that
SHARED_MB = 128
ADDRESSES_GB = 8
SECONDS_TO_ANSWER = 4  # of a host


def python() -> Iterator[tuple[str, str]]:
    """The interpreter, and whether there are packages for it at all."""
    system, (library, number) = platform.system(), platform.libc_ver()
    version = ".".join(map(str, sys.version_info[:3]))
    if VERSIONS[0] <= sys.version_info[:2] < VERSIONS[1]:
        yield OK, f"Python {version}, {sys.executable}"
    else:
        yield FIX, f"Python {version}: use 3.11, 3.12 or 3.13; rm -rf .venv && make setup PYTHON=/path/to/python3.12"
    lacking = ", ".join(name for name in COMPILED if not (find_spec(f"_{name}") or find_spec(name)))
    old = library != "glibc" or [int(part) for part in number.split(".")[:2]] < [2, 28]
    troubles = {
        f"Python lacks {lacking}: built without these libraries; install them, and build it again": lacking,
        "Python of 32 bits: there is no PyTorch for it; install one of 64 bits": sys.maxsize < 2**32,
        f"C library {library} {number}: PyTorch needs glibc 2.28; use a newer Linux": system == "Linux" and old,
        "Python for Intel: PyTorch has none for Macs; install arm64's": (system, platform.machine()) == INTEL_MAC,
    }
    yield from ((FIX, words) for words, there in troubles.items() if there)
    if system == "Windows":
        yield NOTE, "Windows: `make` needs WSL or Git Bash; the commands of harmonylib work without it"


def variables() -> Iterator[tuple[str, str]]:
    """Environment variables with values that nothing can make sense of, and the encoding of text."""
    from harmonylib.config import PROFILES

    known = ("auto", *PROFILES)
    encoding = "utf-8" if sys.flags.utf8_mode else locale.getencoding().lower()
    found = [(FIX, f"text is {encoding} here, not UTF-8: names with other letters fail; export PYTHONUTF8=1")]
    found = found if encoding not in ("utf-8", "utf8") else []
    if os.environ.get("HARMONY_PROFILE", "auto") not in ("", *known):
        words = f"HARMONY_PROFILE={os.environ['HARMONY_PROFILE']}: no such profile; unset it, or use {', '.join(known)}"
        found.append((FIX, words))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        if not re.fullmatch(r"\s*[1-9][\d,\s]*", os.environ.get(name) or "1"):
            found.append((FIX, f"{name}={os.environ[name]}: no number of threads; unset {name}"))
    seconds = os.environ.get("HARMONY_CHECKPOINT_SECONDS") or "1"
    if not re.fullmatch(r"\s*\d+(\.\d*)?\s*", seconds):
        found.append((FIX, f"HARMONY_CHECKPOINT_SECONDS={seconds}: no number of seconds; unset it"))
    for name, value in os.environ.items():
        several = name in ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
        if (several and value.strip() not in ("", "0", "1")) or name.startswith("ACCELERATE_USE_"):
            words = f"{name}={value}: several processes, or their means, that no torchrun has started"
            found.append((FIX, f"{words}; unset {name}{' RANK LOCAL_RANK' * several}"))
    for name in ("PYTHONINSPECT",) if os.environ.get("PYTHONINSPECT") else ():
        found.append((FIX, f"{name}: Python waits for more after every command; unset {name}"))
    for name in ("DATA", "PROFILE"):
        if os.environ.get(name):
            found.append(
                (NOTE, f"{name}={os.environ[name]}: `make` takes it for its own {name}; not meant? unset {name}")
            )
    if any(option.startswith("error") for option in sys.warnoptions):
        found.append((FIX, "PYTHONWARNINGS or -W: makes errors of warnings, which stops imports; unset PYTHONWARNINGS"))
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if os.environ.get(name) and not Path(os.environ[name]).exists():
            found.append((NOTE, f"{name}={os.environ[name]}: no such file, which `data fetch` needs; unset {name}"))
    yield from found or [(OK, "environment variables")]


def memory() -> Iterator[tuple[str, str]]:
    """Memory and processors, as far as a container, a batch system or `ulimit` lets one have them."""
    if os.name == "posix":
        import resource  # Windows has none

        space = resource.getrlimit(resource.RLIMIT_AS)[0] / 1e9  # RLIM_INFINITY is -1
        if 0 < space < ADDRESSES_GB:
            words = f"{space:.1f} GB of addresses (ulimit -v), where PyTorch wants {ADDRESSES_GB} and may crash"
            yield FIX, f"memory: {words}; ulimit -v unlimited, or ask the batch system for more (h_vmem)"
    least = memory_bytes() / 1e9
    quotas = [float(text.split()[0]) / float(text.split()[1]) for text in _control("cpu.max") if text[0] != "m"]
    cores = min([os.cpu_count() or 1, *quotas])
    threads = os.environ.get("OMP_NUM_THREADS", "")
    runs = min(int(threads) if threads.isdigit() else os.cpu_count() or 1, 4)
    told = f"memory: {least:.1f} GB, {cores:g} processors"
    if 0 < least < 2:
        yield FIX, f"{told}: 2 GB are the least; raise the container's or the batch job's limit"
    elif 0 < least < 1 + runs or runs > max(1, cores):
        yield NOTE, f"{told}: few for {runs} runs at once, as `make reproduce` has them; export OMP_NUM_THREADS=1"
    else:
        yield OK, told


def memory_bytes() -> int:
    """What a container or a batch system lets one have of the machine's memory; 0 where that cannot be known."""
    names = "memory.max", "memory.limit_in_bytes"
    limits = [int(text) for name in names for text in _control(name) if text.isdigit()]
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min((limit for limit in limits if limit > 0), default=0)


def disk() -> Iterator[tuple[str, str]]:
    """Room, and whether it can be written to: by writing, because a quota shows in no other way."""
    try:
        temporary = Path(tempfile.gettempdir())
    except OSError:
        yield FIX, "temporary files: there is no folder that they can be written to; export TMPDIR=FOLDER"
        temporary = data_dir()
    results, home = results_dir("quick").parent, Path(os.path.expanduser("~"))  # kernels write to the latter
    places = {"HARMONY_DATA": data_dir(), "HARMONY_RESULTS": results, "TMPDIR": temporary, "HOME": home}
    for (variable, wanted), least in zip(places.items(), FREE_GB, strict=True):
        folder = next(place for place in (wanted, *wanted.absolute().parents) if place.is_dir())
        told = f"disk of {folder}"
        free = shutil.disk_usage(folder).free / 1e9
        files = os.statvfs(folder) if hasattr(os, "statvfs") else None
        try:
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor") as file:
                file.write(bytes(2**20))
                file.flush()
        except OSError as error:
            mend = f"{_room(error, folder)}export {variable}=FOLDER"
            yield FIX, f"{told}: cannot be written to ({error.strerror}); {mend}"
            continue
        if free < least or (files and files.f_files and files.f_favail < FREE_FILES):
            count = f", {files.f_favail} files" if files else ""
            yield FIX, f"{told}: {free:.1f} GB{count} free; free {least:g} GB, or export {variable}=FOLDER"
        else:
            yield OK, f"{told}: {free:.0f} GB free"
    shared = shutil.disk_usage("/dev/shm").total / 1e6 if Path("/dev/shm").is_dir() else SHARED_MB
    if shared < SHARED_MB:
        yield NOTE, f"/dev/shm of {shared:.0f} MB: little for a DataLoader with workers of yours; docker --shm-size=1g"


def _room(error: OSError, folder: Path) -> str:
    """What may help besides another folder."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some or ask for a larger quota, or "
    if error.errno == errno.EFBIG:
        return "ulimit -f unlimited, or "
    return "" if error.errno == errno.EROFS else f"chmod u+w {folder}, or "


def network() -> Iterator[tuple[str, str]]:
    """Whether this machine answers itself, and COCO's host, or the proxy before it; nothing is sent."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as own:
            socket.create_connection(own.getsockname(), timeout=SECONDS_TO_ANSWER).close()
    except OSError as error:
        mend = "ip link set lo up, or let the firewall pass 127.0.0.1"
        yield FIX, f"network: this machine does not answer itself ({error}), as notebooks and torchrun need; {mend}"
    proxy = os.environ.get("HTTP_PROXY") or os.environ.get("http_proxy") or ""
    host, _, port = re.sub(r"^\w+://(.*@)?", "", proxy or "images.cocodataset.org:80").strip("/").partition(":")
    try:
        socket.create_connection((host, int(port or 80)), timeout=SECONDS_TO_ANSWER).close()
        yield OK, "network: COCO can be fetched"
    except (OSError, ValueError) as error:
        words = f"network: {'the proxy ' if proxy else ''}{host} does not answer ({error})"
        yield NOTE, f"{words}; only `data fetch` and `data prepare coco-mini` need it; a proxy: export HTTP_PROXY=URL"


def _control(name: str) -> Iterator[str]:
    """What a file of that name says in this process's control groups, and in those above."""
    groups = Path("/proc/self/cgroup")
    for line in groups.read_text().splitlines() if groups.is_file() else ():
        _, controllers, group = line.split(":", 2)
        base = Path("/sys/fs/cgroup", controllers)
        folder = base / group.strip("/")
        for place in (folder, *folder.parents):
            if place.is_relative_to(base) and (place / name).is_file():
                yield (place / name).read_text().strip()

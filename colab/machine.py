"""A simulated Colab machine: Colab's packages, its `google.colab`, an empty /content, and GitHub on the same disk."""

import json
import os
import queue
import shutil
import subprocess
import time
from pathlib import Path

from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpecManager

from colab import NOTEBOOKS, ROOT, badges

HERE = Path(__file__).resolve().parent
INSTALLED = HERE / "installed.txt"
REPO = "owner/name"
LIST = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()), sep='\\n')"
TIMEOUT = 3600  # seconds for a cell


class Failed(Exception):
    """A cell that raised, or a kernel that died."""


def pins() -> list[str]:
    """``name==version`` of what Colab has."""
    lines = [line.strip() for line in INSTALLED.read_text().splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def environment(python: str) -> tuple[str, Path]:
    """Version and path of an interpreter that has what Colab has: `python`, or a virtual environment's made from it.

    Raises Failed where it is no interpreter, or has this project installed, which Colab has not.
    """
    if shutil.which(python) is None:
        raise Failed(f"{python}: no such interpreter; name one of Python 3.12 or 3.13")
    version = _ask(python, "import platform; print(platform.python_version())").strip()
    if missing := _missing(python):
        folder = ROOT / "build" / "colab" / version
        own = folder / "bin" / "python"
        if not own.exists():
            subprocess.run([python, "-m", "venv", folder], check=True)
        if _missing(str(own)):
            print(f"{python}: {len(missing)} versions are not Colab's; installing them in {folder}", flush=True)
            subprocess.run([own, "-m", "pip", "install", "-q", "-r", INSTALLED], check=True)
        if missing := _missing(str(own)):
            raise Failed(f"{own}: still without {', '.join(missing)}")
        python = str(own)
    if "harmony-companion" in _distributions(python):
        raise Failed(f"{python}: harmony-companion is installed there, and in Colab it is not; name another")
    return version, Path(shutil.which(python)).absolute()


def namespace() -> list[str]:
    """The command that gives another its own mounts. Raises Failed where that is not allowed."""
    for words in (
        ["unshare", "--map-root-user", "--mount"],
        ["unshare", "--mount"],
    ):  # the second as root, in containers
        if shutil.which("unshare") and subprocess.run([*words, "true"], capture_output=True).returncode == 0:
            return words
    raise Failed("no mount namespace can be made here; it needs Linux, `unshare`, and in a container leave to use it")


def _distributions(python: str) -> dict[str, str]:
    listed = (line.split("==") for line in _ask(python, LIST).splitlines())
    return {_plain(name): version for name, version in listed}


def _ask(python: str, code: str) -> str:
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout


def _missing(python: str) -> list[str]:
    there = _distributions(python)
    return [pin for pin in pins() if there.get(_plain(pin.split("==")[0]), "").split("+")[0] != pin.split("==")[1]]


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def github(folder: Path) -> Path:
    """What GitHub would have after ``make badges REPO=owner/name`` of the last commit: a bare repository owner/name.

    Returns the notebooks, as Colab opens them from there.
    """
    source = folder / "source"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", ROOT, source], check=True)
    badges.write(source, REPO)
    author = ["-c", "user.name=owner", "-c", "user.email=owner@example.org"]
    subprocess.run(["git", "-C", source, *author, "commit", "-qam", "badges"], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", source, folder / "github" / REPO], check=True)
    return source / NOTEBOOKS


class Machine:
    """A machine with an empty disk. Kernels come and go on it; `lose` takes it away."""

    def __init__(self, folder: Path, python: Path, github: Path, drive: Path | None = None):
        self.folder, self.content = folder, folder / "content"
        self.content.mkdir(parents=True)
        arguments = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        arguments.append("--IPKernelApp.extensions=google.colab")
        words = [*namespace(), "sh", HERE / "machine.sh", self.content, *arguments]
        spec = {"argv": [str(word) for word in words], "display_name": "Colab", "language": "python"}
        (folder / "kernels" / "colab").mkdir(parents=True)
        (folder / "kernels" / "colab" / "kernel.json").write_text(json.dumps(spec))
        git = {f"url.file://{github}/.insteadOf": "https://github.com/", "safe.directory": "*"}
        keys, count = {f"GIT_CONFIG_KEY_{i}": key for i, key in enumerate(git)}, {"GIT_CONFIG_COUNT": str(len(git))}
        values = {f"GIT_CONFIG_VALUE_{i}": value for i, value in enumerate(git.values())}
        self.environment = keys | values | count | {
            "PATH": f"{python.parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANG": "en_US.UTF-8",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "COLAB_RELEASE_TAG": "simulated",
            "HARMONY_PROFILE": "smoke",
            "OMP_NUM_THREADS": "2",
            "PYTHONPATH": str(HERE / "stand_in"),
        }  # fmt: skip
        if drive is not None:
            self.environment["SIMULATED_DRIVE"] = str(drive)

    def kernel(self) -> "Kernel":
        return Kernel(self)

    def lose(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)  # what the killed kernel had started may still write


class Kernel:
    """One session: ``with machine.kernel() as kernel: kernel.run(cell)``; leaving it kills it, as a restart does."""

    def __init__(self, machine: Machine):
        specs = KernelSpecManager(kernel_dirs=[str(machine.folder / "kernels")], ensure_native_kernel=False)
        self.manager = KernelManager(kernel_name="colab", kernel_spec_manager=specs)
        self.manager.connection_file = str(machine.folder / "kernel.json")
        self.manager.start_kernel(env=machine.environment, cwd=str(machine.content))
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=120)

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *_) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def run(self, code: str, until=lambda: False) -> str | None:
        """What a cell printed; None where `until` became true first. Raises Failed: it raised, hung or died."""
        request, printed, started = self.client.execute(code, allow_stdin=False), [], time.monotonic()
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=0.5)
            except queue.Empty:
                if not self.manager.is_alive() or time.monotonic() - started > TIMEOUT:
                    raise Failed(f"the kernel died, or took more than {TIMEOUT} s") from None
                message = {}
            if until():
                return None
            if message.get("parent_header", {}).get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                printed.append(content["text"])
            elif kind == "error":
                said = " / ".join("".join(printed).split("\n")[-3:])
                raise Failed(f"{content['ename']}: {content['evalue']} [{said}]".replace("\n", " "))
            elif kind == "status" and content["execution_state"] == "idle":
                return "".join(printed)

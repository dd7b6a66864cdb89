"""`python -m harmonylib doctor` on set-ups that are really broken: each in a process of its own, as a user starts it.

Where a package is not what is wrong, stand-ins on PYTHONPATH take its place, because they start faster.
"""

import os
import resource
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from harmonylib import doctor
from harmonylib.data import layout, locate
from harmonylib.doctor import files, machine, packages

ROOT = Path(__file__).resolve().parent.parent
TORCH = """
__version__ = "2.11.0"
class version: cuda = {cuda!r}
class cuda:
    is_available = staticmethod(lambda: {usable})
    get_device_name = staticmethod(lambda: "Tesla K80")
    get_device_capability = staticmethod(lambda: (3, 7))
    mem_get_info = staticmethod(lambda: ({free}, 12e9))
class _Sum:
    def sum(self): return self
    def item(self): {sum}
def ones(*shape, device): return _Sum()
def get_num_threads(): return 2
"""
CPU = TORCH.format(cuda="13.0", usable=False, free=0, sum="pass")
STAND_INS = {
    "torch": CPU,
    **dict.fromkeys(("torchvision", "accelerate", "numpy", "pandas", "PIL", "scipy"), "__version__ = '99'"),
    **dict.fromkeys(("skimage", "matplotlib", "seaborn", "timm"), "__version__ = '99'"),
    "pycocotools": "import sys\n__version__, sys.modules['pycocotools.mask'] = '99', sys.modules[__name__]",
}


@pytest.fixture
def ask(tmp_path):
    """``ask(stand_ins={...}, VARIABLE=...)`` -> exit code and lines of the doctor; None takes a stand-in away."""

    def run(*words, stand_ins=None, python=(sys.executable,), cwd=ROOT, limit=None, **environment):
        folder = tmp_path / "stand-ins"
        for name, code in (STAND_INS | (stand_ins or {})).items():
            if code is not None:
                (folder / name).mkdir(parents=True, exist_ok=True)
                (folder / name / "__init__.py").write_text(code)
        clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MPLBACKEND", "CUDA_VISIBLE_DEVICES")}
        clean |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "HTTP_PROXY": "http://127.0.0.1:9"}
        environment = {name: str(value) for name, value in (clean | environment).items()}
        command = [*map(str, python), "-m", "harmonylib", "doctor", *map(str, words)]
        before = (lambda: resource.setrlimit(*limit)) if limit else None
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            preexec_fn=before,
            check=False,
        )
        assert "Traceback" not in done.stdout + done.stderr
        assert done.returncode in (0, 1), done.stderr
        lines = done.stdout.splitlines()
        assert all(line[:5].strip() in ("ok", "note", "FIX") and line[4] == " " for line in lines), done.stdout
        assert done.returncode == any(line.startswith("FIX") for line in lines)
        return done.returncode, lines

    return run


@pytest.fixture
def checkout(tmp_path):
    """A copy of what doctor looks at, without git."""
    root = tmp_path / "checkout"
    shutil.copytree(ROOT / "harmonylib", root / "harmonylib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "Makefile", "requirements.lock"):
        shutil.copy(ROOT / name, root / name)
    return root


def says(lines, kind, *words):
    """One line of that kind has all the words."""
    found = [line for line in lines if line.startswith(kind) and all(str(word) in line for word in words)]
    assert found, f"no {kind} with {words} in:\n" + "\n".join(lines)


def test_nothing_is_wrong_where_nothing_is(ask, tmp_path):
    (tmp_path / "data").mkdir()
    code, lines = ask()
    assert code == 0, lines
    says(lines, "ok", "Python", sys.executable)
    says(lines, "ok", "torch 2.11.0")
    says(lines, "note", "network", "127.0.0.1", "prepare coco-mini")


def test_with_the_real_packages(ask):
    _, lines = ask(stand_ins=dict.fromkeys(STAND_INS))
    says(lines, "ok", "torchvision", "numpy", "scikit-image", "tifffile")


# ------------------------------------------------------------------------------------------------------- Python


def older() -> list[Path]:
    """Pythons before 3.11, the system's and pyenv's."""
    own = Path.home() / ".pyenv/versions"
    found = [*Path("/usr/bin").glob("python3.[6-9]"), *own.glob("3.[6-9].*/bin/python"), *own.glob("3.10.*/bin/python")]
    return sorted(found)


@pytest.mark.parametrize("python", older() or [None], ids=lambda path: "-".join(path.parts[-3:]) if path else "none")
def test_an_older_python_is_told_so(python):
    if python is None:
        pytest.skip("no older Python on this machine")
    done = subprocess.run([python, "-m", "harmonylib", "doctor"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    says(done.stdout.splitlines(), "FIX", "Python 3.", "use 3.11, 3.12 or 3.13", "make setup")


@pytest.mark.parametrize("version", [(3, 10, 14), (3, 14, 0)])
def test_a_python_that_is_too_old_or_too_new(version):
    words = "; ".join([
        "import sys, runpy", f"sys.version_info = type('V', (tuple,), {{'major': 3}})({version})",
        "sys.argv = ['', 'doctor']", "runpy.run_module('harmonylib', run_name='__main__')",
    ])  # fmt: skip
    done = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    says(done.stdout.splitlines(), "FIX", f"Python 3.{version[1]}.", "use 3.11, 3.12 or 3.13", "make setup")


def test_a_python_without_packages(ask, checkout):
    """The usual mistake: the system's Python instead of .venv's."""
    venv.create(checkout / "other", with_pip=False, symlinks=True)
    python = checkout / "other/bin/python"
    bare = dict.fromkeys(STAND_INS)
    code, lines = ask(stand_ins=bare, python=[python], cwd=checkout)
    assert code == 1
    says(lines, "FIX", "torch, torchvision", "not installed", python, "make setup", "pip install -r requirements.lock")
    says(lines, "note", "ipykernel, papermill, nbval", "notebooks")
    venv.create(checkout / ".venv", with_pip=False, symlinks=True)
    (checkout / ".venv/.ready").touch()
    _, lines = ask(stand_ins=bare, python=[python], cwd=checkout)
    says(lines, "FIX", "torch", "source .venv/bin/activate")
    says(lines, "note", ".venv", "not in use", "source .venv/bin/activate")
    (checkout / ".venv/.ready").unlink()
    says(ask(cwd=checkout)[1], "FIX", ".venv", "did not get to its end", "rm -rf .venv && make setup")
    (checkout / ".venv/bin/python").unlink()
    says(ask(cwd=checkout)[1], "FIX", ".venv", "Python is gone", "rm -rf .venv && make setup")


# ----------------------------------------------------------------------------------------------------- packages


BROKEN = {
    "torchvision of another torch": (
        {"torchvision": "raise RuntimeError('operator torchvision::nms does not exist')"},
        ("torchvision", "beside torch 2.11.0", "nms does not exist"),
    ),
    "numpy of another ABI": (
        {"pandas": "raise ValueError('numpy.dtype size changed, may indicate binary incompatibility')"},
        ("pandas", "numpy.dtype size changed"),
    ),
    "numpy's own advice": (
        {"numpy": "raise ImportError('\\n\\nIMPORTANT: READ\\n\\nOriginal error was: no _multiarray')"},
        ("numpy", "Original error was: no _multiarray"),
    ),
    "pandas too old": ({"pandas": "__version__ = '1.5.3'"}, ("pandas 1.5.3", "2.2 or newer")),
    "pillow too old": ({"PIL": "__version__ = '9.0.1'"}, ("pillow 9.0.1", "or newer")),
    "scikit-image too old": ({"skimage": "__version__ = '0.19.3'"}, ("scikit-image 0.19.3", "or newer")),
    "accelerate too old": ({"accelerate": "__version__ = '0.20.0'"}, ("accelerate 0.20.0", "or newer")),
    "torch too old": ({"torch": "__version__ = '2.5.1+cu124'"}, ("torch 2.5.1+cu124", "or newer")),
    "a package that ends Python": ({"scipy": "import sys; sys.exit(3)"}, ("scipy", "SystemExit")),
    "a package that crashes": ({"scipy": "import os; os.kill(os.getpid(), 4)"}, ("scipy", "processor lacks")),
    "killed for its memory": ({"torch": "import os; os.kill(os.getpid(), 9)"}, ("torch", "out of memory")),
}


@pytest.mark.parametrize("stand_ins, words", BROKEN.values(), ids=BROKEN)
def test_a_broken_package(ask, stand_ins, words):
    code, lines = ask(stand_ins=stand_ins)
    assert code == 1
    says(lines, "FIX", *words, "make setup")


def test_a_broken_package_on_pythonpath(ask):
    says(ask(stand_ins={"numpy": "raise ImportError('no _multiarray_umath')"})[1], "FIX", "numpy", "; unset PYTHONPATH")


def test_a_package_that_finds_no_room(ask):
    broken = {"torch": "raise ImportError('libtorch_cpu.so: failed to map segment from shared object')"}
    says(ask(stand_ins=broken)[1], "FIX", "torch", "ulimit -v unlimited")


def test_torchvision_says_which_torch_it_belongs_to(ask):
    """By its own metadata, which the stand-in leaves in place."""
    torch = CPU.replace("2.11.0", "2.12.1")
    says(ask(stand_ins={"torch": torch})[1], "FIX", "torchvision", "belongs to torch", "not to 2.12.1")


def test_packages_that_come_from_elsewhere(ask, tmp_path):
    says(ask()[1], "note", "torch", str(tmp_path / "stand-ins"), "unset PYTHONPATH")


def test_imports_that_do_not_end(ask, monkeypatch, capsys, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("import time; time.sleep(1000)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(doctor, "IMPORTS", 14)
    monkeypatch.setattr(packages, "TRIED", (("torch",),))
    assert doctor.run() == 1
    says(capsys.readouterr().out.splitlines(), "FIX", "torch", "does not end")


# ---------------------------------------------------------------------------------------------------------- GPU


GPUS = {
    "torch without CUDA": ({"cuda": None, "usable": False}, {}, "note", ("built without CUDA", "CPU")),
    "driver too old": (
        {"cuda": "13.0", "usable": "__import__('warnings').warn('driver on your system is too old (found 11040)')"},
        {}, "note", ("too old (found 11040)", "CPU", "update its driver"),
    ),
    "hidden": (
        {"cuda": "13.0", "usable": False}, {"CUDA_VISIBLE_DEVICES": "7"}, "note",
        ("hidden by CUDA_VISIBLE_DEVICES='7'", "unset CUDA_VISIBLE_DEVICES"),
    ),
    "no kernels for it": (
        {"cuda": "13.0", "usable": True, "sum": "raise RuntimeError('no kernel image is available')"}, {}, "FIX",
        ("Tesla K80", "no kernel image", "export CUDA_VISIBLE_DEVICES="),
    ),
    "out of memory": (
        {"cuda": "13.0", "usable": True, "sum": "raise RuntimeError('CUDA out of memory')"}, {}, "FIX",
        ("CUDA out of memory", "export CUDA_VISIBLE_DEVICES="),
    ),
    "next to full": (
        {"cuda": "13.0", "usable": True, "free": 3e8}, {}, "note", ("0.3 GB free", "nvidia-smi", "batch_size"),
    ),
    "all well": ({"cuda": "13.0", "usable": True, "free": 9e9}, {}, "ok", ("Tesla K80", "3.7", "float16")),
}  # fmt: skip


@pytest.mark.parametrize("torch, environment, kind, words", GPUS.values(), ids=GPUS)
def test_a_gpu(ask, tmp_path, torch, environment, kind, words):
    tool = tmp_path / "bin/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    code = TORCH.format(**{"free": 0, "sum": "pass"} | torch)
    path = f"{tool.parent}{os.pathsep}{os.environ['PATH']}"
    found, lines = ask(stand_ins={"torch": code}, PATH=path, **environment)
    says(lines, kind, *words)
    assert found == (kind == "FIX")


# ---------------------------------------------------------------------------------- variables, memory, disk, files


VARIABLES = {
    "HARMONY_PROFILE": ({"HARMONY_PROFILE": "fast"}, "FIX", ("HARMONY_PROFILE=fast", "smoke, quick, long")),
    "OMP_NUM_THREADS": ({"OMP_NUM_THREADS": "abc"}, "FIX", ("OMP_NUM_THREADS=abc", "unset OMP_NUM_THREADS")),
    "ASCII": (
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "FIX", ("not UTF-8", "export PYTHONUTF8=1"),
    ),
    "warnings": ({"PYTHONWARNINGS": "error"}, "FIX", ("PYTHONWARNINGS", "unset")),
    "left by torchrun": ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, "FIX", ("WORLD_SIZE=2", "RANK LOCAL_RANK")),
    "accelerate": ({"ACCELERATE_USE_DEEPSPEED": "true"}, "FIX", ("unset ACCELERATE_USE_DEEPSPEED",)),
    "seconds": ({"HARMONY_CHECKPOINT_SECONDS": "abc"}, "FIX", ("HARMONY_CHECKPOINT_SECONDS=abc", "unset")),
    "make's": ({"DATA": "/folder"}, "note", ("DATA=/folder", "unset DATA")),
    "certificates": ({"SSL_CERT_FILE": "/nowhere.pem"}, "note", ("SSL_CERT_FILE=/nowhere.pem", "data fetch")),
    "data nowhere": ({"HARMONY_DATA": "/nowhere/data"}, "FIX", ("HARMONY_DATA=/nowhere/data", "mkdir -p")),
    "data not a folder": ({"HARMONY_DATA": ROOT / "Makefile"}, "FIX", ("HARMONY_DATA=", "not a folder")),
    "data cannot be written": ({"HARMONY_DATA": "/proc"}, "FIX", ("/proc: cannot be written", "HARMONY_DATA=FOLDER")),
    "results cannot be written": ({"HARMONY_RESULTS": "/proc/x"}, "FIX", ("/proc", "export HARMONY_RESULTS=FOLDER")),
    "home": ({"HOME": "/proc/nobody"}, "FIX", ("/proc: cannot be written", "export HOME=FOLDER")),
    "neither make nor git": ({"PATH": "/nowhere"}, "note", ("make: not installed", "make reproduce")),
    "no git": ({"PATH": "/nowhere"}, "note", ("no git", "records cannot name their commit")),
    "proxy": ({"HTTP_PROXY": "http://none.invalid:80"}, "note", ("the proxy none.invalid", "data fetch")),
}  # fmt: skip


@pytest.mark.parametrize("environment, kind, words", VARIABLES.values(), ids=VARIABLES)
def test_an_environment_variable(ask, environment, kind, words):
    _, lines = ask(**environment)
    says(lines, kind, *words)


def test_few_addresses(ask):
    _, lines = ask(limit=(resource.RLIMIT_AS, (5_000_000_000, 5_000_000_000)))
    says(lines, "FIX", "memory: 5.0 GB", "ulimit -v unlimited")


def test_a_backend_without_a_display(ask):
    real = dict.fromkeys(("numpy", "PIL", "matplotlib"))
    code, lines = ask(stand_ins=real, MPLBACKEND="TkAgg", DISPLAY="")
    assert code == 1
    says(lines, "FIX", "TkAgg", "MPLBACKEND")


def test_a_variable_that_breaks_a_package(ask):
    """Making the environment anew would not help."""
    code = "import os\nfloat(os.environ.get('TQDM_MININTERVAL', 1))\n__version__ = '99'"
    _, lines = ask(stand_ins={"scipy": code}, TQDM_MININTERVAL="fast")
    says(lines, "FIX", "scipy", "could not convert", "unset", "TQDM_MININTERVAL")
    _, lines = ask(stand_ins={"scipy": "1 / 0"}, TQDM_MININTERVAL="0.1")
    says(lines, "FIX", "scipy", "ZeroDivisionError", "make setup")


def test_pillow_without_a_format(ask):
    features = "def check(name): return name != 'webp'"
    _, lines = ask(stand_ins={"PIL": "__version__ = '99'", "PIL/features": features})
    says(lines, "FIX", "built without webp", "force-reinstall pillow")


def test_a_machine_that_does_not_answer_itself(monkeypatch):
    def refuse(*_, **__):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(machine.socket, "create_connection", refuse)
    found = [f"{kind} {words}" for kind, words in machine.network()]
    says(found, "FIX", "does not answer itself", "ip link set lo up")


def test_a_quota(ask):
    _, lines = ask(limit=(resource.RLIMIT_FSIZE, (4096, 4096)))
    says(lines, "FIX", "cannot be written to", "quota", "HARMONY_DATA")


def test_little_memory(ask):
    _, lines = ask(limit=(resource.RLIMIT_AS, (1_500_000_000, 1_500_000_000)))
    says(lines, "FIX", "memory: 1.5 GB", "ulimit -v")


def test_limits_of_a_container(monkeypatch):
    monkeypatch.setattr(machine, "_control", lambda name: {"memory.max": ["1000000000"]}.get(name, []))
    assert [(kind, "memory: 1.0 GB" in words) for kind, words in machine.memory()] == [("FIX", True)]
    monkeypatch.setattr(machine, "_control", lambda name: {"cpu.max": ["50000 100000"]}.get(name, []))
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    ((kind, words),) = machine.memory()
    assert kind == "note" and "0.5 processors" in words and "OMP_NUM_THREADS=1" in words


def test_a_disk_that_is_full(monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=10**8, total=64 * 10**6)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: usage)
    found = [f"{kind} {words}" for kind, words in machine.disk()]
    says(found, "FIX", "0.1 GB", "export HARMONY_DATA")
    if Path("/dev/shm").is_dir():
        says(found, "note", "/dev/shm of 64 MB", "--shm-size")


@pytest.mark.parametrize("name", ["random.py", "copy.py", "torch.py", "packaging.py"])
def test_a_file_that_hides_a_module(ask, checkout, name):
    (checkout / name).write_text("raise RuntimeError('not the module you want')\n")
    code, lines = ask(cwd=checkout)
    assert code == 1
    says(lines, "FIX", checkout / name, f"hides the module {name[:-3]}", "rename it")
    says(lines, "ok", "torch 2.11.0")


def test_another_copy_is_installed(ask, checkout, tmp_path):
    old = tmp_path / "stand-ins"
    (old / "harmonylib").mkdir(parents=True)
    (old / "harmony_companion-0.0.1.dist-info").mkdir()
    (old / "harmony_companion-0.0.1.dist-info/METADATA").write_text("Name: harmony-companion\nVersion: 0.0.1\n")
    _, lines = ask(cwd=checkout)
    says(lines, "note", "another harmonylib", "0.0.1", "pip uninstall harmony-companion")


def test_another_copy_runs(ask, checkout):
    (checkout / "elsewhere/harmonylib").mkdir(parents=True)
    (checkout / "elsewhere/harmonylib/__init__.py").touch()
    inside = checkout / "elsewhere/notebooks"
    inside.mkdir()
    code, lines = ask(cwd=inside, PYTHONPATH=checkout)
    assert code == 1
    says(lines, "FIX", "the code that runs is in", checkout, f"cd {checkout / 'elsewhere'}")


def test_a_checkout_that_is_not_whole(ask, checkout):
    (checkout / files.PARTS[0]).unlink()
    _, lines = ask(cwd=checkout)
    says(lines, "FIX", files.PARTS[0], "git checkout --")
    says(lines, "note", "ZIP", "git clone")
    (checkout / files.PARTS[0]).write_text("paper\n")
    (checkout / "harmonylib/masks.pyc").touch()
    says(ask(cwd=checkout)[1], "FIX", "masks.pyc", "rm ")


@pytest.mark.parametrize("harm", [b"version https://git-lfs.github.com/spec/v1\n", None])
def test_weights_that_are_not_whole(ask, checkout, harm):
    file = checkout / "harmonylib/weights/harmonizer.safetensors"
    file.write_bytes(file.read_bytes()[:5000] if harm is None else harm)
    says(ask(cwd=checkout)[1], "FIX", "harmonizer.safetensors", "not whole", "git checkout")


def test_changed_notebooks(ask, checkout):
    git = ["git", "-C", str(checkout), "-c", "user.name=n", "-c", "user.email=e"]
    (checkout / "notebooks").mkdir()
    (checkout / "notebooks/06.ipynb").write_text("{}")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True)
    (checkout / "notebooks/06.ipynb").write_text("{} ")
    says(ask(cwd=checkout)[1], "note", "notebooks/06.ipynb", "records will say so", "git diff")


def test_a_kernel_of_another_python(ask, tmp_path):
    folder = tmp_path / "jupyter/kernels/python3"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text('{"argv": ["/opt/gone/bin/python", "-m", "x"], "display_name": "x"}')
    _, lines = ask(JUPYTER_PATH=tmp_path / "jupyter")
    says(lines, "note", "/opt/gone/bin/python", "unset JUPYTER_PATH")
    _, lines = ask(JUPYTER_DATA_DIR=tmp_path / "jupyter", JUPYTER_PREFER_ENV_PATH="0")
    says(lines, "note", "/opt/gone/bin/python", "-m ipykernel install --sys-prefix")


# --------------------------------------------------------------------------------------------- data and results


def test_the_names_are_the_projects():
    assert files.SUBSETS == layout.KNOWN
    assert files.FOLDERS == layout.FOLDERS
    assert tuple(files.LADDER) == locate.LADDER
    assert {name: places for name, (places, _) in files.LADDER.items()} == {
        name: locate.ALIASES.get(name, (name,)) for name in locate.LADDER
    }


def test_a_set_that_is_whole(ask, tiny_set):
    code, lines = ask("--data", tiny_set)
    assert code == 0
    says(lines, "ok", "data", tiny_set, "HCOCO")


@pytest.mark.parametrize("level, words", [("..", "one level too high"), ("HCOCO", "name the folder above it")])
def test_the_wrong_level(ask, own_set, level, words):
    code, lines = ask("--data", own_set / level, HARMONY_DATA=own_set.parent / "data")
    assert code == 1
    says(lines, "FIX", words, own_set)


def test_no_such_set(ask, tmp_path):
    says(ask("--data", tmp_path / "nowhere")[1], "FIX", "nowhere", "No such file", "embedded")
    says(ask("--data", "iharmony4")[1], "FIX", "iharmony4", "data/README.md")


def test_a_set_that_is_not_whole(ask, own_set):
    for path in list((own_set / "HCOCO/composite_images").iterdir())[::2]:
        path.unlink()
    says(ask("--data", own_set)[1], "FIX", "not whole", "composite_images", "copy it again")
    shutil.rmtree(own_set / "HCOCO/masks")
    says(ask("--data", own_set)[1], "FIX", "not whole", "HCOCO/masks")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda subset: subset.rename(subset.with_name("hcoco")), ("spelt otherwise than HCOCO", "mv ")),
        (lambda subset: sorted(subset.glob("masks/*"))[0].unlink(), ("not whole", "HCOCO/masks/")),
        (lambda subset: sorted(subset.glob("real_images/*"))[0].unlink(), ("not whole", "HCOCO/real_images/")),
        (lambda subset: [path.write_bytes(b"") for path in subset.glob("composite_images/*")], ("not whole", "empty")),
        (lambda subset: (subset / "HCOCO_test.txt").unlink(), ("not whole", "HCOCO_test.txt")),
        (lambda subset: (subset / "HCOCO_test.txt").write_text("\n"), ("not whole", "HCOCO_test.txt")),
    ],
)
def test_a_set_that_lacks_one_thing(ask, own_set, harm, words):
    harm(own_set / "HCOCO")
    says(ask("--data", own_set)[1], "FIX", *words)


def test_damaged_records(ask, tmp_path):
    run = tmp_path / "results/quick/runs/unet/seed0"
    run.mkdir(parents=True)
    (run / "metrics.json").write_text('{"test": {')
    says(ask(HARMONY_RESULTS=tmp_path / "results")[1], "FIX", "metrics.json: damaged")


def test_folders_of_data(ask, own_set, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "iharmony4").symlink_to(tmp_path / "unmounted")
    says(ask()[1], "FIX", "iharmony4", "unmounted", "mount it again")
    (data / "iharmony4").unlink()
    shutil.copytree(own_set, data / "iharmony4/iHarmony4")
    says(ask()[1], "FIX", "one level too high", "iharmony4/iHarmony4")
    says(ask(HARMONY_DATA=own_set)[1], "FIX", "is a set itself", f"--data {own_set}")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "unmounted")
    says(ask(HARMONY_DATA=link)[1], "FIX", "unmounted", "mount or link it again")


def test_a_damaged_cache(ask, tmp_path):
    cache = tmp_path / "data/cache/embedded-32-0123456789ab"
    cache.mkdir(parents=True)
    (cache / "manifest.json").write_text('{"size": 8, "data_hash": "x"}')
    np.save(cache / "real.npy", np.zeros((5, 8, 8, 3), np.uint8))
    assert ask()[0] == 0
    os.truncate(cache / "real.npy", 500)
    says(ask()[1], "FIX", cache.name, "damaged", "rm -r")
    (cache / "manifest.json").write_text("{}")
    np.save(cache / "real.npy", np.zeros((5, 8, 8, 3), np.uint8))
    says(ask()[1], "FIX", cache.name, "damaged", "rm -r")


def test_what_a_crash_left(ask, tmp_path):
    run = tmp_path / "results/quick/runs/unet/seed0"
    run.mkdir(parents=True)
    (run / "checkpoint.pt").write_bytes(b"half of it")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f"data/cache/.embedded-32-x.{ended.pid}").mkdir(parents=True)
    _, lines = ask()
    says(lines, "FIX", "checkpoint.pt", "damaged", "rm ")
    says(lines, "note", "unfinished", run, "goes on")
    says(lines, "note", f".{ended.pid}", "rm -r")


def test_a_folder_that_does_not_answer(own_set, monkeypatch, capsys):
    """Reading a pipe that nobody writes to waits forever, as a dead network folder does."""
    list_of_files = own_set / "HCOCO/HCOCO_train.txt"
    list_of_files.unlink(missing_ok=True)
    os.mkfifo(list_of_files)
    monkeypatch.setattr(doctor, "SECONDS", 2)
    monkeypatch.setattr(packages, "TRIED", (("numpy",),))
    monkeypatch.setattr(packages, "_device", lambda told: ("ok", "not looked at"))
    assert doctor.run(str(own_set)) == 1
    says(capsys.readouterr().out.splitlines(), "FIX", "data: no answer in time", "network folder")


def test_other_commands_send_one_to_the_doctor(checkout):
    venv.create(checkout / "other", with_pip=False, symlinks=True)
    command = [checkout / "other/bin/python", "-m", "harmonylib", "plan", "--profile", "smoke", "--data", "embedded"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "doctor" in done.stderr

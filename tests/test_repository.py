"""The repository: what is declared twice agrees, and nothing in it comes from one machine."""

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib", "python-build": "build"}
CONDA_ONLY = {"python", "pip", "nodejs"}
# two studies, twelve networks; 530 render scenes, 1,600 make and check real data, 1,200 are for others' pictures,
# 600 find out why it does not work, 600 are for many machines, 450 for interruptions and files from strangers
LINES_OF_CODE = 11_950
LONGEST = 300  # of a file: one subject, read in one sitting


def locked() -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.lock").read_text().splitlines()]
    requirements = [Requirement(line) for line in lines if line]
    return {canonicalize_name(r.name): str(r.specifier) for r in requirements}


def files_of_the_repository() -> list[Path]:
    """What git tracks, or would."""
    ask = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        told = subprocess.run(ask, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in told.split("\0") if name and (path := ROOT / name).is_file()]


def test_the_lock_pins_every_package_exactly():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == len(locked()) > 20
    for name, specifier in locked().items():
        assert re.fullmatch(r"==[\w.+!]+", specifier), f"{name} {specifier}"


def test_the_lock_needs_no_address():
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        assert not re.search(r"://|\s@\s|^-|\+cpu|\+cu\d", line), line


def test_what_the_package_needs_is_in_the_lock():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = locked()
    for text in (*project["dependencies"], *project["optional-dependencies"]["dev"]):
        needed = Requirement(text)
        pin = pins[canonicalize_name(needed.name)].removeprefix("==")
        assert needed.specifier.contains(pin), f"{text}, but the lock has {pin}"


def test_what_the_package_imports_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = [text for extra, texts in project["optional-dependencies"].items() if extra != "dev" for text in texts]
    declared = {canonicalize_name(Requirement(text).name) for text in (*project["dependencies"], *optional)}
    # None: there wherever a notebook runs, in Jupyter or in Colab
    distributions = {
        "PIL": "pillow",
        "skimage": "scikit-image",
        "IPython": None,
        "jupyter_core": None,
        "nbformat": None,
        "google": None,
    }
    imports = re.compile(r"^\s*(?:from|import) (\w+)", re.MULTILINE)
    for path in (ROOT / "harmonylib").rglob("*.py"):
        code = re.sub(r'(?s)""".*?"""', "", path.read_text(encoding="utf-8"))
        for name in imports.findall(code):
            distribution = distributions.get(name, name)
            if name not in sys.stdlib_module_names and name != "harmonylib" and distribution:
                assert canonicalize_name(distribution) in declared, f"{path.name} imports {name}"


def conda() -> dict[str, str]:
    """name -> version of environment.yml: ``- name=version`` for conda, ``- name==version`` under ``- pip:``."""
    listed = (ROOT / "environment.yml").read_text().split("dependencies:", 1)[1]
    items = [item.strip("'\"") for item in re.findall(r"^\s*-\s+([^\s;#]+)", listed, re.MULTILINE)]
    pairs = [re.fullmatch(r"([\w.-]+?)(?:={1,2}([\w.*+]+)|[<>!~].*|:)?", item).groups() for item in items]
    return {canonicalize_name(name): version for name, version in pairs}


def test_conda_and_pip_install_the_same():
    pins, checked = locked(), 0
    for name, version in conda().items():
        if name in CONDA_ONLY:
            continue
        name = CONDA_NAMES.get(name, name)
        assert name in pins, f"environment.yml names {name}, the lock does not"
        assert pins[name] == f"=={version}", f"{name}: environment.yml has {version}, the lock {pins[name]}"
        checked += 1
    assert checked >= 10


def test_conda_names_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {CONDA_NAMES.get(name, name) for name in conda()}
    for text in (*project["dependencies"], *project["optional-dependencies"]["dev"]):
        assert canonicalize_name(Requirement(text).name) in named, text


def test_continuous_integration_runs_make_test():
    script = (ROOT / ".ci/run").read_text()
    assert re.search(r"^\s*make test\s*$", script, re.MULTILINE)
    assert "set -e" in script


def test_notebook_runs_of_pytest_find_the_hook_for_nbval():
    """pytest reads tests/conftest.py for notebooks/*.ipynb only where it is told to."""
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    runs = [line for line in makefile.splitlines() if "-m pytest" in line and "--nbval" in line]
    assert runs
    in_root = (ROOT / "conftest.py").is_file() and "skip_compare" in (ROOT / "conftest.py").read_text()
    assert in_root or all("-p tests.conftest" in line for line in runs)


def test_no_file_holds_a_path_of_this_machine():
    own = "|".join(
        re.escape(str(folder)) for folder in {ROOT, Path.home()} if len(folder.parts) > 2 or folder == Path.home()
    )
    homes = r"/(?:home|Users)/[a-z][\w.-]*/"
    pattern = re.compile(rf"(?<![\w.])(?:(?:{own})(?![\w-])|{homes})")
    found = []
    for path in files_of_the_repository():
        content = path.read_bytes().decode("utf-8", "ignore")
        found += [f"{path.relative_to(ROOT)}: {hit.group()}" for hit in pattern.finditer(content)][:1]
    assert not found


def test_no_executed_notebook_holds_a_path_of_another_machine():
    """A path that a cell has printed: wherever the copy was executed, which need not be here."""
    pattern = re.compile(r"Path\('(?:/|[A-Z]:)[^']*'")
    found = [
        f"{path.relative_to(ROOT)}: {hit.group()}"
        for path in files_of_the_repository()
        if path.suffix == ".ipynb"
        for hit in pattern.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not found


def lines_of_code(path: Path) -> int:
    """Lines that hold code: no blank lines, no comments, no docstrings."""
    source = path.read_text(encoding="utf-8")
    documentation = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            documentation |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return len({token.start[0] for token in tokens if token.type not in layout} - documentation)


def test_the_package_stays_thin():
    lines = {path.relative_to(ROOT): lines_of_code(path) for path in (ROOT / "harmonylib").rglob("*.py")}
    total = sum(lines.values())
    longest = sorted(lines.items(), key=lambda item: -item[1])
    assert total < LINES_OF_CODE, f"{total} lines; the longest: {longest[:5]}"
    assert longest[0][1] < LONGEST, longest[:3]

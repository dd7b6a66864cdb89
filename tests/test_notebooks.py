"""The notebooks as they are committed: stripped, with one way in, and more argument than code."""

import ast
import json
import re
import sys
from pathlib import Path

import pytest
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).resolve().parent.parent
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAGIC = re.compile(r"^\s*[!%]")
CLONE = "!git -c advice.detachedHead=false clone -q --depth 1 {CHOSEN} https://github.com/{REPO} /content/companion"

pytestmark = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell) -> str:
    return "".join(cell["source"])


def code_cells(path) -> list[dict]:
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def parsed(cell) -> ast.Module:
    return ast.parse(re.sub(r"(?m)^(\s*)[!%].*$", r"\1pass", source(cell)))


def parameters(path) -> list[str]:
    return [
        target.id
        for node in parsed(code_cells(path)[0]).body
        if isinstance(node, ast.Assign)
        for target in node.targets
    ]


def test_kernel(path):
    notebook = read(path)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["nbformat"] == 4
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids))


def test_colab_gives_a_gpu_to_those_that_train(path):
    metadata = read(path)["metadata"]
    trains = path.name.startswith(("03", "04", "05"))
    assert metadata.get("accelerator") == ("GPU" if trains else None)
    assert metadata.get("colab", {}).get("gpuType") == ("T4" if trains else None)


def test_nothing_newer_than_the_oldest_python(path):
    """Colab's IPython 7.34 turns a line with ! into a call, as every later one does; the rest is Python 3.11."""
    for cell in code_cells(path):
        code = TransformerManager().transform_cell(source(cell))
        ast.parse(code, feature_version=(3, 11))
        assert code.count("get_ipython()") == source(cell).count(CLONE)


def test_stripped(path):
    for cell in code_cells(path):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


def test_begins_with_a_title_and_the_parameters(path):
    first = read(path)["cells"][0]
    assert first["cell_type"] == "markdown"
    assert source(first).startswith("# ")
    tagged = [i for i, cell in enumerate(code_cells(path)) if "parameters" in cell["metadata"].get("tags", [])]
    assert tagged == [0]
    assert parameters(path)[:3] == ["PROFILE", "DATA", "DRIVE"]


def test_every_parameter_is_used(path):
    later = {node.id for cell in code_cells(path)[1:] for node in ast.walk(parsed(cell)) if isinstance(node, ast.Name)}
    assert set(parameters(path)) <= later


def test_the_makefile_sets_parameters_that_exist(path):
    makefile = (ROOT / "Makefile").read_text()
    given = re.findall(r"\s-p ([A-Z_]+) \$", makefile)
    assert given
    assert set(given) <= set(parameters(path))


def test_one_way_in(path):
    assert source(code_cells(path)[1]) == source(code_cells(PATHS[0])[1])


def test_colab_without_a_repository_says_what_to_do(path, monkeypatch, tmp_path):
    bootstrap = source(code_cells(path)[1])
    assert CLONE in bootstrap
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    code = bootstrap.replace(CLONE, "raise AssertionError('it cloned')").replace("/content", str(tmp_path / "content"))
    with pytest.raises(SystemExit) as left:
        exec(compile(re.sub(r"(?m)^REPO = .*$", 'REPO = ""', code), path.name, "exec"), {})
    message = str(left.value.code)
    assert "REPO" in message
    assert "\n" not in message


def test_outside_colab_the_bootstrap_finds_the_checkout(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    names = {}
    exec(
        compile(source(code_cells(path)[1]).replace(CLONE, "raise AssertionError('it cloned')"), path.name, "exec"),
        names,
    )
    assert names["ROOT"] == ROOT
    assert sys.path[0] == str(ROOT)
    assert sys.path.count(str(ROOT)) == 1


def test_only_the_guarded_clone_is_no_python(path):
    lines = [(i, line.strip()) for i, cell in enumerate(code_cells(path)) for line in source(cell).splitlines()]
    magics = [(i, line) for i, line in lines if MAGIC.match(line)]
    assert magics == [(1, CLONE)]


def test_calls_and_not_machinery(path):
    lengths = []
    for cell in code_cells(path):
        tree = parsed(cell)
        assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(tree))
        lengths.append(len(source(cell).strip().splitlines()))
    assert max(lengths) <= 30
    assert sorted(lengths)[len(lengths) // 2] <= 8


def test_more_argument_than_code(path):
    words = sum(len(source(cell).split()) for cell in read(path)["cells"] if cell["cell_type"] == "markdown")
    lines = sum(len(source(cell).splitlines()) for cell in code_cells(path))
    assert words >= lines


def test_links_lead_to_notebooks_that_are_there(path):
    text = "".join(source(cell) for cell in read(path)["cells"] if cell["cell_type"] == "markdown")
    for target in re.findall(r"\]\((?!https:)([^)#]+\.ipynb)\)", text):
        assert (path.parent / target).is_file(), target


def test_a_folder_may_be_the_data(path, tiny_set, monkeypatch, tmp_path, capsys):
    """Whatever notebook is run on it, its records go to, and are read from, the same place."""
    monkeypatch.chdir(path.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    names = {"PROFILE": "smoke", "DATA": str(tiny_set)}
    for cell in code_cells(path)[1:3]:
        exec(compile(source(cell).replace(CLONE, "pass"), path.name, "exec"), names)
    opened = names.get("study") or names["evidence"]
    assert opened.results == tmp_path / "results" / "smoke-tiny"

"""Colab: the links that `make badges` writes, the first cell on a machine with nothing but a clone, and Drive."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from colab import badges, machine, trials
from harmonylib import paths

ROOT = Path(__file__).resolve().parent.parent
NAMES = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
LINK = re.compile(
    r"\[!\[Open In Colab\]\(https://colab\.research\.google\.com/assets/colab-badge\.svg\)\]"
    r"\(https://colab\.research\.google\.com/github/([\w-]+/[\w.-]+)/blob/([\w./-]+)/(notebooks/[\w.-]+\.ipynb)\)"
)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """README and notebooks, as committed."""
    (tmp_path / "checkout").mkdir()
    shutil.copy(ROOT / "README.md", tmp_path / "checkout")
    shutil.copytree(ROOT / "notebooks", tmp_path / "checkout" / "notebooks")
    return tmp_path / "checkout"


def texts(checkout) -> dict[str, str]:
    paths = [checkout / "README.md", *sorted(checkout.glob("notebooks/*.ipynb"))]
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


def cells(checkout, name, kind="code") -> list[str]:
    content = json.loads((checkout / "notebooks" / name).read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == kind]


def plain(text: str) -> str:
    """A file without what `make badges` writes into it."""
    text = re.sub(r'"((?:REPO|BRANCH) = )\\"[^"]*\\"', r'"\1\"\"', text)
    text = re.sub(rf'    "{LINK.pattern}\\n",\n    "\\n",\n', "", text)
    return re.sub(f" {LINK.pattern}", "", text)


class TestBadges:
    def test_every_notebook_has_one_link_that_leads_to_it(self, checkout):
        badges.write(checkout, "owner/some.name")
        for name in NAMES:
            expected = [("owner/some.name", "main", f"notebooks/{name}")]
            assert LINK.findall("".join(cells(checkout, name, "markdown"))) == expected
            assert (checkout / expected[0][2]).is_file()

    def test_readme_links_every_notebook_in_its_own_row(self, checkout):
        badges.write(checkout, "owner/name")
        rows = [line for line in texts(checkout)["README.md"].splitlines() if LINK.search(line)]
        assert [LINK.findall(row) for row in rows] == [[("owner/name", "main", f"notebooks/{n}")] for n in NAMES]
        for name, row in zip(NAMES, rows, strict=True):
            assert re.match(rf"\| \[[^]]+\]\(notebooks/{name}\) \[!\[", row)
            assert row.count(" | ") == 1

    def test_the_notebooks_clone_what_the_links_show(self, checkout):
        badges.write(checkout, "owner/name", "v1.0")
        for name in NAMES:
            assert '\nREPO = "owner/name"\nBRANCH = "v1.0"\n' in cells(checkout, name)[1]
            assert LINK.search(cells(checkout, name, "markdown")[0])[2] == "v1.0"

    def test_again_changes_nothing_and_another_repository_replaces(self, checkout):
        assert len(badges.write(checkout, "one/first")) == len(NAMES) + 1
        once = texts(checkout)
        assert badges.write(checkout, "one/first") == []
        badges.write(checkout, "two/second", "dev")
        assert not any("one/first" in text for text in texts(checkout).values())
        badges.write(checkout, "one/first")
        assert texts(checkout) == once

    def test_nothing_else_changes(self, checkout):
        before = texts(checkout)
        badges.write(checkout, "owner/name")
        after = texts(checkout)
        assert {name: plain(text) for name, text in after.items()} == {name: plain(t) for name, t in before.items()}

    @pytest.mark.parametrize(
        ("repo", "branch"),
        [
            ("", ""),
            ("name", ""),
            ("a/b/c", ""),
            ("https://github.com/owner/name", ""),
            ("owner/name.git", ""),
            ("owner/..", ""),
            ("a-/name", ""),
            ("owner/-name", ""),
            ("-owner/name", ""),
            ('owner/na"me', ""),
            ("owner/na me", ""),
            ("owner/name\n", ""),
            ("owner/name", "--upload-pack=x"),
            ("owner/name", "a b"),
            ("owner/name", "a..b"),
            ("owner/name", "a//b"),
            ("owner/name", "a.lock/b"),
        ],
    )
    def test_refuses_in_one_line_and_touches_nothing(self, checkout, repo, branch):
        before = texts(checkout)
        with pytest.raises(badges.Refused) as told:
            badges.write(checkout, repo, branch)
        assert "\n" not in str(told.value)
        assert "make badges REPO=owner/name" in str(told.value)
        assert texts(checkout) == before

    def test_a_file_without_a_place_for_its_badge(self, checkout):
        (checkout / "README.md").write_text("# nothing\n")
        before = texts(checkout)
        with pytest.raises(badges.Refused, match="README"):
            badges.write(checkout, "owner/name")
        assert texts(checkout) == before

    @pytest.mark.skipif(not shutil.which("make"), reason="needs make")
    def test_make_refuses_with_exit_code_2(self):
        for given in ([], ["REPO=x"]):
            done = subprocess.run(["make", "-s", "badges", *given], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 2
            assert done.stderr.startswith("REPO")


SESSION = """
import os, sys, types
from IPython.core.interactiveshell import InteractiveShell

import google.colab

shell = InteractiveShell.instance()
os.makedirs("content", exist_ok=True)
for cell in sys.argv[1:]:
    os.chdir(os.environ["MACHINE"])
    result = shell.run_cell(cell.replace("/content", os.environ["MACHINE"] + "/content"))
    if not result.success:
        sys.exit(f"{type(result.error_in_exec).__name__}: {result.error_in_exec}")
root = os.environ["MACHINE"] + "/content/companion"
at_home = os.path.realpath(os.getcwd()) == os.path.realpath(root + "/notebooks")
print("RESULT", at_home, sys.path.count(root), sys.path[0])
"""


@pytest.fixture
def session(tmp_path):
    """Runs cells in an IPython without this project, with a stand-in for `google.colab` and for GitHub's owner/name."""
    source = tmp_path / "source"
    (source / "notebooks").mkdir(parents=True)
    (source / "harmonylib").mkdir()
    for name in ("pyproject.toml", "harmonylib/__init__.py", "harmonylib/paths.py", "harmonylib/errors.py"):
        shutil.copy(ROOT / name, source / name)
    shutil.copy(ROOT / "notebooks" / NAMES[0], source / "notebooks")
    git = ["git", "-c", "user.name=o", "-c", "user.email=o@example.org", "-c", "init.defaultBranch=main"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"], ["branch", "other"]):
        subprocess.run([*git, *words], cwd=source, check=True)
    subprocess.run([*git, "clone", "-q", "--bare", source, tmp_path / "github/owner/name"], check=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HARMONY_", "GIT_"))} | {
        "MACHINE": str(tmp_path / "machine"),
        "PYTHONPATH": str(ROOT / "colab" / "stand_in"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{tmp_path}/github/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
        "HOME": str(tmp_path),
    }
    (tmp_path / "machine" / "content").mkdir(parents=True)

    def run(*cells: str, **more: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", SESSION, *cells]
        return subprocess.run(
            command, cwd=tmp_path / "machine", env=environment | more, capture_output=True, text=True, timeout=120
        )

    return run


def bootstrap(repo: str = "owner/name", branch: str = "", drive: bool = False) -> str:
    code = re.sub(r'(?m)^REPO = "[^"]*"', f'REPO = "{repo}"', cells(ROOT, NAMES[0])[1])
    return f"DRIVE = {drive}\n" + re.sub(r'(?m)^BRANCH = "[^"]*"', f'BRANCH = "{branch}"', code)


class TestFirstCell:
    def test_it_clones_once_and_may_run_again(self, session, tmp_path):
        done = session(bootstrap(), bootstrap())
        assert done.returncode == 0, done.stderr
        companion = tmp_path / "machine" / "content" / "companion"
        assert f"RESULT True 1 {companion}" in done.stdout
        (companion / "kept").touch()
        assert session(bootstrap()).returncode == 0  # a new kernel on the same disk
        assert (companion / "kept").is_file()

    def test_a_branch(self, session, tmp_path):
        assert session(bootstrap(branch="other")).returncode == 0
        head = tmp_path / "machine" / "content" / "companion" / ".git" / "HEAD"
        assert head.read_text().strip() == "ref: refs/heads/other"

    def test_a_repository_that_is_not_there(self, session):
        done = session(bootstrap("owner/other"))
        assert "SystemExit: Colab: could not clone owner/other" in done.stderr.splitlines()[-1]

    def test_drive_only_when_asked(self, session, tmp_path):
        (tmp_path / "drive").mkdir()
        show = "import os; print('NOW', os.environ.get('HARMONY_RESULTS'))"
        done = session(bootstrap(), show, SIMULATED_DRIVE=str(tmp_path / "drive"))
        assert "NOW None" in done.stdout
        assert list((tmp_path / "drive").iterdir()) == []
        assert not (tmp_path / "machine" / "content" / "drive").exists()


@pytest.fixture
def drive(monkeypatch, tmp_path) -> Path:
    """A Drive that the stand-in mounts; returns its folder."""
    for name in [name for name in sys.modules if name == "google" or name.startswith("google.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(ROOT / "colab" / "stand_in"))
    monkeypatch.setattr(paths, "MY_DRIVE", tmp_path / "mounted" / "MyDrive")
    monkeypatch.setenv("SIMULATED_DRIVE", str(tmp_path / "drive"))
    monkeypatch.delenv("HARMONY_RESULTS")
    (tmp_path / "drive").mkdir()
    yield tmp_path / "drive"
    for name in [name for name in sys.modules if name == "google" or name.startswith("google.")]:
        del sys.modules[name]


class TestDrive:
    def test_results_go_there_and_come_back(self, drive, capsys):
        for _ in range(2):
            paths.keep_on_drive(True)
            assert paths.results_dir("t4").resolve() == drive / "harmony-companion" / "t4"
        assert "Drive already mounted" in capsys.readouterr().out
        paths.keep_on_drive(False)
        assert paths.results_dir("t4") == ROOT / "results" / "t4"

    def test_without_being_asked_nothing_is_mounted(self, drive, monkeypatch):
        paths.keep_on_drive(False)
        monkeypatch.setenv("HARMONY_RESULTS", "elsewhere")
        paths.keep_on_drive(False)
        assert os.environ["HARMONY_RESULTS"] == "elsewhere"
        assert list(drive.iterdir()) == []
        assert not paths.MY_DRIVE.exists()

    def test_without_consent_nothing_is_written_elsewhere(self, drive, monkeypatch):
        monkeypatch.delenv("SIMULATED_DRIVE")
        with pytest.raises(ValueError, match="mount failed"):
            paths.keep_on_drive(True)
        assert "HARMONY_RESULTS" not in os.environ
        assert not paths.MY_DRIVE.exists()


class TestSimulation:
    def test_it_has_the_versions_that_the_kernel_needs(self):
        pins = dict(pin.split("==") for pin in machine.pins())
        assert (pins["ipython"], pins["ipykernel"]) == ("7.34.0", "6.17.1")
        assert len(pins) == len(machine.pins()) > 30

    def test_ticking_the_box(self):
        path = ROOT / "notebooks" / NAMES[2]
        ticked, plain = trials.code(path, drive=True), trials.code(path)
        assert [i for i, (a, b) in enumerate(zip(ticked, plain, strict=True)) if a != b] == [0]
        assert "\nDRIVE = True  # @param" in ticked[0]

    def test_the_table_is_of_all_notebooks_on_both_pythons(self):
        import pandas as pd

        table = pd.read_csv(ROOT / "results/colab/colab.csv")
        minors = {".".join(version.split(".")[:2]) for version in table["python"].astype(str)}
        assert minors == {"3.12", "3.13"}
        for _, runs in table.groupby("python"):
            assert sorted(set(runs["notebook"])) == [Path(name).stem for name in NAMES]
            assert (runs.groupby("notebook")["run"].nunique() >= 3).all()
        assert table["passed"].all()
        assert f"all {len(table)} runs of the seven notebooks" in (ROOT / "README.md").read_text(encoding="utf-8")

"""``python -m harmonylib.scrub FROM TO``: an executed notebook without paths, times and runner's metadata."""

import sys
import warnings
from pathlib import Path

import nbformat

from harmonylib.cli import exit_code
from harmonylib.errors import HarmonyError, one_line
from harmonylib.paths import ROOT, whole_file
from harmonylib.reading import DAMAGE, content

MOST = 1 << 26  # bytes of a notebook
THINGS = 1_000_000  # in it, by the marks between them; each takes hundreds of bytes, and ours have thousands
WIDGET = "application/vnd.jupyter.widget-view+json"  # means nothing without the kernel that made it


def scrub(source: str, target: str) -> None:
    """Raises HarmonyError where the source is no notebook; the target appears when it is whole."""
    try:
        warnings.simplefilter("ignore")  # nbformat's, of cells without names
        read = content(source, MOST)
        if sum(map(read.count, (b"{", b"[", b","))) > THINGS:
            raise ValueError(f"more than {THINGS:,} values")
        notebook = nbformat.reads(read.decode("utf-8"), as_version=4)
        text = _scrubbed(notebook).encode()
    except (nbformat.ValidationError, AssertionError, NameError, *DAMAGE) as error:
        raise HarmonyError(
            f"{source}: no notebook ({one_line(error) or type(error).__name__}); execute it again"
        ) from None
    with whole_file(Path(target)) as file:
        file.write(text)


def _scrubbed(notebook: nbformat.NotebookNode) -> str:
    for cell in notebook.cells:  # what goes to stderr are other packages' warnings, with paths of this machine
        cell["outputs"] = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
        cell["outputs"] = [output for output in cell["outputs"] if WIDGET not in output.get("data", {})]
        if cell.cell_type != "code":
            del cell["outputs"]
    for part in (notebook, *notebook.cells):
        for key in ("papermill", "widgets", "execution"):
            part.metadata.pop(key, None)
    return nbformat.writes(notebook).replace(str(ROOT) + "/", "").replace(str(ROOT), ".") + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("scrub: give the executed notebook, and the file to write")
    raise SystemExit(exit_code(lambda: scrub(*sys.argv[1:3])))

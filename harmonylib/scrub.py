"""``python -m harmonylib.scrub FROM TO``: an executed notebook without paths, times and runner's metadata."""

import sys

import nbformat

from harmonylib.paths import ROOT

WIDGET = "application/vnd.jupyter.widget-view+json"  # means nothing without the kernel that made it


def scrub(source: str, target: str) -> None:
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells:  # what goes to stderr are other packages' warnings, with paths of this machine
        cell["outputs"] = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
        cell["outputs"] = [output for output in cell["outputs"] if WIDGET not in output.get("data", {})]
        if cell.cell_type != "code":
            del cell["outputs"]
    for part in (notebook, *notebook.cells):
        for key in ("papermill", "widgets", "execution"):
            part.metadata.pop(key, None)
    text = nbformat.writes(notebook).replace(str(ROOT) + "/", "").replace(str(ROOT), ".")
    with open(target, "w", encoding="utf-8") as file:
        file.write(text + "\n")


if __name__ == "__main__":
    scrub(*sys.argv[1:])

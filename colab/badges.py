"""Links that open the notebooks in Colab, into README and notebooks: make badges REPO=owner/name [BRANCH=main]

    python -m colab.badges owner/name [BRANCH]

Run again with another repository, they are replaced. The notebooks clone what REPO names, in their first code cell.
"""

import json
import re
import sys
from pathlib import Path

from colab import NOTEBOOKS, ROOT

OWNER, NAME = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,37}[A-Za-z0-9])?", r"[A-Za-z0-9._][A-Za-z0-9._-]{0,99}"
REF = r"[A-Za-z0-9_][A-Za-z0-9._/-]*"
IMAGE = "https://colab.research.google.com/assets/colab-badge.svg"
LINK = "https://colab.research.google.com/github/{repo}/blob/{branch}/{path}"
BADGE = re.compile(r"\[!\[Open In Colab\]\([^)]*\)\]\([^)]*\)")
USAGE = "make badges REPO=owner/name [BRANCH=main]"


class Refused(Exception):
    """One line that says what is wrong and what to do."""


def badge(repo: str, branch: str, path: str) -> str:
    return f"[![Open In Colab]({IMAGE})]({LINK.format(repo=repo, branch=branch, path=path)})"


def write(root: Path, repo: str, branch: str = "") -> list[Path]:
    """Put links and repository into the README and the notebooks under `root`; returns the files that changed.

    branch: that is linked to and cloned; "": links to ``main``, and the repository's default branch is cloned. Raises
    Refused, before anything is written, where a name is malformed or a file has no place for its badge.
    """
    check(repo, branch)
    paths = sorted((root / NOTEBOOKS).glob("*.ipynb"))
    texts = {root / "README.md": readme((root / "README.md").read_text(encoding="utf-8"), paths, repo, branch)}
    texts |= {path: notebook(path.read_text(encoding="utf-8"), path.name, repo, branch) for path in paths}
    changed = [path for path, text in texts.items() if path.read_text(encoding="utf-8") != text]
    for path in changed:
        path.write_bytes(texts[path].encode())
    return changed


def check(repo: str, branch: str) -> None:
    if not repo:
        raise Refused(f"REPO: none given; say where the repository is on GitHub: {USAGE}")
    if not re.fullmatch(f"{OWNER}/{NAME}", repo) or repo.endswith((".git", "/.", "/..")):
        raise Refused(f"REPO={repo!r}: no repository of GitHub; write owner/name: {USAGE}")
    if branch and (not re.fullmatch(REF, branch) or re.search(r"\.\.|//|/\.|\.lock(/|$)|[/.]$", branch)):
        raise Refused(f"BRANCH={branch!r}: no name of a branch or tag; {USAGE}")


def readme(text: str, paths: list[Path], repo: str, branch: str) -> str:
    """A badge behind each notebook's link in the first column of the table."""
    for path in paths:
        name = f"{NOTEBOOKS}/{path.name}"
        row = re.compile(rf"^(\| \[[^\]\n]*\]\({re.escape(name)}\))(?: {BADGE.pattern})?(?= \|)", re.MULTILINE)
        found = row.search(text)
        if found is None:
            raise Refused(f"README.md: no row of a table begins with a link to {name}; add one")
        text = f"{text[: found.start()]}{found[1]} {badge(repo, branch or 'main', name)}{text[found.end() :]}"
    return text


def notebook(text: str, name: str, repo: str, branch: str) -> str:
    """A badge below the title, and the repository in the cell that clones it. Everything else keeps its bytes."""
    content = json.loads(text)
    title, *code = [cell for cell in content["cells"] if cell["cell_type"] == "code" or cell is content["cells"][0]]
    head, _, rest = "".join(title["source"]).partition("\n")
    rest = BADGE.sub("", rest, count=1).strip("\n")
    _set(title, f"{head}\n\n{badge(repo, branch or 'main', f'{NOTEBOOKS}/{name}')}\n\n{rest}")
    clones = [cell for cell in code if any(line.startswith("REPO = ") for line in cell["source"])]
    if title["cell_type"] != "markdown" or len(clones) != 1:
        raise Refused(f"{name}: it needs a title in Markdown, and one cell with a line REPO = ...")
    source = "".join(clones[0]["source"])
    for key, value in {"REPO": repo, "BRANCH": branch}.items():
        source = re.sub(rf'(?m)^{key} = "[^"\n]*"', f'{key} = "{value}"', source)
    _set(clones[0], source)
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _set(cell: dict, text: str) -> None:
    cell["source"] = text.splitlines(keepends=True)


def main(arguments: list[str]) -> int:
    try:
        changed = write(ROOT, *(argument.strip() for argument in arguments[:2] or [""]))
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 2
    for path in changed:
        print(path.relative_to(ROOT))
    print(f"{len(changed)} files changed{'; commit and push them, then the links work' if changed else ''}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

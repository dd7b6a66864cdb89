"""The dialogs that move files between the reader's computer and the machine."""

from pathlib import Path


def upload() -> dict[str, bytes]:
    return {}  # nobody chose a file


def download(filename: str) -> None:
    """Raises FileNotFoundError where there is no such file, as Colab does."""
    if not Path(filename).is_file():
        raise FileNotFoundError(f"Cannot find file: {filename}")

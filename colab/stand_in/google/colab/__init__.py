"""A stand-in for Colab's own package: what the project calls of it, with nobody at the browser."""

from google.colab import drive, files, output


def load_ipython_extension(shell) -> None:
    """Colab's kernel is a class of this package, so that it is imported before the first cell; here it is so."""


__all__ = ["drive", "files", "output"]

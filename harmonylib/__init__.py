"""harmonylib: the thin package behind the notebooks of harmony-companion.

The modules follow the data: data sets -> compositing -> models -> training -> evaluation -> reporting.
They are imported on first use (``import harmonylib as hl; hl.metrics.score(...)``), so that
``python -m harmonylib --help`` does not wait for torch.
"""

import warnings
from importlib import import_module

# tqdm says so, through accelerate, in every notebook without ipywidgets; no bar here is a widget.
warnings.filterwarnings("ignore", message="IProgress not found")

__version__ = "0.1.0"


def __getattr__(name: str):
    if name.startswith("_"):
        raise AttributeError(name)
    if name == "harmonize":  # a function; everything else is a module
        return import_module("harmonylib.fullres").harmonize
    try:
        return import_module(f"harmonylib.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"harmonylib.{name}":
            raise
        raise AttributeError(f"module 'harmonylib' has no attribute {name!r}") from None

"""Data sets: the rungs of the ladder, one layout on disk, one loader, one cache.

``open_dataset`` and ``HarmonyDataset`` are imported on first use, because they bring torch with them.
"""

import os
import sys

_IPYTHON = sys.modules.get("IPython")
_NOTEBOOK = _IPYTHON is not None and _IPYTHON.get_ipython() is not None
# What tqdm is told (None: only on a terminal): bars are for people, if they are wanted, and a file needs none.
QUIET = bool(os.environ.get("TQDM_DISABLE")) or (False if _NOTEBOOK else None)


def __getattr__(name: str):
    if name in ("HarmonyDataset", "open_dataset"):
        from harmonylib.data import dataset

        return getattr(dataset, name)
    raise AttributeError(f"module 'harmonylib.data' has no attribute {name!r}")

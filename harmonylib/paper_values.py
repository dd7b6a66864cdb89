"""The numbers that the two papers print, and what the papers leave open.

Papers: ``s2am_t4`` ("Image Harmonization via Spatially Separated Attention Modules") and ``lemart`` ("LEMaRT:
Label-Efficient Masked Region Transform for Image Harmonization"). Values are as printed, on the scale and the protocol
of the paper, which neither of them states; they stand beside ours and are not ranked with them.
"""

from functools import lru_cache
from pathlib import Path

import pandas as pd

from harmonylib.errors import HarmonyError

_FOLDER = Path(__file__).parent


def load() -> pd.DataFrame:
    """All printed numbers: columns paper, table, subset, metric, method (str) and value (float).

    ``table`` is table1..table6, figure6, settings (training and data), or text_<section> for numbers in the prose.
    ``method`` carries its variant: ``swinih+lemart`` is pre-trained, ``lemart/grid`` a mask strategy, ``lemart/30`` a
    mask ratio in percent; in figure6 and in the prose ``/50`` is the share of fine-tuning data in percent and
    ``s2am/epoch1`` an epoch. ``*_gain`` is positive where pre-training (or the method) is better; ``*_delta`` of
    lemart's table1 is the signed change from the best earlier method.
    """
    return _read().copy()


@lru_cache
def _read() -> pd.DataFrame:
    return pd.read_csv(_FOLDER / "paper_values.csv", keep_default_na=False, dtype={"value": float})


def value(paper: str, table: str, metric: str, method: str, subset: str | None = None) -> float:
    """The one printed number with these keys; ``subset`` may be left out where only one subset has it.

    Raises HarmonyError if no row or more than one row matches.
    """
    keys = {"paper": paper, "table": table, "metric": metric, "method": method, "subset": subset}
    keys = {column: key for column, key in keys.items() if key is not None}
    rows = load()
    for column, key in keys.items():
        rows = rows[rows[column] == key]
    if len(rows) == 1:
        return float(rows["value"].iloc[0])
    told = ", ".join(f"{column}={key}" for column, key in keys.items())
    if rows.empty:
        raise HarmonyError(f"printed value {told}: there is none; see harmonylib.paper_values.load() for all of them")
    raise HarmonyError(f"printed value {told}: {len(rows)} rows match; name one subset of {', '.join(rows['subset'])}")


def open_questions() -> pd.DataFrame:
    """What the papers leave open: columns paper, statement, place, why, choice and option (all str).

    ``why`` says why the statement cannot be taken as it stands, ``option`` what changes our choice.
    """
    return pd.read_csv(_FOLDER / "open_questions.csv", keep_default_na=False, dtype=str)

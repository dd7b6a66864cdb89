"""User studies: from "this one of the two looks better" to a score for each method.

Bradley-Terry: method i beats j with probability 1 / (1 + exp(s_j - s_i)). LEMaRT and most of the field report such
scores and publish no code. Fitted by `choix`; the intervals resample pictures, whose difficulty all their votes share.
"""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import connected_components

from harmonylib.errors import HarmonyError, one_line
from harmonylib.paths import whole_file
from harmonylib.reading import read_table

COLUMNS = ("winner", "loser")
ADVICE = "a row holds winner, loser and picture"  # and may hold tie, sitting
RESAMPLES = 1000
METHODS, PICTURES = 100, 100_000  # a resample of more takes seconds: there are a thousand
MOST = 50_000_000  # comparisons counted: pictures times pairs of methods
BLOCK = 10_000_000  # pictures drawn at once, of all resamples
PRIOR = 0.01  # of choix's regularisation: a method that never lost has a finite score


def read(path: str | Path) -> pd.DataFrame:
    """Votes: columns winner, loser and, if there, picture and tie ("yes": no difference).

    Raises HarmonyError: no such file, no table, a bad vote.
    """
    votes = read_table(path, COLUMNS, ADVICE, dtype=str, keep_default_na=False, skipinitialspace=True)
    bad = (votes["winner"] == votes["loser"]) | (votes[list(COLUMNS)] == "").any(axis=1)
    if bad.any():
        raise HarmonyError(f"{path}, line {bad.idxmax() + 2}: a vote names two different methods")
    if votes.empty:
        raise HarmonyError(f"{path}: no votes in it; {ADVICE}")
    return votes


def keep(text: str, path: str | Path) -> None:
    """Add the votes of one sitting, CSV as notebook 07's tool sends it, to a file; they replace its own older ones.

    Nothing happens where nobody has voted.
    """
    if not text:
        return
    new, path = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False), Path(path)
    old = read_table(path, COLUMNS, ADVICE, dtype=str, keep_default_na=False) if path.is_file() else new[:0]
    sitting = old.get("sitting", pd.Series("", old.index))  # a file of somebody else's has none
    together = pd.concat([old[~sitting.isin(new["sitting"])], new])
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        together.to_csv(file, index=False, lineterminator="\n")


def scores(votes: pd.DataFrame, seed: int = 0, resamples: int = RESAMPLES) -> pd.DataFrame:
    """One row a method, best first: score, low, high (95 %, over pictures), votes, won (share).

    Scores have mean 0; a difference of 1 is a win in 73 % of votes. A tie is half a win for each. Votes without
    pictures count as one picture each; with a single picture the intervals are NaN. Raises HarmonyError where there
    are too many methods or pictures, two groups of methods were never compared with each other, the votes are too few
    for scores, or choix is missing.
    """
    methods = sorted({*votes["winner"], *votes["loser"]})
    winner, loser = (pd.Categorical(votes[column], methods).codes for column in COLUMNS)
    picture = pd.factorize(votes.get("picture", votes.index))[0]
    count = picture.max() + 1
    if len(methods) > METHODS or count > PICTURES or count * len(methods) ** 2 > MOST:
        told = f"votes: {len(methods):,} methods on {count:,} pictures are too many to compare"
        raise HarmonyError(f"{told}; at most {METHODS} on {PICTURES:,}: keep the votes that are asked about")
    wins = np.zeros((count, len(methods), len(methods)))  # of one over another, picture by picture
    half = (votes.get("tie", pd.Series("", votes.index)) == "yes").to_numpy() / 2
    np.add.at(wins, (picture, winner, loser), 1 - half)
    np.add.at(wins, (picture, loser, winner), half)
    whole = wins.sum(0)
    _connected(whole + whole.T > 0, methods)
    rng = np.random.default_rng(seed)
    at_once, drawn = max(1, BLOCK // count), []
    for start in range(0, resamples if count > 1 else 0, at_once):  # bounds the memory
        often = rng.multinomial(count, np.full(count, 1 / count), min(at_once, resamples - start))
        drawn += [_fit(resample) for resample in np.tensordot(often, wins, 1)]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0) if drawn else np.full((2, len(methods)), np.nan)
    won, voted = whole.sum(1), whole.sum(0) + whole.sum(1)
    table = {"method": methods, "score": _fit(whole), "low": low, "high": high, "votes": voted.astype(int)}
    return pd.DataFrame(table | {"won": won / voted}).sort_values("score", ascending=False, ignore_index=True)


def _fit(wins: np.ndarray) -> np.ndarray:
    try:
        import choix
    except ImportError:
        raise HarmonyError("choix: not installed; scores of votes need it: pip install choix") from None
    try:
        return choix.ilsr_pairwise_dense(wins, alpha=PRIOR)
    except RuntimeError as error:  # it has a number of iterations
        told = f"votes: no scores of {len(wins)} methods ({one_line(error)})"
        raise HarmonyError(f"{told}; compare more pairs of them, or keep fewer methods") from None


def _connected(compared: np.ndarray, methods: list[str]) -> None:
    _, part = connected_components(compared, directed=False)
    apart = [name for name, number in zip(methods, part, strict=True) if number != part[0]]
    if apart:
        raise HarmonyError(f"votes: {', '.join(apart)} and {methods[0]} were never compared, not even through others")

"""User studies: from "this one of the two looks better" to a score for each method.

Bradley-Terry: method i beats j with probability 1 / (1 + exp(s_j - s_i)). LEMaRT and most of the field report such
scores and publish no code. Fitted by `choix`; the intervals resample pictures, whose difficulty all their votes share.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from harmonylib.errors import HarmonyError

COLUMNS = ("winner", "loser")
RESAMPLES = 1000
PRIOR = 0.01  # of choix's regularisation: a method that never lost has a finite score


def read(path: str | Path) -> pd.DataFrame:
    """Votes: columns winner, loser and, if there, picture and rater. Raises HarmonyError: no such file, table or vote."""
    try:
        votes = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except FileNotFoundError:
        raise HarmonyError(f"{path}: no such file; one row a vote, with columns winner, loser and picture") from None
    except (ValueError, OSError) as error:
        raise HarmonyError(f"{path}: not a table of votes ({' '.join(str(error).split())}); write it as CSV") from None
    missing = [column for column in COLUMNS if column not in votes]
    if missing:
        raise HarmonyError(f"{path}: lacks the column {missing[0]}; a row holds winner, loser and picture")
    bad = (votes["winner"] == votes["loser"]) | (votes[list(COLUMNS)] == "").any(axis=1)
    if bad.any():
        raise HarmonyError(f"{path}, line {bad.idxmax() + 2}: a vote names two different methods")
    if votes.empty:
        raise HarmonyError(f"{path}: no votes in it; a row holds winner, loser and picture")
    return votes


def scores(votes: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One row a method, best first: score, low, high (95 %, over pictures), votes, won (share).

    Scores have mean 0; a difference of 1 is a win in 73 % of votes. Intervals are NaN where the votes name fewer than
    two pictures. Raises HarmonyError where two groups of methods were never compared with each other, or choix is missing.
    """
    methods = sorted({*votes["winner"], *votes["loser"]})
    number = {name: i for i, name in enumerate(methods)}
    pairs = votes[list(COLUMNS)].map(number.get).to_numpy()
    _connected(pairs, methods)
    pictures = votes["picture"].to_numpy() if "picture" in votes else np.arange(len(votes)).astype(str)
    groups = [np.flatnonzero(pictures == name) for name in dict.fromkeys(pictures)]
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(RESAMPLES if len(groups) > 1 else 0):
        chosen = np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])
        drawn.append(_fit(pairs[chosen], len(methods)))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0) if drawn else np.full((2, len(methods)), np.nan)
    won, voted = np.bincount(pairs[:, 0], minlength=len(methods)), np.bincount(pairs.ravel(), minlength=len(methods))
    table = {"method": methods, "score": _fit(pairs, len(methods)), "low": low, "high": high, "votes": voted}
    return pd.DataFrame(table | {"won": won / voted}).sort_values("score", ascending=False, ignore_index=True)


def _fit(pairs: np.ndarray, methods: int) -> np.ndarray:
    try:
        import choix
    except ImportError:
        raise HarmonyError("choix: not installed; scores of votes need it: pip install choix") from None
    found = choix.opt_pairwise(methods, [tuple(pair) for pair in pairs.tolist()], alpha=PRIOR)
    return found - found.mean()


def _connected(pairs: np.ndarray, methods: list[str]) -> None:
    reached, new = {0}, {0}
    while new:
        new = {int(j) for pair in pairs for i, j in (pair, pair[::-1]) if i in reached} - reached
        reached |= new
    apart = [name for i, name in enumerate(methods) if i not in reached]
    if apart:
        raise HarmonyError(f"votes: {', '.join(apart)} and {methods[0]} were never compared, not even through others")

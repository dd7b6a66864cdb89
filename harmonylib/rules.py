"""The rules that decide claims: what a claim is, and the tests that both papers' claims are made of.

A claim's test returns an `Outcome`: our number with its interval, and a verdict by `statistics.verdict`.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass

from harmonylib import statistics
from harmonylib.evidence import Evidence
from harmonylib.statistics import CANNOT_TELL, Equivalence, Interval

SAME = 0.05  # of fMSE: the margin of "the same", "close", "plateaus", "hardly matters"
SAME_DB = 0.2  # of PSNR, in dB
NOT_RUN = "the runs for it are not in this profile's records"
DIFFERENCE = "paired bootstrap over photographs, 95 %, and the same sign for every seed"
EQUIVALENCE = f"95 % interval of the ratio within {SAME:.0%}, and every seed"


@dataclass(frozen=True)
class Outcome:
    ours: str
    verdict: str


@dataclass(frozen=True)
class Claim:
    id: str
    words: str
    place: str
    origin: str  # paper, or derived: ours
    runs: tuple[str, ...]
    paper: str
    rule: str
    test: Callable[[Evidence], Outcome]
    study: str = "s2am_t4"


def lower(a: str, b: str, column: str = "fmse", side: str = "lower") -> Callable[[Evidence], Outcome]:
    """a's mean is below (or above) b's on the same pictures: interval over photographs, and every seed."""

    def test(evidence: Evidence) -> Outcome:
        seeds = [x - y for x, y in zip(*(evidence.by_seed(n, column) for n in (a, b)), strict=False)]
        words = {"fmse": "fMSE", "psnr": "PSNR"}.get(column, column)
        return outcome(evidence.difference(a, b, column), seeds, side, f"difference of {words} {{}}")

    return test


def same(a: str, b: str, column: str = "fmse") -> Callable[[Evidence], Outcome]:
    """a and b have the same mean, within the margin: interval over photographs, and every seed.

    Of an error the ratio is judged, of PSNR the difference in dB.
    """
    relative = column != "psnr"
    margin, words = (SAME, "ratio of fMSE {}") if relative else (SAME_DB, "difference of PSNR {} dB")
    compare = operator.truediv if relative else operator.sub

    def test(evidence: Evidence) -> Outcome:
        rows = [evidence.per_image(name) for name in (a, b)]
        values = (r[column] for r in rows)
        result = statistics.equivalence(*values, rows[0]["group"], margin, relative=relative)
        seeds = [compare(x, y) for x, y in zip(*(evidence.by_seed(n, column) for n in (a, b)), strict=False)]
        return outcome(result, seeds, "equivalent", words)

    return test


def all_of(**tests: Callable[[Evidence], Outcome]) -> Callable[[Evidence], Outcome]:
    """Several tests that must agree: one verdict if they do, otherwise none."""

    def test(evidence: Evidence) -> Outcome:
        outcomes = {label: one(evidence) for label, one in tests.items()}
        verdicts = {o.verdict for o in outcomes.values()}
        ours = "; ".join(f"{label.replace('_', ' ')}: {o.ours}" for label, o in outcomes.items())
        return Outcome(ours, verdicts.pop() if len(verdicts) == 1 else CANNOT_TELL)

    return test


def more_with_less(less: tuple[str, str], all_data: tuple[str, str], column: str = "fmse") -> Callable:
    """The gain of the second of a pair over the first is larger with less data: the interval of the interaction.

    A gain is a fall of fMSE, or a rise of PSNR.
    """
    sign = -1 if column == "psnr" else 1

    def test(evidence: Evidence) -> Outcome:
        names = [*less, *all_data]
        rows = [evidence.per_image(name) for name in names]
        result = statistics.interaction(*(sign * r[column] for r in rows), rows[0]["group"])
        means = zip(*(evidence.by_seed(n, column) for n in names), strict=False)
        seeds = [sign * ((a - b) - (c - d)) for a, b, c, d in means]
        return outcome(result, seeds, "higher", "gain with little data minus gain with all: {}")

    return test


def needs(what: str) -> Callable[[Evidence], Outcome]:
    """A claim that nothing at hand can test."""
    return lambda evidence: Outcome(f"not run: {what}", CANNOT_TELL)


def outcome(result: Interval | Equivalence, seeds: list[float], claim: str, words: str) -> Outcome:
    interval = result.interval if isinstance(result, Equivalence) else result
    note = "" if len(seeds) >= statistics.MIN_SEEDS else " (one seed)"
    return Outcome(words.format(interval) + note, statistics.verdict(result, seeds, claim))

"""Intervals cover what they claim to, resample photographs, and verdicts follow the rules."""

import numpy as np
import pytest

from harmonylib.errors import HarmonyError
from harmonylib.statistics import (
    CANNOT_TELL,
    DOES_NOT_HOLD,
    HOLDS,
    Equivalence,
    Interval,
    bootstrap_mean,
    equivalence,
    interaction,
    paired_bootstrap,
    verdict,
)


def photographs(rng, n_groups=40, per_group=4, between=1.0, within=0.5, mean=0.0):
    """Values of composites that share their photograph's offset, and the photograph of each."""
    offsets = np.repeat(rng.normal(0, between, n_groups), per_group)
    return mean + offsets + rng.normal(0, within, offsets.size), np.repeat(np.arange(n_groups), per_group)


def width(interval):
    return interval.high - interval.low


def test_intervals_cover_the_truth():
    rng = np.random.default_rng(1)
    hits = {"difference": 0, "ratio": 0}
    rounds = 300
    for seed in range(rounds):
        effect, groups = photographs(rng, mean=0.7)
        base = np.repeat(rng.normal(100, 3, 40), 4)
        difference = paired_bootstrap(base + effect, base, groups, n=500, seed=seed)
        ratio = paired_bootstrap(base * 0.9 + effect - 0.7, base, groups, n=500, seed=seed, statistic="ratio")
        hits["difference"] += difference.low <= 0.7 <= difference.high
        hits["ratio"] += ratio.low <= 0.9 <= ratio.high
    for hit in hits.values():
        assert 0.90 <= hit / rounds <= 0.98


def test_resampling_composites_instead_of_photographs_would_be_too_sure():
    rng = np.random.default_rng(1)
    hits = {"photographs": 0, "composites": 0}
    rounds = 100
    for _ in range(rounds):
        values, groups = photographs(rng, per_group=6)
        by_photograph = bootstrap_mean(values, groups, n=300)
        by_composite = bootstrap_mean(values, np.arange(values.size), n=300)
        assert width(by_photograph) > 1.4 * width(by_composite)
        hits["photographs"] += by_photograph.low <= 0 <= by_photograph.high
        hits["composites"] += by_composite.low <= 0 <= by_composite.high
    assert hits["photographs"] >= 88 and hits["composites"] < 80


def test_pairing_removes_what_the_images_share():
    rng = np.random.default_rng(2)
    difficulty, groups = photographs(rng, between=50)
    a = difficulty - 1 + rng.normal(0, 0.1, groups.size)
    interval = paired_bootstrap(a, difficulty, groups)
    assert interval.side == -1 and interval.estimate == pytest.approx((a - difficulty).mean())
    assert width(interval) < 0.1 * width(bootstrap_mean(difficulty, groups))


def test_the_estimate_is_the_mean_over_images():
    values, groups = [0.0, 0.0, 0.0, 4.0], ["p", "p", "p", "q"]
    interval = bootstrap_mean(values, groups)
    assert (interval.estimate, interval.low, interval.high, interval.n_groups) == (1.0, 0.0, 4.0, 2)
    ratio = paired_bootstrap([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [0, 1, 2], statistic="ratio")
    assert (ratio.estimate, ratio.low, ratio.high, ratio.null) == pytest.approx((0.5, 0.5, 0.5, 1.0))


def test_group_sums_equal_resampling_by_hand():
    rng = np.random.default_rng(3)
    values, groups = photographs(rng, n_groups=7, per_group=3)
    keep = rng.uniform(size=values.size) < 0.7  # unequal group sizes
    values, groups = values[keep], groups[keep]
    rows = {g: values[groups == g] for g in np.unique(groups)}
    means = [np.concatenate([rows[g] for g in rng.choice(list(rows), len(rows))]).mean() for _ in range(20_000)]
    interval = bootstrap_mean(values, groups, n=20_000)
    np.testing.assert_allclose([interval.low, interval.high], np.quantile(means, [0.025, 0.975]), atol=0.03)


def test_the_seed_decides_and_the_order_of_images_does_not():
    values, groups = photographs(np.random.default_rng(4))
    assert bootstrap_mean(values, groups) == bootstrap_mean(values, groups)
    assert bootstrap_mean(values, groups) != bootstrap_mean(values, groups, seed=1)
    named = np.array([f"photo {g}" for g in groups])
    assert bootstrap_mean(values, named) == bootstrap_mean(values, groups)


def test_rows_with_missing_values_are_dropped_in_pairs():
    a, b = [1.0, np.nan, 3.0, 5.0, np.inf], [0.0, 9.0, 1.0, np.nan, 1.0]
    interval = paired_bootstrap(a, b, [0, 1, 2, 3, 4])
    assert interval.n_groups == 2 and interval.estimate == 1.5


def test_interaction():
    rng = np.random.default_rng(5)
    base, groups = photographs(rng, between=20)
    noise = [rng.normal(0, 0.2, base.size) for _ in range(4)]
    little = (base - 3 + noise[0], base + noise[1])  # a gain of 3 with little data
    much = (base - 30 - 1 + noise[2], base - 30 + noise[3])  # a gain of 1 with much
    interval = interaction(*little, *much, groups)
    assert interval.estimate == pytest.approx(-2, abs=0.1) and interval.side == -1
    assert interaction(*much, *much, groups).estimate == 0


def test_equivalence():
    rng = np.random.default_rng(6)
    a, groups = photographs(rng, between=10, mean=100)
    b = a + rng.normal(0, 1, a.size)
    assert equivalence(a, b, groups, 0.5).equivalent and not equivalence(a, b, groups, 0.5).different
    assert not equivalence(a, b, groups, 0.05).equivalent
    assert equivalence(a, b + 2, groups, 0.5).different
    relative = equivalence(a * 1.02, b, groups, 0.05, relative=True)
    assert relative.equivalent and relative.interval.null == 1
    assert equivalence(a * 1.2, b, groups, 0.05, relative=True).different


@pytest.mark.parametrize(
    ("interval", "seeds", "expected"),
    [
        (Interval(-2, -3, -1, 50), [-1, -2, -3], HOLDS),
        (Interval(-2, -3, -1, 50), [-1, -2, 0.1], CANNOT_TELL),
        (Interval(-2, -3, -1, 50), [-1, -2, 0], CANNOT_TELL),
        (Interval(-2, -3, -1, 50), [-2], CANNOT_TELL),
        (Interval(-2, -3, -1, 50), [-2, np.nan], CANNOT_TELL),
        (Interval(-2, -3, -1, 19), [-1, -2, -3], CANNOT_TELL),
        (Interval(-2, -3, 1, 50), [-1, -2, -3], CANNOT_TELL),
        (Interval(-2, -3, 0, 50), [-1, -2, -3], CANNOT_TELL),
        (Interval(2, 1, 3, 50), [1, 2, 3], DOES_NOT_HOLD),
        (Interval(2, 1, 3, 50), [1, 2, -3], CANNOT_TELL),
        (Interval(0.8, 0.7, 0.9, 50, null=1), [0.7, 0.9], HOLDS),
        (Interval(0.8, 0.7, 0.9, 50, null=1), [0.7, 1.1], CANNOT_TELL),
    ],
)
def test_verdict_on_a_difference(interval, seeds, expected):
    assert verdict(interval, seeds, "lower") == expected
    mirrored = {HOLDS: DOES_NOT_HOLD, DOES_NOT_HOLD: HOLDS, CANNOT_TELL: CANNOT_TELL}
    assert verdict(interval, seeds, "higher") == mirrored[expected]


@pytest.mark.parametrize(
    ("interval", "seeds", "expected"),
    [
        (Interval(0.01, -0.1, 0.1, 50), [0.1, -0.1], HOLDS),
        (Interval(0.01, -0.1, 0.1, 50), [0.3, -0.1], CANNOT_TELL),
        (Interval(0.01, -0.1, 0.1, 50), [0.1], CANNOT_TELL),
        (Interval(0.01, -0.3, 0.1, 50), [0.1, -0.1], CANNOT_TELL),
        (Interval(0.5, 0.3, 0.7, 50), [0.4, 0.6], DOES_NOT_HOLD),
        (Interval(-0.5, -0.7, -0.3, 50), [-0.4, -0.6], DOES_NOT_HOLD),
        (Interval(-0.5, -0.7, -0.3, 50), [-0.4, 0.6], CANNOT_TELL),
        (Interval(-0.5, -0.7, -0.3, 10), [-0.4, -0.6], CANNOT_TELL),
    ],
)
def test_verdict_on_equivalence(interval, seeds, expected):
    assert verdict(Equivalence(interval, 0.2), seeds, "equivalent") == expected


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: paired_bootstrap([1.0, 2.0], [1.0], [0, 1]), "differ in length"),
        (lambda: bootstrap_mean([1.0, 2.0], [0, 1, 2]), "differ in length"),
        (lambda: bootstrap_mean([1.0, 2.0], [0, 0]), "at least 2 photographs"),
        (lambda: bootstrap_mean([1.0, np.nan], [0, 1]), "at least 2 photographs"),
        (lambda: bootstrap_mean([1.0, 2.0], [0, None]), "no group"),
        (lambda: bootstrap_mean([1.0, 2.0], [0, 1], n=0), "resamples"),
        (lambda: paired_bootstrap([1.0, 2.0], [1.0, 2.0], [0, 1], statistic="median"), "difference or ratio"),
        (lambda: paired_bootstrap([1.0, 2.0], [0.0, 0.0], [0, 1], statistic="ratio"), "denominator"),
        (lambda: equivalence([1.0, 2.0], [1.0, 2.0], [0, 1], 0), "margin"),
        (lambda: verdict(Interval(0, -1, 1, 50), [1, 1], "better"), "does not fit"),
        (lambda: verdict(Interval(0, -1, 1, 50), [1, 1], "equivalent"), "does not fit"),
    ],
)
def test_errors_are_one_line(call, words):
    with pytest.raises(HarmonyError, match=words) as raised:
        call()
    assert "\n" not in str(raised.value)

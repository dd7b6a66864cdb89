"""Each transfer against its defining property."""

import numpy as np
import pytest

from harmonylib.colour_transfer import TRANSFERS, from_lab, to_lab


def pixels(seed: int, count: int = 4000, centre=(120, 100, 90), spread=(18, 14, 10)) -> np.ndarray:
    """Correlated colours, two clusters of them, well inside [0, 255]: (count, 3) uint8."""
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(3, 3)) * 0.4 + np.eye(3)
    colours = generator.normal(size=(count, 3)) @ mixing * spread + centre
    colours[: count // 3] += (35, -20, 15)
    return np.rint(colours.clip(2, 253)).astype(np.uint8)


SOURCE, REFERENCE = pixels(1), pixels(2, 3000, (140, 130, 150), (12, 20, 16))


def moved(name: str, source=SOURCE, reference=REFERENCE, seed: int = 0) -> np.ndarray:
    return TRANSFERS[name](source, reference, np.random.default_rng(seed))


def sliced_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of the quantiles along 64 directions (sliced Wasserstein), in levels."""
    directions = np.random.default_rng(9).normal(size=(3, 64))
    directions /= np.linalg.norm(directions, axis=0)
    shares = np.linspace(0.01, 0.99, 99)
    return float(
        np.abs(np.quantile(a @ directions, shares, axis=0) - np.quantile(b @ directions, shares, axis=0)).mean()
    )


def test_there_are_the_four_of_iharmony4():
    names = ["reinhard_lab", "decorrelated_rgb", "cumulative_histogram", "iterative_distribution"]
    assert list(TRANSFERS) == names


def test_reinhard_matches_mean_and_spread_in_lab():
    ours, wanted = to_lab(moved("reinhard_lab")), to_lab(REFERENCE)
    assert np.allclose(ours.mean(0), wanted.mean(0), atol=1e-9)
    assert np.allclose(ours.std(0), wanted.std(0), atol=1e-9)


def test_decorrelated_rgb_matches_mean_and_covariance():
    ours = moved("decorrelated_rgb")
    assert np.allclose(ours.mean(0), REFERENCE.mean(0), atol=1e-9)
    assert np.allclose(np.cov(ours.T), np.cov(REFERENCE.T), rtol=1e-2)  # cov divides by n - 1, of two sizes


def test_decorrelated_rgb_never_makes_a_negative():
    """Towards a paler copy of itself an object becomes that copy, whatever signs its principal axes came out with."""
    for seed in range(20):
        source = pixels(seed)
        paler = np.rint(0.7 * source + 60).astype(np.uint8)
        assert np.abs(moved("decorrelated_rgb", source, paler) - paler).max() < 1.5


def test_histograms_match_channel_by_channel():
    ours = moved("cumulative_histogram")
    shares = np.linspace(0.02, 0.98, 49)
    for channel in range(3):
        found, wanted = (np.quantile(p[:, channel], shares) for p in (ours, REFERENCE))
        assert np.abs(found - wanted).max() <= 2.0  # levels; a level of the source is moved as a whole


def test_histograms_keep_the_order_of_levels():
    ours = moved("cumulative_histogram")
    for channel in range(3):
        order = np.argsort(SOURCE[:, channel], kind="stable")
        assert (np.diff(ours[order, channel]) >= 0).all()


def test_iterative_transfer_comes_near_the_whole_distribution():
    """Where matching channel by channel or by covariance leaves the shape of the cloud behind."""
    before = sliced_distance(SOURCE, REFERENCE)
    left = {name: sliced_distance(moved(name), REFERENCE) for name in TRANSFERS}
    assert left["iterative_distribution"] < 0.03 * before
    assert left["iterative_distribution"] < 0.5 * min(v for k, v in left.items() if k != "iterative_distribution")


def test_every_step_of_the_iteration_brings_it_nearer(monkeypatch):
    distances = []
    for steps in (0, 1, 3, 12):
        monkeypatch.setattr("harmonylib.colour_transfer.IDT_STEPS", steps)
        distances.append(sliced_distance(moved("iterative_distribution"), REFERENCE))
    assert distances == sorted(distances, reverse=True) and distances[0] > 10 * distances[-1]


def test_what_the_iteration_fits_on_a_sample_holds_for_all_pixels():
    source, reference = pixels(5, 60_000), pixels(6, 50_000, (150, 120, 100))
    ours = moved("iterative_distribution", source, reference)
    assert sliced_distance(ours, reference) < 0.05 * sliced_distance(source, reference)
    assert np.ptp(ours, axis=0).max() < 1.3 * np.ptp(reference.astype(float), axis=0).max()


@pytest.mark.parametrize("name", TRANSFERS)
def test_the_same_generator_gives_the_same_pixels(name):
    assert np.array_equal(moved(name, seed=3), moved(name, seed=3))
    assert moved(name).shape == SOURCE.shape and moved(name).dtype == np.float64


@pytest.mark.parametrize("name", TRANSFERS)
def test_towards_itself_nothing_moves(name):
    assert np.abs(moved(name, SOURCE, SOURCE) - SOURCE).mean() < 0.5


@pytest.mark.parametrize("name", TRANSFERS)
@pytest.mark.parametrize("source", [np.full((50, 3), 7, np.uint8), np.zeros((1, 3), np.uint8)])
def test_one_colour_is_moved_and_not_stretched(name, source):
    ours = moved(name, source, REFERENCE)
    assert np.isfinite(ours).all() and np.ptp(ours, axis=0).max() < 1e-3
    if name != "reinhard_lab":  # a mean of logarithms is no mean of levels
        assert np.abs(ours.mean(0) - REFERENCE.mean(0)).max() < 12


@pytest.mark.parametrize("name", TRANSFERS)
def test_towards_one_colour_all_become_it(name):
    ours = moved(name, SOURCE, np.full((40, 3), 90, np.uint8))
    assert np.abs(ours - 90).max() < 1.5


def test_lab_is_inverted():
    rgb = np.random.default_rng(3).uniform(20, 255, (500, 3))
    np.testing.assert_allclose(from_lab(to_lab(rgb)), rgb, rtol=1e-9)
    lab = to_lab(np.full((1, 3), 100.0))
    assert lab[0, 0] == pytest.approx(np.sqrt(3) * 2, abs=1e-3)  # grey of level 100: l is log10(100) three times over
    np.testing.assert_allclose(lab[0, 1:], 0, atol=2e-3)
    assert np.isfinite(to_lab(np.zeros((1, 3)))).all()

"""Methods without training do what their equations say, and only inside the mask."""

import numpy as np
import pytest
from skimage.exposure import match_histograms

from harmonylib.baselines import BASELINES, histogram, identity, reinhard
from harmonylib.colour_transfer import reinhard_lab
from harmonylib.errors import HarmonyError


@pytest.fixture
def picture():
    """A darker, flatter foreground on a brighter, livelier background."""
    rng = np.random.default_rng(0)
    composite = np.clip(rng.normal((150, 130, 110), (35, 30, 25), (120, 160, 3)), 0, 255)
    mask = np.zeros((120, 160), bool)
    mask[30:100, 40:110] = True
    composite[mask] = np.clip(rng.normal((80, 100, 120), (15, 18, 12), (mask.sum(), 3)), 0, 255)
    return composite.astype(np.uint8), mask


def cdf(values):
    return np.bincount(values, minlength=256).cumsum() / values.size


@pytest.mark.parametrize("name", BASELINES)
def test_only_the_foreground_changes(picture, name):
    composite, mask = picture
    before = composite.copy()
    result = BASELINES[name](composite, mask)
    assert result.dtype == np.uint8 and result.shape == composite.shape and result is not composite
    np.testing.assert_array_equal(composite, before)
    np.testing.assert_array_equal(result[~mask], composite[~mask])
    assert (result[mask] == composite[mask]).all() == (name == "identity")


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("fill", [True, False])
def test_nothing_to_match(picture, name, fill):
    composite, mask = picture
    np.testing.assert_array_equal(BASELINES[name](composite, np.full_like(mask, fill)), composite)


def test_histogram_follows_equation_2(picture):
    composite, mask = picture
    result = histogram(composite, mask)
    for c in range(3):
        cdf_fg, cdf_bg = cdf(composite[mask][:, c]), cdf(composite[~mask][:, c])
        smallest = np.array([np.flatnonzero(cdf_bg >= share - 1e-12)[0] for share in cdf_fg])
        np.testing.assert_array_equal(result[mask][:, c], smallest[composite[mask][:, c]])


def test_histogram_matches_the_distribution(picture):
    composite, mask = picture
    result = histogram(composite, mask)
    for c in range(3):
        target = cdf(composite[~mask][:, c])
        before, after = (np.abs(cdf(image[mask][:, c]) - target).max() for image in (composite, result))
        assert before > 0.3 and after < 0.05  # what remains is the share of one foreground level


def test_histogram_agrees_with_scikit_image():
    rng = np.random.default_rng(1)
    foreground = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    background = np.clip(rng.normal(120, 40, (64, 64, 3)), 0, 255).astype(np.uint8)
    composite = np.concatenate([foreground, background], axis=1)
    mask = np.zeros((64, 128), bool)
    mask[:, :64] = True
    ours = histogram(composite, mask)[:, :64].astype(float)
    theirs = match_histograms(foreground, background, channel_axis=-1).astype(float)
    inner = (foreground > 8) & (foreground < 247)  # sparse tails: interpolated there, the next level here
    assert np.abs(ours - theirs)[inner].max() <= 2


def test_histogram_of_equal_distributions_changes_nothing():
    half = np.random.default_rng(2).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    composite = np.concatenate([half, half[::-1]], axis=1)
    mask = np.zeros((40, 80), bool)
    mask[:, :40] = True
    np.testing.assert_array_equal(histogram(composite, mask), composite)


def test_reinhard_is_the_transfer_in_double_precision(picture):
    composite, mask = picture
    expected = np.clip(reinhard_lab(composite[mask], composite[~mask], None), 0, 255)
    result = reinhard(composite, mask)[mask]
    assert np.abs(result - expected).max() < 0.51  # 0.5 is rounding
    assert (result != np.rint(expected)).mean() < 0.002


def test_reinhard_moves_a_flat_foreground_without_stretching(picture):
    composite, mask = picture
    composite[mask] = 60
    result = reinhard(composite, mask)[mask]
    assert (result == result[0]).all() and (result[0] > 60).all()


def test_reinhard_survives_black(picture):
    composite, mask = picture
    composite[50:60, 50:60] = 0
    composite[:10] = 0
    assert reinhard(composite, mask).dtype == np.uint8


@pytest.mark.parametrize("name", BASELINES)
def test_wrong_inputs(picture, name):
    composite, mask = picture
    for bad in ((composite / 255.0, mask), (composite[..., 0], mask), (composite, mask[1:]), (composite, mask * 255)):
        with pytest.raises(HarmonyError, match="expected"):
            BASELINES[name](*bad)


def test_identity_is_a_copy(picture):
    composite, mask = picture
    result = identity(composite, mask)
    result[:] = 0
    assert composite.any()

"""Rendered scenes: same bytes every time, an untouched background, a visibly changed foreground, an uneven light."""

import numpy as np
import pytest

from harmonylib.data.scenes import STYLES, render_scene
from harmonylib.errors import HarmonyError


@pytest.fixture(scope="module")
def scenes():
    return [(style, render_scene(index, style)) for style in STYLES for index in range(6)]


def foreground_mse(composite, scene):
    inside = scene.mask > 0
    return np.mean((composite[inside].astype(float) - scene.real[inside]) ** 2)


def test_shapes_and_types(scenes):
    for _, scene in scenes:
        assert scene.real.shape == (192, 256, 3)
        assert scene.mask.shape == (192, 256)
        assert len(scene.composites) == 3
        assert all(c.shape == scene.real.shape for c in scene.composites)
        assert {a.dtype for a in (scene.real, scene.mask, *scene.composites)} == {np.dtype(np.uint8)}
        assert set(np.unique(scene.mask)) == {0, 255}


def test_other_sizes_and_numbers_of_relightings():
    scene = render_scene(2, "HFlickr", relightings=1, size=(96, 128))
    assert scene.real.shape == (96, 128, 3)
    assert len(scene.composites) == 1


@pytest.mark.parametrize("style", STYLES)
def test_same_arguments_give_the_same_bytes(style, scenes):
    first, again = dict(reversed(scenes))[style], render_scene(0, style)
    assert np.array_equal(first.real, again.real)
    assert np.array_equal(first.mask, again.mask)
    assert np.array_equal(first.composites, again.composites)


def test_fewer_relightings_leave_the_others_as_they_were(scenes):
    style, scene = scenes[0]
    fewer = render_scene(0, style, relightings=1)
    assert np.array_equal(fewer.real, scene.real)
    assert np.array_equal(fewer.composites[0], scene.composites[0])


def test_scenes_and_relightings_differ(scenes):
    assert len({scene.real.tobytes() for _, scene in scenes}) == len(scenes)
    assert all(len({c.tobytes() for c in scene.composites}) == 3 for _, scene in scenes)


def test_background_is_equal_bit_for_bit(scenes):
    for _, scene in scenes:
        outside = scene.mask == 0
        assert all(np.array_equal(c[outside], scene.real[outside]) for c in scene.composites)


def test_foreground_takes_a_fair_share_of_the_picture(scenes):
    shares = [(scene.mask > 0).mean() for _, scene in scenes]
    assert 0.03 <= min(shares) <= max(shares) <= 0.40


def test_every_composite_is_visibly_but_not_absurdly_changed(scenes):
    changes = [foreground_mse(c, scene) for _, scene in scenes for c in scene.composites]
    assert 60 <= min(changes) <= max(changes) <= 12000


def test_hardly_a_pixel_saturates(scenes):
    for _, scene in scenes:
        inside = scene.mask > 0
        assert all((picture[inside] == 255).mean() < 0.02 for picture in (scene.real, *scene.composites))


def test_relightings_brighten_about_as_often_as_they_darken(scenes):
    brighter = [
        c[scene.mask > 0].mean() > scene.real[scene.mask > 0].mean() for _, scene in scenes for c in scene.composites
    ]
    assert 0.25 < np.mean(brighter) < 0.75


def test_light_differs_between_left_and_right(scenes):
    """In most scenes the background of one side is brighter or of another colour than the other's."""
    differs = []
    for _, scene in scenes:
        background = np.where(scene.mask[..., None] > 0, np.nan, scene.real.astype(float))
        left, right = np.nanmean(background[:, :64], (0, 1)), np.nanmean(background[:, -64:], (0, 1))
        differs.append(np.abs(left - right).max() > 15)
    assert np.mean(differs) > 0.7


def test_unknown_style_is_a_clear_error():
    with pytest.raises(HarmonyError, match=r"HFlicker.*HFlickr"):
        render_scene(0, "HFlicker")

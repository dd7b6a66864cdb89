"""The shipped photographs, their outlines, and the change of illuminant that makes composites of them."""

import hashlib
import socket

import numpy as np
import pytest

from harmonylib.data import photographs as module
from harmonylib.data.photographs import photographs, recolour, regions
from harmonylib.errors import HarmonyError

IDS = ["astronaut", "chelsea", "coffee", "rocket", "motorcycle-left", "motorcycle-right", "hopper"]


def test_photographs_are_colour_pictures_of_at_most_384_pixels():
    found = photographs()
    assert list(found) == IDS
    for photograph in found.values():
        assert photograph.dtype == np.uint8 and photograph.ndim == 3 and photograph.shape[2] == 3
        assert max(photograph.shape) == 384
        assert photograph.std(axis=2).mean() > 3, "colour, not grey"
    assert found["coffee"].shape == (256, 384, 3)


def test_callers_cannot_change_what_others_get():
    photographs()["coffee"][:] = 0
    regions("coffee")[0].mask[:] = 0
    assert photographs()["coffee"].mean() > 50
    assert regions("coffee")[0].mask.any()


@pytest.mark.parametrize("photo_id", IDS)
def test_outlines_lie_inside_their_picture(photo_id):
    (width, height), outlines = module._photograph(photo_id)[1], module._outlines()[photo_id]
    assert outlines
    for outline in outlines:
        x, y = np.array(outline["polygon"]).T
        assert len(x) >= 4, outline["object"]
        assert x.min() >= 0 and x.max() < width and y.min() >= 0 and y.max() < height, outline["object"]


@pytest.mark.parametrize("photo_id", IDS)
def test_regions_are_binary_masks_of_a_sensible_size(photo_id):
    found = regions(photo_id)
    by_hand = [region.by_hand for region in found]
    assert by_hand == sorted(by_hand, reverse=True), "hand-drawn first"
    assert 3 <= by_hand.count(False) <= 6
    assert len({region.object for region in found}) == len(found)
    shape = photographs()[photo_id].shape[:2]
    for region in found:
        assert region.mask.shape == shape and region.mask.dtype == np.uint8
        assert set(np.unique(region.mask)) == {0, 255}
        low, high = (0.01, 0.6) if region.by_hand else (0.015, 0.4)
        assert low <= (region.mask > 0).mean() <= high, region.object


def test_segmented_regions_repeat_no_outline():
    for photo_id in IDS:
        found = [(region.mask > 0, region.by_hand) for region in regions(photo_id)]
        for i, (inside, by_hand) in enumerate(found):
            for other, _ in found[:i]:
                assert by_hand or (inside & other).sum() <= 0.5 * (inside | other).sum()


def test_hand_drawn_objects_in_every_scene():
    by_hand = {photo_id: [r.object for r in regions(photo_id) if r.by_hand] for photo_id in IDS}
    assert all(by_hand.values())
    assert sum(map(len, by_hand.values())) >= 10
    assert set(by_hand["motorcycle-left"]) == set(by_hand["motorcycle-right"]), "two views of one scene"


@pytest.mark.parametrize(
    ("photo_id", "thing", "inside", "outside"),
    [  # (x, y) in the photograph as shipped
        ("astronaut", "head", (230, 120), (340, 120)),
        ("coffee", "coffee", (290, 150), (290, 60)),
        ("rocket", "rocket", (322, 250), (300, 250)),
        ("motorcycle-left", "fuel tank", (400, 210), (280, 230)),
        ("motorcycle-right", "fuel tank", (350, 210), (230, 230)),
        ("hopper", "hat", (260, 110), (260, 180)),
    ],
)
def test_outlines_cover_their_object(photo_id, thing, inside, outside):
    (mask,) = [region.mask for region in regions(photo_id) if region.object == thing]
    scale = max(mask.shape) / max(module._photograph(photo_id)[1])
    for (x, y), value in ((inside, 255), (outside, 0)):
        assert mask[round(y * scale), round(x * scale)] == value


def test_a_polygon_covers_the_pixels_whose_centre_it_holds():
    square = [[1.6, 3.6], [5.4, 3.6], [5.4, 7.4], [1.6, 7.4]]  # in a picture 20 wide and 10 high
    rows, columns = np.nonzero(module._fill(square, (20, 10), (10, 20)))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 7, 2, 5)
    left = [[-0.5, -0.5], [9.4, -0.5], [9.4, 9.5], [-0.5, 9.5]]
    half_size = module._fill(left, (20, 10), (5, 10))
    assert half_size[:, :5].all() and not half_size[:, 5:].any()


def _digest() -> str:
    digest = hashlib.sha256()
    for photo_id in ("coffee", "hopper"):
        digest.update(photographs()[photo_id].tobytes())
        for region in regions(photo_id):
            digest.update(region.object.encode() + region.mask.tobytes())
    return digest.hexdigest()


def _forget():
    for cached in (module._photograph, module._outlines, module._regions):
        cached.cache_clear()


def test_the_same_bytes_every_time_and_no_network(monkeypatch):
    first = _digest()
    _forget()

    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert _digest() == first


@pytest.mark.parametrize("photo_id", IDS)
def test_recolour_changes_the_region_visibly_and_nothing_else(photo_id):
    photograph = photographs()[photo_id]
    for k, region in enumerate(regions(photo_id)):
        kept = photograph.copy()
        composite = recolour(photograph, region.mask, np.random.default_rng(k))
        inside = region.mask > 0
        assert np.array_equal(photograph, kept), "the photograph itself stays as it is"
        assert composite.shape == photograph.shape and composite.dtype == np.uint8
        assert np.array_equal(composite[~inside], photograph[~inside])
        change = (composite.astype(float) - photograph)[inside]
        assert 150 <= (change**2).mean() <= 6000
        newly_white = (composite[inside].max(axis=1) == 255) & (photograph[inside].max(axis=1) < 255)
        assert newly_white.mean() <= 0.05


def test_recolour_is_drawn_from_the_generator():
    photograph, mask = photographs()["astronaut"], regions("astronaut")[0].mask
    one, same, other = (recolour(photograph, mask, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_recolour_changes_are_about_1200_on_average():
    rng = np.random.default_rng(0)
    changes = []
    for photo_id in IDS:
        photograph = photographs()[photo_id]
        for region in regions(photo_id):
            for _ in range(2):
                difference = recolour(photograph, region.mask, rng).astype(float) - photograph
                changes.append((difference[region.mask > 0] ** 2).mean())
    assert 900 < np.mean(changes) < 1500


def test_recolour_is_a_gain_in_linear_light():
    """On a flat grey the same illuminant shift falls off monotonically from one side to the other."""
    grey = np.full((40, 60, 3), 120, dtype=np.uint8)
    composite = recolour(grey, np.full((40, 60), 255, dtype=np.uint8), np.random.default_rng(0)).astype(int)
    assert len(np.unique(composite[20, 30])) > 1, "a coloured illuminant tints grey"
    for channel in range(3):
        for steps in (np.diff(composite[20, :, channel]), np.diff(composite[:, 30, channel])):
            assert (steps >= 0).all() or (steps <= 0).all()


def test_what_cannot_be_done_is_told():
    with pytest.raises(HarmonyError, match="unknown"):
        regions("camera")
    photograph = np.full((8, 8, 3), 90, dtype=np.uint8)
    generator = np.random.default_rng(0)
    with pytest.raises(HarmonyError, match="empty"):
        recolour(photograph, np.zeros((8, 8), dtype=np.uint8), generator)
    with pytest.raises(HarmonyError, match="shape"):
        recolour(photograph, np.full((8, 9), 255, dtype=np.uint8), generator)
    with pytest.raises(HarmonyError, match="lighter"):
        recolour(np.zeros((8, 8, 3), dtype=np.uint8), np.full((8, 8), 255, dtype=np.uint8), generator)


def test_a_package_without_its_file_is_named(monkeypatch):
    monkeypatch.setitem(module.FILES, "coffee", ("scikit-image", "no_such_picture.png"))
    _forget()
    with pytest.raises(HarmonyError, match=r"no_such_picture\.png.*scikit-image"):
        photographs()
    monkeypatch.undo()
    _forget()

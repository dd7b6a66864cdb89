"""Evaluation from files: rows equal the metrics, the constant shift is the best one, diagnostics mean what they say."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harmonylib import baselines, evaluation, metrics, models
from harmonylib.data.cache import prepare
from harmonylib.data.layout import read_entries

SIZE = 32


@pytest.fixture(scope="module")
def entries(tiny_set):
    return read_entries(tiny_set, "all", "test")


@pytest.fixture(scope="module")
def cache(entries, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARMONY_DATA", str(tmp_path_factory.mktemp("prepared")))
        return prepare(entries, SIZE, say=lambda _: None)


@pytest.mark.parametrize(
    ("protocol", "size"), [("bcmi256", SIZE), ("s2am_t4", SIZE), ("idih256", SIZE), ("ht256", None), ("fullres", None)]
)
def test_rows_of_doing_nothing_equal_the_metrics(entries, protocol, size):
    chosen = entries if size else entries[::8]
    rows = evaluation.evaluate(evaluation.baseline("identity"), chosen, protocol, size)
    assert rows["name"].tolist() == [e.name for e in chosen]
    for key in ("subset", "photo", "group", "kind"):
        assert rows[key].tolist() == [getattr(e, key) for e in chosen]
    assert set(rows["protocol"]) == {metrics.caption(protocol, size)}
    for entry, row in zip(chosen, rows.itertuples(), strict=True):
        composite, real, mask = metrics.read_triplet(entry.composite, entry.mask, entry.real, protocol, size)
        for name, value in metrics.score(composite, real, mask, protocol).items():
            assert getattr(row, name) == pytest.approx(value)
        assert row.foreground_ratio == pytest.approx(mask.mean())


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_baselines_see_8_bit_pixels(entries, name):
    chosen = entries[:3]
    rows = evaluation.evaluate(evaluation.baseline(name), chosen, "bcmi256", SIZE)
    for entry, row in zip(chosen, rows.itertuples(), strict=True):
        composite, real, mask = metrics.read_triplet(entry.composite, entry.mask, entry.real, "bcmi256", SIZE)
        expected = baselines.BASELINES[name](composite.astype(np.uint8), mask > 0.5)
        assert row.fmse == pytest.approx(metrics.score(expected, real, mask)["fmse"])


def test_a_network_is_scored_clamped_and_in_evaluation_mode(entries):
    torch.manual_seed(0)
    model = models.build("unet", width=4).train()
    rows = evaluation.evaluate(evaluation.network(model), entries[:2], "bcmi256", SIZE)
    assert not model.training
    composite, real, mask = metrics.read_triplet(
        entries[0].composite, entries[0].mask, entries[0].real, "bcmi256", SIZE
    )
    picture = torch.from_numpy(composite).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        output = 255 * model(picture, torch.from_numpy(mask).float()[None, None])[0].permute(1, 2, 0).numpy()
    assert rows["fmse"][0] == pytest.approx(metrics.score(output, real, mask)["fmse"], rel=1e-4)


def test_files_and_cache_agree(entries, cache):
    method = evaluation.baseline("reinhard")
    files = evaluation.evaluate(method, entries, "bcmi256", SIZE)
    cached = evaluation.evaluate_cached(method, cache, cache.rows(entries))
    assert files.columns.tolist() == cached.columns.tolist()
    for column in files:
        if files[column].dtype == float:
            np.testing.assert_allclose(files[column], cached[column], rtol=1e-6)
        else:
            assert files[column].tolist() == cached[column].tolist()


def test_the_constant_shift_is_the_best_one(entries, cache):
    rows = cache.rows(entries)
    shift = evaluation.fit_constant_shift(cache, rows)

    def fmse(vector):
        return evaluation.evaluate_cached(evaluation.constant_shift(vector), cache, rows)["fmse"].mean()

    assert shift.shape == (3,)
    assert fmse(shift) < fmse(np.zeros(3))
    for channel in range(3):
        for sign in (-1, 1):
            assert fmse(shift + sign * np.eye(3)[channel]) > fmse(shift)


def test_the_constant_shift_leaves_the_background(entries):
    rows = evaluation.evaluate(evaluation.constant_shift(np.array([3.0, -2, 1])), entries[:4], "bcmi256", SIZE)
    assert (rows["background_mse"] == 0).all()


# ------------------------------------------------------------------------------------------------- diagnostics


@pytest.fixture
def triplet():
    generator = torch.Generator().manual_seed(0)
    real = 60 + 120 * torch.rand(2, 3, 24, 24, generator=generator)
    mask = torch.zeros(2, 1, 24, 24)
    mask[:, :, 4:18, 6:20] = 1
    return real - 30 * mask, mask, real


def diagnose(prediction, composite, mask, real):
    return {name: value.tolist() for name, value in evaluation.diagnostics(prediction, composite, mask, real).items()}


def test_diagnostics_of_doing_nothing(triplet):
    found = diagnose(triplet[0], *triplet)
    assert found["recovered"] == [0, 0]
    assert found["background_mse"] == [0, 0]
    assert found["sharpness"] == pytest.approx([1, 1])  # a constant shift keeps every edge inside the mask


def test_diagnostics_of_the_target(triplet):
    found = diagnose(triplet[2], *triplet)
    for name, value in (("recovered", 1), ("background_mse", 0), ("sharpness", 1)):
        assert found[name] == pytest.approx([value, value], abs=1e-5)


def test_half_the_way_and_past_the_target(triplet):
    composite, _, real = triplet
    for share in (0.5, 1.2):
        found = diagnose(composite + share * (real - composite), *triplet)
        assert found["recovered"] == pytest.approx([share, share], rel=1e-5)


def test_a_blurred_target_is_softer(triplet):
    soft = [diagnose(F.avg_pool2d(triplet[2], k, 1, k // 2), *triplet)["sharpness"] for k in (3, 5)]
    for mild, strong in zip(*soft, strict=True):
        assert 0 < strong < mild < 1


def test_the_background_is_measured_against_the_composite(triplet):
    composite, mask, _ = triplet
    found = diagnose(composite + 3 * (1 - mask), *triplet)
    assert found["background_mse"] == pytest.approx([9, 9], rel=1e-5)
    assert found["recovered"] == [0, 0]


def test_diagnostics_of_an_all_foreground_mask_stay_out_of_the_means(triplet):
    composite, mask, real = triplet
    found = diagnose(composite, composite, torch.ones_like(mask), real)
    assert np.isnan(found["background_mse"]).all()


# --------------------------------------------------------------------------------------------------- blockiness


def ramp(size: int = 64) -> torch.Tensor:
    """A smooth change, stronger towards a corner: (1, 3, size, size)."""
    line = torch.linspace(0.2, 1, size) ** 1.5
    return (20 * line[:, None] * line).expand(1, 3, -1, -1).clone()


def test_a_smooth_change_has_no_blocks():
    assert evaluation.blockiness(ramp()).item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("line", [16, 32, 48])
def test_steps_where_windows_meet_are_blocks(line):
    change = ramp()
    change[..., line:] += 5
    assert evaluation.blockiness(change).item() > 2
    assert evaluation.blockiness(change.transpose(2, 3)).item() == pytest.approx(evaluation.blockiness(change).item())
    elsewhere = ramp()
    elsewhere[..., line + 4 :] += 5
    assert evaluation.blockiness(elsewhere).item() < 0.7


def test_steps_at_every_patch_are_no_sign_of_windows():
    change = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).repeat_interleave(4, 2)
    change = change.repeat_interleave(4, 3).repeat(1, 20, 1, 1)
    assert evaluation.blockiness(change).item() == pytest.approx(1, abs=0.25)


def test_blockiness_that_cannot_be_told_is_no_number():
    change = torch.stack([torch.zeros(3, 64, 64), ramp()[0]])
    found = evaluation.blockiness(change)
    assert found[0].isnan() and found[1].isfinite()
    assert evaluation.blockiness(torch.rand(2, 3, 63, 64)).isnan().all()
    assert evaluation.blockiness(torch.rand(2, 3, 16, 16)).isnan().all()

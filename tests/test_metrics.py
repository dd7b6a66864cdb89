"""Metrics against plain NumPy transcriptions of their definitions, and against measured triplets where given."""

import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from harmonylib import metrics
from harmonylib.errors import HarmonyError


def reference(prediction, real, mask, protocol):
    """The definitions, written out one protocol at a time in float64."""
    p, r = np.clip(np.asarray(prediction, np.float64), 0, 255), np.asarray(real, np.float64)
    m = np.asarray(mask, np.float64)[..., None]
    squared, area = (p - r) ** 2, m.sum()
    if protocol in ("bcmi256", "ht256"):
        mse = np.mean(squared)
        fmse = np.mean((p * m - r * m) ** 2) * mask.size / area
        peak = p.max() - p.min() if protocol == "bcmi256" else 255
        return mse, 10 * np.log10(peak**2 / mse), fmse, 10 * np.log10(peak**2 / fmse)
    if protocol == "idih256":
        mse, peak = np.mean(squared), r.max()
    elif protocol == "fullres":
        mse, peak = np.mean(m * squared), 255
    else:
        squared = ((p / 127.5 - 1) - (r / 127.5 - 1)) ** 2
        mse, fmse = squared.sum(2).mean(), (m[..., 0] * squared.sum(2)).sum() / area
        return mse, 10 * np.log10(4 / mse), fmse, 10 * np.log10(4 / fmse)
    fmse = (m * squared).sum() / (3 * area + 1e-6)
    return mse, 10 * np.log10(peak**2 / (mse + 1e-6)), fmse, 10 * np.log10(peak**2 / (fmse + 1e-6))


def random_case(seed, kind, dtype, height=40, width=56):
    rng = np.random.default_rng(seed)
    real = rng.uniform(2, 250, (height, width, 3))
    prediction = real + rng.normal(0, 6, real.shape)  # some of it beyond [0,255]
    mask = rng.uniform(size=(height, width)) if kind == "soft" else rng.uniform(size=(height, width)) < 0.3
    if dtype == np.uint8:
        prediction = np.clip(np.rint(prediction), 0, 255)
    return prediction.astype(dtype), real.astype(dtype), mask


@pytest.mark.parametrize("protocol", metrics.PROTOCOLS)
@pytest.mark.parametrize("kind", ["soft", "hard"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_score_is_the_definition(protocol, kind, dtype):
    prediction, real, mask = random_case(1, kind, dtype)
    got = metrics.score(prediction, real, mask, protocol)
    assert list(got) == ["mse", "psnr", "fmse", "fpsnr"] and all(type(v) is float for v in got.values())
    np.testing.assert_allclose(list(got.values()), reference(prediction, real, mask, protocol), rtol=1e-6)


@pytest.mark.parametrize("protocol", metrics.PROTOCOLS)
def test_batch_equals_image_by_image(protocol):
    cases = [random_case(seed, "soft", np.float32) for seed in range(3)]
    predictions, reals = (torch.from_numpy(np.stack([c[i] for c in cases])).permute(0, 3, 1, 2) for i in (0, 1))
    masks = torch.from_numpy(np.stack([c[2] for c in cases]))[:, None].float()
    got = metrics.score_batch(predictions, reals, masks, protocol)
    assert all(v.dtype == torch.float64 and v.shape == (3,) for v in got.values())
    for i, case in enumerate(cases):
        np.testing.assert_allclose([v[i] for v in got.values()], reference(*case, protocol), rtol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("protocol", metrics.PROTOCOLS)
def test_batch_on_the_gpu(protocol):
    prediction, real, mask = random_case(3, "soft", np.float32, 256, 256)
    planes = [torch.from_numpy(x).permute(2, 0, 1)[None].cuda() for x in (prediction, real)]
    got = metrics.score_batch(*planes, torch.from_numpy(mask)[None, None].cuda(), protocol)
    assert all(v.is_cuda for v in got.values())
    np.testing.assert_allclose([v.item() for v in got.values()], reference(prediction, real, mask, protocol), rtol=1e-6)


def test_small_differences_keep_their_digits_in_float32():
    rng = np.random.default_rng(2)
    real = rng.uniform(100, 250, (256, 256, 3)).astype(np.float32)
    prediction = (real + rng.normal(0, 0.01, real.shape)).astype(np.float32)
    mask = rng.uniform(size=(256, 256)).astype(np.float32)
    for protocol in metrics.PROTOCOLS:
        got = list(metrics.score(prediction, real, mask, protocol).values())
        np.testing.assert_allclose(got, reference(prediction, real, mask, protocol), rtol=1e-6)


def test_blend_pastes_the_background_back():
    prediction, real, mask = random_case(4, "soft", np.float64)
    composite = np.clip(real + 5, 0, 255)
    pasted = mask[..., None] * np.clip(prediction, 0, 255) + (1 - mask[..., None]) * composite
    for protocol in metrics.PROTOCOLS:
        got = metrics.score(prediction, real, mask, protocol, blend=composite)
        np.testing.assert_allclose(list(got.values()), reference(pasted, real, mask, protocol), rtol=1e-9)
    hard = mask > 0.5
    assert metrics.score(prediction, real, hard, "ht256", blend=real)["mse"] == pytest.approx(
        metrics.score(prediction, real, hard, "fullres")["mse"]
    )


def test_an_empty_mask_has_no_foreground_error():
    prediction, real, mask = random_case(5, "hard", np.uint8)
    for protocol in metrics.PROTOCOLS:
        got = metrics.score(prediction, real, np.zeros_like(mask), protocol)
        assert math.isnan(got["fmse"]) and math.isnan(got["fpsnr"]) and not math.isnan(got["mse"])


def test_identical_images():
    _, real, mask = random_case(6, "hard", np.uint8)
    real[0, 0] = 255  # so that every peak of 255 is one
    for protocol, rules in metrics.PROTOCOLS.items():
        got = metrics.score(real, real, mask, protocol)
        assert got["mse"] == got["fmse"] == 0
        expected = math.inf if rules.eps == 0 else 10 * math.log10(255**2 / 1e-6)
        assert got["psnr"] == got["fpsnr"] == pytest.approx(expected)


def test_a_peak_of_zero_gives_no_psnr():
    _, real, mask = random_case(7, "hard", np.uint8)
    got = metrics.score(np.full_like(real, 90), real, mask, "bcmi256")
    assert math.isnan(got["psnr"]) and math.isnan(got["fpsnr"]) and got["mse"] > 0
    assert math.isnan(metrics.score(real, np.zeros_like(real), mask, "idih256")["psnr"])
    assert math.isfinite(metrics.score(np.full_like(real, 90), real, mask, "ht256")["psnr"])


def test_predictions_are_clamped_and_not_rounded():
    real, mask = np.full((4, 4, 3), 250.0), np.ones((4, 4))
    assert metrics.score(real + 100, real, mask, "ht256")["mse"] == pytest.approx(25)
    assert metrics.score(real + 0.25, real, mask, "ht256")["mse"] == pytest.approx(0.0625)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mask": np.ones((4, 5))}, "mask does not fit"),
        ({"prediction": np.zeros((5, 4, 3))}, "prediction does not fit"),
        ({"prediction": np.zeros((4, 4, 4))}, "HxWx3"),
        ({"real": np.zeros((4, 4))}, "HxWx3"),
        ({"mask": np.ones((4, 4, 1))}, "HxW"),
        ({"mask": np.full((4, 4), 255, np.uint8)}, r"expected \[0,1\]"),
        ({"mask": np.full((4, 4), -0.5)}, r"expected \[0,1\]"),
        ({"mask": np.full((4, 4), np.nan)}, "not finite"),
        ({"prediction": np.full((4, 4, 3), np.nan)}, "prediction has pixels that are not finite"),
        ({"prediction": np.full((4, 4, 3), np.inf)}, "not finite"),
        ({"real": np.full((4, 4, 3), -np.inf)}, "real has pixels that are not finite"),
        ({"real": np.full((4, 4, 3), 65535, np.uint16)}, r"expected \[0,255\]"),
        ({"real": np.full((4, 4, 3), 0.5)}, "multiply"),
        ({"blend": np.zeros((4, 3, 3))}, "blend does not fit"),
        ({"real": np.full((4, 4, 3), 1j)}, "real numbers"),
        ({"prediction": np.zeros((0, 4, 3)), "real": np.zeros((0, 4, 3)), "mask": np.zeros((0, 4))}, "one pixel"),
        ({"protocol": "psnr"}, "choose one of"),
    ],
)
def test_errors_are_one_line(change, words):
    good = {"prediction": np.full((4, 4, 3), 9.0), "real": np.full((4, 4, 3), 100.0), "mask": np.ones((4, 4))}
    with pytest.raises(HarmonyError, match=words) as raised:
        metrics.score(**(good | change))
    assert "\n" not in str(raised.value)


def test_the_scale_of_s2am_t4():
    assert metrics.from_s2am_t4(0.1304) == pytest.approx(706.6, abs=0.05)
    assert metrics.to_s2am_t4(996.59) == pytest.approx(0.1839, abs=5e-5)
    prediction, real, mask = random_case(8, "hard", np.uint8)
    converted = metrics.to_s2am_t4(metrics.score(prediction, real, mask, "ht256")["fmse"])
    assert metrics.score(prediction, real, mask, "s2am_t4")["fmse"] == pytest.approx(converted, rel=1e-9)


def test_captions_name_size_and_blend():
    assert metrics.caption("bcmi256") == metrics.caption("bcmi256", 256) == "bcmi256"
    assert metrics.caption("bcmi256", 64) == "bcmi256@64"
    assert metrics.caption("fullres", blend=True) == "fullres (background re-pasted)"


# ------------------------------------------------------------------------------------- from files to evaluation size


@pytest.fixture
def triplet(tmp_path):
    rng = np.random.default_rng(9)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    real = np.array(coarse.resize((120, 90), Image.Resampling.BICUBIC))
    mask = np.zeros((90, 120), np.uint8)
    mask[20:60, 30:90] = 255
    mask[20:60, 30:33] = 90  # a soft edge
    composite = np.where(mask[..., None] > 0, real // 2, real)
    for name, array in (("composite", composite), ("mask", mask), ("real", real)):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    return tmp_path


def read(folder, protocol, size=None):
    return metrics.read_triplet(*(folder / f"{name}.png" for name in ("composite", "mask", "real")), protocol, size)


@pytest.mark.parametrize("protocol", metrics.PROTOCOLS)
def test_read_triplet(triplet, protocol):
    composite, real, mask = read(triplet, protocol)
    height, width = (90, 120) if protocol == "fullres" else (256, 256)
    assert composite.shape == real.shape == (height, width, 3) and mask.shape == (height, width)
    assert (real == real.round()).all() and real.min() >= 0 and real.max() <= 255
    is_soft = metrics.PROTOCOLS[protocol].mask == "soft"
    assert (((mask > 0) & (mask < 1)).any()) == is_soft
    assert mask.mean() == pytest.approx((40 * 57 + is_soft * 40 * 3 * 90 / 255) / (90 * 120), rel=0.02)
    assert metrics.score(composite, real, mask, protocol)["fmse"] > 0


def test_size_overrides_the_protocols(triplet):
    composite, real, mask = read(triplet, "bcmi256", 64)
    assert composite.shape == real.shape == (64, 64, 3) and mask.shape == (64, 64)
    with pytest.raises(HarmonyError, match="own size"):
        read(triplet, "fullres", 64)


def test_resamplers_are_the_named_ones(triplet):
    image = Image.open(triplet / "real.png")
    for protocol, kernel in (("bcmi256", Image.Resampling.BICUBIC), ("s2am_t4", Image.Resampling.BILINEAR)):
        expected = np.array(image.resize((32, 32), kernel))
        np.testing.assert_array_equal(metrics.resize_image(image, protocol, 32), expected)
        np.testing.assert_array_equal(metrics.resize_image(np.array(image), protocol, 32), expected)


def test_bilinear_without_antialias_takes_two_taps():
    ramp = np.zeros((2, 9, 3), np.uint8)
    ramp[:, 4] = 90  # one bright column of nine
    # at a third of the width, half-pixel centres fall on columns 1, 4 and 7: no neighbour is averaged in
    np.testing.assert_array_equal(metrics.resize_image(ramp, "idih256", 3)[0, :, 0], [0, 90, 0])
    # at two columns the centres are 1.75 and 6.25; at four 0.625, 2.875, 5.125 and 7.375
    np.testing.assert_array_equal(metrics.resize_image(ramp, "idih256", 4)[0, :, 0], [0, 0, 0, 0])
    shifted = np.roll(ramp, -1, axis=1)
    np.testing.assert_array_equal(metrics.resize_image(shifted, "idih256", 4)[0, :, 0], [0, round(90 * 0.875), 0, 0])


def test_bilinear_without_antialias_drops_bits_as_fixed_point_does():
    pair = np.array([[10, 11]], np.uint8)[..., None].repeat(3, axis=2)
    # three columns of two have their centres at 0, 0.5 and 1: 10.5 is 42 quarters, and halves are rounded up
    np.testing.assert_array_equal(metrics.resize_image(pair, "idih256", 3)[0, :, 0], [10, 11, 11])
    large = np.random.default_rng(10).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    exact = metrics.resize_mask(large[..., 0], "idih256", 64) * 255
    levels = metrics.resize_image(large, "idih256", 64)[..., 0]
    assert np.abs(levels - exact).max() < 1 and -0.3 < (levels - exact).mean() < -0.02


def test_binary_masks_are_thresholded_before_resizing_and_not_dithered():
    levels = np.tile(np.array([0, 127, 128, 255], np.uint8), (4, 1))
    for mask in (levels, Image.fromarray(levels), Image.fromarray(levels).convert("RGB")):
        np.testing.assert_array_equal(metrics.resize_mask(mask, "bcmi256", 4)[0], [0, 0, 1, 1])
    np.testing.assert_allclose(metrics.resize_mask(levels, "fullres")[0], np.array([0, 127, 128, 255]) / 255)
    np.testing.assert_array_equal(metrics.resize_mask(levels > 127, "idih256", 4)[0], [0, 0, 1, 1])
    assert set(np.unique(metrics.resize_mask(np.full((50, 50), 100, np.uint8), "ht256", 20))) == {0}


def test_unreadable_files_are_named(triplet):
    data = (triplet / "real.png").read_bytes()
    (triplet / "real.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(HarmonyError, match=r"real\.png: cannot be read"):
        read(triplet, "bcmi256")
    (triplet / "real.png").write_text("not a picture")
    with pytest.raises(HarmonyError, match=r"real\.png: cannot be read"):
        read(triplet, "bcmi256")
    (triplet / "real.png").unlink()
    with pytest.raises(HarmonyError, match=r"real\.png: no such file"):
        read(triplet, "bcmi256")


def test_a_triplet_has_one_size(triplet):
    Image.new("L", (120, 91)).save(triplet / "mask.png")
    with pytest.raises(HarmonyError, match=r"mask\.png is 120x91"):
        read(triplet, "bcmi256")


def test_pictures_of_more_than_8_bits_are_refused(triplet):
    Image.fromarray(np.full((90, 120), 60000, np.uint16)).save(triplet / "mask.png")
    with pytest.raises(HarmonyError, match="8 bits"):
        read(triplet, "bcmi256")


# How closely each protocol's numbers, measured elsewhere, must come out here: full resolution needs no resampling; the
# others depend on the last level of decoders and resamplers, which differ between builds.
TOLERANCE = {"fullres": {"rtol": 1e-6}, "bcmi256": {"rtol": 1e-3}, "ht256": {"rtol": 1e-3}, "idih256": {"rtol": 5e-3}}


@pytest.mark.skipif(not os.environ.get("HARMONY_TRIPLETS"), reason="HARMONY_TRIPLETS names no folder of triplets")
def test_measured_triplets():
    root = Path(os.environ["HARMONY_TRIPLETS"])
    expected = pd.read_csv(root / "expected.csv")
    for row in expected.to_dict("records"):
        name, folder = row["name"], root / row["subset"]
        paths = (
            folder / "composite_images" / f"{name}.jpg",
            folder / "masks" / f"{name.rsplit('_', 1)[0]}.png",
            folder / "real_images" / f"{name.split('_')[0]}.jpg",
        )
        for protocol, tolerance in TOLERANCE.items():
            composite, real, mask = metrics.read_triplet(*paths, protocol)
            got = metrics.score(composite, real, mask, protocol) | {"mask_area": mask.sum()}
            for metric, value in got.items():
                if (column := f"{protocol}_{metric}") in row:
                    np.testing.assert_allclose(value, row[column], err_msg=f"{name} {column}", **tolerance)


# ------------------------------------------------------------------------------------------------------- averages


def test_summarise_is_the_mean_of_images_and_counts_what_is_left_out():
    rows = pd.DataFrame(
        {
            "subset": ["B", "B", "A", "B"],
            "mse": [1.0, 2.0, 5.0, 0.0],
            "psnr": [30.0, 20.0, 10.0, np.inf],
            "fmse": [4.0, np.nan, 7.0, 0.0],
            "fpsnr": [20.0, np.nan, 9.0, np.inf],
        }
    )
    table = metrics.summarise(rows, by="subset")
    assert list(table["subset"]) == ["B", "A"]
    first = table.iloc[0]
    assert (first["n"], first["mse"], first["psnr"], first["fmse"], first["fpsnr"]) == (3, 1.0, 25.0, 2.0, 20.0)
    assert (first["left_out"], first["infinite"]) == (1, 1)
    whole = metrics.summarise(rows)
    assert len(whole) == 1 and whole.loc[0, "n"] == 4 and whole.loc[0, "mse"] == 2.0
    assert whole["n"].dtype == int
    with pytest.raises(HarmonyError, match="fpsnr"):
        metrics.summarise(rows.drop(columns="fpsnr"))


def test_ratio_bins_are_half_open():
    bins = [metrics.ratio_bin(ratio) for ratio in (0, 0.0499, 0.05, 0.1499, 0.15, 1)]
    assert bins == ["0-5 %", "0-5 %", "5-15 %", "5-15 %", "15-100 %", "15-100 %"]
    for ratio in (-0.1, 1.1, math.nan, 15):
        with pytest.raises(HarmonyError, match="share"):
            metrics.ratio_bin(ratio)


@pytest.mark.parametrize("protocol", metrics.PROTOCOLS)
def test_whole_numbers_give_the_same_as_fractions(protocol):
    """8-bit pictures with a hard mask are scored another way: the same, an empty mask and odd memory included."""
    rng = np.random.default_rng(5)
    pictures = torch.from_numpy(rng.integers(0, 256, (2, 4, 3, 30, 41), dtype=np.uint8))
    pictures[0, 1] = pictures[1, 1]
    mask = torch.from_numpy(rng.random((4, 1, 30, 41)) > 0.7)
    mask[2] = False
    expected = metrics.score_batch(*pictures.float(), mask.float(), protocol)
    for layout in (torch.contiguous_format, torch.channels_last):
        found = metrics.score_batch(*(p.contiguous(memory_format=layout) for p in pictures), mask, protocol)
        for name in metrics.METRICS:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-7, atol=0, equal_nan=True)

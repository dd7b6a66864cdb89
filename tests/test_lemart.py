"""LEMaRT: masks, transforms, and composites of which every one is visibly changed."""

import math

import pytest
import torch
import torch.nn.functional as F

import harmonylib as hl
from harmonylib import masks
from harmonylib.lemart import MIN_CHANGE, LEMaRT, blend
from harmonylib.transforms import CHROMA, DOMAIN, QUARTER_TURN, TRANSFORMS, Transform, adjust, configured, discs

ALL = ("brightness", "contrast", "saturation", "hue", "sharpness", "defocus")
SIZES = [(32, 32, 16), (17, 34, 17), (2, 2, 2), (9, 15, 3), (24, 40, 4)]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photographs(batch: int = 4, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    """Smooth colours with a little texture, away from black and white."""
    coarse = torch.rand(batch, 3, 4, 4, generator=rng(seed))
    smooth = F.interpolate(coarse, (height, width), mode="bilinear")
    return 0.25 + 0.4 * smooth + 0.1 * torch.rand(batch, 3, height, width, generator=rng(seed + 1))


def nasty(height: int = 32, width: int = 32) -> torch.Tensor:
    """Pictures that one transform or another cannot change: flat, grey, nearly black or white, noise, edges."""
    flat = [(0, 0, 0), (1, 1, 1), (0.5, 0.5, 0.5), (1, 0, 0), (0, 0, 1), (0.01, 0, 0.02), (0.99, 1, 0.98)]
    pictures = [torch.tensor(colour, dtype=torch.float32)[:, None, None].expand(3, height, width) for colour in flat]
    noise = torch.rand(3, height, width, generator=rng(9))
    ramp = torch.linspace(0, 1, width).expand(3, height, width)
    spot = torch.zeros(3, height, width)
    spot[:, 0, 0] = 1
    return torch.stack([*pictures, noise, noise.round(), noise[:1].round().expand(3, -1, -1), noise * 0.02, ramp, spot])


def change(images, composite, mask):
    """Mean absolute change inside the mask, per image."""
    inside = mask.expand_as(images).bool()
    return torch.stack([(c - i).abs()[m].mean() for i, c, m in zip(images, composite, inside, strict=True)])


def luma(images):
    return torch.einsum("c,bchw->bhw", torch.tensor([0.299, 0.587, 0.114]), images)


def laplacian(images):
    """Energy of the second differences, per image."""
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).expand(3, 1, 3, 3)
    return F.conv2d(images, kernel, groups=3).square().mean((1, 2, 3))


# ------------------------------------------------------------------------------------------------------ composites


@pytest.mark.parametrize("strategy", masks.STRATEGIES)
@pytest.mark.parametrize(("height", "width", "cells"), SIZES)
def test_composite_is_the_image_outside_and_the_transform_inside(strategy, height, width, cells):
    images = photographs(3, height, width)
    image, transformed, mask, composite = LEMaRT(strategy, cells=cells).steps(images, rng(3))
    assert image is images
    assert mask.shape == (3, 1, height, width) and composite.shape == images.shape
    assert ((mask == 0) | (mask == 1)).all()
    assert torch.equal(composite, torch.where(mask.bool(), transformed, images))
    assert composite.min() >= 0 and composite.max() <= 1


@pytest.mark.parametrize("strategy", masks.STRATEGIES)
@pytest.mark.parametrize(("height", "width", "cells"), SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_every_image_is_visibly_changed(strategy, height, width, cells, seed):
    images = nasty(height, width)
    composite, mask = LEMaRT(strategy, cells=cells)(images, generator=rng(seed))
    assert change(images, composite, mask).min() >= MIN_CHANGE == 0.02
    assert torch.equal(composite[mask.expand_as(images) == 0], images[mask.expand_as(images) == 0])
    assert composite.min() >= 0 and composite.max() <= 1


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("seed", range(3))
def test_every_image_is_visibly_changed_by_one_transform(name, seed):
    images = torch.cat([nasty(), photographs(8, seed=seed)])
    composite, mask = LEMaRT(transforms=name)(images, generator=rng(seed))
    assert change(images, composite, mask).min() >= MIN_CHANGE


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.7, 0.9])
def test_every_image_is_visibly_changed_at_other_ratios(ratio):
    for strategy in ("random", "block"):
        images = nasty()
        composite, mask = LEMaRT(strategy, ratio)(images, generator=rng())
        assert change(images, composite, mask).min() >= MIN_CHANGE


def test_faint_transforms_are_drawn_again_stronger():
    """The transform itself gets stronger: no exposure is mixed in as long as it can act."""
    images = photographs(8)
    faint = LEMaRT(transforms=Transform("saturation", 0.99, 1.01))
    composite, mask = faint(images, generator=rng())
    assert change(images, composite, mask).min() >= MIN_CHANGE
    assert torch.allclose(luma(composite), luma(images), atol=1e-5)
    images = photographs(32)
    chroma = LEMaRT(transforms=[Transform("saturation", 0.8, 1.2), Transform("hue", -20, 20)])
    assert not (change(images, adjust(images, chroma._draw(images, rng())), torch.ones(32, 1, 32, 32)) > 0.02).all()
    composite, mask = chroma(images, generator=rng())
    assert change(images, composite, mask).min() >= MIN_CHANGE
    assert change(luma(images)[:, None], luma(composite)[:, None], mask).max() < MIN_CHANGE  # exposing moves it by 0.05


def test_what_one_transform_cannot_change_is_exposed():
    grey = torch.full((2, 3, 32, 32), 0.25)
    grey[1] = 0.75
    composite, mask = LEMaRT(transforms="saturation")(grey, generator=rng())
    moved = ((composite - grey) * mask).sum((1, 2, 3))
    assert moved[0] > 0 > moved[1]


def test_images_that_changed_enough_are_left_as_drawn():
    images = torch.cat([photographs(7), torch.zeros(1, 3, 32, 32)])
    lemart = LEMaRT("grid", transforms="brightness")
    first = adjust(images, lemart._draw(images, rng(1)))
    drawn = blend(images, first, lemart.masks(images))
    kept = change(images, drawn, lemart.masks(images)) > 1.1 * MIN_CHANGE
    composite, _ = lemart(images, generator=rng(1))
    assert 2 < kept.sum() < 8
    assert torch.equal(composite[kept], drawn[kept])


@pytest.mark.parametrize("strategy", masks.STRATEGIES)
def test_deterministic_for_a_generator(strategy):
    images = torch.cat([photographs(4), nasty()])
    lemart = LEMaRT(strategy)
    once, again, other = (lemart(images, generator=rng(seed)) for seed in (5, 5, 6))
    assert torch.equal(once[0], again[0]) and torch.equal(once[1], again[1])
    assert not torch.equal(once[0], other[0])


def test_default_generator_is_torchs():
    images = photographs()
    torch.manual_seed(4)
    once = LEMaRT()(images)[0]
    later = LEMaRT()(images)[0]
    torch.manual_seed(4)
    assert torch.equal(LEMaRT()(images)[0], once)
    assert not torch.equal(later, once)


def test_drawn_per_image():
    images = photographs(1).expand(16, -1, -1, -1).contiguous()
    lemart = LEMaRT()
    composite, mask = lemart(images, generator=rng())
    transformed = lemart.transform(images, rng())
    for drawn in (composite, mask, transformed):
        assert len(drawn.flatten(1).unique(dim=0)) == 16


def test_input_is_untouched_in_any_memory_layout():
    images = torch.cat([photographs(4), nasty()])
    kept = images.clone()
    last = images.contiguous(memory_format=torch.channels_last)
    strided = torch.stack([images, images], -1)[..., 0]
    expected = LEMaRT()(images, generator=rng())[0]
    for other in (last, strided):
        assert torch.allclose(LEMaRT()(other, generator=rng())[0], expected, atol=1e-6)
    assert torch.equal(images, kept)


def test_dtype_gradient_autocast_and_empty_batches():
    images = photographs().requires_grad_()
    composite, mask = LEMaRT()(images, generator=rng())
    assert not mask.requires_grad
    double, double_mask = LEMaRT()(images.detach().double(), generator=rng())
    assert double.dtype == double_mask.dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        half = LEMaRT()(images, generator=rng())[0]
    assert half.dtype == torch.float32 and torch.equal(half, composite)
    for strategy in masks.STRATEGIES:
        empty = LEMaRT(strategy)(torch.zeros(0, 3, 32, 32))
        assert empty[0].shape == (0, 3, 32, 32) and empty[1].shape == (0, 1, 32, 32)


def test_parts_are_those_of_the_whole():
    images, lemart = photographs(), LEMaRT("block", 0.3)
    steps = lemart.steps(images, rng(2))
    composite, mask = lemart(images, generator=rng(2))
    assert torch.equal(steps.composite, composite) and torch.equal(steps.mask, mask)
    assert torch.equal(lemart.masks(images, rng(2)), mask)
    assert torch.equal(lemart.transform_only(images, "hue", 20.0), adjust(images, {"hue": 20.0}))
    assert "block" in repr(lemart) and hl.lemart.LEMaRT is LEMaRT


# ----------------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.3, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("cells", [4, 8, 16])
def test_random_masks_have_exactly_the_ratio_in_whole_cells(ratio, cells):
    mask = masks.draw("random", (6, 32, 64), ratio=ratio, cells=cells, generator=rng())
    per_cell = F.avg_pool2d(mask, (32 // cells, 64 // cells))
    assert ((per_cell == 0) | (per_cell == 1)).all()
    assert (per_cell.sum((1, 2, 3)) == round(ratio * cells**2)).all()


def test_random_masks_choose_every_cell_as_often():
    often = masks.draw("random", (2000, 4, 4), ratio=0.25, cells=4, generator=rng()).mean(0)
    assert (often - 0.25).abs().max() < 0.05


def test_grid_is_one_checkerboard_of_half_the_cells():
    mask = masks.draw("grid", (3, 32, 48), cells=8)
    assert torch.equal(mask[0], mask[1]) and torch.equal(mask[0], mask[2])
    cells = mask[0, 0, ::4, ::6]
    assert torch.equal(mask[0, 0], cells.repeat_interleave(4, 0).repeat_interleave(6, 1))
    assert (cells[1:] != cells[:-1]).all() and (cells[:, 1:] != cells[:, :-1]).all()
    assert mask.mean() == 0.5


@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("size", [(64, 64), (17, 13), (3, 4), (20, 90)])
def test_block_masks_cover_between_ratio_and_ratio_and_a_fifth(ratio, size):
    covered = masks.draw("block", (200, *size), ratio=ratio, generator=rng()).double().mean((1, 2, 3))
    assert covered.min() >= ratio - 1e-9
    assert covered.max() <= ratio + 0.2 + 1e-9


def test_block_masks_that_run_out_of_rounds_are_completed(monkeypatch):
    monkeypatch.setattr(masks, "ROUNDS", 1)
    covered = masks.draw("block", (60, 20, 20), ratio=0.7, generator=rng()).double().mean((1, 2, 3))
    assert covered.min() >= 0.7 - 1e-9 and covered.max() <= 0.9 + 1e-9


def test_block_masks_are_slanted_and_differ():
    mask = masks.draw("block", (8, 64, 64), generator=rng())
    assert len(mask.flatten(1).unique(dim=0)) == 8
    widths = masks._fill(masks._quadrilaterals(torch.full((8,), 0.7), rng()), 64, 64).sum(2)
    assert ((widths > 0).sum(1) > 0).all()
    assert max(len(row[row > 0].unique()) for row in widths) > 3


def test_filling_is_the_half_plane_test():
    corners = masks._quadrilaterals(torch.full((50,), 0.7), rng())
    corners[0] = torch.tensor([[0.25, 0.25], [0.25, 0.75], [0.75, 0.75], [0.75, 0.25]])  # level edges
    y, x = ((torch.arange(n) + 0.5) / n for n in (40, 30))
    filled = masks._fill(corners, 40, 30)
    for quadrilateral, pixels in zip(corners, filled, strict=True):
        expected = torch.ones(40, 30, dtype=torch.bool)
        for (ay, ax), (by, bx) in zip(quadrilateral, quadrilateral.roll(-1, 0), strict=True):
            expected &= (bx - ax) * (y[:, None] - ay) - (by - ay) * (x - ax) >= 0
        assert (expected != pixels).sum() <= 1  # a pixel centre on the line itself
    assert filled[0].sum() == 20 * 16  # 20 rows; 15 columns, and one whose centres lie on the edge


# ------------------------------------------------------------------------------------------------------ transforms


def test_brightness_scales_the_mean():
    images = photographs()
    for factor in (0.3, 0.8, 1.1):
        assert torch.allclose(adjust(images, {"brightness": factor}).mean((2, 3)), factor * images.mean((2, 3)))


def test_contrast_keeps_the_mean_luma_and_ends_in_flat_grey():
    images = photographs()
    for factor in (0.0, 0.5, 1.2):
        changed = adjust(images, {"contrast": factor})
        assert torch.allclose(luma(changed).mean((1, 2)), luma(images).mean((1, 2)), atol=1e-5)
        assert torch.allclose(luma(changed).std((1, 2)), factor * luma(images).std((1, 2)), atol=1e-5)
    assert adjust(images, {"contrast": 0.0})[0].std() < 1e-5


def test_saturation_keeps_luma_and_ends_in_grey():
    images = photographs()
    for factor in (0.0, 0.4, 1.3):
        changed = adjust(images, {"saturation": factor})
        assert torch.allclose(luma(changed), luma(images), atol=1e-5)
        spread, before = (x.amax(1) - x.amin(1) for x in (changed, images))
        assert torch.allclose(spread, factor * before, atol=1e-5)


def test_hue_is_a_rotation_of_the_chroma_that_keeps_luma():
    images = photographs() * 0.5 + 0.25
    turned = adjust(images, {"hue": 30.0})
    assert torch.allclose(luma(turned), luma(images), atol=1e-5)
    assert not torch.allclose(turned, images, atol=1e-2)
    assert torch.allclose(adjust(adjust(turned, {"hue": 40.0}), {"hue": -70.0}), images, atol=1e-5)
    assert torch.allclose(QUARTER_TURN @ QUARTER_TURN, -CHROMA, atol=1e-9)
    assert torch.allclose(adjust(images, {"hue": 180.0}), adjust(images, {"hue": -180.0}), atol=1e-5)
    red = torch.tensor([0.6, 0.4, 0.4])[None, :, None, None]
    assert adjust(red, {"hue": 120.0}).flatten().argmax() != 0


def test_sharpness_and_defocus_move_the_laplacian_energy():
    images = photographs()
    sharp, soft, blurred = (adjust(images, s) for s in ({"sharpness": 2.0}, {"sharpness": 0.3}, {"defocus": 0.05}))
    assert (laplacian(sharp) > 1.5 * laplacian(images)).all()
    assert (laplacian(soft) < 0.7 * laplacian(images)).all()
    assert (laplacian(blurred) < 0.5 * laplacian(images)).all()


@pytest.mark.parametrize("radius", [0.3, 0.6, 1.0, 2.5, 4.2, 7.9])
def test_defocus_kernel_is_a_round_disc_of_sum_one(radius):
    (disc,) = discs(torch.tensor([radius], dtype=torch.float64))
    assert disc.sum().item() == pytest.approx(1, abs=1e-12) and disc.min() >= 0
    for same in (disc.flip(0), disc.flip(1), disc.T):
        assert torch.allclose(same, disc)
    ticks = torch.arange(len(disc)) - len(disc) // 2
    distance = torch.hypot(ticks[:, None].double(), ticks.double())
    assert (disc[distance <= radius - 0.5] == disc.max()).all() and (disc[distance >= radius + 0.5] == 0).all()
    if radius > 2:
        assert 1 / disc.max().item() == pytest.approx(math.pi * radius**2, rel=0.1)


def test_defocus_grows_with_the_picture():
    point = torch.zeros(1, 3, 256, 256)
    point[..., 128, 128] = 1
    for side in (64, 256):
        crop = point[..., 128 - side // 2 : 128 + side // 2, 128 - side // 2 : 128 + side // 2]
        lit = (adjust(crop, {"defocus": 0.05})[0, 0, side // 2] > 0).sum().item()
        assert abs(lit - 2 * 0.05 * side) <= 2


def test_neutral_strengths_change_nothing():
    images = photographs()
    for name, (_, _, neutral) in DOMAIN.items():
        assert torch.allclose(adjust(images, {name: neutral}), images, atol=1e-6)


def test_order_means_nothing_while_nothing_is_clipped():
    images = photographs() * 0.4 + 0.3
    strengths = {"brightness": 0.9, "contrast": 0.8, "saturation": 1.1, "hue": 12.0, "sharpness": 1.2, "defocus": 0.04}
    together = adjust(images, strengths)
    for order in (list(strengths), list(strengths)[::-1]):
        one_by_one = images
        for name in order:
            one_by_one = adjust(one_by_one, {name: strengths[name]})
        inner = (..., slice(4, -4), slice(4, -4))  # the border is continued after each filter
        assert torch.allclose(one_by_one[inner], together[inner], atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_strengths_are_per_image(name):
    images = photographs(3)
    smallest, largest, neutral = DOMAIN[name]
    values = [smallest, neutral, largest / 4]
    together = adjust(images, {name: torch.tensor(values)})
    for index, value in enumerate(values):
        alone = adjust(images[index : index + 1], {name: value})
        assert torch.allclose(together[index : index + 1], alone, atol=1e-5)


def test_strengths_follow_range_and_probability():
    images = torch.zeros(4000, 3, 1, 1)
    narrow = {"hue": Transform("hue", 5, 10, probability=0.9), "contrast": Transform("contrast", 0.5, 0.8, 0.3)}
    drawn = LEMaRT(transforms=narrow)._draw(images, rng())
    hue, contrast = drawn["hue"], drawn["contrast"]
    assert (((hue >= 5) & (hue <= 10)) | (hue == 0)).all()
    assert (((contrast >= 0.5) & (contrast <= 0.8)) | (contrast == 1)).all()
    assert ((hue != 0) | (contrast != 1)).all()  # never nothing
    assert (hue != 0).double().mean().item() == pytest.approx(0.9 + 0.07 * 0.84, abs=0.03)
    only = LEMaRT(transforms=["hue"])
    assert only.transforms["hue"].probability == 1 and (only._draw(images, rng())["hue"] != 0).all()


def test_defaults_are_the_six():
    assert tuple(TRANSFORMS) == tuple(DOMAIN) == ALL
    assert configured(None) == TRANSFORMS
    assert list(LEMaRT(transforms=["hue", "defocus"]).transforms) == ["hue", "defocus"]


# ---------------------------------------------------------------------------------------------------------- errors


def test_impossible_options_are_refused(refused):
    with refused("stripes", "random, grid, block"):
        LEMaRT("stripes")
    for ratio in (0, 1, -0.5, 1.5, float("nan"), "half"):
        with refused("ratio", ratio):
            LEMaRT(ratio=ratio)
    for cells in (0, -4, 2.5, True):
        with refused("cells", cells):
            LEMaRT(cells=cells)
    with refused("grid", "ratio=0.5"):
        LEMaRT("grid", ratio=0.3)
    with refused("no foreground", "more cells"):
        LEMaRT(ratio=0.01, cells=4)


def test_impossible_transforms_are_refused(refused):
    with refused("vignette", *ALL):
        LEMaRT(transforms=["hue", "vignette"])
    with refused("vignette", *ALL):
        Transform("vignette", 0, 1)
    with refused("vignette", *ALL):
        LEMaRT.transform_only(photographs(), "vignette", 1.0)
    for low, high in ((1.2, 0.8), (-1, 1), (0.5, 80), (float("nan"), 1)):
        with refused("brightness", low):
            Transform("brightness", low, high)
    with refused("contrast", "changes nothing"):
        Transform("contrast", 1, 1)
    for probability in (0, -0.1, 1.1, float("nan")):
        with refused("hue", "probability"):
            Transform("hue", -5, 5, probability)
    with refused("empty"):
        LEMaRT(transforms=[])
    with refused("hue", "twice"):
        LEMaRT(transforms=["hue", "hue"])
    with refused("3"):
        LEMaRT(transforms=[3])
    with refused("contrast", "hue"):
        LEMaRT(transforms={"contrast": Transform("hue", -5, 5)})


def test_impossible_images_are_refused(refused):
    for shape in ((3, 32, 32), (2, 1, 32, 32), (2, 4, 32, 32)):
        with refused("(B, 3, H, W)", shape):
            LEMaRT()(torch.zeros(shape))
    for images in (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.zeros(1, 3, 32, 32).half()):
        with refused("float32", images.dtype):
            LEMaRT()(images)
    with refused("list", "float32"):
        LEMaRT()([1, 2])
    with refused("cells=16", "40 x 56", "2, 4, 8"):
        LEMaRT()(torch.zeros(1, 3, 40, 56))
    with refused("17 x 13", "block"):
        LEMaRT()(torch.zeros(1, 3, 17, 13))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("strategy", masks.STRATEGIES)
def test_on_the_gpu(strategy, refused):
    images = torch.cat([photographs(4), nasty()]).cuda()
    generators = [torch.Generator("cuda").manual_seed(1) for _ in range(2)]
    (composite, mask), again = (LEMaRT(strategy)(images, generator=g) for g in generators)
    assert composite.is_cuda and mask.is_cuda and torch.equal(composite, again[0])
    assert change(images, composite, mask).min() >= MIN_CHANGE
    assert torch.equal(composite[mask.expand_as(images) == 0], images[mask.expand_as(images) == 0])
    strengths = {"brightness": 0.9, "contrast": 0.8, "saturation": 1.1, "hue": 12.0, "sharpness": 1.2, "defocus": 0.04}
    assert torch.allclose(adjust(images, strengths).cpu(), adjust(images.cpu(), strengths), atol=1e-4)
    with refused("generator", "cuda"):
        LEMaRT()(images, generator=rng())

"""The networks of S2AM-T4 and of Cun and Pun: contract, paper facts, attention."""

import pytest
import torch
from networks import loss_left, pair, parameters, ramps
from torch import nn

from harmonylib.errors import HarmonyError
from harmonylib.models import build, names
from harmonylib.models.attention import ForegroundBackgroundAttention
from harmonylib.models.s2am_original import Pix2PixUNet, SpatiallySeparatedAttention, gaussian_kernel

SMALL = {
    "unet": {"width": 8},
    "s2am": {"width": 8, "heads": 4},
    "s2am_s2asc": {"width": 8, "depth": 5},
    "s2am_s2ad": {"width": 8, "depth": 5},
}


def small(name: str, **options) -> nn.Module:
    torch.manual_seed(0)
    return build(name, **(SMALL[name] | options))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(64, 64), (32, 32), (67, 45), (40, 63)])
def test_shape_of_any_size(name, size):
    image, mask = pair(*size)
    assert small(name)(image, mask).shape == image.shape


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_is_trained(name):
    network = small(name)
    image, mask = pair()
    (network(image, mask) - 0.5).square().mean().backward()
    idle = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-12]
    assert not idle
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_clamped_in_evaluation_only(name):
    network = small(name)
    last = network.head if hasattr(network, "head") else network.up[0]
    nn.init.normal_(last.weight, std=20.0)
    image, mask = pair()
    free = network(image, mask)
    assert free.min() < 0 and free.max() > 1
    clamped = network.eval()(image, mask)
    assert clamped.min() == 0 and clamped.max() == 1


@pytest.mark.parametrize("name", SMALL)
def test_pictures_of_a_batch_are_independent_in_evaluation(name):
    network = small(name).eval()
    image, mask = pair(batch=3)
    mask[1] = 1  # its neighbours must not notice a picture without background
    together = network(image, mask)
    for i in range(3):
        torch.testing.assert_close(network(image[i : i + 1], mask[i : i + 1]), together[i : i + 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_empty_and_full_masks_are_finite(name, value):
    network = small(name)
    image, mask = pair()
    mask[0] = value
    output = network(image, mask)
    output.square().mean().backward()
    assert output.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "mean", "pixel"),
    [
        ("unet", 0.39181, 0.74421),
        ("s2am", 0.39182, 0.74148),
        ("s2am_s2asc", 0.26942, 0.88352),
        ("s2am_s2ad", 0.19642, 1.34867),
    ],
)
def test_golden_output(name, mean, pixel):
    torch.manual_seed(0)
    network = build(name, **SMALL[name])
    image = ramps(32)
    output = network(image, pair()[1])
    assert output.mean().item() == pytest.approx(mean, abs=1e-4)
    assert output[0, 0, 10, 10].item() == pytest.approx(pixel, abs=1e-4)


def test_parameter_counts():
    with torch.device("meta"):
        assert parameters(build("unet")) == 20_550_531
        # LayerNorm, four C x C projections, one bias: C = 256 at 64 x 64, C = 512 at the bottleneck
        assert parameters(build("s2am")) == 20_813_443 == 20_550_531 + 4 * 256**2 + 3 * 256
        assert parameters(build("s2am", place=16)) == 20_550_531 + 4 * 512**2 + 3 * 512


def test_parameter_counts_of_the_published_networks():
    with torch.device("meta"):
        assert parameters(Pix2PixUNet()) == 54_414_979
        assert parameters(build("s2am_s2asc")) == 57_564_055
        assert parameters(build("s2am_s2ad")) == 67_003_051
        modules = [SpatiallySeparatedAttention(channels) for channels in (64, 128, 256, 512)]
    assert [parameters(module) for module in modules] == [150_348, 600_216, 2_398_512, 9_589_344]


def test_published_blur():
    kernel = gaussian_kernel()[0, 0]
    assert kernel[2].tolist() == pytest.approx([0.0339, 0.0718, 0.0922, 0.0718, 0.0339], abs=5e-5)
    assert kernel.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("name", ["s2am_s2asc", "s2am_s2ad"])
def test_published_networks_train_down_to_one_pixel(name):
    network = small(name, depth=6)
    image, mask = pair(64, 64)
    network(image, mask).mean().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(("place", "side"), [(128, 32), (64, 16), (32, 8), (16, 4)])
def test_place_is_relative_to_the_side(place, side):
    network = small("s2am", place=place)
    seen = []
    network.attention.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-1]))
    network(*pair(64, 64))
    assert seen == [side]


@pytest.mark.parametrize("place", [64, 16])
def test_naive_equals_exact(place):
    exact, naive = small("s2am", place=place), small("s2am", place=place, attention="naive")
    nn.init.normal_(exact.attention.project.weight)  # large enough for the block to matter
    naive.load_state_dict(exact.state_dict())
    image, mask = pair()
    mask[1] = 1
    outputs = [network(image, mask) for network in (exact, naive)]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-5)
    for output in outputs:
        (output - image).square().mean().backward()
    for ours, theirs in zip(exact.parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.fixture
def block():
    torch.manual_seed(0)
    block = ForegroundBackgroundAttention(16, 4)
    nn.init.normal_(block.project.weight)
    return block


def half_mask() -> torch.Tensor:
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1  # the left half of an 8 x 8 feature map
    return mask


def test_attention_changes_the_foreground_only(block):
    features = torch.randn(1, 16, 8, 8)
    change = (block(features, half_mask()) - features).abs().amax(dim=1)[0]
    assert (change[:, :4] > 1e-3).all()
    assert (change[:, 4:] == 0).all()


def test_foreground_tokens_are_no_keys(block):
    """What a foreground cell holds reaches that cell alone; what a background cell holds, all of the foreground."""
    features = torch.randn(1, 16, 8, 8)
    other = features.clone()
    other[..., 0, 0] = 5 * torch.randn(1, 16)  # a foreground cell
    before, after = block(features, half_mask()), block(other, half_mask())
    same = torch.ones(8, 8, dtype=torch.bool)
    same[0, 0] = False
    torch.testing.assert_close(after[..., same], before[..., same], rtol=0, atol=1e-6)

    other = features.clone()
    other[..., 0, 7] = 5 * torch.randn(1, 16)  # a background cell
    change = (block(other, half_mask()) - before).abs().amax(dim=1)[0]
    assert (change[:, :4] > 1e-5).all()


@pytest.mark.parametrize("kind", ["exact", "naive", "linear"])
def test_identity_without_background(block, kind):
    block.kind = kind
    features = torch.randn(3, 16, 8, 8, requires_grad=True)
    mask = torch.cat([torch.ones(1, 1, 32, 32), half_mask(), torch.full((1, 1, 32, 32), 0.6)])
    output = block(features, mask)
    torch.testing.assert_close(output[[0, 2]], features[[0, 2]], rtol=0, atol=0)
    assert (output[1] - features[1]).abs().max() > 1e-3
    output.square().sum().backward()
    assert features.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in block.parameters())


def test_identity_without_foreground(block):
    features = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(block(features, torch.zeros(2, 1, 32, 32)), features, rtol=0, atol=0)


def test_a_foreground_smaller_than_a_cell_receives_its_share(block):
    features = torch.randn(1, 16, 8, 8)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 0, 0] = 1  # a sixteenth of one cell
    change = (block(features, mask) - features).abs().amax(dim=1)[0]
    assert change[0, 0] > 0
    assert change.flatten()[1:].max() == 0


def test_training_starts_near_the_network_without_the_block():
    block = ForegroundBackgroundAttention(64, 8)
    features = torch.randn(2, 64, 8, 8)
    change = block(features, torch.cat([half_mask(), half_mask()])) - features
    assert 0 < change.std() < 0.1 * features.std()


def test_s2am_learns_a_shift_of_the_foreground():
    torch.manual_seed(0)
    network = build("s2am", width=8, heads=4)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    assert loss_left(network, optimiser, 60) < 0.1


def test_channels_last_gives_the_same_picture():
    network = small("s2am").eval()
    image, mask = pair()
    expected = network(image, mask)
    last = network.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last), mask)
    torch.testing.assert_close(last, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: build("unte"), "unet, s2am"),
        (lambda: build("s2am", head=4), "width, depth, heads, place, attention"),
        (lambda: build("s2am", heads="8"), "must be int"),
        (lambda: build("s2am", heads=True), "must be int"),
        (lambda: build("s2am", heads=7), "7 heads do not divide 256 channels"),
        (lambda: build("s2am", attention="lazy"), "exact, naive"),
        (lambda: build("s2am", place=48), "128, 64, 32, 16"),
        (lambda: build("s2am", depth=2, place=16), "128, 64"),
        (lambda: build("unet", width=0), "at least 1"),
        (lambda: build("s2am_s2ad", depth=4), "at least 5"),
        (lambda: small("unet")(*pair(15, 32)), "at least 16"),
        (lambda: small("unet")(pair()[0], pair(32, 31)[1]), "mask has shape"),
        (lambda: small("unet")(pair()[1], pair()[1]), "(B, 3, H, W)"),
    ],
)
def test_errors_say_what_exists(call, words):
    with pytest.raises(HarmonyError) as error:
        call()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_names():
    assert set(SMALL) <= set(names())

"""ViT, ResNet, HRNet and HT, which LEMaRT's Table 3 compares with SwinIH: contract, paper facts, options."""

import pytest
import torch
from networks import loss_left, pair, parameters, ramps
from torch import nn

from harmonylib.errors import HarmonyError
from harmonylib.models import build, class_of
from harmonylib.models.vit import sinusoidal_positions

NAMES = ("vit", "resnet", "hrnet", "ht")


def preset(name: str, size: str = "tiny", **options) -> nn.Module:
    torch.manual_seed(0)
    return build(name, **(class_of(name).presets[size] | options))


def is_idle(name: str, key: str) -> bool:
    """A bias that instance normalisation takes away again: ResNet has them because the published generator has."""
    return name == "resnet" and key.endswith("bias") and not key.startswith("head")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (67, 45), (40, 63), (33, 33)])
def test_shape_of_any_size(name, size):
    image, mask = pair(*size)
    output = preset(name)(image, mask)
    assert output.shape == image.shape
    assert output.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", ["tiny", "small", "medium"])
def test_presets_are_smaller_than_the_paper(name, size):
    with torch.device("meta"):
        network, paper = build(name, **class_of(name).presets[size]), build(name)
    assert parameters(network) < parameters(paper) / 2
    image, mask = pair(64, 64)
    assert preset(name, size)(image, mask).shape == image.shape


def test_parameter_counts():
    with torch.device("meta"):
        assert parameters(build("resnet")) == 686_723
        assert parameters(build("resnet", width=128)) == 2_700_547
        assert parameters(build("ht")) == 4_772_867
        # 12 blocks of 12 C^2 weights and 13 C biases and norms, C = 384; embedding, last norm, head
        blocks = 12 * (12 * 384**2 + 13 * 384)
        assert parameters(build("vit")) == blocks + 65 * 384 + 2 * 384 + 385 * 48 == 21_337_776
        # timm's W18-small-v2; 270 channels of 4 branches mixed and normalised, then 48 values a position
        assert parameters(build("hrnet")) == 3_861_296 + 270**2 + 2 * 270 + 271 * 48 == 3_947_744
        assert parameters(build("hrnet", variant="hrnet_w32")) > 29_000_000


@pytest.mark.parametrize("name", NAMES)
def test_skip_has_no_parameters(name):
    shapes = [{key: p.shape for key, p in preset(name, skip=skip).named_parameters()} for skip in (True, False)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("skip", [True, False])
def test_every_parameter_is_trained_from_the_first_step(name, skip):
    network = preset(name, "small", skip=skip)
    image, mask = pair(64, 64)
    (network(image, mask) - 0.3).square().mean().backward()
    gradients = {key: p.grad for key, p in network.named_parameters()}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    idle = [key for key, gradient in gradients.items() if not gradient.abs().max() > 1e-9]
    assert not [key for key in idle if not is_idle(name, key)]


@pytest.mark.parametrize("name", NAMES)
def test_the_change_of_an_untrained_network_is_small(name):
    for network in (preset(name, "small"), preset(name, "medium")):
        image, mask = pair(64, 64)
        change = (network(image, mask) - image).square().mean().sqrt()
        assert 1e-4 < change < 0.06


@pytest.mark.parametrize("name", NAMES)
def test_without_skip_the_composite_is_not_in_the_output(name):
    image, mask = pair()
    for skip, remains in ((True, 1.0), (False, 0.0)):
        network = preset(name, skip=skip)
        nn.init.zeros_(network.head.weight)
        nn.init.zeros_(network.head.bias)
        output = network(image, mask)
        torch.testing.assert_close(output, remains * image + (1 - remains) * 0.5)


@pytest.mark.parametrize("name", ["resnet", "ht"])
def test_the_published_end_is_a_tanh(name):
    network = preset(name, skip=False)
    nn.init.normal_(network.head.weight, std=5.0)
    output = network(*pair())
    assert output.min() >= 0 and output.max() <= 1
    assert output.min() < 0.01 and output.max() > 0.99


@pytest.mark.parametrize("name", NAMES)
def test_clamped_in_evaluation_only(name):
    network = preset(name)
    nn.init.normal_(network.head.weight, std=20.0)
    image, mask = pair()
    free = network(image, mask)
    assert free.min() < 0 and free.max() > 1
    clamped = network.eval()(image, mask)
    assert clamped.min() == 0 and clamped.max() == 1


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_a_batch_are_independent_in_evaluation(name):
    network = preset(name).eval()
    nn.init.normal_(network.head.weight, std=0.1)  # large enough for the network to matter
    image, mask = pair(batch=3)
    mask[1] = 1
    together = network(image, mask)
    for i in range(3):
        torch.testing.assert_close(network(image[i : i + 1], mask[i : i + 1]), together[i : i + 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_flat_pictures_with_empty_and_full_masks_are_finite(name, value):
    network = preset(name)
    output = network(torch.full((2, 3, 32, 32), value), torch.full((2, 1, 32, 32), 1 - value))
    output.square().mean().backward()
    assert output.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_mask_matters(name):
    network = preset(name).eval()
    nn.init.normal_(network.head.weight, std=0.1)
    image, mask = pair()
    assert (network(image, mask) - network(image, 0 * mask)).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["vit", "ht", "hrnet"])
def test_every_pixel_can_see_the_whole_picture(name):
    network = preset(name).eval()
    nn.init.normal_(network.head.weight, std=0.1)
    image, mask = pair(64, 64, batch=1)
    image = (0.25 + image / 2).requires_grad_()  # away from the clamp
    output = network(image, mask)
    (seen,) = torch.autograd.grad(output[..., :4, :4].sum(), image)
    assert seen[..., -8:, -8:].abs().max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_learns_a_shift_of_the_foreground(name):
    network = preset(name)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    assert loss_left(network, optimiser, 60) < 0.5


@pytest.mark.parametrize(
    ("name", "mean", "pixel"),
    [("vit", 0.52935, 0.55714), ("resnet", 0.51362, 0.72164), ("hrnet", 0.53863, 0.53463), ("ht", 0.50071, 0.31572)],
)
def test_golden_output(name, mean, pixel):
    network = preset(name, "small", skip=False)
    image = ramps(64)
    output = network(image, pair(64, 64)[1])
    assert output.mean().item() == pytest.approx(mean, abs=1e-4)
    assert output[0, 0, 10, 10].item() == pytest.approx(pixel, abs=1e-4)


def test_positions():
    positions = sinusoidal_positions(5, 7, 16)
    assert positions.shape == (5, 7, 16)
    torch.testing.assert_close(positions[:3, :4], sinusoidal_positions(3, 4, 16))  # a larger picture goes on
    torch.testing.assert_close(positions[2, :, :8], positions[2, :1, :8].expand(7, 8))  # a row's half
    torch.testing.assert_close(positions[:, 3, 8:], positions[:1, 3, 8:].expand(5, 8))  # a column's half
    assert positions[3, 2, 0].item() == pytest.approx(0.141120, abs=1e-6)  # sin 3
    assert positions[3, 2, 4].item() == pytest.approx(-0.989992, abs=1e-6)  # cos 3
    assert positions[3, 2, 9].item() == pytest.approx(0.198669, abs=1e-6)  # sin(2 / 10)
    distances = torch.cdist(positions.flatten(0, 1), positions.flatten(0, 1)) + 9 * torch.eye(35)
    assert distances.min() > 0.1  # no two tokens alike


def test_only_queries_and_keys_of_ht_know_the_place():
    """A picture that looks alike everywhere: all values are one, so that no position can be told in the result."""
    flat = torch.full((1, 3, 32, 32), 0.4), torch.zeros(1, 1, 32, 32)
    cells = preset("ht", skip=False)(*flat).unfold(2, 4, 4).unfold(3, 4, 4)
    torch.testing.assert_close(cells, cells[:, :, :1, :1].expand_as(cells), rtol=0, atol=1e-5)
    cells = preset("vit", skip=False)(*flat).unfold(2, 4, 4).unfold(3, 4, 4)
    assert (cells - cells[:, :, :1, :1]).abs().max() > 1e-2


def test_resnet_works_at_full_resolution():
    network = preset("resnet")
    seen = set()
    for block in (network.stem, *network.blocks):
        block.register_forward_hook(lambda module, inputs, output: seen.add(tuple(output.shape[2:])))
    network(*pair(33, 40))
    assert seen == {(33, 40)}


def test_hrnet_has_four_branches_and_takes_no_weights_from_elsewhere(monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("the network asked for pre-trained weights")

    monkeypatch.setattr("timm.models._builder.load_pretrained", forbidden)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", forbidden)
    for variant in ("w4", "hrnet_w18_small"):
        network = preset("hrnet", variant=variant)
        sides = [feature.shape[-1] for feature in network.backbone(torch.rand(2, 4, 64, 64))]
        assert sides == [16, 8, 4, 2]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: build("vit", heads=7), "7 heads do not divide width 384"),
        (lambda: build("vit", heads=0), "0 heads do not divide width 384"),
        (lambda: build("vit", width=30), "multiple of 4"),
        (lambda: build("vit", width=0), "multiple of 4"),
        (lambda: build("vit", depth=0), "depth must be at least 1"),
        (lambda: build("vit", patch=0), "patch must be at least 1"),
        (lambda: build("vit", skip=1), "must be bool"),
        (lambda: build("ht", heads=3), "ht: 3 heads do not divide width 256"),
        (lambda: build("ht", depth=-1), "ht: depth must be at least 1"),
        (lambda: build("ht", patch=8), "width, depth, heads, skip"),
        (lambda: build("resnet", width=0), "at least 1"),
        (lambda: build("resnet", blocks=0), "at least 1"),
        (lambda: build("hrnet", variant="w5"), "w4, w8, w16"),
        (lambda: build("hrnet", variant=18), "must be str"),
        (lambda: preset("vit")(*pair(3, 32)), "at least 4"),
        (lambda: preset("ht")(*pair(32, 3)), "at least 4"),
        (lambda: preset("resnet")(*pair(3, 32)), "at least 4"),
        (lambda: preset("hrnet")(*pair(31, 64)), "at least 32"),
        (lambda: preset("hrnet")(*pair(batch=1)), "single picture"),
    ],
)
def test_errors_say_what_to_do(call, words):
    with pytest.raises(HarmonyError) as error:
        call()
    assert words in str(error.value)
    assert "\n" not in str(error.value)

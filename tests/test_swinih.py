"""SwinIH, its two variants and the paper's Swin Transformer: contract, paper facts, window attention."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from networks import loss_left, pair, parameters, ramps
from torch import nn

from harmonylib.models import build, class_of
from harmonylib.models.windows import Block, GlobalAttention, PatchMerging, PatchSplitting, WindowAttention

NAMES = ("swinih", "swinih_local", "swinih_ms", "swin_t")
CHANGED = {"swinih_ms": [8, 4, 8], "swin_t": [8, 4, 2]}  # tokens a side in each stage, at 32 px


def tiny(name: str, **options) -> nn.Module:
    torch.manual_seed(0)
    return build(name, **(class_of(name).presets["tiny"] | options))


def maps(network: nn.Module, image: torch.Tensor, mask: torch.Tensor) -> list[list[tuple[int, int]]]:
    """The map that every block of every stage works on, as (H, W)."""
    seen = [[] for _ in network.stages]
    for sizes, stage in zip(seen, network.stages, strict=True):
        for block in stage:
            block.register_forward_hook(lambda _, inputs, output, sizes=sizes: sizes.append(tuple(output.shape[1:3])))
    with torch.no_grad():
        network(image, mask)
    return seen


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(64, 64), (67, 45), (40, 63), (33, 33), (16, 16)])
def test_shape_of_any_size(name, size):
    image, mask = pair(*size)
    output = tiny(name)(image, mask)
    assert output.shape == image.shape
    assert output.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(32, 32), (67, 45)])  # without and with padding inside
@pytest.mark.parametrize("skip", [True, False])
def test_every_parameter_is_trained(name, size, skip):
    network = tiny(name, skip=skip)
    image, mask = pair(*size)
    mask[0] = 0
    (network(image, mask) - 0.5).square().mean().backward()
    idle = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-10]
    assert not idle
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_clamped_in_evaluation_only(name):
    network = tiny(name)
    nn.init.normal_(network.head.weight, std=20.0)
    free = network(*pair())
    assert free.min() < 0 and free.max() > 1
    clamped = network.eval()(*pair())
    torch.testing.assert_close(clamped, free.clamp(0, 1), rtol=0, atol=1e-4)
    assert clamped.min() == 0 and clamped.max() == 1


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_a_batch_are_independent_in_evaluation(name):
    network = loud(tiny(name)).eval()
    image, mask = pair(36, 44, batch=3)
    mask[1] = 1
    together = network(image, mask)
    for i in range(3):
        torch.testing.assert_close(network(image[i : i + 1], mask[i : i + 1]), together[i : i + 1], rtol=0, atol=1e-5)


def loud(network: nn.Module) -> nn.Module:
    """With a head that makes differences between two networks, or two inputs, visible."""
    nn.init.xavier_uniform_(network.head.weight)
    return network


@pytest.mark.parametrize(
    ("name", "mean", "pixel"),
    [
        ("swinih", 0.59164, 0.43988),
        ("swinih_local", 0.47982, 1.21651),
        ("swinih_ms", 0.39654, 0.56987),
        ("swin_t", 0.49672, 0.03610),
    ],
)
def test_golden_output(name, mean, pixel):
    network = loud(tiny(name))
    image = ramps(32)
    output = network(image, pair()[1])
    assert output.mean().item() == pytest.approx(mean, abs=1e-4)
    assert output[0, 0, 10, 10].item() == pytest.approx(pixel, abs=1e-4)


def test_parameter_counts():
    with torch.device("meta"):
        swinih = build("swinih")
        assert parameters(swinih) == 22_537_380
        assert [parameters(stage) for stage in swinih.stages] == [642_444, 2_464_536, 16_079_440 + 3_152_384]
        # one relative position bias more: 16 heads, 63 x 63 positions
        assert parameters(build("swinih_local")) == 22_600_884 == 22_537_380 + 16 * 63**2
        assert parameters(build("swinih_ms")) == 23_029_668
        assert parameters(build("swin_t")) == 23_732_404
        assert parameters(build("swinih", skip=False)) == 22_537_380


def test_blocks_are_those_of_the_paper():
    with torch.device("meta"):
        swinih = build("swinih")
    kinds = [[type(block.attention) for block in stage] for stage in swinih.stages]
    assert kinds == [[WindowAttention] * 3, [WindowAttention] * 3, [WindowAttention] * 5 + [GlobalAttention]]
    windows = [module for module in swinih.modules() if isinstance(module, WindowAttention)]
    assert [a.shifted for a in windows] == [False, True, False] * 2 + [False, True, False, True, False]
    assert {a.window for a in windows} == {32}
    assert swinih.stages[2][0].mlp[0].out_features == 4 * 512


@pytest.mark.parametrize("name", ["swinih_local", "swin_t"])
def test_local_networks_end_with_a_window_block(name):
    last = tiny(name, depths=(1, 1, 1)).stages[-1][-1].attention
    assert isinstance(last, WindowAttention) and last.shifted
    assert not any(isinstance(module, GlobalAttention) for module in tiny(name).modules())


@pytest.mark.parametrize("name", ["swinih", "swinih_local"])
def test_swinih_keeps_64_x_64_tokens(name):
    seen = maps(tiny(name, window=32), *pair(256, 256, batch=1))
    assert [set(stage) for stage in seen] == [{(64, 64)}] * 3


@pytest.mark.parametrize("name", CHANGED)
def test_resolution_is_reduced(name):
    sides = [{(8 * side, 8 * side)} for side in CHANGED[name]]
    assert [set(stage) for stage in maps(tiny(name), *pair(256, 256, batch=1))] == sides


def test_splitting_undoes_merging():
    """With weights that copy, a merged and split map is the old one: the four tokens return to their places."""
    merge, split = PatchMerging(3, 12), PatchSplitting(12, 3)
    merge.norm = split.norm = nn.Identity()
    for linear in (merge.reduce, split.enlarge):
        nn.init.eye_(linear.weight)
    x = torch.randn(2, 6, 4, 3)
    assert merge(x).shape == (2, 3, 2, 12)
    torch.testing.assert_close(split(merge(x)), x, rtol=0, atol=0)
    torch.testing.assert_close(merge(x)[0, 1, 1], x[0, 2:4, 2:4].flatten(), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_untrained_network_is_near_doing_nothing(name):
    image, mask = pair(64, 64)
    change = tiny(name)(image, mask) - image
    assert 0 < change.abs().max() < 0.2
    assert change.std() < 0.03
    grey = tiny(name, skip=False)(image, mask)
    assert grey.mean().item() == pytest.approx(0.5, abs=0.3)
    assert (grey - image).std() > 0.1


def test_the_mask_is_an_input():
    network = loud(tiny("swinih"))
    image, mask = pair()
    assert (network(image, mask) - network(image, 1 - mask)).abs().max() > 1e-2


def test_global_block_sees_the_whole_picture():
    """With one unshifted block a stage, a corner's influence ends at its window's border unless a block is global."""
    image, mask = pair(64, 64)
    other = image.clone()
    other[..., :4, :4] = 1 - other[..., :4, :4]
    reach = {}
    for name in ("swinih", "swinih_local"):
        network = loud(tiny(name, depths=(1, 1, 1)))
        if name == "swinih_local":
            network.stages[-1][-1].attention.shifted = False
        reach[name] = (network(other, mask) - network(image, mask)).abs().amax(dim=(0, 1))
    assert (reach["swinih"][16:, 16:] > 0).float().mean() > 0.9
    assert reach["swinih_local"][:16, :16].max() > 0
    assert reach["swinih_local"][16:].max() == 0 and reach["swinih_local"][:, 16:].max() == 0


def attention(dim: int = 6, heads: int = 2, window: int = 4, shifted: bool = False) -> WindowAttention:
    torch.manual_seed(0)
    layer = WindowAttention(dim, heads, window, shifted)
    nn.init.normal_(layer.table)  # large enough for the bias to matter
    nn.init.normal_(layer.qkv.bias)
    return layer


def windows_of(side: int, window: int, shifted: bool) -> list[list[int]]:
    """The rows (or columns) that share a window. Shifting starts half a window later, so a shorter one comes first."""
    length = min(window, side)
    start = length // 2 if shifted and length < side else 0
    borders = [0, *range(start or length, side, length), side]
    return [list(range(first, last)) for first, last in pairwise(borders)]


def oracle(layer: WindowAttention, picture: torch.Tensor) -> torch.Tensor:
    """Window attention token by token, on the map as it is: no roll, no padding, no mask."""
    height, width, dim = picture.shape
    query, key, value = layer.qkv(picture).view(height, width, 3, layer.heads, -1).unbind(2)
    output = torch.empty(height, width, layer.heads, dim // layer.heads)
    for rows in windows_of(height, layer.window, layer.shifted):
        for columns in windows_of(width, layer.window, layer.shifted):
            tokens = [(y, x) for y in rows for x in columns]
            for head in range(layer.heads):
                for y, x in tokens:
                    scores = torch.stack(
                        [
                            query[y, x, head] @ key[v, u, head] * (dim // layer.heads) ** -0.5
                            + layer.table[head, y - v + layer.window - 1, x - u + layer.window - 1]
                            for v, u in tokens
                        ]
                    )
                    weights = scores.exp() / scores.exp().sum()
                    output[y, x, head] = sum(w * value[v, u, head] for w, (v, u) in zip(weights, tokens, strict=True))
    return layer.project(output.flatten(2))


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(
    ("size", "window"),
    [((8, 8), 4), ((7, 10), 4), ((8, 3), 5), ((3, 8), 4), ((3, 3), 4), ((6, 9), 3), ((1, 6), 4)],
)
def test_window_attention_equals_the_oracle(size, window, shifted):
    layer = attention(window=window, shifted=shifted)
    x = torch.randn(2, *size, 6)
    with torch.no_grad():
        expected = torch.stack([oracle(layer, one) for one in x])
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)  # with gradients: another kernel


def test_window_attention_learns_like_the_oracle():
    layer = attention(shifted=True)
    x = torch.randn(1, 7, 5, 6)
    weight = torch.randn(7, 5, 6)
    grads = []
    for output in (layer(x)[0], oracle(layer, x[0])):
        layer.zero_grad()
        (output * weight).sum().backward()
        grads.append([p.grad.clone() for p in layer.parameters()])
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_kept_mask_follows_the_map_and_serves_training_after_evaluation():
    layer = attention(shifted=True)
    with torch.inference_mode():
        layer(torch.randn(1, 8, 8, 6))
    for size in [(8, 8), (8, 5), (5, 8), (8, 8)]:
        x = torch.randn(1, *size, 6)
        output = layer(x)
        with torch.no_grad():
            torch.testing.assert_close(output[0], oracle(layer, x[0]), rtol=0, atol=1e-5)
        output.sum().backward()
    assert "_strangers" not in layer.state_dict() and "offsets" not in layer.state_dict()


def test_global_attention_equals_softmax():
    torch.manual_seed(0)
    layer = GlobalAttention(8, 2)
    x = torch.randn(2, 5, 3, 8)
    query, key, value = layer.qkv(x).view(2, 15, 3, 2, 4).permute(2, 0, 3, 1, 4)
    attended = (query @ key.mT / 2).softmax(dim=-1) @ value
    expected = layer.project(attended.transpose(1, 2).reshape(2, 5, 3, 8))
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)


def test_block_is_pre_norm_with_two_residuals():
    torch.manual_seed(0)
    block = Block(8, nn.Linear(8, 8), mlp_ratio=2.0)
    x = torch.randn(2, 3, 3, 8)
    middle = x + block.attention(F.layer_norm(x, (8,)))
    torch.testing.assert_close(block(x), middle + block.mlp(F.layer_norm(middle, (8,))))
    assert block.mlp[0].out_features == 16


@pytest.mark.parametrize("name", NAMES)
def test_presets_grow(name):
    presets = class_of(name).presets
    assert list(presets) == ["tiny", "small", "medium", "reduced"]
    with torch.device("meta"):
        sizes = [parameters(build(name, **presets[preset])) for preset in presets]
    assert sizes == sorted(sizes)


def test_learns_a_shift_of_the_foreground():
    network = tiny("swinih")
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3, betas=(0.9, 0.95))
    assert loss_left(network, optimiser, 40) < 0.1


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("swinih", {"heads": (4, 8, 15)}, "15 heads do not divide 512 channels"),
        ("swinih", {"heads": (0, 8, 16)}, "heads must be three positive integers"),
        ("swinih", {"heads": (4, 8)}, "heads must be three positive integers"),
        ("swinih", {"depths": (3, 3, 5, 2)}, "depths must be three positive integers"),
        ("swinih_ms", {"depths": (3, 3, 0)}, "SwinIHMS: depths must be three positive integers"),
        ("swin_t", {"depths": (3, 3, 2.5)}, "depths must be three positive integers"),
        ("swinih", {"depths": [3, 3, 5]}, "must be tuple"),
        ("swinih_local", {"window": 0}, "SwinIHLocal: window must be at least 1"),
        ("swinih", {"patch": 0}, "patch must be at least 1"),
        ("swinih", {"dim": 0}, "dim must be at least 1"),
        ("swinih", {"mlp_ratio": 0.001}, "mlp_ratio 0.001"),
        ("swinih", {"skip": 1}, "must be bool"),
    ],
)
def test_impossible_options_are_refused(name, options, words, refused):
    with refused(words), torch.device("meta"):
        build(name, **options)


@pytest.mark.parametrize(("name", "least"), [("swinih", 4), ("swinih_ms", 8), ("swin_t", 16)])
def test_pictures_smaller_than_the_coarsest_token_are_refused(name, least, refused):
    network = tiny(name)
    assert network(*pair(least, least + 1)).isfinite().all()
    with refused(f"at least {least}"):
        network(*pair(least - 1, 32))


@pytest.mark.slow
def test_one_step_at_the_size_of_the_paper():
    torch.manual_seed(0)
    network = build("swinih")
    optimiser = torch.optim.AdamW(network.parameters(), 1e-4, betas=(0.9, 0.95), weight_decay=0.05)
    image, mask = pair(256, 256, batch=1)
    before = {key: p.detach().clone() for key, p in network.named_parameters()}
    loss = (network(image, mask) - 0.5).square().mean()
    loss.backward()
    optimiser.step()
    assert loss.isfinite()
    assert all(p.isfinite().all() and not p.equal(before[key]) for key, p in network.named_parameters())

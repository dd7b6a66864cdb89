"""Linear attention, and leaving out the cells that neither ask nor answer: same rules, less work."""

import pytest
import torch
from networks import loss_left, pair
from torch import nn

from harmonylib import export, memory
from harmonylib.models import attention, build
from harmonylib.models.attention import ForegroundBackgroundAttention, gathered, linear_attention

SIDE, CHANNELS = 24, 16  # 576 cells: nine times what a number of cells is rounded up to


def block(kind: str) -> ForegroundBackgroundAttention:
    torch.manual_seed(0)
    block = ForegroundBackgroundAttention(CHANNELS, 4, kind)
    nn.init.normal_(block.project.weight)
    return block


def ragged() -> tuple[torch.Tensor, torch.Tensor]:
    """Features and masks: a small object, a large one, one within a cell, none, no background, soft edges all over."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(6, 1, 4 * SIDE, 4 * SIDE)
    mask[0, :, 8:40, 10:30] = 1
    mask[1, :, :, 20:] = 1
    mask[2, :, 50, 50] = 1
    mask[4] = 1
    mask[5] = torch.rand(1, 4 * SIDE, 4 * SIDE, generator=generator) * torch.linspace(0, 2, 4 * SIDE)
    return torch.randn(6, CHANNELS, SIDE, SIDE, generator=generator), mask.clamp(max=1)


def tensors(positions: int = 50) -> tuple[torch.Tensor, ...]:
    """Query, key, value and a bias that hides two thirds of the keys."""
    generator = torch.Generator().manual_seed(2)
    query, key, value = torch.randn(3, 2, 4, positions, 8, generator=generator)
    bias = torch.zeros(2, 1, 1, positions).masked_fill(torch.arange(positions) % 3 > 0, float("-inf"))
    return query, key, value, bias


def test_each_result_is_a_weighted_mean_of_the_background():
    """The weights of Shen et al., written out as the N x N map that is never made."""
    query, key, value, bias = tensors()
    weights = query.softmax(-1) @ (key + bias.mT).softmax(-2).mT  # (B, heads, N, N)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 50))
    assert (weights >= 0).all() and weights[..., bias[0, 0, 0] < 0].max() == 0
    torch.testing.assert_close(linear_attention(query, key, value, bias), weights @ value)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_single(dtype):
    query, key, value, bias = (tensor.to(dtype) for tensor in tensors(5000))
    expected = linear_attention(query.float(), key.float(), value.float(), bias.float())
    with torch.autocast("cpu", dtype):
        found = linear_attention(query, key, value, bias)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_another_function_of_the_same_weights():
    linear, exact = block("linear"), block("exact")
    exact.load_state_dict(linear.state_dict())
    difference = (linear(*ragged()) - exact(*ragged())).abs().amax(dim=(1, 2, 3))
    assert (difference[[0, 1, 2, 5]] > 0.01).all()
    assert (difference[[3, 4]] == 0).all()  # without foreground, and without background


@pytest.mark.parametrize("kind", ["exact", "linear"])
def test_nothing_is_lost_with_the_cells_that_are_left_out(monkeypatch, kind):
    """Outputs and every gradient are as with all cells, however differently the pictures of a batch are covered."""
    sizes, results = [], []
    inner = attention.KINDS[kind]
    monkeypatch.setitem(
        attention.KINDS, kind, lambda q, k, v, b: (sizes.append((q.shape[2], k.shape[2])), inner(q, k, v, b))[1]
    )
    for leave_out in (True, False):
        if not leave_out:
            monkeypatch.setattr(attention, "gathered", lambda chosen: None)
        for chosen in (slice(0, 1), slice(0, 3), slice(0, 6), slice(3, 4), slice(4, 5)):
            features, mask = (tensor[chosen] for tensor in ragged())
            network = block(kind)
            output = network(features.requires_grad_(), mask)
            output.square().sum().backward()
            results.append((output, features.grad, *(p.grad for p in network.parameters())))
    assert sizes[:5] == [(64, 576), (512, 576), (576, 576), (64, 576), (64, 64)]
    assert sizes[5:] == [(576, 576)] * 5
    for ours, theirs in zip(results[:5], results[5:], strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * max(1, b.abs().max().item()))
        torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=1e-5)


def test_the_chosen_cells_come_first():
    chosen = torch.zeros(2, 500, dtype=torch.bool)
    chosen[0, 100:165], chosen[1, 7] = True, True
    index = gathered(chosen)[..., 0]
    assert index.shape == (2, 128)  # 65, rounded up
    assert index[0, :65].tolist() == list(range(100, 165))
    assert index[1, :3].tolist() == [7, 0, 1]
    assert all(len(set(row.tolist())) == 128 for row in index)
    assert gathered(chosen[:, :128]) is not None
    assert gathered(torch.ones(2, 500)) is None
    assert gathered(torch.zeros(2, 500)).shape == (2, 64, 1)


@pytest.mark.parametrize("kind", ["exact", "linear"])
def test_what_the_foreground_holds_reaches_its_own_cell_alone(kind):
    features, mask = (tensor[:1] for tensor in ragged())
    changed = {}
    for name, (y, x) in {"foreground": (3, 4), "background": (20, 20)}.items():
        other = features.clone()
        other[..., y, x] = 5 * torch.randn(CHANNELS)
        changed[name] = (block(kind)(other, mask) - block(kind)(features, mask)).abs().amax(dim=1)[0] > 1e-6
    assert changed["foreground"].sum() == 1
    inside = nn.functional.avg_pool2d(mask, 4)[0, 0] > 0
    assert changed["background"][inside].all()
    assert changed["background"].sum() == inside.sum() + 1


def test_memory_is_linear_in_the_positions():
    small, large = (memory.block_peak("linear", batch=1, side=side)["activations_peak"] for side in (64, 256))
    assert large / small == pytest.approx(16, rel=0.02)
    exact = memory.block_peak("exact", batch=1, side=256)["activations_peak"]
    assert large == pytest.approx(exact, rel=0.2)


def test_every_number_of_heads_is_counted():
    grid = memory.matrix(("linear",), (2,), (64,), (1, 4), (64,), ("float32",), width=8).set_index("heads")
    for heads in (1, 4):
        counted = memory.training_peak("s2am", {"width": 8, "heads": heads, "attention": "linear"}, 2, 64)
        assert grid.loc[heads, "predicted_bytes"] == counted["total_peak"]


def test_a_step_at_1024_px():
    """The size of the paper's future work: 65,536 positions, a map of 17 GB a head that is never made."""
    torch.manual_seed(0)
    network = build("s2am", width=4, heads=2, attention="linear")
    image, mask = pair(1024, 1024, batch=1)
    network(image, mask).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    assert network.attention.key_value.weight.grad.abs().max() > 0


def test_it_learns_a_shift_of_the_foreground():
    torch.manual_seed(0)
    network = build("s2am", width=8, heads=4, attention="linear")
    assert loss_left(network, torch.optim.Adam(network.parameters(), 3e-3), 60) < 0.1


@pytest.mark.parametrize("kind", ["exact", "linear"])
def test_export_reckons_with_all_cells(kind):
    """The example that is traced leaves cells out in PyTorch, and the exported network is the same for any mask."""
    torch.manual_seed(0)
    network = build("s2am", width=4, heads=2, attention=kind).eval()
    network.size = 128
    nn.init.normal_(network.attention.project.weight, std=3)
    assert export._difference(network, export.serialised(network)) < export.TOLERANCE

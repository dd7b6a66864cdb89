"""The plain networks of the benchmarks compute what ours do, forwards and backwards."""

import pytest
import torch
from networks import pair
from torch import nn

from benchmarks.plain import cropped, twin, weights
from harmonylib import models
from harmonylib.models import windows

NAMES = [name for name in models.names() if name != "s2am"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("preset", "size"), [("tiny", 32), ("small", 64)])
def test_same_output_and_same_gradients(name, preset, size):
    torch.manual_seed(0)
    ours = models.build(name, **models.class_of(name).presets[preset])
    for parameter in ours.parameters():  # what starts at zero would not be compared
        nn.init.normal_(parameter, std=0.1)
    plain = twin(ours, size)
    outputs = [trained(network, size) for network in (ours, plain)]
    assert near(*outputs, 1e-4)
    for mine, theirs in zip(weights(ours), plain.parameters(), strict=True):
        assert near(cropped(mine, theirs).reshape(theirs.shape), theirs, 1e-3)


def trained(network: nn.Module, size: int) -> torch.Tensor:
    """The network's output; every parameter becomes its gradient, so that `weights` can bring them together."""
    torch.manual_seed(1)  # of the places that the outline's network picks
    output = network(*pair(size, size))
    output.square().mean().backward()
    for parameter in network.parameters():
        parameter.data = parameter.grad
    return output.detach()


def near(mine: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> bool:
    return bool((mine - theirs).abs().max() <= tolerance * theirs.abs().max() + 1e-6)


@pytest.mark.parametrize(("shifted", "side"), [(False, (32, 32)), (True, (40, 50)), (True, (64, 37))])
def test_large_windows_are_those_of_the_masked_map(shifted, side, monkeypatch):
    """What is cut up and computed tile by tile on a CPU, against roll, padding, mask and PyTorch's attention."""
    torch.manual_seed(0)
    attention, picture = windows.WindowAttention(16, 2, 32, shifted), torch.randn(2, *side, 16)
    results = []
    for large in (windows.LARGE, 2**30):
        monkeypatch.setattr(windows, "LARGE", large)
        attention.zero_grad()
        x = picture.clone().requires_grad_()
        output = attention(x)
        output.square().sum().backward()
        results.append([output.detach(), x.grad, *(parameter.grad for parameter in attention.parameters())])
        with torch.no_grad():
            assert near(attention(picture), output, 1e-5)
    for mine, theirs in zip(*results, strict=True):
        assert near(mine, theirs, 1e-5)

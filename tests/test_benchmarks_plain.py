"""The plain networks of the benchmarks compute what ours do, forwards and backwards."""

import pytest
import torch
from networks import pair

from benchmarks.plain import twin, weights
from harmonylib import models

NAMES = [name for name in models.names() if name != "s2am"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [32, 64])
def test_same_output_and_same_gradients(name, size):
    torch.manual_seed(0)
    ours = models.build(name, **models.class_of(name).presets["small" if size == 64 else "tiny"])
    for parameter in ours.parameters():  # what starts at zero would not be compared
        torch.nn.init.normal_(parameter, std=0.1)
    plain = twin(ours, size)
    image, mask = pair(size, size)
    outputs, gradients = [], []
    for network in (ours, plain):
        torch.manual_seed(1)  # of the places that the outline's network picks
        outputs.append(network(image, mask))
        outputs[-1].square().mean().backward()
    for mine, theirs in zip(weights(grads(ours)), grads(plain).parameters(), strict=True):
        gradients.append((mine.reshape(theirs.shape) if mine.numel() == theirs.numel() else None, theirs))
    assert (outputs[0] - outputs[1]).abs().max() < 1e-4 * outputs[0].abs().max()
    for mine, theirs in gradients:
        assert mine is None or (mine - theirs).abs().max() < 1e-3 * theirs.abs().max() + 1e-6


def grads(network: torch.nn.Module) -> torch.nn.Module:
    """The network with every parameter replaced by its gradient."""
    for parameter in network.parameters():
        parameter.data = parameter.grad
    return network

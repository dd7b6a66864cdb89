"""What the tests of all networks share: small batches with a foreground, counts, goldens and a task to learn."""

import torch
from torch import nn


def pair(height: int = 32, width: int = 32, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of composites, with a rectangle of foreground in each."""
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(batch, 3, height, width, generator=generator)
    mask = torch.zeros(batch, 1, height, width)
    mask[:, :, height // 4 : height // 2 + 3, 3 : width // 2] = 1
    return image, mask


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def ramps(side: int) -> torch.Tensor:
    """Two equal pictures without chance: (2, 3, side, side)."""
    ramp = torch.linspace(0, 1, side * side).view(1, 1, side, side)
    return torch.cat([ramp, ramp.mT, 1 - ramp], dim=1).repeat(2, 1, 1, 1)


def loss_left(network: nn.Module, optimiser: torch.optim.Optimizer, steps: int) -> float:
    """The last loss over the first one when a brightened foreground is to be undone."""
    shade = torch.rand(8, 3, 1, 1)
    target = (shade + torch.linspace(-0.2, 0.2, 32)).expand(8, 3, 32, 32).clamp(0, 1)
    mask = pair(batch=8)[1]
    composite = target + 0.3 * mask * (1 - target)
    losses = []
    for _ in range(steps):
        loss = (network(composite, mask) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses[-1] / losses[0]

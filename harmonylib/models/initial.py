"""How the networks of LEMaRT's Table 3 start, where their papers do not say."""

from torch import nn

CHANGE = 0.02  # 5 of 255: close to doing nothing, but unlike with zeros all layers learn from the first step


def xavier(module: nn.Module) -> None:
    """For ``Module.apply``: Xavier's uniform weights and no bias in every linear layer."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def small_change(head: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, inputs: int) -> None:
    """Start the last layer of a network that predicts a change so that the change is small.

    Args:
        head: without non-linearity behind it; its bias starts at 0.
        inputs: how many values each of its outputs is a sum of. Where these are normalised, the change has a standard
            deviation of about 0.02 on [0, 1].
    """
    nn.init.normal_(head.weight, std=CHANGE * inputs**-0.5)
    nn.init.zeros_(head.bias)

"""The harmonizer that comes with the package: it reads along the outline of the object what was done to its colours.

A mask seldom follows an object to the pixel. Where it leaves a strip of the object outside, or takes one of the
background in, the same surface is there twice, once in its own colours and once in changed ones. Every place on the
outline is so a vote on the change; a small network weighs a few hundred votes and answers with one transform of colours
for the whole object. It is no network of either paper. What it looks at is what outlines of real photographs leave: an
object that was cut out cleanly and put before another background has less of it.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonylib import colour_maps
from harmonylib.errors import HarmonyError
from harmonylib.models import Harmonizer

REACH = 4  # px that a place looks around itself
RINGS = (0.0, 1.5, 2.9, 4.6)  # px from it, where its rings begin and end
FEATURES = 6 * (len(RINGS) - 1) + 6
HEADS = 4  # of attention: the ways to weigh the votes, besides equally
NEVER = 20.0  # taken off the logits of places that are not on an outline: there were too few


class Outline(Harmonizer):
    """A colour map of one place: twelve numbers for the whole object (`colour_maps`).

    Args:
        places: on the outline, evenly chosen.
        width: of what is known of each.
    """

    looks: ClassVar = (1.0, 4 / 3, 2.0, 8 / 3)  # an outline says different things at different sizes
    presets: ClassVar = {"tiny": {"places": 32, "width": 16}, "small": {"places": 128, "width": 32}}

    def __init__(self, *, places: int = 384, width: int = 96):
        super().__init__()
        if places < 1 or width < 1:
            raise HarmonyError(f"outline: places and width must be at least 1, not {places} and {width}")
        self.places = places
        self.read, self.compare = _perceptron(FEATURES, width), _perceptron(2 * width, width)
        self.weigh = nn.ModuleList(nn.Linear(width, HEADS) for _ in range(2))
        pooled = (HEADS + 1) * width
        self.agree = nn.Sequential(nn.Linear(pooled, width), nn.ReLU())
        self.answer = nn.Sequential(
            nn.Linear(pooled + width, 2 * width), nn.ReLU(), nn.Linear(2 * width, 128), nn.ReLU(), nn.Linear(128, 12)
        )
        for parameter in self.answer[-1].parameters():  # it begins by changing nothing
            nn.init.zeros_(parameter)
        self.register_buffer("rings", _rings(), persistent=False)

    def predict(self, image: Tensor, mask: Tensor) -> Tensor:
        return colour_maps.apply(self.maps(image, mask), image, mask)

    def maps(self, image: Tensor, mask: Tensor) -> Tensor:
        """(B, 12, 1, 1)"""
        with torch.no_grad():
            seen, there = self.look(image, mask)
        votes = self.read(seen)
        agreed = self.agree(_pooled(votes, self.weigh[0](votes), there))
        votes = self.compare(torch.cat([votes, agreed[:, None].expand_as(votes)], 2))  # each beside what all say
        return self.answer(torch.cat([_pooled(votes, self.weigh[1](votes), there), agreed], 1))[:, :, None, None]

    def look(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What is seen from each place (B, places, FEATURES), and whether it is on an outline at all (B, places).

        Of each ring: how object and background differ in it, and their mean; then the colour of the place itself,
        whether it is object, and how much of the narrowest and the widest ring is.
        """
        inside = mask > 0.5
        at, there = self._chosen(inside[:, 0])
        width, around = image.shape[3], torch.arange(2 * REACH + 1, device=image.device)
        known = F.pad(torch.cat([image, inside.to(image.dtype)], 1), (REACH,) * 4, mode="replicate")
        wide = width + 2 * REACH
        first = at // width * wide + at % width  # of the square around each place
        index = (first[:, :, None] + (around[:, None] * wide + around).flatten()).flatten(1)
        squares = known.permute(0, 2, 3, 1).flatten(1, 2).gather(1, index[..., None].expand(-1, -1, 4))
        squares = squares.unflatten(1, (at.shape[1], -1))  # (B, places, pixels of a square, 4)
        colours, inside = squares[..., :3], squares[..., 3:]
        both = torch.cat([colours * inside, inside, colours * (1 - inside), 1 - inside], 3)
        sums = torch.einsum("bkpc,pr->bkrc", both, self.rings)
        areas = sums[..., 3:4]
        foreground, background = (sums[..., i : i + 3] / (sums[..., i + 3 : i + 4] + 0.3) for i in (0, 4))
        middle = squares[:, :, squares.shape[2] // 2]
        shares = (areas / self.rings.sum(0)[:, None])[:, :, [0, -1], 0]
        own = torch.cat([2 * middle[..., :3] - 1, middle[..., 3:], shares], 2)
        return torch.cat(
            [4 * (foreground - background).flatten(2), (foreground + background - 1).flatten(2), own], 2
        ), there

    def _chosen(self, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Indices (B, places) of pixels on either side of the outline: other ones at each step of training, always the
        same ones afterwards."""
        across, down = inside[:, :, 1:] != inside[:, :, :-1], inside[:, 1:] != inside[:, :-1]
        edge = F.pad(across, (0, 1)) | F.pad(across, (1, 0)) | F.pad(down, (0, 0, 0, 1)) | F.pad(down, (0, 0, 1, 0))
        height, width = inside.shape[1:]
        if self.training:
            order = torch.rand(height, width, device=inside.device)
        else:  # the golden ratio's two-dimensional sequence leaves no part of the outline out
            x, y = torch.arange(width, device=inside.device), torch.arange(height, device=inside.device)[:, None]
            order = (0.7548776662 * x + 0.5698402910 * y) % 1
        value, at = (edge * (0.5 + 0.5 * order)).flatten(1).topk(min(self.places, height * width), 1)
        return at, (value > 0).to(order.dtype)


def _perceptron(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width, bias=False), nn.LayerNorm(width), nn.ReLU(inplace=True),
        nn.Linear(width, width), nn.ReLU(inplace=True),
    )  # fmt: skip


def _pooled(votes: Tensor, logits: Tensor, there: Tensor) -> Tensor:
    """(B, places, C) -> (B, (heads + 1) C): weighted by each head, and equally."""
    there = there[..., None]
    equal = there / there.sum(1, keepdim=True).clamp(min=1)
    weights = torch.cat([(logits + NEVER * (there - 1)).softmax(1), equal], 2)
    return (weights.mT @ votes).flatten(1)


def _rings() -> Tensor:
    """(pixels of a square, rings): 1 where a pixel is in a ring."""
    offset = torch.arange(-REACH, REACH + 1.0)
    distance = (offset[:, None].square() + offset.square()).sqrt().flatten()[:, None]
    begins, ends = (torch.tensor(side) for side in (RINGS[:-1], RINGS[1:]))
    return ((distance <= ends) & ((distance > begins) | (begins == 0))).float()

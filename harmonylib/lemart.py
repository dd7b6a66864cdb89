"""LEMaRT: composites made from photographs alone, to pre-train on (LEMaRT sections 3.2 and 3.3).

    I_c = M * T(I) + (1 - M) * I

A mask M and a transform T are drawn for every image, on the fly and on its device; the photograph I is the target.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from harmonylib import masks
from harmonylib.distributed import Share
from harmonylib.errors import HarmonyError
from harmonylib.transforms import DOMAIN, Transform, adjust, configured

MIN_CHANGE = 0.02  # mean |I_c - I| inside the mask, of every image
MARGIN = 1.01  # so that a sum in another order agrees
WIDENINGS = (2.0, 4.0, 8.0)  # of the ranges, for the images that changed too little
EXPOSURE = (0.1, 0.4)  # of the way to white or black: the last resort
Among = tuple[int, Tensor | slice]  # for how many images numbers are drawn, and the places of these among them


class Steps(NamedTuple):
    """The tensors of the paper's Figure 2: I, T(I), M and I_c. (B, 3, H, W), the mask (B, 1, H, W)."""

    image: Tensor
    transformed: Tensor
    mask: Tensor
    composite: Tensor


class LEMaRT:
    """The masked region transform: ``composite, mask = LEMaRT()(images, generator=g)``.

    Args:
        strategy: ``random``, ``grid`` or ``block`` (`harmonylib.masks.draw`).
        ratio: share of the picture inside the mask; the paper's is 0.5.
        cells: patches along a side of the ``random`` and ``grid`` masks (not given in the paper); must divide both
            sides of the images.
        transforms: None for all six, names for some of them, or `harmonylib.transforms.Transform` objects (also as a
            dict by name). One alone is applied to every image.

    Every image is visibly changed: the mean absolute change inside its mask is at least 0.02. Where a draw falls short
    (a faint one, or a picture that it cannot act on), all transforms are drawn again from ranges 2, 4 and 8 times as
    wide; a single transform is then taken to either end of its domain; what still looks the same (a grey picture
    under saturation, a black one under brightness) is exposed towards white or black, whichever is further.

    Raises:
        HarmonyError: a strategy, ratio, number of cells or transforms that do not exist or do not fit.
    """

    def __init__(self, strategy: str = "random", ratio: float = 0.5, cells: int = 16, transforms=None):
        masks.check(strategy, ratio, cells)
        self.strategy, self.ratio, self.cells = strategy, ratio, cells
        self.transforms = configured(transforms)

    def __repr__(self) -> str:
        names = tuple(self.transforms)
        return f"LEMaRT(strategy={self.strategy!r}, ratio={self.ratio}, cells={self.cells}, transforms={names})"

    def __call__(
        self, images: Tensor, generator: torch.Generator | None = None, share: Share | None = None
    ) -> tuple[Tensor, Tensor]:
        """Composites (B, 3, H, W) and their masks (B, 1, H, W) of 0 and 1, on the images' device and in their dtype.

        Args:
            images: (B, 3, H, W), float32 or float64 in [0, 1]; not modified.
            generator: on the images' device; the same state gives the same result. None is torch's default one.
            share: the images are these rows of a larger batch and become what they would become in it; the others are
                with other processes, which make the same call.

        Outside the mask a composite is its image, bit by bit; values stay in [0, 1].

        Raises:
            HarmonyError: images of another shape or type, of a size the cells do not divide, or a generator of another
                device.
        """
        steps = self.steps(images, generator, share)
        return steps.composite, steps.mask

    def steps(self, images: Tensor, generator: torch.Generator | None = None, share: Share | None = None) -> Steps:
        """What a call does, with every tensor in between: image, transformed, mask, composite."""
        mask = self.masks(images, generator, share)
        return Steps(images, *self._transform(images, mask, generator, share))

    def masks(self, images: Tensor, generator: torch.Generator | None = None, share: Share | None = None) -> Tensor:
        """The masks M alone: (B, 1, H, W)."""
        _check(images, generator)
        shape = (len(images) if share is None else share.size, *images.shape[2:])
        drawn = masks.draw(
            self.strategy,
            shape,
            ratio=self.ratio,
            cells=self.cells,
            generator=generator,
            device=images.device,
        )
        return (drawn if share is None else drawn[share.rows]).to(images.dtype)

    def transform(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The transformed pictures T(I) alone: (B, 3, H, W). The visible change is that of the whole picture."""
        _check(images, generator)
        return self._transform(images, torch.ones_like(images[:, :1]), generator)[0]

    @staticmethod
    def transform_only(images: Tensor, name: str, strength: float | Tensor) -> Tensor:
        """One transform at one strength (or one for each picture), applied to whole pictures (B, 3, H, W)."""
        _check(images)
        return adjust(images, {name: strength})

    def _transform(
        self, images: Tensor, mask: Tensor, generator: torch.Generator | None, share: Share | None = None
    ) -> tuple[Tensor, ...]:
        """(transformed, mask, composite), every image visibly changed inside its mask."""
        whole = (len(images), slice(None)) if share is None else (share.size, share.rows)
        transformed = adjust(images, self._draw(images, generator, whole))
        composite = blend(images, transformed, mask)
        faint = _too_faint(images, composite, mask)
        for attempt in self._stronger(generator):
            weak = faint.nonzero()[:, 0]
            among = (len(weak), slice(None)) if share is None else share.among(faint)
            if not among[0]:
                break
            image, region = images[weak], mask[weak]
            again = attempt(image, region, among)
            merged = blend(image, again, region)
            transformed[weak], composite[weak] = again, merged
            faint[weak] = _too_faint(image, merged, region)
        return transformed, mask, composite

    def _stronger(self, generator: torch.Generator | None) -> Iterator[Callable[[Tensor, Tensor, Among], Tensor]]:
        """What to try, in turn, on images (B, 3, H, W) that changed too little inside their masks (B, 1, H, W)."""
        for widening in WIDENINGS:
            yield lambda images, mask, among, by=widening: adjust(images, self._draw(images, generator, among, by))
        if len(self.transforms) == 1:
            (name,) = self.transforms
            for end in DOMAIN[name][:2]:
                yield lambda images, mask, among, end=end: adjust(images, {name: end})
        yield lambda images, mask, among: expose(images, mask, generator, among)

    def _draw(
        self,
        images: Tensor,
        generator: torch.Generator | None,
        among: Among | None = None,
        widening: float = 1.0,
    ) -> dict[str, Tensor]:
        """Strengths (B,) of every transform, neutral where it is not applied; at least one is."""
        count, places = among or (len(images), slice(None))
        shape, like = (2, count, len(self.transforms)), {"dtype": images.dtype, "device": images.device}
        u = torch.rand(shape, generator=generator, **like)[:, places]
        ranges = [(*_widened(transform, widening), transform.probability) for transform in self.transforms.values()]
        low, high, neutral, probability = images.new_tensor(ranges).unbind(1)
        urgency = u[0] / probability
        applied = (urgency < 1) | (urgency == urgency.amin(1, keepdim=True))
        strengths = torch.where(applied, low + (high - low) * u[1], neutral)
        return dict(zip(self.transforms, strengths.unbind(1), strict=True))


def blend(images: Tensor, transformed: Tensor, mask: Tensor) -> Tensor:
    """I_c = M * T(I) + (1 - M) * I (section 3.2) for a mask of 0 and 1, in either place bit by bit.

    `torch.lerp` returns its ends exactly, and takes a fifth of the time of `torch.where` with a mask of one channel.
    """
    return torch.lerp(images, transformed, mask)


def expose(
    images: Tensor, mask: Tensor, generator: torch.Generator | None = None, among: Among | None = None
) -> Tensor:
    """Pictures taken 10 to 40 % of the way to white, or to black where white is nearer: a change of at least 0.05.

    What is nearer is decided by the mean inside the mask. No picture in [0, 1], flat ones included, resists.
    """
    mean = (images * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
    low, high = EXPOSURE
    count, places = among or (len(images), slice(None))
    u = torch.rand(count, generator=generator, dtype=images.dtype, device=images.device)[places]
    end = (mean < 0.5).to(images.dtype)
    return torch.lerp(images, end[:, None, None, None], (low + (high - low) * u)[:, None, None, None])


def _widened(transform: Transform, widening: float) -> tuple[float, float, float]:
    """(low, high, neutral) with the range ``widening`` times as far from neutral, within the domain."""
    smallest, largest, neutral = DOMAIN[transform.name]
    low, high = (neutral + widening * (end - neutral) for end in (transform.low, transform.high))
    return max(low, smallest), min(high, largest), neutral


def _too_faint(images: Tensor, composite: Tensor, mask: Tensor) -> Tensor:
    """Which images (B,), bool, changed by less than MIN_CHANGE on average inside the mask."""
    # The sum of |composite - images|, which is 0 outside: in one pass and without a temporary.
    total = torch.cdist(composite.flatten(1)[:, None], images.flatten(1)[:, None], p=1.0)[:, 0, 0]
    return total < MARGIN * MIN_CHANGE * 3 * mask.sum((1, 2, 3))


def _check(images: Tensor, generator: torch.Generator | None = None) -> None:
    if not isinstance(images, Tensor) or images.dtype not in (torch.float32, torch.float64):
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise HarmonyError(f"images are {kind}; LEMaRT takes a tensor of float32 or float64 in [0, 1]")
    if images.ndim != 4 or images.shape[1] != 3:
        raise HarmonyError(f"images have shape {tuple(images.shape)}; LEMaRT takes (B, 3, H, W)")
    if generator is not None and generator.device.type != images.device.type:
        raise HarmonyError(
            f"the generator is on {generator.device}, the images on {images.device}; "
            f"make it with torch.Generator({images.device.type!r})"
        )

"""What a training step gets: batches by step number, the same ones whenever and wherever a run is taken up again."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from harmonylib import recolour
from harmonylib.data.cache import Cache
from harmonylib.distributed import Share
from harmonylib.errors import HarmonyError
from harmonylib.lemart import LEMaRT

RESIDENT_BYTES = 2**31  # sets up to this size live on the device
# Of recoloured batches:
OWN = 0.15  # share of the set's own composites
TRANSFERS, STRENGTH = 0.3, 2.0  # of `recolour.recolouring`: doing nothing then errs about as much as on iHarmony4
BEFORE, GENTLY = 0.5, 0.3  # how often a photograph is retouched as a whole first, and with what strength
SEEN = 256  # px a side of a batch
SMALLEST, STRETCHED = 0.45, 0.1  # least share of a picture's side that is seen; change of its aspect
SOFT = (0.3, 1.0)  # px, radius that the edge of a mask is blurred with: pixels are larger than when it was drawn
OBJECT = (0.008, 0.8)  # share of a picture that is object
AHEAD = 3  # batches made while the network works


class Order:
    """Which picture stands where: every pass over the data has its own order, drawn from (seed, pass).

    `share`: the places of a batch that are asked for; all of them by default.
    """

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int, share: Share | None = None):
        if len(rows) < 1:
            raise HarmonyError("no pictures to train on: the split, the share or the count leaves none")
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.places = range(batch_size) if share is None else share.rows
        self._orders: dict[int, np.ndarray] = {}

    def __getitem__(self, step: int) -> np.ndarray:
        return np.array([self._row(step * self.batch_size + i) for i in self.places])

    def _row(self, position: int) -> int:
        number, place = divmod(position, len(self.rows))
        if number not in self._orders:
            rng = np.random.default_rng([self.seed, number])
            self._orders = {n: o for n, o in self._orders.items() if n >= number - 1} | {
                number: rng.permutation(self.rows)
            }
        return self._orders[number][place]


class Triplets:
    """Composites of a split and their targets: ``batches[step]`` -> composite, mask, target in [0,1] on the device.

    Of several processes, each makes its share of a batch.
    """

    def __init__(self, cache: Cache, rows: np.ndarray, batch_size: int, seed: int, device: torch.device, share=None):
        self.order, self.device = Order(rows, batch_size, seed, share), device
        self.index = cache.index[["real", "mask"]].to_numpy()
        self.arrays = _resident((cache.composite, cache.real, cache.mask), device)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        chosen = self.order[step]
        real, mask = self.index[chosen].T
        composite, real, mask = (
            _take(a, rows, self.device) for a, rows in zip(self.arrays, (chosen, real, mask), strict=True)
        )
        return _picture(composite), mask.float()[:, None], _picture(real)


class Perturbed:
    """Photographs, and what LEMaRT makes of them (section 3.2), drawn afresh for every step from (seed, step).

    Of several processes, each makes its share of a batch, from the numbers that are drawn for all of it.
    """

    def __init__(
        self, photographs: np.ndarray, lemart: LEMaRT, batch_size: int, seed: int, device: torch.device, share=None
    ):
        self.order, self.device = Order(np.arange(len(photographs)), batch_size, seed, share), device
        self.lemart, self.seed, self.share = lemart, seed, share
        (self.photographs,) = _resident((photographs,), device)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        target = _picture(_take(self.photographs, self.order[step], self.device))
        seed = int(np.random.SeedSequence([self.seed, step]).generate_state(1, np.uint64)[0]) >> 1
        composite, mask = self.lemart(target, torch.Generator(self.device).manual_seed(seed), self.share)
        return composite, mask, target


class Recoloured:
    """Objects of a set's photographs in other colours (`recolour`), drawn afresh for every step from (seed, step).

    Each is a part of a picture around its object, larger or smaller than it was, now and then mirrored, of a photograph
    that is retouched as a whole first. The next batches are made by a thread meanwhile. Of several
    processes, each makes whole batches and keeps its share.
    """

    def __init__(self, cache: Cache, rows: np.ndarray, batch_size: int, seed: int, device: torch.device, share=None):
        self.cache, self.rows, self.batch_size, self.seed, self.device = cache, rows, batch_size, seed, device
        self.index = cache.index[["real", "mask"]].to_numpy()
        self.objects = np.unique(self.index[rows], axis=0)
        self.places = slice(None) if share is None else share.rows
        self.pool, self.begun = ThreadPoolExecutor(1), {}

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        for ahead in range(step, step + AHEAD):
            if ahead not in self.begun:
                self.begun[ahead] = self.pool.submit(self._made, ahead)
        made = (array[self.places] for array in self.begun.pop(step).result())
        composite, mask, target = (torch.from_numpy(array).to(self.device) for array in made)
        return _picture(composite), (mask > 127).float()[:, None], _picture(target)

    def _made(self, step: int) -> tuple[np.ndarray, ...]:
        rng, made = np.random.default_rng([self.seed, step]), []
        while len(made) < self.batch_size:
            triplet = self._triplet(rng)
            if triplet is not None:
                made.append(triplet)
        return tuple(np.stack([np.asarray(part) for part in parts]) for parts in zip(*made, strict=True))

    def _triplet(self, rng: np.random.Generator) -> tuple[Image.Image, ...] | None:
        """Composite, mask and target; None where too little of the object is seen, or little else."""
        own = rng.random() < OWN
        chosen = self.rows if own else self.objects
        chosen = chosen[rng.integers(len(chosen))]
        real, mask = self.index[chosen] if own else chosen
        arrays = (self.cache.real[real], 255 * (self.cache.mask[mask] > 0).astype(np.uint8))
        images = [Image.fromarray(array) for array in (*arrays, *([self.cache.composite[chosen]] if own else []))]
        target, mask, *composite = _part(rng, images)
        inside = np.asarray(mask) > 127
        if not OBJECT[0] < inside.mean() < OBJECT[1]:
            return None
        if rng.random() < BEFORE:
            gently = recolour.retouch(rng, GENTLY)
            target, *composite = (gently.image(image) for image in (target, *composite))
        if not own:
            pixels = np.asarray(target)[inside]
            change = recolour.recolouring(rng, pixels, self._others(rng), STRENGTH, TRANSFERS)
            composite = [Image.composite(change.image(target), target, mask)]
        return composite[0], mask, target

    def _others(self, rng: np.random.Generator) -> np.ndarray:
        """Some pixels (N, 3) of another object."""
        real, mask = self.objects[rng.integers(len(self.objects))]
        pixels = self.cache.real[real][self.cache.mask[mask] > 0]
        return pixels[rng.integers(len(pixels), size=300)] if len(pixels) else self._others(rng)


def _part(rng: np.random.Generator, images: list[Image.Image]) -> list[Image.Image]:
    """The same part of pictures of one size, the second of them a mask, whose edge becomes soft; mirrored or not."""
    side = images[0].width
    width = side * rng.uniform(SMALLEST, 1)
    height = min(side, width * np.exp(rng.normal(0, STRETCHED)))
    rows, columns = np.nonzero(np.asarray(images[1]))
    if len(rows):  # somewhere on the object
        at = rng.integers(len(rows))
        x, y = columns[at], rows[at]
    else:
        x, y = rng.integers(0, side, 2)
    left, top = (rng.uniform(max(0, c - s), min(side - s, c)) for c, s in ((x, width), (y, height)))
    images[1] = images[1].filter(ImageFilter.GaussianBlur(rng.uniform(*SOFT)))
    images = [
        image.resize((SEEN, SEEN), Image.Resampling.BICUBIC, (left, top, left + width, top + height))
        for image in images
    ]
    return [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images] if rng.random() < 0.5 else images


def _resident(arrays: tuple, device: torch.device) -> list:
    if sum(a.nbytes for a in arrays) > RESIDENT_BYTES:
        return list(arrays)
    return [torch.from_numpy(np.array(a)).to(device) for a in arrays]


def _take(array, rows: np.ndarray, device: torch.device) -> Tensor:
    if isinstance(array, Tensor):
        return array.index_select(0, torch.from_numpy(rows).to(device))  # whole pictures: a seventh of indexing's time
    return torch.from_numpy(array[rows]).to(device)


def _picture(levels: Tensor) -> Tensor:
    return levels.float().div_(255).permute(0, 3, 1, 2)

"""What a training step gets: batches by step number, the same ones whenever and wherever a run is taken up again."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from harmonylib import recolour
from harmonylib.data.cache import Cache
from harmonylib.errors import HarmonyError
from harmonylib.lemart import LEMaRT

RESIDENT_BYTES = 2**31  # sets up to this size live on the device
OWN, OTHERS = 0.25, 0.3  # of a recoloured batch: the set's own composites, photographs without outlines
RETOUCHED = 0.8  # of the others: as a whole, before their object is
CROPPED, SMALLEST = 0.6, 0.65  # how often, and to what share of a side
OBJECT = (0.01, 0.7)  # share of a crop that is object


class Order:
    """Which picture stands where: every pass over the data has its own order, drawn from (seed, pass)."""

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int):
        if len(rows) < 1:
            raise HarmonyError("no pictures to train on: the split, the share or the count leaves none")
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self._orders: dict[int, np.ndarray] = {}

    def __getitem__(self, step: int) -> np.ndarray:
        return np.array([self._row(step * self.batch_size + i) for i in range(self.batch_size)])

    def _row(self, position: int) -> int:
        number, place = divmod(position, len(self.rows))
        if number not in self._orders:
            rng = np.random.default_rng([self.seed, number])
            self._orders = {n: o for n, o in self._orders.items() if n >= number - 1} | {
                number: rng.permutation(self.rows)
            }
        return self._orders[number][place]


class Triplets:
    """Composites of a split and their targets: ``batches[step]`` -> composite, mask, target in [0,1] on the device."""

    def __init__(self, cache: Cache, rows: np.ndarray, batch_size: int, seed: int, device: torch.device):
        self.order, self.device = Order(rows, batch_size, seed), device
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
    """Photographs, and what LEMaRT makes of them (section 3.2), drawn afresh for every step from (seed, step)."""

    def __init__(self, photographs: np.ndarray, lemart: LEMaRT, batch_size: int, seed: int, device: torch.device):
        self.order, self.device = Order(np.arange(len(photographs)), batch_size, seed), device
        self.lemart, self.seed = lemart, seed
        (self.photographs,) = _resident((photographs,), device)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        target = _picture(_take(self.photographs, self.order[step], self.device))
        seed = int(np.random.SeedSequence([self.seed, step]).generate_state(1, np.uint64)[0] >> 1)
        composite, mask = self.lemart(target, generator=torch.Generator(self.device).manual_seed(seed))
        return composite, mask, target


class Recoloured:
    """Objects of a set's photographs in other colours, drawn afresh for every step from (seed, step).

    Of every batch a part are the set's own composites, a part are photographs without outlines under the mask of another
    one. All are cropped and mirrored at random, and the photographs retouched as a whole first: what is right for an object
    can then be told by its surroundings alone. The next batches are made by threads meanwhile.
    """

    def __init__(self, cache: Cache, rows: np.ndarray, photographs: np.ndarray, batch_size: int, seed: int, device):
        self.cache, self.rows, self.photographs = cache, rows, photographs
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self.index = cache.index[["real", "mask"]].to_numpy()
        self.objects = np.unique(self.index[rows], axis=0)
        rng = np.random.default_rng(seed)
        self.colours = [self._colours(real, mask, rng) for real, mask in self.objects]
        self.pool, self.begun = ThreadPoolExecutor(1), {}

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        for ahead in range(step, step + 3):
            if ahead not in self.begun:
                self.begun[ahead] = self.pool.submit(self._made, ahead)
        composite, mask, target = self.begun.pop(step).result()
        arrays = (torch.from_numpy(a).to(self.device) for a in (composite, target))
        composite, target = (_picture(a) for a in arrays)
        return composite, torch.from_numpy(mask).to(self.device).float()[:, None], target

    def _made(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.seed, step])
        made = zip(*(self._one(rng) for _ in range(self.batch_size)), strict=True)
        return tuple(np.ascontiguousarray(np.stack(a)) for a in made)

    def _one(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        kind = rng.random()
        if kind < OWN:
            row = self.rows[rng.integers(len(self.rows))]
            real, mask = (int(i) for i in self.index[row])
            composite, mask, real = _cropped(
                rng, self.cache.composite[row], self.cache.mask[mask], self.cache.real[real]
            )
        else:
            real, mask = self.objects[rng.integers(len(self.objects))]
            others = self.photographs[rng.integers(len(self.photographs))] if kind < OWN + OTHERS else None
            real, mask = _cropped(rng, self.cache.real[real] if others is None else others, self.cache.mask[mask])
            if rng.random() < RETOUCHED:
                real = recolour.draw(rng, 0.6)(real).clip(0, 255).round().astype(np.uint8)
            composite, inside = real.copy(), mask > 0
            if inside.any():
                composite[inside] = recolour.recolour(real[inside], self.colours, rng)
        turn = slice(None, None, -1 if rng.random() < 0.5 else 1)
        return composite[:, turn], mask[:, turn], real[:, turn]

    def _colours(self, real: int, mask: int, rng: np.random.Generator) -> np.ndarray:
        pixels = self.cache.real[real][self.cache.mask[mask] > 0]
        return pixels[rng.choice(len(pixels), min(len(pixels), 1500), replace=False)]


def _cropped(rng: np.random.Generator, *squares: np.ndarray) -> list[np.ndarray]:
    """The same random part of pictures (S, S, 3) and masks (S, S), at the same size; whole where it misses the object."""
    side = len(squares[0])
    width = side * rng.uniform(SMALLEST, 1)
    left, top = rng.uniform(0, side - width, 2)
    box = (left, top, left + width, top + width)
    if rng.random() < CROPPED:
        parts = [_part(square, box) for square in squares]
        share = next(part for part in parts if part.ndim == 2).mean()
        if OBJECT[0] < share < OBJECT[1]:
            return parts
    return [np.asarray(square) for square in squares]


def _part(square: np.ndarray, box: tuple) -> np.ndarray:
    how = Image.Resampling.BILINEAR if square.ndim == 3 else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(np.ascontiguousarray(square)).resize(square.shape[:2], how, box=box))


def _resident(arrays: tuple, device: torch.device) -> list:
    if sum(a.nbytes for a in arrays) > RESIDENT_BYTES:
        return list(arrays)
    return [torch.from_numpy(np.array(a)).to(device) for a in arrays]


def _take(array, rows: np.ndarray, device: torch.device) -> Tensor:
    if isinstance(array, Tensor):
        return array[torch.from_numpy(rows).to(device)]
    return torch.from_numpy(array[rows]).to(device)


def _picture(levels: Tensor) -> Tensor:
    return (levels.float() / 255).permute(0, 3, 1, 2)

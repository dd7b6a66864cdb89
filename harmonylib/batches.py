"""What a training step gets: batches by step number, the same ones whenever and wherever a run is taken up again."""

import numpy as np
import torch
from torch import Tensor

from harmonylib.data.cache import Cache
from harmonylib.errors import HarmonyError
from harmonylib.lemart import LEMaRT

RESIDENT_BYTES = 2**31  # sets up to this size live on the device


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

"""Several processes that train or score together, as torchrun starts them, with the result that one would have.

Of every training batch each process takes some rows, and gradients are summed; of a list of pictures to score each
takes every n-th batch. The main process alone writes and prints. One process alone passes through here untouched.
"""

import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from itertools import count
from typing import NoReturn

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harmonylib.errors import HarmonyError

LAUNCHERS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # environment variables
PATIENCE = timedelta(minutes=30)  # of a process that waits for others which do the same work
LOOK_EVERY = 0.5  # s, at most, where they wait for what the main one alone does

_told: dist.Store | None = None  # what the main process has told the others, by the number of the call
_calls = count()


@contextmanager
def joined() -> Iterator[None]:
    """The processes of torchrun as one group, until it ends well; all but the main one print nothing meanwhile.

    Raises HarmonyError where there are more processes on this machine than GPUs.
    """
    global _told
    gpus, own = torch.cuda.device_count(), int(os.environ["LOCAL_RANK"])
    if gpus and own >= gpus:
        raise HarmonyError(
            f"torchrun: process {own + 1} of this machine finds {gpus} GPUs; set --nproc_per_node={gpus}"
        )
    store, number, processes = next(dist.rendezvous("env://"))
    _told = dist.PrefixStore("told", store)
    group = {"store": dist.PrefixStore("group", store), "rank": number, "world_size": processes, "timeout": PATIENCE}
    dist.init_process_group("cuda:nccl,cpu:gloo" if gpus else "gloo", **group)
    if gpus:
        torch.cuda.set_device(own)
    if not is_main():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    yield
    add_up(torch.zeros(1))  # none leaves what another still works with; not after a failure, which would wait for ever
    dist.destroy_process_group()


def leave(code: int) -> NoReturn:
    """End this process of several at once, when all is written: where the group's threads still run, Python's own end
    is now and then an abort (SIGABRT, seen under load with PyTorch 2.11 and gloo)."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    os._exit(code)


def check_alone() -> None:
    """Whether this process was started as one of several by other means than torchrun: raises HarmonyError.

    What a launcher's shell has left behind without saying so is put out of accelerate's sight.
    """
    for name in LAUNCHERS:
        if os.environ.get(name, "1").strip() not in ("", "0", "1"):
            raise HarmonyError(
                f"{name}={os.environ[name]}: several processes are started by torchrun (README, From a laptop to 64 "
                f"GPUs); start it so, or `unset {name}`"
            )
    os.environ.pop("LOCAL_RANK", None)


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def from_main(work: Callable):
    """What `work()` gives in the main process, in all of them; its HarmonyError is raised in all of them too.

    The others wait as long as it takes, for it may prepare a large set or wait for another run. A collective would lose
    patience, and could not be interrupted by a signal.
    """
    if world_size() == 1:
        return work()
    key, pause = str(next(_calls)), 0.001
    if is_main():
        try:
            told = work(), None
        except HarmonyError as error:
            told = None, str(error)
        _told.set(key, pickle.dumps(told))
    while not _told.check([key]):
        time.sleep(pause)
        pause = min(2 * pause, LOOK_EVERY)
    found, error = pickle.loads(_told.get(key))
    if error is not None:
        raise HarmonyError(error)
    return found


def main_first(work: Callable):
    """`work()`, in the main process before the others, which find on the disk what it wrote there."""
    made: list = []
    from_main(lambda: made.append(work()))
    return made[0] if made else work()


def any_of(*flags: bool) -> list[bool]:
    """Of each flag, whether it is up in one of the processes."""
    if world_size() == 1:
        return list(flags)
    votes = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(votes, dist.ReduceOp.MAX)
    return [bool(vote) for vote in votes]


def add_up(tensor: Tensor) -> Tensor:
    """The sum over all processes, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def shared_out(items: Sequence, work: Callable[[Sequence], list]) -> list:
    """`work(items)`, a result an item: every n-th item is worked on in this process, the others elsewhere.

    Raises the HarmonyError that any process met, in all of them.
    """
    if world_size() == 1:
        return work(items)
    own = None, None
    try:
        own = work(items[rank() :: world_size()]), None
    except HarmonyError as error:
        own = None, str(error)
    gathered = [None] * world_size()
    dist.all_gather_object(gathered, own)
    for _, error in gathered:
        if error is not None:
            raise HarmonyError(error)
    return [gathered[i % world_size()][0][i // world_size()] for i in range(len(items))]


@dataclass(frozen=True)
class Share:
    """The rows of every batch of `size` pictures that this process trains on, in the parts that it takes them in."""

    size: int
    parts: tuple[np.ndarray, ...]

    @cached_property
    def rows(self) -> np.ndarray:
        return np.concatenate(self.parts)

    def among(self, flags: Tensor) -> tuple[int, Tensor]:
        """How many rows of the whole batch have a flag, and the places among these of the own rows that have it.

        `flags` (n,), bool, are those of the own rows.
        """
        whole = torch.zeros(self.size, dtype=torch.int64, device=flags.device)
        whole[self.rows] = flags.long()
        counted = add_up(whole).cumsum(0)
        return int(counted[-1]), (counted[self.rows] - 1)[flags]


def share(batch_size: int, micro_batch: int | None, model: nn.Module) -> Share:
    """The share of this process: a run of rows, taken `micro_batch` at a time.

    With batch normalisation every such part is of all processes together, because what is normalised together decides
    the result. Raises HarmonyError where a process would be left without a picture.
    """
    together, size = _normalises(model), micro_batch or batch_size
    least, name = (size, "micro_batch" if micro_batch else "batch_size") if together else (batch_size, "batch_size")
    if world_size() > least:
        why = " (batch normalisation sees them together)" if together else ""
        raise HarmonyError(
            f"torchrun: {world_size()} processes for {least} pictures{why}; start {least} at most, or --set a larger "
            f"{name}"
        )
    batch = np.arange(batch_size)
    if together:
        return Share(batch_size, tuple(_own(batch[start : start + size]) for start in range(0, batch_size, size)))
    own = _own(batch)
    return Share(batch_size, tuple(own[start : start + size] for start in range(0, len(own), size)))


def _own(rows: np.ndarray) -> np.ndarray:
    return np.array_split(rows, world_size())[rank()]


def _normalises(model: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def normalise_together(model: nn.Module) -> nn.Module:
    """The network, its batch normalisation over the pictures of all processes."""
    if world_size() == 1:
        return model
    if torch.cuda.is_available():
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = _SharedBatchNorm  # the same parameters and buffers under the same names
    return model


class _SharedBatchNorm(_BatchNorm):
    """`torch.nn.SyncBatchNorm` for CPUs, which it does not run on.

    Every process normalises the whole batch: sums in another order would round otherwise, and a ReLU behind them turns
    that into another gradient. Many CPUs are for tests.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        self.num_batches_tracked += 1
        rest = self.running_mean, self.running_var, self.momentum, self.eps
        return _NormalisedTogether.apply(x, self.weight, self.bias, *rest)


class _NormalisedTogether(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, mean, variance, momentum, eps):
        ctx.counts = torch.zeros(world_size(), dtype=torch.int64)
        ctx.counts[rank()] = len(x)
        add_up(ctx.counts)
        whole = _whole(x, ctx.counts)
        if whole.numel() == whole.shape[1]:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {whole.shape}")
        result, *saved = torch.native_batch_norm(whole, weight, bias, mean, variance, True, momentum, eps)
        ctx.save_for_backward(whole, weight, *saved)
        ctx.eps = eps
        return _part(result, ctx.counts).clone()  # not a view: networks write over it

    @staticmethod
    def backward(ctx, gradient):
        whole, weight, *saved = ctx.saved_tensors
        arguments = _whole(gradient, ctx.counts), whole, weight, None, None, *saved, True, ctx.eps, [True] * 3
        of_x, *of_affine = torch.ops.aten.native_batch_norm_backward(*arguments)
        # Every process has the whole gradient of weight and bias, where others have their part of a sum.
        return _part(of_x, ctx.counts), *(g / world_size() for g in of_affine), None, None, None, None


def _whole(x: Tensor, counts: Tensor) -> Tensor:
    """The rows of all processes, in their order."""
    rows = x.new_zeros(int(counts.sum()), *x.shape[1:])
    _part(rows, counts).copy_(x)
    channels_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return add_up(rows).contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _part(rows: Tensor, counts: Tensor) -> Tensor:
    """The own ones of them."""
    return rows.split(counts.tolist())[rank()]

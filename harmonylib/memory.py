"""How much GPU memory a training step needs: predicted by counting tensors, without a GPU and without the memory.

The step (forward, mean squared error, backward, optimiser) runs on tensors that have shapes but no data (PyTorch's
FakeTensorMode), while every storage is logged as it appears and disappears. The peak of the running sum is the
prediction. Not in it: the CUDA context (some hundreds of MB), the workspaces that cuDNN chooses, and what the allocator
loses to fragmentation. A mask has no data either, so attention counts as if every cell asked and answered: the most.
What a forward alone needs (:func:`forward_needs`) is counted the same way.

S2AM-T4 (sections 3.7.1 and 3.7.2) states that batch 16 does not fit 15 GB and that batch 2 does; :func:`matrix` says
for which heads, place, attention and precision that holds.
"""

import gc
import itertools
import math
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from harmonylib.doctor.machine import memory_bytes
from harmonylib.errors import HarmonyError
from harmonylib.models import build
from harmonylib.models.attention import ForegroundBackgroundAttention

T4_BYTES = 15e9  # "15GB": a T4's 15.8e9 bytes less the CUDA context
FITTED = (2, 4)  # batches that are counted; larger ones follow from them
DTYPES = ("float32", "float16")
NARROW = 32  # channels a head, below which an attention gets no faster: its exponentials take the time
OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


class StorageLog(TorchDispatchMode):
    """Logs (number, signed bytes) for every storage that operations return for the first time, and when it is freed."""

    def __init__(self):
        super().__init__()
        self.events: list[tuple[int, int]] = []
        self._numbers = WeakIdKeyDictionary()  # storage -> the number it is logged under

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.see(leaf)
        return result

    def see(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        if storage not in self._numbers:
            number, size = len(self.events), storage.nbytes()
            self._numbers[storage] = number
            self.events.append((number, size))
            weakref.finalize(storage, self.events.append, (number, -size)).atexit = False
        return self._numbers[storage]


class ForwardLog(StorageLog):
    """Notes the largest attention, too: queries times keys times what each pair costs."""

    operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "attention" in function.__name__:
            pairs = args[0].shape[:-1].numel() * args[1].shape[-2]
            self.operations = max(self.operations, 4 * pairs * max(args[0].shape[-1], NARROW))
        return super().__torch_dispatch__(function, types, args, kwargs)


class CudaAutocastRules(TorchFunctionMode):
    """What autocast does on CUDA but not on the CPU, where tensors are counted: layer norm and softmax in float32.

    CUDA's softmax reads half precision and writes single, without a copy of its input in between.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is Tensor.softmax and args[0].dtype == torch.float16:
            return torch._softmax(args[0], kwargs["dim"], True)
        if function is F.layer_norm:
            args = (args[0].float(), *args[1:])
        return function(*args, **kwargs)


@dataclass(frozen=True)
class Trace:
    """The memory of one training step over time, in bytes: all of it, and without the weights' gradients."""

    parameters: int
    gradients: int
    optimiser: int
    total: np.ndarray
    without_gradients: np.ndarray

    def peak(self) -> dict[str, int]:
        return {
            "parameters": self.parameters,
            "gradients": self.gradients,
            "optimiser": self.optimiser,
            "activations_peak": int(self.without_gradients.max()) - self.parameters - self.optimiser,
            "total_peak": int(self.total.max()),
        }

    def at(self, batch: int, other: "Trace") -> "Trace":
        """From the traces of the two ``FITTED`` batches that of another: every point in time is affine in the batch."""
        share = (batch - FITTED[0]) / (FITTED[1] - FITTED[0])
        total = self.total + share * (other.total - self.total)
        rest = self.without_gradients + share * (other.without_gradients - self.without_gradients)
        return replace(self, total=total, without_gradients=rest)


@dataclass(frozen=True)
class Trainee:
    """A network with an optimiser that has its state already, as from the second step of a training on."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    state: int  # bytes that the optimiser keeps
    update: int  # bytes that it needs for a moment in each step


def prepare(network: nn.Module, optimiser: str) -> Trainee:
    optimise = OPTIMISERS[optimiser](network.parameters(), foreach=True)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimise.step()
    state = [leaf for leaf in tree_leaves(optimise.state_dict()["state"]) if isinstance(leaf, Tensor)]
    with StorageLog() as log:
        for tensor in (*network.parameters(), *(p.grad for p in network.parameters()), *state):
            log.see(tensor)
        known = len(log.events)
        optimise.step()
        update = [0, *(size for _, size in log.events[known:])]
    optimise.zero_grad()
    return Trainee(network, optimise, sum(tensor.nbytes for tensor in state), int(np.cumsum(update).max()))


def trace_step(trainee: Trainee, inputs: tuple[Tensor, ...], target: Tensor, dtype: str) -> Trace:
    """Log the storages of one training step: a prediction under FakeTensorMode, a measurement on real tensors."""
    weights = [*trainee.network.parameters(), *trainee.network.buffers()]
    trainee.optimiser.zero_grad()
    gc.disable()  # a collection at a moment of its own would make two traces differ
    try:
        with StorageLog() as log:
            for tensor in (*weights, *inputs, target):
                log.see(tensor)
            with _autocast("cpu", dtype):
                loss = F.mse_loss(trainee.network(*inputs).float(), target)
            loss.backward()
            del loss
            gradients = {log.see(p.grad): p.grad.nbytes for p in trainee.network.parameters() if p.grad is not None}
            events = list(log.events)
    finally:
        gc.enable()
    return Trace(
        parameters=sum(tensor.nbytes for tensor in weights),
        gradients=sum(gradients.values()),
        optimiser=trainee.state,
        total=_running_sum(trainee, [size for _, size in events]),
        without_gradients=_running_sum(trainee, [0 if number in gradients else size for number, size in events]),
    )


def _running_sum(trainee: Trainee, sizes: list[int]) -> np.ndarray:
    live = np.cumsum(sizes) + trainee.state
    return np.append(live, live[-1] + trainee.update)  # the optimiser's step comes last


def training_peak(
    model_name: str,
    options: dict | None = None,
    batch: int = 2,
    size: int = 256,
    dtype: str = "float32",
    optimiser: str = "adam",
) -> dict[str, int]:
    """Predicted peak memory of one training step, in bytes.

    Args:
        model_name, options: as for :func:`harmonylib.models.build`.
        batch, size: pictures per step, and their side in pixels.
        dtype: "float32", or "float16" for autocast (the weights stay float32).
        optimiser: "adam", "adamw" or "sgd".

    Returns:
        ``parameters`` (with buffers), ``gradients``, ``optimiser``, ``activations_peak`` (the most that exists at once
        of everything else) and ``total_peak``. At the peak not every gradient exists yet, so the four can add up to
        more than ``total_peak``.

    Raises:
        HarmonyError: unknown name, option, dtype or optimiser, or a batch or size below 1.
    """
    _check(batch, size, dtype, optimiser)
    with FakeTensorMode():
        return _trace_model(prepare(build(model_name, **(options or {})), optimiser), batch, size, dtype).peak()


def forward_needs(network: nn.Module, size: int) -> tuple[int, int]:
    """What a network built in this ``FakeTensorMode`` needs on one picture of that side: bytes besides its weights, and
    the most operations of a fused attention, which keeps no scores: its memory does not tell how long it takes."""
    with torch.no_grad(), ForwardLog() as log:
        network.eval()(torch.empty(1, 3, size, size), torch.empty(1, 1, size, size))
    return int(max(np.cumsum([0, *(size for _, size in log.events)]))), log.operations


def room() -> float:
    """Bytes of memory: the GPU's, or what the machine has."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[1]
    return memory_bytes() or math.inf


def _trace_model(trainee: Trainee, batch: int, size: int, dtype: str) -> Trace:
    image, mask = torch.empty(batch, 3, size, size), torch.empty(batch, 1, size, size)
    return trace_step(trainee, (image, mask), torch.empty_like(image), dtype)


def block_peak(
    attention: str = "exact",
    heads: int = 8,
    batch: int = 2,
    side: int = 64,
    channels: int = 256,
    dtype: str = "float32",
) -> dict[str, int]:
    """As :func:`training_peak`, for the attention block alone on a feature map of ``side`` x ``side``."""
    _check(batch, side, dtype, "adam")
    with FakeTensorMode():
        trainee = prepare(ForegroundBackgroundAttention(channels, heads, attention), "adam")
        features = torch.empty(batch, channels, side, side, requires_grad=True)
        mask = torch.empty(batch, 1, side, side)
        return trace_step(trainee, (features, mask), torch.empty_like(features.detach()), dtype).peak()


def matrix(
    attention: Sequence[str] = ("naive", "exact"),
    batch: Sequence[int] = (1, 2, 4, 8, 16, 32),
    size: Sequence[int] = (256,),
    heads: Sequence[int] = (1, 4, 8),
    place: Sequence[int] = (16, 64),
    dtype: Sequence[str] = ("float32", "float16"),
    **options,
) -> pd.DataFrame:
    """Predicted training peak of ``s2am`` for every combination: does it fit the T4 of S2AM-T4 (section 3.7)?

    Args:
        attention, heads, place: options of ``s2am``; ``options`` are further ones, the same in every row.
        batch, size, dtype: as for :func:`training_peak`.

    Returns:
        One row a combination: the arguments, ``predicted_bytes`` and ``fits_15GB``.
    """
    rows = []
    for a, p in itertools.product(attention, place):
        # The fused kernel's memory does not depend on the number of heads: counted once.
        counted = [_peaks(h, a, p, batch, size, dtype, options) for h in (heads[:1] if a == "exact" else heads)]
        for h, peaks in zip(heads, counted * len(heads) if a == "exact" else counted, strict=True):
            rows += [(a, b, s, h, p, d, peak, peak <= T4_BYTES) for (b, s, d), peak in peaks.items()]
    columns = ["attention", "batch", "size", "heads", "place", "dtype", "predicted_bytes", "fits_15GB"]
    return pd.DataFrame(rows, columns=columns)


def _peaks(heads: int, attention: str, place: int, batches, sizes, dtypes, options: dict) -> dict:
    """(batch, size, dtype) -> predicted training peak of one ``s2am``."""
    peaks = {}
    with FakeTensorMode():
        trainee = prepare(build("s2am", **options, attention=attention, heads=heads, place=place), "adam")
        for size, dtype in itertools.product(sizes, dtypes):
            _check(min(batches), size, dtype, "adam")
            low, high = (_trace_model(trainee, b, size, dtype) for b in FITTED)
            for (
                b
            ) in batches:  # for a batch of 1 this is 0.3 % off: where an axis has length 1, PyTorch copies otherwise
                peaks[b, size, dtype] = low.at(b, high).peak()["total_peak"]
    return peaks


def lab(size: Sequence[int] = (256,), **grid) -> pd.DataFrame:
    """:func:`matrix` with the column ``measured_bytes`` (:func:`measured_peak`) where there is a CUDA device.

    A configuration that was predicted to need more than the device has is tried all the same: inf is a result.
    """
    cells = matrix(size=size, **grid)
    if torch.cuda.is_available():
        keys = ("attention", "heads", "place")
        cells["measured_bytes"] = [
            measured_peak("s2am", {key: getattr(row, key) for key in keys}, row.batch, row.size, row.dtype)
            for row in cells.itertuples()
        ]
    return cells


def measured_peak(
    model_name: str,
    options: dict | None = None,
    batch: int = 2,
    size: int = 256,
    dtype: str = "float32",
    optimiser: str = "adam",
) -> float:
    """What :func:`training_peak` predicts as ``total_peak``, measured on the CUDA device in bytes; inf if it runs out.

    Raises:
        HarmonyError: there is no CUDA device; otherwise as :func:`training_peak`.
    """
    _check(batch, size, dtype, optimiser)
    if not torch.cuda.is_available():
        raise HarmonyError("measured_peak needs a CUDA device and there is none; training_peak predicts without one")
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    try:
        trainee = prepare(build(model_name, **(options or {})).cuda(), optimiser)
        image, target = torch.rand(2, batch, 3, size, size, device="cuda")
        mask = (torch.rand(batch, 1, size, size, device="cuda") > 0.5).float()
        torch.cuda.reset_peak_memory_stats()
        with _autocast("cuda", dtype):
            loss = F.mse_loss(trainee.network(image, mask).float(), target)
        loss.backward()
        trainee.optimiser.step()
        return float(torch.cuda.max_memory_allocated() - before)
    except torch.cuda.OutOfMemoryError:
        return math.inf
    finally:
        trainee = image = target = mask = loss = None
        torch.cuda.empty_cache()


def _autocast(device: str, dtype: str) -> ExitStack:
    stack = ExitStack()
    if dtype == "float16":
        stack.enter_context(torch.autocast(device, torch.float16))
        if device == "cpu":
            stack.enter_context(CudaAutocastRules())
    return stack


def _check(batch: int, size: int, dtype: str, optimiser: str) -> None:
    if min(batch, size) < 1:
        raise HarmonyError(f"memory: batch and size must be at least 1, not {batch} and {size}")
    if dtype not in DTYPES:
        raise HarmonyError(f"memory: dtype {dtype!r} does not exist; choose one of {', '.join(DTYPES)}")
    if optimiser not in OPTIMISERS:
        raise HarmonyError(f"memory: optimiser {optimiser!r} does not exist; choose one of {', '.join(OPTIMISERS)}")

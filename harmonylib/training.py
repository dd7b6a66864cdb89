"""One run: from an experiment and prepared data to weights, a learning curve and a score before the first step.

The order of the pictures is a function of (seed, pass), not of a loader's state, so a run that is resumed in the
middle of an epoch sees the same batches, and on CPU ends with the same bits, as one that was never interrupted.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor
from tqdm import tqdm

from harmonylib import checkpoints, evaluation, losses, models
from harmonylib.config import Experiment
from harmonylib.data.cache import Cache
from harmonylib.errors import HarmonyError

CHECKPOINT_SECONDS = 300
CURVE_POINTS = 8  # validations of the learning curve in a run with a fixed budget of steps
CURVE_IMAGES = 96  # of the validation split, for the points between the ends of epochs


@dataclass
class Trained:
    """What a run leaves behind. `validation` holds per-image rows at the end of every epoch (column epoch, 0: untrained)."""

    model: torch.nn.Module
    log: pd.DataFrame  # step, epoch, seen, train_loss, val_fmse (bcmi256 at the run's size, 0-255 scale)
    validation: pd.DataFrame
    steps: int
    seconds: float
    peak_bytes: int | None  # of GPU memory
    device: str


class Batches:
    """Batches of a split on a device, by step: ``batches[step]`` -> composite, mask, target in [0,1].

    Every pass over the data has its own order, drawn from (seed, pass). Small sets live on the device as uint8; larger
    ones stay memory-mapped.
    """

    RESIDENT_BYTES = 2**31

    def __init__(self, cache: Cache, rows: np.ndarray, batch_size: int, seed: int, device: torch.device):
        if len(rows) < 1:
            raise HarmonyError("no training triplets: the split or the share leaves none")
        self.rows, self.batch_size, self.seed, self.device = rows, batch_size, seed, device
        self.index = cache.index[["real", "mask"]].to_numpy()
        arrays = (cache.composite, cache.real, cache.mask)
        self.resident = sum(a.nbytes for a in arrays) <= self.RESIDENT_BYTES
        self.arrays = [torch.from_numpy(np.array(a)).to(device) for a in arrays] if self.resident else arrays
        self._orders: dict[int, np.ndarray] = {}

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        chosen = np.array([self._row(step * self.batch_size + i) for i in range(self.batch_size)])
        real, mask = self.index[chosen].T
        composite, real, mask = (self._take(a, rows) for a, rows in zip(self.arrays, (chosen, real, mask), strict=True))
        pictures = [(t.float() / 255).permute(0, 3, 1, 2) for t in (composite, real)]
        return pictures[0], mask.float()[:, None], pictures[1]

    def _take(self, array, rows: np.ndarray) -> Tensor:
        if self.resident:
            return array[torch.from_numpy(rows).to(self.device)]
        return torch.from_numpy(array[rows]).to(self.device)

    def _row(self, position: int) -> int:
        number, place = divmod(position, len(self.rows))
        if number not in self._orders:
            rng = np.random.default_rng([self.seed, number])
            self._orders = {n: o for n, o in self._orders.items() if n >= number - 1} | {
                number: rng.permutation(self.rows)
            }
        return self._orders[number][place]


def total_steps(experiment: Experiment, pictures: int) -> int:
    """Optimiser steps of a run; `pictures` counts the full training split, so that a share of it is trained as long."""
    return experiment.steps or experiment.epochs * max(1, pictures // experiment.batch_size)


def train(
    experiment: Experiment,
    cache: Cache,
    train_rows: np.ndarray,
    val_rows: np.ndarray,
    checkpoint: Path,
    *,
    full_count: int | None = None,
    key: str = "",
    say: Callable = print,
) -> Trained:
    """Train, resuming from `checkpoint` where it holds an unfinished run with the same `key`.

    Args:
        train_rows, val_rows: rows of the cache.
        full_count: number of training triplets before a share was taken (default: all of `train_rows`).
        key: what the run depends on (configuration, data, source); another key in the checkpoint starts afresh.

    Raises HarmonyError when the loss is no longer finite.
    """
    started = time.perf_counter()
    accelerator = _accelerator(experiment.precision)
    device = accelerator.device
    checkpoints.seed_everything(experiment.seed)
    model = models.build(experiment.model, **experiment.options).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(model.parameters(), lr=experiment.learning_rate)
    model, optimiser = accelerator.prepare(model, optimiser)
    batches = Batches(cache, train_rows, experiment.batch_size, experiment.seed, device)
    loss_of = losses.of(experiment)
    steps = total_steps(experiment, full_count or len(train_rows))
    epoch_ends = {round(steps * (e + 1) / experiment.epochs): e + 1 for e in range(experiment.epochs)}
    curve = epoch_ends.keys() | {round(steps * (i + 1) / CURVE_POINTS) for i in range(CURVE_POINTS)}
    few = val_rows[np.linspace(0, len(val_rows) - 1, min(CURVE_IMAGES, len(val_rows))).astype(int)]
    method = evaluation.network(model)

    state = {"step": 0, "seconds": 0.0, "loss_sum": 0.0, "loss_count": 0, "log": [], "validation": []}
    saved = _unfinished(checkpoint, key)
    if saved:
        accelerator.unwrap_model(model).load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(saved["scaler"])
        checkpoints.restore_random_state(saved["random"])
        state = saved["state"]
        say(f"{experiment.name}, seed {experiment.seed}: resumed at step {state['step']} of {steps}")
    else:
        _validate(state, evaluation.evaluate_cached(method, cache, val_rows), None, epoch=0)
    before = state["seconds"]

    def keep(finished: bool) -> None:
        state["seconds"] = before + time.perf_counter() - started
        content = {"experiment": experiment.to_dict(), "key": key, "finished": finished, "state": state}
        content["model"] = accelerator.unwrap_model(model).state_dict()
        if not finished:
            content |= {"optimiser": optimiser.state_dict(), "random": checkpoints.random_state()}
            content["scaler"] = accelerator.scaler.state_dict() if accelerator.scaler is not None else {}
        checkpoints.save(checkpoint, content)

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    last_kept, running = time.perf_counter(), torch.zeros((), device=device)
    bar = tqdm(total=steps, initial=state["step"], desc=experiment.name, disable=not _watched(), leave=False)
    for step in range(state["step"], steps):
        model.train()
        composite, mask, target = batches[step]
        for group in optimiser.param_groups:
            group["lr"] = _learning_rate(experiment, step, steps)
        with accelerator.autocast():
            prediction = model(composite, mask)
        loss = loss_of(prediction.float(), target, mask)
        optimiser.zero_grad()
        accelerator.backward(loss)
        optimiser.step()
        running += loss.detach()
        state["step"], state["loss_count"] = step + 1, state["loss_count"] + 1
        bar.update()

        at_curve = step + 1 in curve
        due = time.perf_counter() - last_kept > CHECKPOINT_SECONDS
        if device.type == "cpu" or at_curve or due or step % 50 == 0:  # reading the loss makes a GPU wait
            state["loss_sum"] += running.item()
            running.zero_()
            if not np.isfinite(state["loss_sum"]):
                raise HarmonyError(
                    f"{experiment.name}, seed {experiment.seed}: the loss is not finite at step {step + 1}; "
                    "lower learning_rate, or use precision float32"
                )
        if at_curve:
            epoch = epoch_ends.get(step + 1)
            rows = evaluation.evaluate_cached(method, cache, few if epoch is None else val_rows)
            _validate(state, rows, experiment, epoch)
            last = state["log"][-1]
            left = (
                (time.perf_counter() - started)
                / (step + 1 - (saved["state"]["step"] if saved else 0))
                * (steps - step - 1)
            )
            if not _watched():
                say(f"{experiment.name}, seed {experiment.seed}: step {step + 1}/{steps}, loss {last['train_loss']:.4f}, "
                    f"validation fMSE {last['val_fmse']:.1f}, {left:.0f} s left")  # fmt: skip
        if (at_curve and due) or due:
            keep(finished=False)
            last_kept = time.perf_counter()
    bar.close()
    keep(finished=True)
    return _trained(accelerator.unwrap_model(model), state, device)


def finished(checkpoint: Path, key: str) -> Trained | None:
    """The run in `checkpoint`, if it is finished and depended on the same configuration, data and source."""
    if not checkpoint.is_file():
        return None
    saved = checkpoints.load(checkpoint)
    if not saved.get("finished") or saved["key"] != key:
        return None
    return _trained(load_model(checkpoint), saved["state"], torch.device("cpu"))


def load_model(checkpoint: Path) -> torch.nn.Module:
    """The network of a checkpoint, in evaluation mode, on the GPU if there is one; `model.size` is the side in px that
    it was trained at."""
    saved = checkpoints.load(checkpoint)
    experiment = saved["experiment"]
    model = models.build(experiment["model"], **experiment["options"])
    try:
        model.load_state_dict(saved["model"])
    except RuntimeError:
        raise HarmonyError(
            f"{checkpoint}: its weights do not fit {experiment['model']} as it is now; train again"
        ) from None
    model.size = experiment["size"]
    return model.to("cuda" if torch.cuda.is_available() else "cpu", memory_format=torch.channels_last).eval()


def pick_precision(precision: str) -> str:
    """``auto`` resolved: by compute capability, because a T4 (7.5) claims to support bfloat16 but only emulates it."""
    if precision != "auto":
        return precision
    if not torch.cuda.is_available():
        return "float32"
    return "bfloat16" if torch.cuda.get_device_capability() >= (8, 0) else "float16"


def _accelerator(precision: str) -> Accelerator:
    short = {"float32": "no", "float16": "fp16", "bfloat16": "bf16"}[pick_precision(precision)]
    if short == "fp16" and not torch.cuda.is_available():
        raise HarmonyError("precision float16: needs a GPU; use float32 or bfloat16 here")
    AcceleratorState._reset_state()  # runs of one kernel may differ in precision; accelerate keeps the first one's
    return Accelerator(mixed_precision=short, cpu=not torch.cuda.is_available())


def _learning_rate(experiment: Experiment, step: int, steps: int) -> float:
    if experiment.schedule == "constant":
        return experiment.learning_rate
    return experiment.learning_rate * 0.5 * (1 + float(np.cos(np.pi * step / steps)))


def _unfinished(checkpoint: Path, key: str) -> dict | None:
    if not checkpoint.is_file():
        return None
    saved = checkpoints.load(checkpoint)
    return saved if saved.get("key") == key and not saved.get("finished") else None


def _validate(state: dict, rows: pd.DataFrame, experiment: Experiment | None, epoch: int | None) -> None:
    """Append a point to the learning curve, and at the end of an epoch the per-image rows."""
    loss = state["loss_sum"] / state["loss_count"] if state["loss_count"] else float("nan")
    seen = state["step"] * experiment.batch_size if experiment else 0
    point = {
        "step": state["step"],
        "epoch": epoch,
        "seen": seen,
        "train_loss": loss,
        "val_fmse": float(rows["fmse"].mean()),
    }
    state["log"].append(point)
    state["loss_sum"], state["loss_count"] = 0.0, 0
    if epoch is not None:
        state["validation"].append({"epoch": epoch} | {name: rows[name].tolist() for name in rows})


def _trained(model: torch.nn.Module, state: dict, device: torch.device) -> Trained:
    validation = pd.concat([pd.DataFrame(rows) for rows in state["validation"]], ignore_index=True)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    model = model.eval()
    return Trained(model, pd.DataFrame(state["log"]), validation, state["step"], state["seconds"], peak, str(device))


def _watched() -> bool:
    """A person sees a bar that moves; files, pipes and executed notebooks get plain lines."""
    return sys.stderr.isatty()

"""One run: from an experiment and prepared data to weights, a learning curve and a score before the first step.

The order of the pictures is a function of (seed, pass), not of a loader's state, so a run that is resumed in the
middle of an epoch sees the same batches, and on CPU ends with the same bits, as one that was never interrupted. Of
several processes (`distributed`) each takes a share of every batch: the same run, but for the rounding of sums.
"""

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, GradScalerKwargs
from accelerate.state import AcceleratorState
from torch._subclasses.fake_tensor import FakeTensorMode
from tqdm import tqdm

from harmonylib import checkpoints, distributed, evaluation, interruption, losses, memory, models
from harmonylib.batches import Perturbed, Triplets
from harmonylib.config import Experiment, experiment_from
from harmonylib.data.cache import Cache
from harmonylib.errors import HarmonyError
from harmonylib.paths import shown
from harmonylib.reading import DAMAGE

CHECKPOINT_SECONDS = 300
READ_LOSS_EVERY = 50  # steps, on a GPU
WHOLE_VALIDATIONS = 2  # of the last epochs; per-image rows of a hundred epochs would be of no use to anyone
ROOM = 0.8  # of the memory, that a network may take on pictures
# Of one attention, while which no signal is heard. The papers' most, SwinIH's at 1024 px, takes two cores a minute.
OPERATIONS = {"cpu": 2**43, "cuda": 2**49}
CURVE_POINTS = 6  # validations of the learning curve in a run with a fixed budget of steps
CURVE_IMAGES = 32  # of the validation split, for the points between the ends of epochs


@dataclass
class Trained:
    """What a run leaves behind. `validation`: per-image rows at the end of every epoch (column epoch)."""

    model: torch.nn.Module
    log: pd.DataFrame  # step, epoch, seen, train_loss, val_fmse (bcmi256 at the run's size, 0-255 scale)
    validation: pd.DataFrame
    steps: int
    seconds: float
    peak_bytes: int | None  # of GPU memory
    device: str


def total_steps(experiment: Experiment, pictures: int) -> int:
    """Optimiser steps of a run; `pictures` counts the full training split, so that a share of it is trained as long."""
    steps = experiment.steps or experiment.epochs * max(1, pictures // experiment.batch_size)
    return max(1, round(experiment.length * steps))


def validations(experiment: Experiment, steps: int) -> tuple[dict[int, int], set[int]]:
    """After which steps a run is validated: as a whole, with the number of the epoch that ends there, and at all."""
    epochs = range(experiment.epochs)[-WHOLE_VALIDATIONS:]
    ends = {round(steps * (e + 1) / experiment.epochs): e + 1 for e in epochs}
    points = {round(steps * (i + 1) / CURVE_POINTS) for i in range(CURVE_POINTS)}
    return ends, (ends.keys() | points) - {0}


def train(
    experiment: Experiment,
    cache: Cache,
    train_rows: np.ndarray,
    val_rows: np.ndarray,
    checkpoint: Path,
    *,
    photographs: np.ndarray | None = None,
    batches: Callable = Triplets,
    start: Path | None = None,
    full_count: int | None = None,
    key: str = "",
    say: Callable = print,
) -> Trained:
    """Train, resuming from `checkpoint` where it holds an unfinished run with the same `key`.

    Args:
        train_rows, val_rows: rows of the cache.
        photographs: (N,S,S,3) uint8, for LEMaRT to perturb; `train_rows` are not used then.
        batches: of the set: as it is, or `Recoloured`.
        start: a checkpoint to take the weights of, of the same network.
        full_count: number of training pictures before a share was taken (default: all that are given).
        key: what the run depends on (configuration, data, source); another key in the checkpoint starts afresh.

    Raises HarmonyError when `start` is of another network, or a process would have no picture; Diverged when the loss
    is no longer finite; Interrupted, after a checkpoint, when SIGTERM came.
    """
    every = checkpoints.interval(CHECKPOINT_SECONDS)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    full_count = full_count or len(train_rows if photographs is None else photographs)
    run = Run(experiment, cache, val_rows, checkpoint, full_count, key)
    if photographs is None:
        run.batches = batches(cache, train_rows, experiment.batch_size, experiment.seed, run.device, run.share)
    else:
        drawn = experiment.batch_size, experiment.seed, run.device, run.share
        run.batches = Perturbed(photographs, experiment.lemart, *drawn)
    if start is not None:
        run.take_weights(start)
    if run.resume():
        say(f"{run.label}: resumed at step {run.state['step']} of {run.steps}")
    else:
        if distributed.is_main() and checkpoint.is_file() and not checkpoints.load(checkpoint).get("finished"):
            say(f"{run.label}: an unfinished run is of another configuration, data or source; starting anew")
        run.validate(run.few, epoch=None)
    # A person sees a bar that moves; files and executed notebooks get plain lines.
    watched = bool(sys.stderr) and sys.stderr.isatty() and distributed.is_main()
    clock = started, first = time.perf_counter(), run.state["step"]
    kept = started
    bar = tqdm(range(first, run.steps), run.label, run.steps, initial=first, disable=not watched, leave=False)
    with interruption.noted() as asked:
        for step in bar:
            run.step(step)
            if step + 1 in run.curve:
                epoch = run.epoch_ends.get(step + 1)
                run.validate(run.few if epoch is None else val_rows, epoch)
                if epoch and not watched:
                    say(f"{run.label}: {run.last_point()}, {_time_left(clock, step + 1, run.steps)} left")
            due = time.perf_counter() - kept > every
            stopping, due = distributed.any_of(asked() and step + 1 < run.steps, due)
            if stopping or due:
                run.keep(finished=False)
                kept = time.perf_counter()
            if stopping:
                words = f"stopped at step {step + 1} of {run.steps}, as SIGTERM asked, and saved"
                raise interruption.Interrupted(f"{run.label}: {words}; the same command goes on from there")
        run.keep(finished=True)
    return run.result()


class Run:
    """The moving parts of one training run, and their way into a checkpoint and back."""

    batches: Triplets | Perturbed

    def __init__(self, experiment, cache, val_rows, checkpoint, full_count, key):
        self.experiment, self.cache, self.checkpoint, self.key = experiment, cache, checkpoint, key
        self.label = f"{experiment.name}, seed {experiment.seed}"
        self.accelerator = _accelerator(experiment.precision)
        self.device = self.accelerator.device
        checkpoints.seed_everything(experiment.seed)
        model = models.build(experiment.model, **experiment.options).to(memory_format=torch.channels_last)
        self.share = distributed.share(experiment.batch_size, experiment.micro_batch, model)
        model = distributed.normalise_together(model)
        self.model, self.optimiser = self.accelerator.prepare(model, _optimiser(experiment, model))
        # Without accelerate's autocast around it: `step` has its own, and scores are in float32, as everywhere else.
        self.network = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.method = evaluation.network(self.network)
        self.loss_of = losses.of(experiment)
        self.steps = total_steps(experiment, full_count)
        self.epoch_ends, self.curve = validations(experiment, self.steps)
        self.few = val_rows[np.linspace(0, len(val_rows) - 1, min(CURVE_IMAGES, len(val_rows))).astype(int)]
        self.state = {"step": 0, "seconds": 0.0, "loss_sum": 0.0, "loss_count": 0, "log": [], "validation": []}
        self.pending = torch.zeros((), device=self.device)  # losses not yet read: reading makes a GPU wait
        self.before, self.started = 0.0, time.perf_counter()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def step(self, number: int) -> None:
        """One optimiser step, its gradient accumulated over micro-batches and summed over processes.

        Raises Diverged: the loss is not finite.
        """
        self.model.train()
        batch, sizes = self.batches[number], [len(part) for part in self.share.parts]
        for group in self.optimiser.param_groups:
            group["lr"] = _learning_rate(self.experiment, number, self.steps)
        self.optimiser.zero_grad()
        for part, (composite, mask, target) in enumerate(zip(*(tensor.split(sizes) for tensor in batch), strict=True)):
            last = part == len(sizes) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():
                    prediction = self.model(composite, mask)
                loss = self.loss_of(prediction.float(), target, mask) * (len(mask) / self.experiment.batch_size)
                self.accelerator.backward(loss * distributed.world_size())  # what it averages is to be a sum
            self.pending += loss.detach()
        self.optimiser.step()
        self.state["step"], self.state["loss_count"] = number + 1, self.state["loss_count"] + 1
        if self.device.type == "cpu" or number % READ_LOSS_EVERY == 0:
            self._read_loss()

    def validate(self, rows: np.ndarray, epoch: int | None) -> None:
        """Append a point to the learning curve, and at the end of an epoch the per-image rows."""
        self._read_loss()
        try:
            table, state = evaluation.evaluate_cached(self.method, self.cache, rows), self.state
        except HarmonyError:  # the last loss was finite and the step after it was too large
            raise self._diverged() from None
        mean_loss = state["loss_sum"] / state["loss_count"] if state["loss_count"] else float("nan")
        seen, fmse = state["step"] * self.experiment.batch_size, float(table["fmse"].mean())
        state["log"].append(
            {"step": state["step"], "epoch": epoch, "seen": seen, "train_loss": mean_loss, "val_fmse": fmse}
        )
        state["loss_sum"], state["loss_count"] = 0.0, 0
        if epoch is not None:
            state["validation"].append({"epoch": epoch} | {name: table[name].tolist() for name in table})

    def last_point(self) -> str:
        point = self.state["log"][-1]
        loss, fmse = point["train_loss"], point["val_fmse"]
        return f"step {point['step']}/{self.steps}, loss {loss:.4f}, validation fMSE {fmse:.1f}"

    def keep(self, finished: bool) -> None:
        """Write the checkpoint; a finished one holds what the record needs, an unfinished one all of the state."""
        self._read_loss()
        if not distributed.is_main():
            return
        self.state["seconds"] = self.before + time.perf_counter() - self.started
        content = {"experiment": self.experiment.to_dict(), "key": self.key, "finished": finished, "state": self.state}
        content["model"] = self.network.state_dict()
        if not finished:
            scaler = self.accelerator.scaler
            content |= {"optimiser": self.optimiser.state_dict(), "random": checkpoints.random_state()}
            content["scaler"] = scaler.state_dict() if scaler is not None else {}
        checkpoints.save(self.checkpoint, content)

    def resume(self) -> bool:
        """Take up an unfinished run with the same key, if the checkpoint holds one."""
        saved = _saved(self.checkpoint, self.key, finished=False)
        if saved is None:
            return False
        self.network.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        checkpoints.restore_random_state(saved["random"])
        self.state, self.before = saved["state"], saved["state"]["seconds"]
        return True

    def take_weights(self, checkpoint: Path) -> None:
        """Start from a checkpoint's weights. Raises HarmonyError when it holds another network."""
        other, own = load_model(checkpoint), self.network
        kinds = [type(network).__name__ for network in (other, own)]
        shapes = [{k: v.shape for k, v in network.state_dict().items()} for network in (other, own)]
        if kinds[0] != kinds[1] or shapes[0] != shapes[1]:
            sizes = [f"{sum(map(torch.Size.numel, s.values())):,} numbers" for s in shapes]
            raise HarmonyError(
                f"{self.label}: cannot start from {shown(checkpoint)}: it holds {kinds[0]} ({sizes[0]}), this run is "
                f"{kinds[1]} ({sizes[1]}); start from a checkpoint of the same network and options"
            )
        own.load_state_dict(other.state_dict())

    def result(self) -> Trained:
        return _trained(self.network, self.state, self.device)

    def _read_loss(self) -> None:
        self.state["loss_sum"] += distributed.add_up(self.pending).item()
        self.pending.zero_()
        if not np.isfinite(self.state["loss_sum"]):
            raise self._diverged()

    def _diverged(self) -> "Diverged":
        words = f"{self.label}: the loss is not finite at step {self.state['step']}"
        return Diverged(f"{words}; lower learning_rate, or use precision float32", pd.DataFrame(self.state["log"]))


class Diverged(HarmonyError):
    """The loss of a run is no longer finite; `log` is its learning curve so far."""

    def __init__(self, message: str, log: pd.DataFrame):
        super().__init__(message)
        self.log = log


def finished(checkpoint: Path, key: str) -> Trained | None:
    """The run in `checkpoint`, if it is finished and depended on the same configuration, data and source."""
    saved = _saved(checkpoint, key, finished=True)
    return saved and _trained(load_model(checkpoint), saved["state"], torch.device("cpu"))


def _saved(checkpoint: Path, key: str, finished: bool) -> dict | None:
    """The checkpoint, if it is of a run with this key that is finished, or is not; the main process decides."""

    def fits() -> bool:
        saved = checkpoints.load(checkpoint) if checkpoint.is_file() else {}
        return saved.get("key") == key and bool(saved.get("finished")) == finished

    return checkpoints.load(checkpoint) if distributed.from_main(fits) else None


def load_model(checkpoint: Path) -> torch.nn.Module:
    """The network of a checkpoint, in evaluation mode, on the GPU if there is one; `model.size` is the side in px that
    it was trained at, `model.at_once` how many pixels of pictures it is given together.

    Raises HarmonyError where there is no such network, or one that needs more memory on a picture than there is.
    """
    saved, name = checkpoints.load(checkpoint), "its network"
    try:
        experiment = experiment_from(saved["experiment"])
        name = experiment.model
        with torch.device("meta"):  # first without memory: its options may ask for any amount
            shapes = {k: v.shape for k, v in models.build(experiment.model, **experiment.options).state_dict().items()}
        if shapes != {k: v.shape for k, v in saved["model"].items()}:
            raise TypeError("other weights than its network has")
        if sum(v.numel() * v.element_size() for v in saved["model"].values()) > checkpoint.stat().st_size:
            raise TypeError("weights that are one number, many times")
        model = models.build(experiment.model, **experiment.options)
        model.load_state_dict(saved["model"])
        model.at_once = evaluation.AT_ONCE if checkpoints.comes_along(checkpoint) else _at_once(experiment, checkpoint)
    except (RuntimeError, *DAMAGE) as error:
        raise HarmonyError(f"{checkpoint}: does not fit {name} as it is now; train again") from error
    model.size = experiment.size
    return model.to("cuda" if torch.cuda.is_available() else "cpu", memory_format=torch.channels_last).eval()


def _at_once(experiment: Experiment, checkpoint: Path) -> int:
    """Pixels of pictures that its network may be given together. Raises HarmonyError where one picture is too much."""
    name, options, room = experiment.model, experiment.options, memory.room()
    with FakeTensorMode():  # half a second
        network = models.build(name, **options)
        side = max(round(max(network.looks) * experiment.size), network.multiple)
        needed, operations = memory.forward_needs(network, side)
    most = OPERATIONS["cuda" if torch.cuda.is_available() else "cpu"]
    if needed > ROOM * room:
        words = f"{name} takes {needed / 1e9:.3g} GB on a picture of {side} px, and there are {room / 1e9:.3g} here"
        raise HarmonyError(f"{checkpoint}: {words}; use a larger machine, or another network")
    if operations > most:
        words = (
            f"an attention of {name} takes {operations:.1e} operations on a picture of {side} px, at most {most:.1e}"
        )
        raise HarmonyError(f"{checkpoint}: {words} are done; use a GPU, or another network")
    pictures = min(ROOM * room // needed, most // max(operations, 1))
    return min(evaluation.AT_ONCE, side**2 * int(pictures))


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
    if distributed.world_size() == 1:
        distributed.check_alone()
    AcceleratorState._reset_state()  # runs of one kernel may differ in precision; accelerate keeps the first one's
    alike = DistributedDataParallelKwargs(broadcast_buffers=False)  # these are the same in all processes as it is
    # `step` multiplies by the number of processes too: what half precision has to hold is the same for any number.
    scale = GradScalerKwargs(init_scale=2.0**16 / distributed.world_size())
    return Accelerator(mixed_precision=short, cpu=not torch.cuda.is_available(), kwargs_handlers=[alike, scale])


def _optimiser(experiment: Experiment, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Adam, or AdamW, which spares biases, norms and tables of relative positions its decay, as Swin's recipe does."""
    betas, rate = (0.9, experiment.beta2), experiment.learning_rate
    if experiment.optimiser == "adam":
        return torch.optim.Adam(model.parameters(), lr=rate, betas=betas, fused=True)
    decays = {name: p.ndim > 1 and not name.endswith("table") for name, p in model.named_parameters()}
    matrices, others = ([p for n, p in model.named_parameters() if decays[n] == chosen] for chosen in (True, False))
    groups = [{"params": matrices, "weight_decay": experiment.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)


def _learning_rate(experiment: Experiment, step: int, steps: int) -> float:
    if experiment.schedule == "constant":
        return experiment.learning_rate
    return experiment.learning_rate * 0.5 * (1 + float(np.cos(np.pi * step / steps)))


def _time_left(clock: tuple[float, int], done: int, steps: int) -> str:
    started, first = clock
    return f"{(time.perf_counter() - started) / (done - first) * (steps - done):.0f} s"


def _trained(model: torch.nn.Module, state: dict, device: torch.device) -> Trained:
    validation = pd.concat([pd.DataFrame(rows) for rows in state["validation"]], ignore_index=True)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    model = model.eval()
    return Trained(model, pd.DataFrame(state["log"]), validation, state["step"], state["seconds"], peak, str(device))

"""``python -m harmonylib plan``: every run of a profile, with its predicted time on this device and training memory.

Time is that of a few probed steps (of one where a step takes seconds), times the number of steps; validation and
evaluation come on top (about a third in `quick`, little in larger profiles). Memory is counted on tensors without data
(`memory`). For a card that is not here (`on_cards`), time is counted operations over the card's stated peak, times the
share of its own peak that this device was measured to reach.
"""

import time
from functools import lru_cache
from statistics import median

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from harmonylib import experiments, losses, memory, models
from harmonylib.config import Experiment
from harmonylib.study import Study
from harmonylib.training import pick_precision, total_steps

PROBED = 3  # steps that are timed, after one that is not
PATIENCE = 5.0  # seconds, after which no further step is begun
PROBE_SIZE = 64  # px of the picture that the share of a peak is measured on
PICTURES = {"s2am_t4": 22_800, "lemart": 65_742, "photographs": 120_000}  # to train on, as the papers have them
CARDS = {  # stated peak of dense matrix products in the precision that trains there, FLOP/s; memory, bytes
    "T4 (float16)": (65e12, 15e9),
    "A100 80 GB (bfloat16)": (312e12, 80e9),
    "H100 80 GB (bfloat16)": (989e12, 80e9),
}


def show(study: Study) -> None:
    """Print one row a run, the sum, and, where a profile trains at the papers' sizes, the hours on other cards."""
    rows, known = [], {}
    for planned in experiments.plan(study.profile, study.data):
        experiment, seeds = planned.experiment, len(planned.seeds)
        shape = (experiment.model, str(experiment.options), _at_once(experiment), experiment.size, experiment.precision)
        if shape not in known:  # most runs differ in their data, not in their step
            peak = memory.training_peak(experiment.model, experiment.options, _at_once(experiment), experiment.size)
            known[shape] = seconds_per_step(experiment), peak["total_peak"] / 2**30
        seconds, gib = known[shape]
        steps = total_steps(experiment, _pictures(experiment, study))
        minutes = seeds * steps * seconds * experiment.batch_size / _at_once(experiment) / 60
        rows.append((experiment.name, seeds, steps, experiment.batch_size, experiment.size, minutes, gib))
    table = pd.DataFrame(rows, columns=["run", "seeds", "steps", "batch", "px", "minutes", "GiB"])
    print(table.to_string(index=False, float_format="%.2f"))
    total, largest = table["minutes"].sum(), table["GiB"].max()
    print(f"training {total:.1f} min in all on {_device()}; the largest step needs at most {largest:.2f} GiB")
    if study.profile.preset is None:
        print("\nOn other cards, for LEMaRT's runs:\n" + on_cards().to_string(index=False))


def on_cards() -> pd.DataFrame:
    """Hours of LEMaRT's main runs at the paper's size on other cards, and the pictures that a card holds at once.

    A tenth of the stated peak would be a slow program, half of it a very good one: the share that this device reaches
    on the same network, `share_of_peak`, stands in for it. Memory counts attention maps that a GPU's fused kernels
    never hold, so more pictures may fit. One row a run and card.
    """
    share, rows = share_of_peak(), []
    for name in ("pretrain_swinih", "swinih_lemart", "swinih_lemart_120"):
        experiment = experiments.EXPERIMENTS[name]
        steps = total_steps(experiment, PICTURES["photographs" if experiment.strategy else "lemart"])
        flops = steps * experiment.batch_size * flops_per_picture(experiment.model, experiment.size)
        for card, (peak, room) in CARDS.items():
            hours, least = (f"{flops / speed / 3600:,.1f}" for speed in (peak * share, peak))
            row = {"run": name, "card": card, "optimiser steps": steps, "PFLOP": f"{flops / 1e15:,.0f}", "hours": hours}
            rows.append(row | {"at the stated peak": least, "pictures at once": _fitting(experiment, room)})
    print(f"this device reaches {share:.0%} of its own peak ({_device()}, SwinIH at {PROBE_SIZE} px, float32)")
    return pd.DataFrame(rows)


@lru_cache
def flops_per_picture(model: str, size: int) -> float:
    """Floating-point operations of a training step (both ways) on one picture, for the paper's size, counted."""
    with torch.device("meta"):
        network = models.build(model)
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, size, size), torch.empty(1, 1, size, size)).sum().backward()
    return float(counter.get_total_flops())


@lru_cache
def share_of_peak() -> float:
    """What full-size SwinIH reaches of the speed of a large matrix product on this device, in float32."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    square = torch.rand(2048, 2048, device=device)
    peak = 2 * 2048**3 / _seconds(lambda: square @ square, device)
    probe = Experiment("probe", "swinih", batch_size=1, size=PROBE_SIZE)
    return min(1.0, flops_per_picture("swinih", PROBE_SIZE) / seconds_per_step(probe) / peak)


def seconds_per_step(experiment: Experiment) -> float:
    """Median of a few steps on random pictures, on the GPU if there is one; of one micro-batch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = models.build(experiment.model, **experiment.options).to(device, memory_format=torch.channels_last)
    optimiser, loss_of = torch.optim.Adam(model.parameters(), lr=1e-6), losses.of(experiment)
    shape = (_at_once(experiment), 3, experiment.size, experiment.size)
    composite, target = torch.rand(2, *shape, device=device)
    mask = (torch.rand(shape[0], 1, *shape[2:], device=device) > 0.8).float()
    half = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(pick_precision(experiment.precision))

    def step() -> None:
        with torch.autocast(device.type, half, enabled=half is not None):
            prediction = model(composite, mask)
        loss_of(prediction.float(), target, mask).backward()
        optimiser.step()
        optimiser.zero_grad()

    return _seconds(step, device)


def _seconds(work, device: torch.device) -> float:
    times: list[float] = []
    while len(times) <= PROBED and sum(times) < PATIENCE:
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return median(times[1:] or times)


def _at_once(experiment: Experiment) -> int:
    """Pictures in memory at once; of the papers' batch of 192, one is probed on a CPU."""
    if experiment.micro_batch or experiment.batch_size <= 16 or torch.cuda.is_available():
        return experiment.micro_batch or experiment.batch_size
    return 1


def _pictures(experiment: Experiment, study: Study) -> int:
    """Pictures of one pass: those at hand, and where a profile counts in epochs on other data, the papers'."""
    if experiment.steps:
        return 0  # a fixed budget does not depend on them
    if study.data == "embedded":
        return PICTURES["photographs" if experiment.strategy else experiment.study]
    if experiment.strategy:
        return len(study.like(experiment).photographs(experiment).pixels)
    return len(study.like(experiment).split(experiment.split).train)


def _fitting(experiment: Experiment, room: float) -> int:
    """The largest number of pictures whose training step stays within `room` bytes, counted with autocast."""
    counted = [_peak(experiment.model, experiment.size, batch) for batch in (1, 2)]
    return max(0, int(1 + (room - counted[0]) // (counted[1] - counted[0])))


@lru_cache
def _peak(model: str, size: int, batch: int) -> int:
    return memory.training_peak(model, {}, batch, size, dtype="float16", optimiser="adamw")["total_peak"]


def _device() -> str:
    return (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"this CPU with {torch.get_num_threads()} threads"
    )

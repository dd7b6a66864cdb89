"""``python -m harmonylib plan``: every run of a profile, with its predicted time on this device and training memory.

Time is that of a few probed steps, times the number of steps; validation and evaluation come on top (about a third in
`quick`, little in larger profiles). Memory is counted on tensors without data (`memory`).
"""

import time
from statistics import median

import pandas as pd
import torch

from harmonylib import experiments, losses, memory, models
from harmonylib.config import Experiment
from harmonylib.study import Study
from harmonylib.training import pick_precision, total_steps

PROBED = 3  # steps that are timed, after one that is not


def show(study: Study) -> None:
    """Print one row a run, and the sum."""
    rows = []
    for planned in experiments.plan(study.profile, study.data):
        experiment, seeds = planned.experiment, len(planned.seeds)
        steps = total_steps(experiment, len(study.split(experiment.split).train))
        peak = memory.training_peak(experiment.model, experiment.options, experiment.batch_size, experiment.size)
        minutes = seeds * steps * seconds_per_step(experiment) / 60
        gib = peak["total_peak"] / 2**30
        gib = peak["total_peak"] / 2**30
        rows.append((experiment.name, seeds, steps, experiment.batch_size, experiment.size, minutes, gib))
    table = pd.DataFrame(rows, columns=["run", "seeds", "steps", "batch", "px", "minutes", "GiB"])
    print(table.to_string(index=False, float_format="%.2f"))
    total, largest = table["minutes"].sum(), table["GiB"].max()
    print(f"training {total:.1f} min in all on {_device()}; the largest step needs {largest:.2f} GiB")


def seconds_per_step(experiment: Experiment) -> float:
    """Median of a few optimiser steps on random pictures, on the GPU if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = models.build(experiment.model, **experiment.options).to(device, memory_format=torch.channels_last)
    optimiser, loss_of = torch.optim.Adam(model.parameters(), lr=1e-6), losses.of(experiment)
    shape = (experiment.batch_size, 3, experiment.size, experiment.size)
    composite, target = torch.rand(2, *shape, device=device)
    mask = (torch.rand(shape[0], 1, *shape[2:], device=device) > 0.8).float()
    half = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(pick_precision(experiment.precision))
    times = []
    for _ in range(PROBED + 1):
        started = time.perf_counter()
        with torch.autocast(device.type, half, enabled=half is not None):
            prediction = model(composite, mask)
        loss_of(prediction.float(), target, mask).backward()
        optimiser.step()
        optimiser.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return median(times[1:])


def _device() -> str:
    return (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"this CPU with {torch.get_num_threads()} threads"
    )

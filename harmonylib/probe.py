"""What a run costs on this device: a few of its own training steps, and pictures scored, on made-up pictures.

    python -m harmonylib.probe PROFILE DATA        (reads names of experiments from its input, a line each)

A step too large to be tried is probed smaller, and its time multiplied with the ratio of counted operations.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from harmonylib import evaluation, experiments, models, training, workers
from harmonylib.batches import Perturbed, Triplets
from harmonylib.config import PROFILES, Experiment
from harmonylib.data.cache import Cache

STEPS, WARM_UP = 20, 2  # that are timed, and that are not
SCORINGS = 5  # of all pictures
PATIENCE = 4.0  # seconds, after which no further step is begun
PICTURES = 32
AFFORDABLE = {"cpu": 2e11, "cuda": 2e13}  # operations of a step that is probed as it is
LEAST = 64  # px, below which no probe goes
# Seconds a picture by network, options and size; what it is trained for does not matter.
_scoring: dict[tuple, float] = {}


@dataclass(frozen=True)
class Cost:
    """Seconds of an optimiser step, and of scoring a picture."""

    step: float
    picture: float


def cost(experiment: Experiment) -> Cost:
    """Probe one experiment, on the GPU if there is one."""
    small = _affordable(experiment)
    factor = operations(experiment) * experiment.batch_size / (operations(small) * small.batch_size)
    cache = _cache(small.size)
    rows = np.arange(PICTURES)
    run = training.Run(small, cache, rows, Path(), PICTURES, "")
    if experiment.strategy:
        run.batches = Perturbed(cache.real, small.lemart, small.batch_size, small.seed, run.device)
    else:
        run.batches = Triplets(cache, rows, small.batch_size, small.seed, run.device)
    step = seconds(run.step, run.device)
    network = small.model, json.dumps(small.options), small.size
    if network not in _scoring:
        score = seconds(lambda _: evaluation.evaluate_cached(run.method, cache, rows), run.device, SCORINGS)
        _scoring[network] = score / PICTURES
    return Cost(factor * step, _scoring[network] * (experiment.size / small.size) ** 2)


def seconds(work: Callable[[int], object], device: torch.device, calls: int = STEPS) -> float:
    """Median of so many calls, fewer where they take long; `work` gets their number."""
    times: list[float] = []
    while len(times) < WARM_UP + calls and sum(times) < PATIENCE:
        started = time.perf_counter()
        work(len(times))
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return median(times[WARM_UP:] or times[1:] or times)


def all_costs(names: list[str], profile: str, data: str, processes: int) -> dict[str, Cost]:
    """Costs by name. Several processes probe at once where several runs will: they share memory and caches then too."""
    if processes == 1:
        return {name: cost(_resolved(name, profile, data)) for name in names}
    lines: list[str] = []
    workers.run(profile, data, names, {}, processes, lines.append, module=__spec__.name)
    return {name: Cost(**found) for name, found in map(json.loads, lines)}


def operations(experiment: Experiment) -> float:
    """Of a training step on one picture, both ways."""
    return flops_per_picture(experiment.model, experiment.size, json.dumps(experiment.options))


@lru_cache
def flops_per_picture(model: str, size: int, options: str = "{}") -> float:
    """Floating-point operations of a training step (both ways) on one picture, counted; `options` as JSON."""
    with torch.device("meta"):
        network = models.build(model, **options_from(options))
        network.eval()  # batch norm of one picture may have one value a channel
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, size, size), torch.empty(1, 1, size, size)).sum().backward()
    return float(counter.get_total_flops())


def options_from(text: str) -> dict:
    """A network's options from JSON, which has no tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(text).items()}


def _affordable(experiment: Experiment) -> Experiment:
    """One micro-batch of it; where that is too much, one picture, and then a smaller one."""
    room = AFFORDABLE["cuda" if torch.cuda.is_available() else "cpu"]
    at_once = experiment.micro_batch or experiment.batch_size
    if operations(experiment) * at_once > room:
        at_once = max(1, int(room // operations(experiment)))
    small = replace(experiment, batch_size=at_once, micro_batch=None)
    multiple = models.build(experiment.model, **experiment.options).multiple
    while operations(small) > room and small.size >= 2 * LEAST and small.size // 2 % multiple == 0:
        small = replace(small, size=small.size // 2)
    return small


def _cache(size: int) -> Cache:
    """`PICTURES` triplets of soft colours, a fifth of each the object, held in memory."""
    rng = np.random.default_rng(0)
    seeds = rng.integers(0, 256, (PICTURES, 8, 8, 3), np.uint8)
    real = np.stack([np.asarray(Image.fromarray(seed).resize((size, size))) for seed in seeds])
    mask = np.zeros((PICTURES, size, size), np.uint8)
    mask[:, size // 4 : size * 7 // 10, size // 4 : size * 7 // 10] = 1
    composite = np.where(mask[..., None] > 0, real // 2 + 60, real).astype(np.uint8)
    index = pd.DataFrame({"real": range(PICTURES), "mask": range(PICTURES)})
    for key in ("name", "subset", "photo", "group", "kind"):
        index[key] = "made up"
    return Cache(Path(), size, composite, real, mask, index, "")


def _resolved(name: str, profile: str, data: str) -> Experiment:
    return experiments.resolve(experiments.get(name), PROFILES[profile], data)


def main(arguments: list[str]) -> int:
    for name in map(str.strip, sys.stdin):
        print(json.dumps([name, asdict(cost(_resolved(name, *arguments)))]))
        print(workers.DONE)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

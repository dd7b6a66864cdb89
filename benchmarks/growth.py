"""How do time and memory grow with the side of the pictures, with the batch, and with the attention's window?

    python -m benchmarks.growth [--out results/bench/growth.csv]

Seconds are medians of training steps (or of one call), memory is counted (`harmonylib.memory`). Each exponent is
fitted to the upper half of the range, where what is fixed weighs least, and stands beside the one expected of an
algorithm that wastes nothing. How cost grows with the number of pictures: `python -m benchmarks.scale`.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks import FOLDER
from benchmarks.timing import Machine
from harmonylib import baselines, memory, metrics, models, probe
from harmonylib.lemart import LEMaRT

SIZES, BATCHES, WINDOWS = (64, 128, 256, 512), (1, 2, 4, 8, 16), (4, 8, 16, 32)
LARGE = (256, 512, 1024, 2048)
NARROW = {"dim": 32, "depths": (2, 2, 2), "heads": (1, 2, 4), "window": 16}  # of SwinIH
NETWORKS = {  # name: options, expected exponents of time and memory in the side
    "unet": ({"width": 16}, "2", "2"),
    "s2am": ({"width": 16}, "2 to 4", "2"),
    "s2am, linear attention": ({"width": 16, "attention": "linear"}, "2", "2"),
    "swinih": (NARROW, "2 to 4", "2"),
    "swinih_local": (NARROW, "2", "2"),
    "vit": ({"width": 32, "depth": 2, "heads": 1}, "2 to 4", "2"),
}


@dataclass(frozen=True)
class Growth:
    """One thing that grows: its values, seconds of each, and expected exponents of time and memory."""

    what: str
    by: str
    values: tuple[int, ...]
    work: Callable[[int], Callable[[], object]]
    time: str
    memory: str = ""
    peak: Callable[[int], float] | None = None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=FOLDER / "growth.csv")
    options = parser.parse_args()
    machine = Machine.here()
    table = pd.DataFrame([measured(growth, machine) for growth in growths(machine)])
    print(table.to_string(index=False))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out, index=False, lineterminator="\n")


def growths(machine: Machine) -> Iterator[Growth]:
    def training(what: str, by: str, values: tuple, case: Callable[[int], tuple], time: str, space: str) -> Growth:
        """`case`: from a value to network, options, batch and side."""
        return Growth(
            f"training step, {what}", by, values, lambda n: step(machine, *case(n)), time, space,
            lambda n: memory.training_peak(*case(n))["activations_peak"],
        )  # fmt: skip

    for name, (options, time, space) in NETWORKS.items():
        model = name.split(",")[0]
        yield training(name, "side", SIZES, lambda n, m=model, o=options: (m, o, 1, n), time, space)
    for model in ("s2am", "swinih"):
        yield training(f"{model}, 64 px", "batch", BATCHES, lambda n, m=model: (m, NETWORKS[m][0], n, 64), "1", "1")
    local = "swinih_local"
    yield training(
        f"{local}, 256 px", "window", WINDOWS, lambda n: (local, NARROW | {"window": n}, 1, 256), "0 to 2", "0"
    )
    yield Growth("LEMaRT, batch of 8", "side", SIZES, lambda n: perturb(machine, 8, n), "2")
    yield Growth("LEMaRT, 128 px", "batch", BATCHES, lambda n: perturb(machine, n, 128), "1")
    yield Growth("scoring, batch of 8", "side", SIZES, lambda n: score(machine, 8, n), "2")
    for method in ("histogram", "reinhard"):
        yield Growth(method, "side", LARGE, lambda n, method=method: recolour(method, n), "2")


def measured(growth: Growth, machine: Machine) -> dict:
    times = []
    for value in growth.values:
        call = growth.work(value)
        times.append(probe.seconds(lambda _, call=call: call(), machine.device))
    row = {"what": growth.what, "by": growth.by, "values": " ".join(map(str, growth.values))}
    row |= {"seconds": " ".join(f"{t:.3g}" for t in times), "exponent": exponent(growth.values, times)}
    row |= {"expected": growth.time}
    if growth.peak:
        peaks = [growth.peak(n) / 2**20 for n in growth.values]
        row |= {"MiB": " ".join(f"{p:.3g}" for p in peaks), "MiB exponent": exponent(growth.values, peaks)}
        row |= {"MiB expected": growth.memory}
    print(f"{growth.what} by {growth.by}: exponent {row['exponent']}, expected {growth.time}", flush=True)
    return row


def exponent(values: tuple[int, ...], costs: list[float]) -> float:
    """Of the power law through the upper half."""
    upper = slice(len(values) // 2 - 1, None)
    return round(float(np.polyfit(np.log(values[upper]), np.log(costs[upper]), 1)[0]), 2)


def step(machine: Machine, model: str, options: dict, batch: int, size: int) -> Callable[[], object]:
    network = models.build(model, **options).to(machine.device, memory_format=torch.channels_last)
    image, mask = torch.rand(batch, 3, size, size), (torch.rand(batch, 1, size, size) > 0.8).float()
    image, mask = image.to(machine.device), mask.to(machine.device)

    def work() -> None:
        network(image, mask).square().mean().backward()
        network.zero_grad()

    return work


def perturb(machine: Machine, batch: int, size: int) -> Callable[[], object]:
    lemart, images = LEMaRT(), torch.rand(batch, 3, size, size, device=machine.device)
    return lambda: lemart(images, generator=torch.Generator(machine.device).manual_seed(0))


def score(machine: Machine, batch: int, size: int) -> Callable[[], object]:
    pictures = torch.randint(0, 256, (2, batch, 3, size, size), dtype=torch.uint8, device=machine.device)
    mask = torch.rand(batch, 1, size, size, device=machine.device) > 0.8
    return lambda: metrics.score_batch(*pictures, mask)


def recolour(name: str, size: int) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    picture, mask = rng.integers(0, 256, (size, size, 3), np.uint8), np.zeros((size, size), bool)
    mask[size // 4 : size // 2, size // 4 : size // 2] = True
    return lambda: baselines.BASELINES[name](picture, mask)


if __name__ == "__main__":
    main()

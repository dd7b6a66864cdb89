"""What does S2AM cost by the size of its pictures? Naive, exact and linear attention at full width, batch 1.

    python -m benchmarks.attention_sizes [--out results/bench/attention_sizes.csv]

Time is measured: of the attention block alone and of the whole network, a training step up to 1024 px, a prediction
at 2048 px, with a fifth of the picture as foreground. The least of three or more where the first took less than
`ONCE` seconds, otherwise that one. Nothing is run that needs more memory than there is, or that would take more than
`PATIENCE` seconds, going by the last size and the expected exponent: the column `not_timed` says so. Memory is
counted on tensors without data, and on a GPU measured as well; counted is the most it can be, as if every cell asked
and answered.

The exponents are those of the block in the picture's side: its positions grow with the square of the side, so 2 is
linear in the positions and 4 quadratic. Each is fitted to the training steps from 256 px on, where there are two.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.attention import CHANNELS, block_step, network_step
from benchmarks.timing import Machine
from harmonylib import memory, models
from harmonylib.models.attention import ForegroundBackgroundAttention

SIZES = {128: True, 256: True, 512: True, 1024: True, 2048: False}  # px: is it trained, or only predicted with
EXPECTED = {"naive": (4, 4), "exact": (4, 2), "linear": (2, 2)}  # exponents of time and memory in the side
PLACE = 4  # the side of the picture over that of the map
ONCE, ENOUGH, PATIENCE = 15, 5, 150  # seconds
LEAST = 3  # times that a step of less than `ONCE` seconds is timed
FORWARD = 1 / 3  # of a training step is its way forward
RESERVE = 2**30  # bytes for everything that is not counted


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attention_sizes", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    machine = Machine.here()
    table = with_exponents(pd.DataFrame(measure(machine)))
    print(table.to_string(index=False))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(options.out, index=False, float_format="%.4g", lineterminator="\n")


def measure(machine: Machine) -> list[dict]:
    """One row a size and kind; the kinds of one size one after another, so that they meet the machine alike."""
    rows, before = [], {}
    for (px, train), kind in itertools.product(SIZES.items(), EXPECTED):
        step = "training" if train else "prediction"
        row = {"attention": kind, "px": px, "positions": (px // PLACE) ** 2, "step": step, "not_timed": ""}
        for part, make, side in (("block", block_step, px // PLACE), ("network", network_step, px)):
            needed = counted_bytes(kind, px, train, block=part == "block")
            row[f"{part}_gib"] = needed / 2**30
            row["not_timed"] = row["not_timed"] or reason(machine, needed, expected(before.get(kind), row, part))
            if not row["not_timed"]:
                row[f"{part}_seconds"] = seconds(machine, make(kind, 1, side, machine.device, train))
        if machine.is_gpu and train:
            row["measured_gib"] = memory.measured_peak("s2am", {"attention": kind}, 1, px) / 2**30
        rows.append(row)
        before[kind] = row if "network_seconds" in row else before.get(kind)
        print(row, flush=True)
    return rows


def expected(before: dict | None, row: dict, part: str) -> float:
    """Seconds, from the last size that was timed: the U-Net by its pixels, the block by what is known of its kind."""
    if before is None:
        return 0.0
    times = row["px"] / before["px"]
    block = before["block_seconds"] * times ** EXPECTED[row["attention"]][0]
    rest = (before["network_seconds"] - before["block_seconds"]) * times**2
    one_way = FORWARD if row["step"] != before["step"] else 1
    return one_way * (block if part == "block" else block + rest)


def reason(machine: Machine, needed: float, seconds: float) -> str:
    """Why a step is not run; nothing where it is."""
    free = free_bytes(machine)
    if needed + RESERVE > free:
        return f"needs {needed / 2**30:,.0f} GiB and {free / 2**30:,.0f} are free"
    return f"would take about {seconds:,.0f} s" if seconds > PATIENCE else ""


def seconds(machine: Machine, step) -> float:
    """The least of several: other programs can only make a step slower. Of a long one, what the first took."""
    spent = [machine.seconds(step)]
    while spent[0] < ONCE and (len(spent) < LEAST or sum(spent) < ENOUGH):
        spent.append(machine.seconds(step))
    return min(spent)


def free_bytes(machine: Machine) -> int:
    """Memory that can be had now."""
    if machine.is_gpu:
        return torch.cuda.mem_get_info()[0]
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def counted_bytes(kind: str, px: int, train: bool, block: bool = False) -> int:
    """Peak of a training step with Adam, or of a prediction, counted without the memory; of the block or of all."""
    if train and block:
        return memory.block_peak(kind, batch=1, side=px // PLACE, channels=CHANNELS)["total_peak"]
    if train:
        return memory.training_peak("s2am", {"attention": kind}, 1, px)["total_peak"]
    with memory.FakeTensorMode(), memory.StorageLog() as log, torch.no_grad():
        network = ForegroundBackgroundAttention(CHANNELS, 8, kind) if block else models.build("s2am", attention=kind)
        size, channels = (px // PLACE, CHANNELS) if block else (px, 3)
        inputs = torch.empty(1, channels, size, size), torch.empty(1, 1, px, px)
        for tensor in (*network.parameters(), *network.buffers(), *inputs):
            log.see(tensor)
        network.eval()(*inputs)
        return int(np.cumsum([size for _, size in log.events]).max())


def with_exponents(table: pd.DataFrame) -> pd.DataFrame:
    """The fitted exponents of the block beside the expected ones, in each row of a kind."""
    for kind, (time, room) in EXPECTED.items():
        chosen = table["attention"] == kind
        for name, column, wanted in (("time", "block_seconds", time), ("memory", "block_gib", room)):
            table.loc[chosen, f"{name}_exponent"] = exponent(table[chosen & (table["step"] == "training")], column)
            table.loc[chosen, f"{name}_expected"] = wanted
    return table


def exponent(rows: pd.DataFrame, column: str) -> float:
    """Fitted from 256 px on where at least two sizes are known there, else to all."""
    known = rows.dropna(subset=[column])
    large = known[known["px"] >= 256]
    known = large if len(large) > 1 else known
    return float(np.polyfit(np.log(known["px"]), np.log(known[column].astype(float)), 1)[0])


if __name__ == "__main__":
    main()

"""One row of the table: this project's way against another, in one process, in turn, with the limit of the machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import numpy as np
import torch

WARM_UP = 1  # rounds that are not counted
LEAST, MOST = 3, 41  # rounds that are
SIDE, ARRAY = 2048, 2**26  # of the matrix product, and the bytes of the copy, that the limits are measured with


@dataclass(frozen=True)
class Row:
    """Ours against theirs; ``ratio`` says how many times less ours takes, with the quartiles over the rounds."""

    line: str
    against: str
    unit: str
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    aim: float
    rounds: int = 1
    limit: str = ""  # what bounds ours on this machine
    share: float = float("nan")  # of that bound that ours reaches
    note: str = ""

    @property
    def met(self) -> bool:
        """An aim of 1 is "never slower": of two equal programs half the rounds are, so the upper quartile decides."""
        return (self.high if self.aim == 1 else self.ratio) >= self.aim


@dataclass(frozen=True)
class Machine:
    """The device that is measured, and what it can do at most: both peaks are measured, not looked up."""

    device: torch.device

    @classmethod
    def here(cls) -> "Machine":
        return cls(torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    @cached_property
    def flops(self) -> float:
        """Floating-point operations a second of a large matrix product in float32 (TF32 off)."""
        return self.product(torch.float32)

    @cached_property
    def half_flops(self) -> float:
        """The same in bfloat16."""
        return self.product(torch.bfloat16)

    @cached_property
    def bandwidth(self) -> float:
        """Bytes a second, read and written, of a copy that no cache holds."""
        source = torch.ones(ARRAY // 4, device=self.device)
        target = torch.empty_like(source)
        return 2 * ARRAY / self.best(lambda: target.copy_(source))

    def product(self, dtype: torch.dtype) -> float:
        square = torch.rand(SIDE, SIDE, device=self.device).to(dtype)
        result = torch.empty_like(square)
        return 2 * SIDE**3 / self.best(lambda: torch.matmul(square, square, out=result))

    def best(self, work: Callable[[], object], times: int = 7) -> float:
        return min(self.seconds(work) for _ in range(times))

    def seconds(self, work: Callable[[], object]) -> float:
        """One call, to its end on the device."""
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - started

    def wait(self) -> None:
        if self.is_gpu:
            torch.cuda.synchronize()


def compare(
    machine: Machine,
    line: str,
    against: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    aim: float,
    patience: float = 15,
    flops: float = 0,
    moved: float = 0,
    half: bool = False,
    note: str = "",
) -> Row:
    """Time both in turn, first ours and then theirs, in the next round the other way about; seconds of one call.

    Args:
        aim: the least ratio that is promised.
        patience: seconds after which no further round is begun, but for the first three.
        flops, moved: operations and bytes that a call of ours cannot do without; the larger of the two times that the
            machine needs for them at its peaks is the limit.
        half: the operations are bfloat16's.
    """
    times: list[tuple[float, float]] = []
    begun = time.perf_counter()
    while len(times) < WARM_UP + LEAST or (len(times) < WARM_UP + MOST and time.perf_counter() - begun < patience):
        order = (ours, theirs) if len(times) % 2 == 0 else (theirs, ours)
        pair = [machine.seconds(work) for work in order]
        times.append((pair[0], pair[1]) if order[0] is ours else (pair[1], pair[0]))
    kept = np.array(times[WARM_UP:])
    low, ratio, high = np.quantile(kept[:, 1] / kept[:, 0], (0.25, 0.5, 0.75))
    spent = median(kept[:, 0])
    needed = {
        "arithmetic": flops / (machine.half_flops if half else machine.flops) if flops else 0,
        "memory": moved / machine.bandwidth if moved else 0,
    }
    limit = max(needed, key=needed.get) if max(needed.values()) else ""
    share = needed[limit] / spent if limit else float("nan")
    return Row(
        line, against, "s", spent, median(kept[:, 1]), float(ratio), float(low), float(high), aim,
        len(kept), limit, share, note,
    )  # fmt: skip


def counted(line: str, against: str, unit: str, ours: float, theirs: float, *, aim: float, note: str = "") -> Row:
    """A row of what is counted, or was measured before, and not timed now."""
    ratio = theirs / ours
    return Row(line, against, unit, ours, theirs, ratio, ratio, ratio, aim, note=note)

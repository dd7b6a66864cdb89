"""Attention from the foreground to the background: fused, and only where it matters, against equation 4 as printed."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import Machine, Row, compare, counted
from harmonylib import losses, memory, models
from harmonylib.experiments import S2AM
from harmonylib.models.attention import ForegroundBackgroundAttention

PX, SIDE, CHANNELS = 256, 64, 256  # of the picture, and the attention's map in S2AM as printed
SHARE = (0.5, 0.4)  # of height and width that the foreground takes: a fifth; the means of our two sets are 12 and 16 %
TOLERANCE = 1e-5
Step = Callable[[], Tensor]


def rows(machine: Machine) -> Iterator[Row]:
    batch = 16 if machine.is_gpu else 1  # two, as in section 3.7.2, take a CPU twice as long and have the same ratio
    blocks = {kind: block_step(kind, batch, SIDE, machine.device) for kind in ("exact", "naive")}
    apart = check_equal(blocks["exact"](), blocks["naive"]())
    flops = block_flops(batch, SIDE)
    note = f"batch {batch}, a fifth is foreground; outputs {apart:.0e} apart, at most {TOLERANCE:g}"
    yield compare(
        machine, "attention block, both ways, 64 x 64", "naive attention", blocks["exact"], blocks["naive"],
        aim=5, patience=5, flops=flops, note=note,
    )  # fmt: skip
    del blocks
    steps = [network_step(kind, batch, PX, machine.device) for kind in ("exact", "naive")]
    yield compare(
        machine, "training step, s2am, full size, 256 px", "naive attention", *steps,
        aim=1.5, patience=5, flops=flops + network_flops(batch, PX), note=note,
    )  # fmt: skip
    del steps
    exact, naive = (memory.block_peak(kind, batch=16)["total_peak"] / 2**20 for kind in ("exact", "naive"))
    yield counted(
        "attention block, peak memory at batch 16", "naive attention", "MiB", exact, naive,
        aim=8, note="counted without data, as if every cell were foreground and background",
    )  # fmt: skip
    if machine.is_gpu:
        predicted = memory.training_peak("s2am", {}, 16)["total_peak"] / 1e9
        measured = memory.measured_peak("s2am", {}, 16) / 1e9
        yield counted(
            "s2am training memory at batch 16, measured", "the T4 of the paper", "GB", measured, memory.T4_BYTES / 1e9,
            aim=1, note=f"predicted without a GPU: {predicted:.1f} GB",
        )  # fmt: skip


def block_step(kind: str, batch: int, side: int, device: torch.device, train: bool = True) -> Step:
    """Forward and backward, or forward alone, of the block of S2AM at its full width; gives its output."""
    torch.manual_seed(0)
    block = ForegroundBackgroundAttention(CHANNELS, 8, kind).to(device)
    nn.init.xavier_uniform_(block.project.weight)  # it starts near nothing, where all kinds are alike
    features = torch.randn(batch, CHANNELS, side, side, device=device).to(memory_format=torch.channels_last)
    mask = foreground(batch, 4 * side, device)

    def step() -> Tensor:
        block.zero_grad()
        with torch.set_grad_enabled(train):
            output = block(features.requires_grad_(train), mask)
        if train:
            features.grad = None
            output.square().mean().backward()
        return output.detach()

    return step


def network_step(kind: str, batch: int, px: int, device: torch.device, train: bool = True) -> Step:
    """A step of S2AM at its full width as `training` makes it (float32), or a prediction; gives its output."""
    torch.manual_seed(0)
    network = models.build("s2am", attention=kind).to(device, memory_format=torch.channels_last).train(train)
    optimiser, loss_of = torch.optim.Adam(network.parameters(), lr=1e-6, fused=True), losses.of(S2AM)
    composite, target = torch.rand(2, batch, 3, px, px, device=device)
    composite = composite.to(memory_format=torch.channels_last)
    mask = foreground(batch, px, device)

    def step() -> Tensor:
        with torch.set_grad_enabled(train):
            output = network(composite, mask)
        if train:
            optimiser.zero_grad()
            loss_of(output, target, mask).backward()
            optimiser.step()
        return output.detach()

    return step


def foreground(batch: int, px: int, device: torch.device) -> Tensor:
    """A rectangle of `SHARE` in each picture, never at the same place."""
    mask = torch.zeros(batch, 1, px, px, device=device)
    height, width = (round(share * px) for share in SHARE)
    for picture in range(batch):
        top, left = picture * (px - height) // batch, px // 4
        mask[picture, :, top : top + height, left : left + width] = 1
    return mask


def check_equal(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference. Raises ValueError where it is above `TOLERANCE`."""
    difference = float((ours - theirs).abs().max())
    if not difference <= TOLERANCE:
        raise ValueError(f"exact and naive attention differ by {difference:.1e}, more than {TOLERANCE:g}")
    return difference


def block_flops(batch: int, side: int) -> float:
    """Operations of the exact block, both ways, on cells that ask and answer; the fused CPU kernel is not counted."""
    step = block_step("exact", batch, side, torch.device("cpu"))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def network_flops(batch: int, px: int) -> float:
    """Operations of the U-Net around it, both ways."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        models.build("unet")(torch.empty(batch, 3, px, px), torch.empty(batch, 1, px, px)).sum().backward()
    return float(counter.get_total_flops())

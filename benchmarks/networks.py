"""A training step of every network, as `harmonylib.training` does it, against its plain version's (`benchmarks.plain`).

Attention of S2AM has its own lines (`benchmarks.attention`).
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plain import twin
from benchmarks.timing import Machine, Row, compare
from harmonylib import losses, models, training
from harmonylib.config import Experiment

SIZES = {  # on a CPU: preset ("" is the paper's size), px, pictures; on a GPU all have the paper's size, 256 px
    "unet": ("", 64, 2),
    "s2am_s2asc": ("medium", 64, 8),
    "s2am_s2ad": ("medium", 64, 8),
    "vit": ("reduced", 128, 1),
    "resnet": ("reduced", 64, 4),
    "hrnet": ("", 64, 4),
    "ht": ("reduced", 128, 1),
    "swinih_ms": ("reduced", 128, 1),
    "swinih_local": ("reduced", 128, 1),
    "swin_t": ("reduced", 128, 1),
    "outline": ("", 64, 8),
}
SAME = "the same layers in PyTorch's own memory format, AdamW not fused"
AGAINST = {  # what the plain network is put together from; of the rest, ordinary layers
    **dict.fromkeys(("swinih_ms", "swinih_local", "swin_t"), "timm's Swin blocks"),
    "vit": "timm's blocks",
    "hrnet": "timm's backbone",
    "ht": "nn.MultiheadAttention",
    "outline": SAME,
}
ON_GPU = 16  # pictures
AIM, SWIN_AIM = 1.0, 1.25


def rows(machine: Machine) -> Iterator[Row]:
    full = ("", 256, ON_GPU if machine.is_gpu else 1)
    line, against = "training step, swinih, full size, 256 px", "timm's Swin blocks"
    yield step(machine, "swinih", *full, line=line, against=against, aim=SWIN_AIM, patience=60)
    for name, small in SIZES.items():
        preset, size, batch = full if machine.is_gpu else small
        line, against = (
            f"training step, {name}, {preset or 'full size'}, {size} px",
            AGAINST.get(name, "ordinary layers"),
        )
        yield step(machine, name, preset, size, batch, line=line, against=against, aim=AIM, patience=8)


def step(machine: Machine, name: str, preset: str, size: int, batch: int, **row) -> Row:
    """One line; a preset "" is the paper's size. What the row is called goes to `compare`."""
    options = models.class_of(name).presets[preset] if preset else {}
    experiment = Experiment(
        "benchmark", name, options, loss="fn_mse", optimiser="adamw", weight_decay=0.05, batch_size=batch, size=size
    )
    pictures = random_batch(batch, size, machine.device)
    network = models.build(name, **options)
    plain = twin(network, size).to(machine.device)
    network = network.to(machine.device, memory_format=torch.channels_last)
    ours = trained(network, training._optimiser(experiment, network), experiment, pictures, half=machine.is_gpu)
    adamw = torch.optim.AdamW(plain.parameters(), lr=experiment.learning_rate, weight_decay=experiment.weight_decay)
    theirs = trained(plain, adamw, experiment, pictures, half=machine.is_gpu)
    flops = counted(name, options, size, batch)
    return compare(machine, ours=ours, theirs=theirs, flops=flops, half=machine.is_gpu, **row)


def trained(
    network: nn.Module, optimiser: torch.optim.Optimizer, experiment: Experiment, pictures: list[Tensor], half: bool
) -> Callable[[], float]:
    """One step of training; the loss is read, as it is after every step on a CPU."""
    image, mask, target = pictures
    loss_of = losses.of(experiment)

    def work() -> float:
        optimiser.zero_grad()
        with torch.autocast(image.device.type, torch.bfloat16) if half else nullcontext():
            prediction = network(image, mask)
        loss = loss_of(prediction.float(), target, mask)
        loss.backward()
        optimiser.step()
        return loss.item()

    return work


def random_batch(batch: int, size: int, device: torch.device) -> list[Tensor]:
    """Composite, mask and target; a square of foreground."""
    image, target = torch.rand(2, batch, 3, size, size, device=device)
    mask = torch.zeros(batch, 1, size, size, device=device)
    mask[..., size // 4 : size // 2, size // 3 : 2 * size // 3] = 1
    return [image, mask, target]


def counted(name: str, options: dict, size: int, batch: int) -> float:
    """Floating-point operations of products and convolutions in one step, counted on tensors without data.

    Windows that a mask divides count in full, though ours need not compute what is hidden: 4 % for SwinIH at 256 px.
    """
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        image, mask, _ = random_batch(batch, size, torch.device("meta"))
        models.build(name, **options)(image, mask).sum().backward()
    return float(counter.get_total_flops())

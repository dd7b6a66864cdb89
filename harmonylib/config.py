"""Typed configuration: what one run is (`Experiment`), and how much to compute (`Profile`).

Scientific numbers live here and in `experiments`, never in a notebook or in YAML. An ablation is one visible
``replace(base, ...)``; unknown keys and wrong types are errors.
"""

import ast
import dataclasses
import hashlib
import json
import math
import os
from dataclasses import dataclass, field, replace

from harmonylib.errors import HarmonyError

CHOICES = {
    "loss": ("mse", "eq7"),
    "schedule": ("constant", "cosine"),
    "split": ("photo", "composite"),
    "precision": ("float32", "float16", "bfloat16", "auto"),
}


@dataclass(frozen=True)
class Experiment:
    """Everything that decides the weights of one run, apart from the data and the source code.

    The defaults are S2AM-T4's (section 3.7.3): Adam, learning rate 1e-4, batch 2, 2 epochs, 256 px, float32, no
    augmentation, a constant learning rate.
    """

    name: str
    model: str
    options: dict = field(default_factory=dict)  # of the model
    loss: str = "mse"  # mse: equation 6; eq7: equation 7
    foreground_weight: float = 5.0  # lambda_fg of equation 7; not printed in the paper
    background_weight: float = 1.0  # lambda_bg of equation 7; not printed in the paper
    learning_rate: float = 1e-4
    schedule: str = "constant"
    batch_size: int = 2
    epochs: int = 2
    steps: int | None = None  # a fixed budget of optimiser steps; an "epoch" is then an equal part of it
    size: int = 256
    precision: str = "float32"  # auto: float16 or bfloat16 on a GPU, by its compute capability
    subset: str = "HCOCO"
    split: str = "photo"  # composite: as S2AM-T4 did it, one photograph may stand on both sides
    share: float = 1.0  # of the training photographs; the number of optimiser steps stays that of the full set
    seed: int = 0

    def __post_init__(self):
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if f.type is float and type(value) is int:
                object.__setattr__(self, f.name, float(value))
            elif not isinstance(value, f.type) or (isinstance(value, bool) and f.type is not bool):
                raise HarmonyError(f"experiment {self.name}: {f.name}={value!r} has the wrong type; expected {f.type}")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise HarmonyError(
                    f"experiment {self.name}: {name}={getattr(self, name)!r}; use one of {', '.join(allowed)}"
                )
        steps = self.epochs if self.steps is None else self.steps
        rates = (self.learning_rate, self.share, self.foreground_weight, self.background_weight)
        positive = (self.learning_rate, self.share, self.batch_size, self.epochs, self.size)
        if min(positive) <= 0 or min(rates) < 0 or not all(map(math.isfinite, rates)) or self.share > 1:
            raise HarmonyError(
                f"experiment {self.name}: rates, sizes and steps must be positive, share in (0, 1], weights >= 0"
            )
        if not all(isinstance(key, str) for key in self.options):
            raise HarmonyError(f"experiment {self.name}: options={self.options!r}; the names of options are strings")
        if steps < self.epochs or not 0 <= self.seed < 2**32:
            raise HarmonyError(
                f"experiment {self.name}: steps={self.steps}, seed={self.seed}; "
                "use a step an epoch at least, and a seed from 0 to 2**32 - 1"
            )

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    @property
    def config_id(self) -> str:
        """A hash of everything but the name: two experiments with the same id are the same run."""
        content = {k: v for k, v in self.to_dict().items() if k != "name"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def experiment_from(values: dict) -> Experiment:
    """From a dict (config.json, a checkpoint). Raises HarmonyError on unknown keys."""
    unknown = set(values) - {f.name for f in dataclasses.fields(Experiment)}
    if unknown:
        raise HarmonyError(f"experiment: there is no setting {', '.join(sorted(unknown))}; known: {_settings()}")
    return Experiment(**values)


def override(experiment: Experiment, assignments: list[str]) -> Experiment:
    """Apply ``key=value`` strings; ``options.width=8`` reaches into the model's options. Values are Python literals."""
    for text in assignments:
        key, sign, raw = text.partition("=")
        if not sign:
            raise HarmonyError(f"--set {text}: write key=value")
        try:
            value = ast.literal_eval(raw)
        except (ValueError, SyntaxError, TypeError, MemoryError):
            value = raw
        if key.startswith("options."):
            key, value = "options", experiment.options | {key.removeprefix("options."): value}
        if key not in {f.name for f in dataclasses.fields(Experiment)} - {"name"}:
            raise HarmonyError(f"--set {text}: there is no setting {key!r}; known: {_settings()}")
        experiment = replace(experiment, **{key: value})
    return experiment


def _settings() -> str:
    return ", ".join(f.name for f in dataclasses.fields(Experiment) if f.name != "name")


@dataclass(frozen=True)
class Profile:
    """How much to compute, whatever the data. `None` leaves an experiment's published value."""

    name: str
    purpose: str
    time: str  # promised, for the README and the notebooks
    size: int | None = None
    width: int | None = None  # of unet and s2am; the published module's networks take half of it
    batch_size: int | None = None
    learning_rate: float | None = None
    schedule: str | None = None
    steps: int | None = None
    headline_seeds: int = 1  # for S2AM against U-Net
    seeds: int = 1  # for everything else
    scenes: int = 640  # of the embedded set
    val_images: int | None = None  # that validation looks at; None: all
    skip: tuple[str, ...] = ()  # experiments that are left out for time
    parallel: bool = False  # on a CPU, train several runs at once, one thread each

    def apply(self, experiment: Experiment) -> Experiment:
        """The experiment at this profile's size."""
        changes = {
            key: getattr(self, key)
            for key in ("size", "batch_size", "learning_rate", "schedule", "steps")
            if getattr(self, key) is not None
        }
        options = dict(experiment.options)
        original = experiment.model in ("s2am_s2asc", "s2am_s2ad")
        if self.width:
            options["width"] = self.width // 2 if original else self.width
        if original and self.size:
            # The published U-Net halves 256 px eight times, down to 1 px. It has no skip at full resolution and learns
            # more slowly: half as wide, it sees twice the pictures in about the same time.
            options["depth"] = min(8, self.size.bit_length() - 1)
            changes["batch_size"] = 2 * self.batch_size
        return replace(experiment, options=options, **changes)


PROFILES = {
    p.name: p
    for p in (
        Profile("smoke", "continuous integration: does everything run?", "all notebooks in 5 min on 2 CPU cores",
                size=32, width=8, batch_size=2, learning_rate=1e-3, steps=2, scenes=80, val_images=24),
        Profile("quick", "`make reproduce` on a laptop", "15 min on 2 CPU cores",
                size=64, width=8, batch_size=4, learning_rate=5e-3, schedule="cosine", steps=750, headline_seeds=3, val_images=300,
                skip=("unet_share30", "s2am_share30", "unet_leaky"), parallel=True),
        Profile("long", "the same machine over lunch, or minutes on one GPU", "2 h on 2 CPU cores",
                size=64, width=16, batch_size=8, learning_rate=2e-3, schedule="cosine", steps=2000, headline_seeds=3, seeds=3, parallel=True),
        Profile("t4", "Colab on a T4, or one bigger GPU: U-Net and S2AM exactly as published", "3 h a notebook on a T4, resumable"),
        Profile("paper", "the papers' settings with repeated seeds", "printed by notebook 03 before it starts",
                headline_seeds=3, seeds=3),
    )
}  # fmt: skip


def profile(name: str = "auto", data: str = "embedded") -> Profile:
    """The profile of that name; ``$HARMONY_PROFILE`` wins.

    ``auto`` is ``t4`` where CUDA is there, else ``quick``; on the embedded data it is never more than ``quick``.
    """
    name = os.environ.get("HARMONY_PROFILE") or name
    if name == "auto":
        import torch  # only here: naming a profile should not wait for torch

        name = "t4" if torch.cuda.is_available() and data != "embedded" else "quick"
    if name not in PROFILES:
        raise HarmonyError(f"profile {name!r}: there is no such profile; use auto or one of {', '.join(PROFILES)}")
    return PROFILES[name]

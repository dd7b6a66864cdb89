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
import reprlib
from dataclasses import dataclass, field, replace

from harmonylib.errors import HarmonyError

MOST = 1e9  # of steps, epochs, pictures in a batch
LARGEST = 1024  # side in px of what is trained on; what a file asks for could take any amount of memory
CHOICES = {
    "study": ("s2am_t4", "lemart"),
    "loss": ("mse", "eq7", "fn_mse"),
    "optimiser": ("adam", "adamw"),
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
    loss: str = "mse"  # mse: S2AM-T4's equation 6; eq7: its equation 7; fn_mse: foreground-normalised, LEMaRT 3.5
    foreground_weight: float = 5.0  # lambda_fg of equation 7; not printed in the paper
    background_weight: float = 1.0  # lambda_bg of equation 7; not printed in the paper
    min_area: float = 100.0  # A_min of fn_mse, in px of a picture of 256 px; not printed in the paper
    optimiser: str = "adam"
    beta2: float = 0.999
    weight_decay: float = 0.0  # of matrices and convolutions, in adamw
    learning_rate: float = 1e-4
    schedule: str = "constant"
    batch_size: int = 2
    micro_batch: int | None = None  # pictures in memory at once; the batch is accumulated from such parts
    epochs: int = 2
    steps: int | None = None  # a fixed budget of optimiser steps; an "epoch" is then an equal part of it
    length: float = 1.0  # times that budget or those epochs
    size: int = 256
    precision: str = "float32"  # auto: float16 or bfloat16 on a GPU, by its compute capability
    subset: str = "HCOCO"
    split: str = "photo"  # composite: as S2AM-T4 did it, one photograph may stand on both sides
    share: float = 1.0  # of the training photographs; the number of optimiser steps stays that of the full set
    start: str = ""  # the experiment, or the checkpoint file, whose weights it starts from
    strategy: str = ""  # random, grid or block: pre-training by LEMaRT; empty: training on the set's composites
    ratio: float = 0.5  # of the picture that LEMaRT's masks cover
    cells: int = 16  # of LEMaRT's grid, a side
    transforms: tuple = ()  # names of LEMaRT's transforms; empty: all
    photographs: str = "unlabelled"  # what LEMaRT perturbs: unlabelled, target (the set's own), open-images
    photograph_count: int | None = None  # how many of them; None: all
    study: str = "s2am_t4"  # or lemart: whose budget of a profile it has
    seed: int = 0

    def __post_init__(self):
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if f.type is float and type(value) is int and abs(value) < 1e99:
                object.__setattr__(self, f.name, float(value))
            elif f.type is tuple and type(value) is list:  # JSON has no tuples
                object.__setattr__(self, f.name, tuple(value))
            elif not isinstance(value, f.type) or (isinstance(value, bool) and f.type is not bool):
                raise HarmonyError(
                    f"experiment {reprlib.repr(self.name)}: {f.name}={reprlib.repr(value)} has the wrong type; expected {f.type}"
                )
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise HarmonyError(
                    f"experiment {self.name}: {name}={getattr(self, name)!r}; use one of {', '.join(allowed)}"
                )
        steps = self.epochs if self.steps is None else self.steps
        weights = (self.foreground_weight, self.background_weight, self.weight_decay, self.min_area)
        rates = (self.learning_rate, self.share, self.length, *weights)
        positive = (self.learning_rate, self.share, self.length, self.batch_size, self.epochs, self.size)
        if min(positive) <= 0 or min(rates) < 0 or not all(map(math.isfinite, rates)) or self.share > 1:
            raise HarmonyError(
                f"experiment {self.name}: rates, sizes and steps must be positive, share in (0, 1], weights >= 0"
            )
        if max(steps, self.batch_size, self.epochs) > MOST or self.length > MOST or not 0 < self.beta2 < 1:
            raise HarmonyError(
                f"experiment {self.name}: steps, batch_size, epochs, length at most {MOST:g}, beta2 in (0, 1)"
            )
        if max(self.size, self.cells) > LARGEST:
            raise HarmonyError(f"experiment {self.name}: size={self.size}, cells={self.cells}; at most {LARGEST}")
        if not all(isinstance(key, str) for key in self.options):
            raise HarmonyError(
                f"experiment {self.name}: options={reprlib.repr(self.options)}; the names of options are strings"
            )
        if self.micro_batch is not None and (self.micro_batch < 1 or self.batch_size % self.micro_batch):
            raise HarmonyError(
                f"experiment {self.name}: micro_batch={self.micro_batch} does not divide batch_size={self.batch_size}; "
                "choose a divisor"
            )
        if self.strategy:  # wrong settings should not wait for the photographs
            import torch

            self.lemart.masks(torch.empty(1, 3, self.size, self.size), torch.Generator())
        if steps < self.epochs or not 0 <= self.seed < 2**32:
            raise HarmonyError(
                f"experiment {self.name}: steps={self.steps}, seed={self.seed}; "
                "use a step an epoch at least, and a seed from 0 to 2**32 - 1"
            )

    @property
    def lemart(self):
        """The transform of a pre-training. Raises HarmonyError where its settings do not fit."""
        from harmonylib.lemart import LEMaRT  # only here: settings are read without torch

        return LEMaRT(self.strategy, self.ratio, self.cells, self.transforms or None)

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
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
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
class Budget:
    """What a profile changes in one kind of run; `None` leaves an experiment's published value."""

    batch_size: int | None = None
    learning_rate: float | None = None
    schedule: str | None = None
    epochs: int | None = None
    steps: int | None = None
    micro_batch: int | None = None
    precision: str | None = None


@dataclass(frozen=True)
class Profile:
    """How much to compute, whatever the data. `None` leaves an experiment's published value."""

    name: str
    purpose: str
    time: str  # promised, for the README and the notebooks
    size: int | None = None
    preset: str | None = None  # of the networks' options, by name; a network without it has its paper's size
    s2am_t4: Budget = Budget()
    pretrain: Budget = Budget()
    finetune: Budget = Budget()
    headline_seeds: int = 1  # for S2AM against U-Net, and SwinIH with against without LEMaRT
    seeds: int = 1  # for everything else
    scenes: int = 640  # of the embedded set
    val_images: int | None = None  # that validation looks at; None: all
    skip: tuple[str, ...] = ()  # experiments that are left out for time
    parallel: bool = False  # on a CPU, train several runs at once, one thread each

    def apply(self, experiment: Experiment) -> Experiment:
        """The experiment at this profile's size; an option or a learning rate that it is about stays as declared."""
        budget = self.finetune if experiment.study == "lemart" else self.s2am_t4
        budget = self.pretrain if experiment.strategy else budget
        changes = {key: value for key, value in dataclasses.asdict(budget).items() if value is not None}
        if self.size:
            changes["size"] = self.size
        if self.preset and experiment.name not in FULL_SIZE:
            from harmonylib import models  # only here: naming a profile should not wait for torch

            changes["options"] = models.class_of(experiment.model).presets.get(self.preset, {}) | experiment.options
        if experiment.model in ("s2am_s2asc", "s2am_s2ad") and budget.batch_size:
            # The published U-Net has no skip at full resolution and learns more slowly: half as wide, it sees twice
            # the pictures in about the same time.
            changes["batch_size"] = 2 * budget.batch_size
        return replace(experiment, **changes)


FULL_SIZE = ("pretrain_swinih_full", "swinih_full", "swinih_lemart_full")  # no preset makes them smaller
PROFILES = {
    p.name: p
    for p in (
        Profile("smoke", "continuous integration: does everything run?", "all notebooks in 5 min on 2 CPU cores",
                size=32, preset="tiny", scenes=80, val_images=24, parallel=True,
                skip=FULL_SIZE, s2am_t4=Budget(batch_size=2, learning_rate=1e-3, steps=2),
                pretrain=Budget(batch_size=2, learning_rate=1e-3, steps=2, epochs=1),
                finetune=Budget(batch_size=2, learning_rate=1e-3, steps=2, epochs=1)),
        Profile("quick", "`make reproduce` on a laptop", "15 min on 2 CPU cores",
                size=64, preset="small", headline_seeds=3, val_images=150, parallel=True,
                s2am_t4=Budget(batch_size=4, learning_rate=3e-3, schedule="cosine", steps=675),
                pretrain=Budget(batch_size=8, learning_rate=3e-3, epochs=1, steps=50),
                finetune=Budget(batch_size=8, learning_rate=3e-3, epochs=1, steps=50),
                skip=("unet_share30", "s2am_share30", "unet_leaky", "s2am_leaky", "s2am_batch2", *FULL_SIZE)),
        Profile("long", "the same machine over lunch, or minutes on one GPU", "2 h on 2 CPU cores",
                size=64, preset="medium", headline_seeds=3, seeds=3, parallel=True, skip=FULL_SIZE,
                s2am_t4=Budget(batch_size=4, learning_rate=3e-3, schedule="cosine", steps=1000),
                pretrain=Budget(batch_size=8, learning_rate=2e-3, epochs=1, steps=250),
                finetune=Budget(batch_size=8, learning_rate=2e-3, epochs=1, steps=250)),
        Profile("t4", "Colab on a T4, or one bigger GPU: U-Net and S2AM exactly as published, LEMaRT on a scaled schedule", "3 h a notebook on a T4, resumable",
                preset="reduced",
                pretrain=Budget(batch_size=16, learning_rate=5e-4, epochs=1, steps=1500, micro_batch=4, precision="auto"),
                finetune=Budget(batch_size=16, learning_rate=5e-4, epochs=1, steps=1000, micro_batch=4, precision="auto")),
        Profile("paper", "the papers' settings with repeated seeds", "printed by `plan` before it starts", headline_seeds=3, seeds=3, skip=FULL_SIZE,
                pretrain=Budget(micro_batch=16, precision="auto"), finetune=Budget(micro_batch=16, precision="auto")),
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

"""Every run that the two studies and their claims need, declared once.

A run that two tables share stands here once and is trained once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from harmonylib import models
from harmonylib.config import Experiment, Profile
from harmonylib.errors import HarmonyError
from harmonylib.transforms import TRANSFORMS


def of_share(name: str, share: float) -> str:
    """The name of a run on a share of its training photographs; of all of them it is the run itself."""
    return name if share == 1 else f"{name}_share{share * 100:.0f}"


UNET = Experiment("unet", "unet", loss="mse")  # as published: section 3.6.1, equation 6
S2AM = Experiment("s2am", "s2am", loss="eq7")  # as published: section 3.6.2, equation 7
SHARES = (0.1, 0.3)  # and 1.0, which is the headline run
STUDY = (
    UNET,
    S2AM,
    # architecture and loss change together in the paper: the other two corners of the 2 x 2
    replace(UNET, name="unet_eq7", loss="eq7"),
    replace(S2AM, name="s2am_mse", loss="mse"),
    # "at the bottleneck" is 16 x 16 in the paper's U-Net, its memory argument is about 64 x 64 (the default)
    replace(S2AM, name="s2am_place16", options={"place": 16}),
    # section 5.3.1, future work: an attention whose cost is linear in the number of positions
    replace(S2AM, name="s2am_linear", options={"attention": "linear"}),
    # RQ1, data efficiency
    *(replace(base, name=of_share(base.name, share), share=share) for base in (UNET, S2AM) for share in SHARES),
    # the paper's split lets one photograph stand on both sides
    replace(UNET, name="unet_leaky", split="composite"),
    replace(S2AM, name="s2am_leaky", split="composite"),
    # section 3.7.2: a batch of 2 is stable
    replace(S2AM, name="s2am_batch2", batch_size=2),
    # the module as Cun and Pun published it, on their U-Net, with their learning rate and batch
    Experiment("s2am_s2asc", "s2am_s2asc", loss="mse", learning_rate=1e-3, batch_size=8),
    Experiment("s2am_s2ad", "s2am_s2ad", loss="mse", learning_rate=1e-3, batch_size=8),
)
HEADLINE = ("unet", "s2am")
# Two epochs of a small set are few steps. These take the paper's: 60 % of HCOCO's 42,828 pairs, twice, two at a time.
SMALL_RATE = 2.5e-3  # at that batch, for the small networks of the profiles that do not keep the published rate
PRINTED_STEPS = tuple(replace(base, name=f"{base.name}_printed_steps", steps=25_697) for base in (UNET, S2AM))

# LEMaRT, sections 4.2 to 4.4. The batch of fine-tuning is not printed: taken to be that of pre-training.
ADAMW = {"optimiser": "adamw", "beta2": 0.95, "weight_decay": 0.05, "schedule": "cosine", "batch_size": 192,
         "study": "lemart", "subset": "all"}  # fmt: skip
PRETRAIN = Experiment(
    "pretrain_swinih", "swinih", strategy="random", ratio=0.5, learning_rate=2.7e-2, epochs=30, **ADAMW
)
FINETUNE = Experiment("swinih", "swinih", loss="fn_mse", learning_rate=2.7e-3, epochs=30, **ADAMW)
EPOCHS = {"ht": 120}  # of fine-tuning, where it is not 30 (section 4.4a)
RECIPES = {  # pre-trainings of SwinIH that differ from the default one, by what is appended to its name
    "grid": {"strategy": "grid"},  # Table 5
    "block": {"strategy": "block"},
    "ratio30": {"ratio": 0.3},  # Table 6
    "ratio70": {"ratio": 0.7},
    "quarter": {"length": 0.25},  # how long to pre-train
    "half": {"length": 0.5},
    "target": {"photographs": "target"},  # on the set's own photographs, without their composites
    **{f"only_{name}": {"transforms": (name,)} for name in TRANSFORMS},  # which perturbation teaches most
}
LEMART_SHARES = (0.01, 0.1, 0.5)  # Figure 6; and 1.0, which are the runs of Table 3
MATCHED = 1 + 120_000 / 65_742  # of fine-tuning's steps: those of pre-training and fine-tuning together, as printed
MATCHED_SHARES = (0.1, 1.0)
TRIAL = "pretrain_swinih_printed_rate"  # the printed learning rate, which no profile changes


def _lemart() -> Iterator[Experiment]:
    """Every run of the LEMaRT study; of what Table 3 lists in `models.TABLE_3`, each network."""
    for model in models.TABLE_3:
        base = replace(FINETUNE, name=model, model=model, epochs=EPOCHS.get(model, FINETUNE.epochs))
        yield replace(PRETRAIN, name=f"pretrain_{model}", model=model)
        yield base
        yield replace(base, name=f"{model}_lemart", start=f"pretrain_{model}")
    for model in models.TABLE_4:
        yield replace(FINETUNE, name=model, model=model)
    tuned = replace(FINETUNE, name="swinih_lemart", start="pretrain_swinih")
    for suffix, changes in RECIPES.items():
        yield replace(PRETRAIN, name=f"pretrain_swinih_{suffix}", **changes)
        yield replace(tuned, name=f"swinih_lemart_{suffix}", start=f"pretrain_swinih_{suffix}")
    for base in (FINETUNE, tuned):
        for share in LEMART_SHARES:
            yield replace(base, name=of_share(base.name, share), share=share)
    for share in MATCHED_SHARES:
        yield replace(FINETUNE, name=of_share("swinih_matched", share), share=share, length=MATCHED)
    yield replace(tuned, name="swinih_lemart_120", epochs=120)  # Table 1
    # where a profile makes the networks of the tables smaller, the pair at full size
    yield replace(PRETRAIN, name="pretrain_swinih_full")
    yield replace(FINETUNE, name="swinih_full")
    yield replace(tuned, name="swinih_lemart_full", start="pretrain_swinih_full")
    # Table 2
    open_images = {"photographs": "open-images", "epochs": 22}
    yield replace(PRETRAIN, name="pretrain_swinih_open_images", **open_images)
    yield replace(tuned, name="swinih_realhm", start="pretrain_swinih_open_images", epochs=1, learning_rate=5.3e-3)
    yield replace(PRETRAIN, name=TRIAL)


LEMART = tuple(_lemart())
BY_NAME = (  # declared, run by name alone
    "pretrain_swinih_open_images", "swinih_realhm",  # they need data that few have
    *(experiment.name for experiment in PRINTED_STEPS),  # a quarter of an hour each, however small the profile
)  # fmt: skip
LEMART_HEADLINE = ("pretrain_swinih", "swinih", "swinih_lemart")
EXPERIMENTS = {experiment.name: experiment for experiment in (*STUDY, *PRINTED_STEPS, *LEMART)}


def get(name: str) -> Experiment:
    """A declared experiment. Raises HarmonyError listing them if there is none of that name."""
    if name not in EXPERIMENTS:
        raise HarmonyError(f"experiment {name!r}: not declared; use one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


@dataclass(frozen=True)
class Planned:
    """An experiment at a profile's size, and the seeds it is run with."""

    experiment: Experiment
    seeds: range


def resolve(experiment: Experiment, profile: Profile, data: str) -> Experiment:
    """The experiment at the profile's size, on the data at hand.

    HCOCO is a quarter of the embedded set, too little to train on: there every subset is used.
    """
    resized = profile.apply(experiment)
    if experiment.name == "s2am_batch2":  # the batch is its subject, so no profile changes it
        resized = replace(resized, batch_size=experiment.batch_size)
    if experiment in PRINTED_STEPS:  # steps and batch are their subject, so no profile changes them
        rate = experiment.learning_rate if resized.learning_rate == experiment.learning_rate else SMALL_RATE
        resized = replace(resized, batch_size=experiment.batch_size, steps=experiment.steps, learning_rate=rate)
    if experiment.name == TRIAL:
        resized = replace(resized, learning_rate=experiment.learning_rate)
    if experiment.length == MATCHED and resized.steps:
        resized = replace(resized, length=1 + profile.apply(PRETRAIN).steps / resized.steps)
    return replace(resized, subset="all") if data == "embedded" else resized


def plan(profile: Profile, data: str = "embedded", study: str | None = None) -> list[Planned]:
    """Every run of a study (None: of both) in this profile. Runs that turn out the same are planned once.

    Pre-trainings come first, then the headline runs: what others wait for should not come last.
    """
    planned, known = [], set()
    for experiment in sorted(EXPERIMENTS.values(), key=lambda e: (e.study == "lemart", not e.strategy)):
        resized = resolve(experiment, profile, data)
        wanted = experiment.name not in (*profile.skip, *BY_NAME) and study in (None, experiment.study)
        if not wanted or resized.config_id in known:
            continue
        known.add(resized.config_id)
        planned.append(Planned(resized, range(seeds(experiment, profile))))
    return planned


def seeds(experiment: Experiment, profile: Profile) -> int:
    """How many times a profile repeats a run."""
    return profile.headline_seeds if experiment.name in (*HEADLINE, *LEMART_HEADLINE) else profile.seeds


def parent(experiment: Experiment, profile: Profile, data: str) -> Experiment | None:
    """The declared run that `experiment` starts from, with its own seed where that is planned, else with seed 0."""
    if experiment.start not in EXPERIMENTS:
        return None
    declared = EXPERIMENTS[experiment.start]
    seed = experiment.seed if experiment.seed < seeds(declared, profile) else 0
    return replace(resolve(declared, profile, data), seed=seed)

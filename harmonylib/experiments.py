"""Every run that the S2AM-T4 study and its claims need, declared once.

A run that two tables share stands here once and is trained once.
"""

from dataclasses import dataclass, replace

from harmonylib.config import Experiment, Profile
from harmonylib.errors import HarmonyError

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
    # RQ1, data efficiency
    *(
        replace(base, name=f"{base.name}_share{share * 100:.0f}", share=share)
        for base in (UNET, S2AM)
        for share in SHARES
    ),
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
EXPERIMENTS = {experiment.name: experiment for experiment in STUDY}


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
    return replace(resized, subset="all") if data == "embedded" else resized


def plan(profile: Profile, data: str = "embedded") -> list[Planned]:
    """Every run of the study in this profile, the headline first. Runs that turn out the same are planned once."""
    planned, known = [], set()
    for experiment in STUDY:
        if experiment.name in profile.skip:
            continue
        resized = resolve(experiment, profile, data)
        if resized.config_id in known:
            continue
        known.add(resized.config_id)
        seeds = profile.headline_seeds if experiment.name in HEADLINE else profile.seeds
        planned.append(Planned(resized, range(seeds)))
    return planned

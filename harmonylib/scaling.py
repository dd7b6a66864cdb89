"""``python -m harmonylib plan --gpus 1 8 64``: LEMaRT's pre-training on many cards, counted.

The batch is the experiment's, however many cards share it, and with it steps and learning rate: more cards mean fewer
pictures for each. Where these get few, a row with `A_CARD` pictures on each shows what a larger batch would change.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import ceil, sqrt

import pandas as pd
import torch

from harmonylib import experiments, models
from harmonylib.config import PROFILES
from harmonylib.plan import CARDS, PICTURES
from harmonylib.probe import flops_per_picture
from harmonylib.training import total_steps

TIMES = (1, 10)  # the paper's data
A_CARD = 16  # pictures that keep a card busy
LINK = 50e9  # bytes/s out of a card: InfiniBand at a stated 400 Gbit/s, one port a card


def table(cards: Iterable[int], share: float) -> pd.DataFrame:
    """One row a number of photographs and cards, and a second one where the paper's batch is small for them.

    `rate`: the paper's with its batch; with another, by the linear and by the square-root rule. `a card`: its pictures
    of a batch, and in how many parts it takes them. Hours, and milliseconds of a step, are counted operations over the
    stated peak, times the `share` of it that cards reach; `sending` is the time that float32 gradients take when they
    are summed in a ring, some of it while others are still computed, and is not in the hours.
    """
    experiment = experiments.resolve(experiments.PRETRAIN, PROFILES["paper"], "iharmony4")
    flops = experiment.batch_size * flops_per_picture(experiment.model, experiment.size)
    with torch.device("meta"):
        gradients = 4 * sum(p.numel() for p in models.build(experiment.model, **experiment.options).parameters())
    rows = []
    for photographs in (times * PICTURES["photographs"] for times in TIMES):
        for count in cards:
            for batch in sorted({experiment.batch_size, max(experiment.batch_size, A_CARD * count)}):
                larger = batch / experiment.batch_size
                steps = total_steps(replace(experiment, batch_size=batch, micro_batch=None), photographs)
                seconds = {
                    card.split()[0]: larger * flops / (peak * share * count) for card, (peak, _) in CARDS.items()
                }
                rows.append(
                    {
                        "photographs": f"{photographs:,}",
                        "cards": count,
                        "batch": f"{batch:,}",
                        "rate": _rate(experiment.learning_rate, larger),
                        "steps": f"{steps:,}",
                        "a card": f"{ceil(batch / count)} in {ceil(batch / count / experiment.micro_batch)}",
                        "hours, A100": f"{steps * seconds['A100'] / 3600:.2g}",
                        "hours, H100": f"{steps * seconds['H100'] / 3600:.2g}",
                        "a step, H100": f"{1000 * seconds['H100']:.0f} ms",
                        "sending": f"{1000 * 2 * (count - 1) / count * gradients / LINK:.1f} ms",
                    }
                )
    return pd.DataFrame(rows)


def _rate(rate: float, larger: float) -> str:
    return f"{rate:g}" if larger == 1 else f"{rate * larger:.2g} or {rate * sqrt(larger):.2g}"

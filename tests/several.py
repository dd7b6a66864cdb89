"""Runs for tests/test_distributed.py, made alike in one process and in each of several:

python -m torch.distributed.run --nproc_per_node=2 tests/several.py SET FOLDER WEIGHTS
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from harmonylib import distributed, evaluation, experiments, models, training
from harmonylib.config import Experiment
from harmonylib.data.cache import prepare, prepare_photographs
from harmonylib.data.layout import read_entries
from harmonylib.errors import HarmonyError

SWINIH = {"dim": 4, "depths": (1, 1, 1), "heads": (1, 1, 1), "window": 2, "mlp_ratio": 1.0}
SMALL = {"options": SWINIH, "size": 16, "batch_size": 5, "steps": 12, "epochs": 1, "learning_rate": 2e-3, "cells": 4}
PRETRAIN = replace(experiments.PRETRAIN, **SMALL)
FINETUNE = replace(experiments.FINETUNE, **SMALL)
UNET = Experiment("unet", "unet", {"width": 4}, learning_rate=2e-3, batch_size=5, steps=8, epochs=1, size=16)
RUNS = {
    "pretrain": PRETRAIN,
    "blocks": replace(PRETRAIN, strategy="block", steps=6),
    "faint": replace(PRETRAIN, transforms=("saturation",), steps=6),  # most are drawn again
    "finetune": replace(FINETUNE, start="pretrain"),
    "accumulated": replace(FINETUNE, batch_size=6, micro_batch=2),  # three rows a process, two at a time
    "normalised": replace(UNET, steps=3),
    "normalised, in double": UNET,
    "normalised, accumulated, in double": replace(UNET, batch_size=6, micro_batch=3),
    "hrnet, in double": replace(UNET, model="hrnet", options={"variant": "w4"}, batch_size=2, size=32, steps=4),
}
INTERRUPTED = replace(FINETUNE, name="interrupted")


def quiet(*_):
    pass


def in_double(build):
    """Networks that compute in float64: what is left of a difference is no rounding."""

    def built(name: str, **options):
        network = build(name, **options).double()
        network.register_forward_pre_hook(lambda _, inputs: tuple(x.double() for x in inputs))
        network.register_forward_hook(lambda _, inputs, output: output.float())
        return network

    return built


def make(root: Path, folder: Path, weights: Path) -> None:
    """Every run of `RUNS` into `folder`, one that stops in the middle, and scores of a network, as pickles."""
    for name, experiment in RUNS.items():
        trained = train(root, folder, name, experiment, double="double" in name)
        keep(folder / f"{name}.pkl", (trained.log, trained.validation))
    interrupt(root, folder)
    entries = read_entries(root, "HCOCO", "train") * 3  # 41: three batches, the last one short
    method = evaluation.network(training.load_model(weights))
    scores = [evaluation.evaluate(method, entries[:-1], *under) for under in (("bcmi256", 32), ("fullres",))]
    keep(folder / "scores.pkl", scores)
    keep(folder / "refused.pkl", [told_of(lambda: fail(root)), told_of(lambda: too_many(root, folder))])


def train(root: Path, folder: Path, name: str, experiment: Experiment, double=False, **changes) -> training.Trained:
    lists = [read_entries(root, "HCOCO", split) for split in ("train", "val")]
    cache = distributed.main_first(lambda: prepare(lists[0] + lists[1], experiment.size, say=quiet))
    if experiment.strategy:
        files = sorted((root / "HFlickr/real_images").glob("*.jpg"))
        prepared = distributed.main_first(lambda: prepare_photographs(files, experiment.size, say=quiet))
        changes["photographs"] = prepared.pixels
    if experiment.start:
        changes["start"] = folder / f"{experiment.start}.pt"
    build = models.build
    models.build = in_double(build) if double else build
    try:
        rows = [cache.rows(part) for part in lists]
        return training.train(experiment, cache, *rows, folder / f"{name}.pt", key="key", say=quiet, **changes)
    finally:
        models.build = build


def interrupt(root: Path, folder: Path) -> None:
    """A run that ends before its eighth step, with a checkpoint of all before."""
    rate, seconds = training._learning_rate, training.CHECKPOINT_SECONDS

    def until(experiment, now, steps):
        if now == 7:
            raise KeyboardInterrupt
        return rate(experiment, now, steps)

    training._learning_rate, training.CHECKPOINT_SECONDS = until, 0
    try:
        train(root, folder, "interrupted", INTERRUPTED)
    except KeyboardInterrupt:
        pass
    finally:
        training._learning_rate, training.CHECKPOINT_SECONDS = rate, seconds


def fail(root: Path) -> None:
    """The second batch of a list cannot be scored: with two processes, the other one's."""
    entries = read_entries(root, "HCOCO", "train") * 3
    broken = [replace(e, name="missing_1_1") if i == 20 else e for i, e in enumerate(entries)]
    evaluation.evaluate(evaluation.baseline("identity"), broken)


def too_many(root: Path, folder: Path) -> None:
    train(root, folder, "refused", replace(FINETUNE, batch_size=1))


def told_of(work) -> str:
    try:
        work()
    except HarmonyError as error:
        return str(error)
    return ""


def keep(file: Path, what) -> None:
    if distributed.is_main():
        pd.to_pickle(what, file)


if __name__ == "__main__":
    torch.set_num_threads(1)
    np.seterr(all="ignore")
    with distributed.joined():
        make(*map(Path, sys.argv[1:]))
    distributed.leave(0)

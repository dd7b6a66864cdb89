"""What reads checkpoints, records, tables, caches and notebooks, with small files of each: half of `readers`."""

import io
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hypothesis.strategies import SearchStrategy
from safetensors.torch import save as safetensors

from harmonylib import (
    community,
    fullres,
    leaderboard,
    models,
    plan,
    scrub,
    study,
    training,
    votes,
)
from harmonylib.config import PROFILES, Experiment
from harmonylib.data import cache as caches
from harmonylib.data import layout
from harmonylib.paths import ROOT
from torture import strategies as spoil
from torture.readers_of_sets import write_set, written

NETWORKS = (("outline", {"places": 8, "width": 8}), ("unet", {"width": 2, "depth": 1}))


@cache
def sound_checkpoints() -> list[dict]:
    made = []
    for name, options in NETWORKS:
        weights = models.build(name, **options).state_dict()
        experiment = Experiment("tiny", name, options=options, size=16).to_dict()
        made.append({"experiment": experiment, "model": dict(weights), "finished": True, "key": "k"})
    return made


def pickled(saved) -> bytes:
    target = io.BytesIO()
    torch.save(saved, target)
    return target.getvalue()


def as_safetensors(saved: dict) -> bytes:
    weights = {name: tensor.contiguous() for name, tensor in saved["model"].items()}
    return safetensors(weights, {"experiment": json.dumps(saved["experiment"])})


def with_experiment(made: SearchStrategy, whole: Callable[[dict], bytes]) -> SearchStrategy[bytes]:
    return made.map(lambda settings: whole(sound_checkpoints()[0] | {"experiment": settings}))


def spoilt_checkpoints(whole: Callable[[dict], bytes]) -> SearchStrategy[bytes]:
    settings = spoil.edited_trees([saved["experiment"] for saved in sound_checkpoints()])
    sound = [whole(saved) for saved in sound_checkpoints()]
    return with_experiment(settings, whole) | spoil.edited_bytes(sound)


def read_checkpoint(content: bytes, folder: Path, ending: str) -> None:
    network = training.load_model(written(content, folder / f"checkpoint{ending}"))
    composite, mask = np.full((16, 16, 3), 90, np.uint8), np.zeros((16, 16), bool)
    composite[:9], mask[4:12, 4:12] = 160, True
    fullres.harmonize(composite, mask, network)


RUN = {"config.json": "s2am", "metrics.json": "s2am", "env.json": "s2am", "per_image.csv": "s2am", "log.csv": "s2am"}


def write_records(folder: Path) -> None:
    """Two real runs, with fewer rows."""
    for name in ("identity", "s2am"):
        target = folder / "runs" / name / "seed0"
        target.mkdir(parents=True)
        for file in (ROOT / "results/quick/runs" / name / "seed0").glob("*.*"):
            if file.suffix in (".json", ".csv"):
                target.joinpath(file.name).write_bytes(shortened(file))


def shortened(file: Path) -> bytes:
    if file.name != "per_image.csv":
        return file.read_bytes()
    rows = pd.read_csv(file, dtype=str, keep_default_na=False)
    rows = rows[(rows["split"] == "test") & rows["protocol"].str.startswith("bcmi256")].head(12)
    return rows.to_csv(index=False).encode()


def read_record(content: bytes, folder: Path, file: str) -> None:
    target = folder / "runs/s2am/seed0" / file
    before = target.read_bytes()
    try:
        target.write_bytes(content)
        made, _ = community.check(folder)
        if made:
            community.summary(made).to_string().encode("utf-8", "backslashreplace")
            community.is_official(made)
        for record in made:  # as tables read them
            record.rows("bcmi256"), record.seed, record.prepared, record.log
    finally:
        target.write_bytes(before)


def sound_record(file: str) -> list[bytes]:
    return [shortened(ROOT / "results/quick/runs" / name / "seed0" / file) for name in ("identity", "s2am")
            if (ROOT / "results/quick/runs" / name / "seed0" / file).is_file()]  # fmt: skip


def spoilt_record(file: str) -> SearchStrategy[bytes]:
    if file.endswith(".csv"):
        return spoil.edited_tables(sound_record(file))
    return spoil.edited_json([json.loads(text) for text in sound_record(file)])


VOTES = [b"winner,loser,picture,tie,sitting\na,b,1,,x\nb,c,1,yes,x\nc,a,2,,y\na,b,2,,y\n", b"winner,loser\na,b\nb,a\n"]
PLANS = [b"run,seeds,steps,minutes\ns2am,2,50,1.5\nunet,1,50,0.5\nthe notebooks themselves,,,3\n"]
ROWS = [
    b"name,subset,photo,group,kind,protocol,foreground_ratio,mse,psnr,fmse,fpsnr,method\n"
    + b"".join(
        f"c{i}_1_1,HCOCO,c{i},c{i},photo,bcmi256,0.2,{i + m},30,{5 * i + m},24,{name}\n".encode()
        for m, name in enumerate(("identity", "own"))
        for i in range(1, 5)
    )
]


def read_rows(content: bytes, folder: Path) -> None:
    rows = leaderboard.under(leaderboard.read([written(content, folder / "rows.csv")]), None)
    subsets = list(dict.fromkeys(rows["subset"]))
    for subset in [*subsets, None]:
        leaderboard.ranked(rows, subset).to_string(index=False, float_format="%.2f")
    leaderboard.printed(subsets)


def read_votes(content: bytes, folder: Path) -> None:
    cast = votes.read(written(content, folder / "votes.csv"))
    votes.scores(cast, resamples=3).to_string(index=False, float_format="%.3f")


def read_plan(content: bytes, folder: Path) -> None:
    made = study.Study(PROFILES["smoke"], "embedded", folder, folder / "results", "all", 32)
    plan.compare(made, written(content, folder / "plan.csv"))


def write_cache(folder: Path) -> None:
    write_set(folder)
    entries = layout.read_entries(folder, "all", "test")
    (folder / "cache").mkdir()
    with caches.ThreadPoolExecutor(1) as pool:
        caches._write_arrays(folder / "cache", entries, 8, pool)
        files = sorted({str(path) for e in entries for path in e.files})
        caches._write_manifest(folder / "cache", files, folder, 8, pool)


def read_cache(content: bytes, folder: Path, file: str) -> None:
    target = folder / "cache" / file
    before = target.read_bytes()
    try:
        target.write_bytes(content)
        opened = caches.open_cache(folder / "cache")
        for row in opened.index.itertuples():
            int(opened.composite[row.Index].sum()), opened.real[row.real], opened.mask[row.mask]
    finally:
        target.write_bytes(before)


@cache
def sound_cache(file: str) -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as name:
        write_cache(Path(name))
        return ((Path(name) / "cache" / file).read_bytes(),)


NOTEBOOK = {
    "nbformat": 4, "nbformat_minor": 5, "metadata": {"papermill": {}},
    "cells": [{"cell_type": "code", "id": "a", "source": "1", "metadata": {}, "execution_count": 1, "outputs": [
        {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": {"text/plain": "1"}}]},
        {"cell_type": "markdown", "id": "b", "source": "# b", "metadata": {}}],
}  # fmt: skip


def read_notebook(content: bytes, folder: Path) -> None:
    scrub.scrub(str(written(content, folder / "a.ipynb")), str(folder / "b.ipynb"))


def text(document) -> bytes:
    return json.dumps(document).encode()

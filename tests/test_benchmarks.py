"""The benchmark's own arithmetic, and that what it compares does the same. Nothing here depends on the clock."""

import dataclasses
import importlib
import itertools

import numpy as np
import pandas as pd
import pytest
import torch

import benchmarks
from benchmarks import __main__ as command
from benchmarks import growth, loading, pictures, scoring, timing
from harmonylib import metrics
from harmonylib.data.cache import prepare
from harmonylib.data.layout import read_entries


@pytest.fixture
def machine(monkeypatch):
    """Whose clock advances as told, and whose peaks are 10 operations and 100 bytes a second."""
    machine = timing.Machine(torch.device("cpu"))
    monkeypatch.setattr(timing.Machine, "flops", 10.0)
    monkeypatch.setattr(timing.Machine, "bandwidth", 100.0)
    monkeypatch.setattr(timing.Machine, "seconds", lambda self, work: work())
    return machine


def test_ratio_quartiles_and_share_of_the_limit(machine):
    theirs = itertools.cycle([8.0, 10.0, 12.0, 14.0])
    row = timing.compare(
        machine, "a", "b", lambda: 2.0, lambda: next(theirs), aim=5.5, patience=-1, flops=10, moved=50
    )  # fmt: skip
    assert (row.ours, row.theirs, row.ratio, row.rounds) == (2.0, 12.0, 6.0, timing.LEAST)  # the first is not counted
    assert (row.low, row.high) == (5.5, 6.5)
    assert (row.limit, row.share) == ("arithmetic", 0.5)  # a second of the two
    assert row.met
    assert not timing.counted("a", "b", "MiB", ours=2, theirs=10, aim=6).met
    assert dataclasses.replace(row, ratio=0.99, high=1.01, aim=1).met
    assert not dataclasses.replace(row, ratio=0.97, high=0.99, aim=1).met
    assert not dataclasses.replace(row, ratio=2.9, high=3.1, aim=3).met


def test_both_are_first_in_turn(machine):
    calls = []
    timing.compare(
        machine, "", "", lambda: calls.append("o") or 1.0, lambda: calls.append("t") or 1.0, aim=1, patience=-1
    )
    assert "".join(calls) == "ottootto"


@pytest.mark.parametrize("name", command.LINES)
def test_every_line_has_its_module(name):
    assert callable(importlib.import_module(f"benchmarks.{name}").rows)


def test_a_script_of_the_field_gives_the_same_scores():
    for prediction, real, mask in pictures.triplets(3, 40, 60):
        ours = metrics.score(prediction, real, mask, scoring.PROTOCOL)
        np.testing.assert_allclose(scoring._script(prediction, real, mask), list(ours.values()), rtol=1e-6)


def test_the_decoded_pictures_are_those_of_the_cache(tmp_path, monkeypatch):
    pictures.write_set(tmp_path / "set", 2)
    monkeypatch.setenv("HARMONY_DATA", str(tmp_path))
    entries = read_entries(tmp_path / "set", "all", "train")
    cache = prepare(entries, loading.SIZE, say=lambda line: None)
    composite, mask, real = (part[0].permute(1, 2, 0).numpy() for part in zip(loading.Decoded(entries)[0], strict=True))
    assert composite.shape == real.shape == (loading.SIZE, loading.SIZE, 3)
    row = cache.index.iloc[0]
    assert np.abs(composite - cache.composite[0] / 255).mean() < 0.02  # torchvision's filter is bilinear
    assert np.abs(real - cache.real[row["real"]] / 255).mean() < 0.02
    assert (mask[..., 0] != cache.mask[row["mask"]]).mean() < 0.01


def test_exponents_are_of_the_upper_half():
    values = (1, 2, 4, 8)
    assert growth.exponent(values, [5.0, 4.0, 16.0, 64.0]) == 2.0


def test_table_and_figure_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks, "FOLDER", tmp_path)
    rows = [
        timing.counted("ours", "theirs", "s", 1, 4, aim=2),
        timing.counted("b", "c", "s", 1, 1.5, aim=2, note="why"),
    ]
    command.write(rows, tmp_path)
    table = pd.read_csv(tmp_path / f"{benchmarks.slug()}.csv")
    assert table["met"].tolist() == [True, False]
    assert {"torch", "torchvision", "device", "threads", "python"} <= set(table)
    assert (tmp_path / f"{benchmarks.slug()}.png").stat().st_size > 5000
    assert benchmarks.recorded()["line"].tolist() == ["ours", "b"]
    assert "MISSED" in command.sentence(rows[1])
    assert "why" in command.sentence(rows[1])

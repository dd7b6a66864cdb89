"""Configuration: what is unknown, of the wrong type or out of range is an error; names do not make a run."""

import json
from dataclasses import replace

import pytest

from harmonylib import config, experiments, models, training
from harmonylib.config import PROFILES, Experiment, experiment_from, override, profile

BASE = Experiment("base", "unet")


def test_the_defaults_are_the_papers():
    """S2AM-T4 section 3.7.3."""
    assert (BASE.learning_rate, BASE.batch_size, BASE.epochs, BASE.size) == (1e-4, 2, 2, 256)
    assert (BASE.schedule, BASE.precision, BASE.subset) == ("constant", "float32", "HCOCO")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loss", "l1"), ("schedule", "step"), ("split", "random"), ("precision", "int8"),
        ("learning_rate", 0.0), ("learning_rate", -1e-3), ("learning_rate", "1e-3"),
        ("learning_rate", float("nan")), ("learning_rate", float("inf")),
        ("batch_size", 0), ("batch_size", 2.5), ("batch_size", True), ("epochs", 0), ("size", -64),
        ("steps", 0), ("steps", -1), ("steps", 1.5), ("share", 0.0), ("share", 1.1), ("share", float("nan")),
        ("foreground_weight", -1.0), ("foreground_weight", float("nan")),
        ("seed", -1), ("seed", 2**32), ("options", 8), ("model", 3),
    ],
)  # fmt: skip
def test_bad_values_are_refused(refused, key, value):
    with refused("base"):
        replace(BASE, **{key: value})


def test_whole_numbers_count_as_floats():
    assert isinstance(replace(BASE, share=1).share, float)
    assert replace(BASE, foreground_weight=3).config_id == replace(BASE, foreground_weight=3.0).config_id


def test_there_and_back():
    experiment = replace(BASE, options={"width": 8}, steps=7)
    assert experiment_from(json.loads(json.dumps(experiment.to_dict()))) == experiment


def test_unknown_keys_are_errors(refused):
    with refused("learning_rat", "learning_rate"):
        experiment_from(BASE.to_dict() | {"learning_rat": 1.0})


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("learning_rate=1e-3", {"learning_rate": 1e-3}),
        ("batch_size=4", {"batch_size": 4}),
        ("loss=eq7", {"loss": "eq7"}),
        ("steps=None", {"steps": None}),
        ("options.width=8", {"options": {"depth": 3, "width": 8}}),
        ("options.depth=2", {"options": {"depth": 2}}),
    ],
)
def test_overrides(text, changed):
    start = replace(BASE, options={"depth": 3}, steps=5)
    assert override(start, [text]) == replace(start, **changed)
    assert start.options == {"depth": 3}


def test_overrides_add_up():
    experiment = override(BASE, ["options.width=8", "options.depth=3", "steps=10", "steps=20"])
    assert (experiment.options, experiment.steps) == ({"width": 8, "depth": 3}, 20)


@pytest.mark.parametrize(
    "text",
    ["steps", "", "=3", "width=8", "name=other", "batch_size=many", "batch_size=2.5", "share=2", "options=8",
     "learning_rate=1e999", "options={[]: 1}", "options={1: 2}", "steps=((", "batch_size=\0"],
)  # fmt: skip
def test_bad_overrides_are_refused(refused, text):
    with refused():
        override(BASE, [text])


def test_a_run_is_its_settings_and_not_its_name():
    assert replace(BASE, name="other").config_id == BASE.config_id
    changes = {"model": "s2am", "loss": "eq7", "foreground_weight": 4.0, "background_weight": 2.0,
               "learning_rate": 1e-3, "schedule": "cosine", "batch_size": 3, "epochs": 1, "steps": 9,
               "size": 64, "precision": "auto", "subset": "all", "split": "composite", "share": 0.5,
               "seed": 1, "options": {"width": 8}, "study": "lemart", "min_area": 1000.0, "optimiser": "adamw",
               "beta2": 0.95, "weight_decay": 0.05, "micro_batch": 1, "length": 2.0, "start": "pretrain_unet",
               "strategy": "block", "ratio": 0.3, "cells": 8, "transforms": ("hue",), "photographs": "target",
               "photograph_count": 5}  # fmt: skip
    assert changes.keys() == BASE.to_dict().keys() - {"name"}
    ids = {replace(BASE, **{key: value}).config_id for key, value in changes.items()}
    assert len(ids | {BASE.config_id}) == len(changes) + 1


@pytest.mark.parametrize("data", ["embedded", "coco-mini"])
@pytest.mark.parametrize("name", PROFILES)
def test_every_experiment_resolves_under_every_profile(name, data):
    chosen = PROFILES[name]
    for experiment in experiments.STUDY:
        resolved = experiments.resolve(experiment, chosen, data)
        assert resolved.name == experiment.name
        assert resolved.size == (chosen.size or 256)
        assert resolved.subset == ("all" if data == "embedded" else "HCOCO")
        assert (resolved.split, resolved.share, resolved.loss) == (experiment.split, experiment.share, experiment.loss)
        if chosen.size:  # the published sizes are too large to build here for nothing
            models.build(resolved.model, **resolved.options)
    planned = experiments.plan(chosen, data, "s2am_t4")
    assert [p.experiment.name for p in planned[:2]] == list(experiments.HEADLINE)
    assert len({p.experiment.config_id for p in planned}) == len(planned)
    assert [len(p.seeds) for p in planned[:2]] == [chosen.headline_seeds] * 2


@pytest.mark.parametrize("name", PROFILES)
def test_every_run_of_lemart_resolves_under_every_profile(name):
    """Its network can be built, and what it starts from is planned before it, with the same network."""
    chosen = PROFILES[name]
    planned = experiments.plan(chosen, "embedded", "lemart")
    names = [p.experiment.name for p in planned]
    assert len({p.experiment.config_id for p in planned}) == len(planned)
    for plan in planned:
        experiment = plan.experiment
        if chosen.preset not in (None, "reduced"):
            models.build(experiment.model, **experiment.options)
        assert experiment.optimiser == "adamw" and experiment.beta2 == 0.95 and experiment.weight_decay == 0.05
        assert experiment.loss == ("mse" if experiment.strategy else "fn_mse")
        parent = experiments.parent(replace(experiment, seed=2), chosen, "embedded")
        assert (parent is None) == (not experiment.start)
        if parent is not None:
            assert names.index(parent.name) < names.index(experiment.name)
            assert (parent.model, parent.options) == (experiment.model, experiment.options)
            assert parent.seed == (2 if experiments.seeds(parent, chosen) > 2 else 0)


def test_the_control_has_as_many_steps_as_pre_training_and_fine_tuning():
    for chosen in (PROFILES["quick"], PROFILES["long"]):
        runs = {p.experiment.name: p.experiment for p in experiments.plan(chosen)}
        steps = {name: training.total_steps(runs[name], 0) for name in ("pretrain_swinih", "swinih", "swinih_matched")}
        assert steps["swinih_matched"] == steps["pretrain_swinih"] + steps["swinih"]


def test_paper_keeps_what_lemart_prints():
    pre, fine = (
        experiments.resolve(e, PROFILES["paper"], "iharmony4") for e in (experiments.PRETRAIN, experiments.FINETUNE)
    )
    assert (pre.learning_rate, pre.epochs, pre.batch_size, pre.size, pre.ratio) == (2.7e-2, 30, 192, 256, 0.5)
    assert (fine.learning_rate, fine.epochs, fine.schedule, fine.options) == (2.7e-3, 30, "cosine", {})
    assert experiments.EXPERIMENTS["swinih_lemart_120"].epochs == experiments.EXPERIMENTS["ht"].epochs == 120


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("strategy=stripes", ("'stripes'", "random, grid, block")),
        ("ratio=1.5", ("1.5", "between 0 and 1")),
        ("cells=7", ("cells=7", "does not divide", "8")),
        ("transforms=['glow']", ("'glow'", "defocus")),
        ("micro_batch=5", ("micro_batch=5", "divisor")),
    ],
)
def test_settings_of_lemart_that_do_not_fit(refused, text, words):
    with refused(*words):
        override(experiments.PRETRAIN, [text])


def test_t4_and_paper_leave_the_published_settings():
    for name in ("t4", "paper"):
        for experiment in (experiments.UNET, experiments.S2AM):
            assert PROFILES[name].apply(experiment) == experiment


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda p: p.name)
def test_printed_steps_are_the_papers_whatever_the_profile(profile):
    headline = {name: experiments.resolve(experiments.get(name), profile, "own") for name in experiments.HEADLINE}
    for name, other in headline.items():
        run = experiments.resolve(experiments.get(f"{name}_printed_steps"), profile, "own")
        assert (run.steps, run.batch_size) == (25_697, 2)  # 0.6 x 42,828 pairs x 2 epochs / 2
        kept = other.learning_rate == experiments.get(name).learning_rate
        assert run.learning_rate == (other.learning_rate if kept else experiments.SMALL_RATE)
        assert (run.loss, run.options, run.size) == (other.loss, other.options, other.size)
    assert not {p.experiment.name for p in experiments.plan(profile)} & set(experiments.BY_NAME)


def test_declared_names_are_unique(refused):
    declared = (*experiments.STUDY, *experiments.PRINTED_STEPS, *experiments.LEMART)
    assert len(experiments.EXPERIMENTS) == len(declared)
    assert experiments.get("s2am") is experiments.S2AM
    with refused("'s2an'", "s2am"):
        experiments.get("s2an")


@pytest.mark.parametrize(
    ("cuda", "data", "expected"),
    [
        (True, "coco-mini", "t4"),
        (True, "embedded", "quick"),
        (False, "coco-mini", "quick"),
        (False, "embedded", "quick"),
    ],
)
def test_auto_profile(monkeypatch, cuda, data, expected):
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    assert profile("auto", data).name == expected


def test_the_environment_wins(monkeypatch, refused):
    assert profile("long").name == "long"
    monkeypatch.setenv("HARMONY_PROFILE", "smoke")
    assert profile("auto").name == profile("long").name == "smoke"
    monkeypatch.setenv("HARMONY_PROFILE", "fast")
    with refused("'fast'", *PROFILES):
        config.profile("quick")


def test_unknown_profile(refused):
    with refused("'huge'", *PROFILES):
        profile("huge")

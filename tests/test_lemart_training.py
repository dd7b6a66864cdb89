"""Pre-training and fine-tuning: the same bits after an interruption, accumulation, and starts that do not fit."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from harmonylib import checkpoints, config, experiments, losses, training
from harmonylib.batches import Perturbed
from harmonylib.cli import main
from harmonylib.config import PROFILES
from harmonylib.data.cache import prepare, prepare_photographs
from harmonylib.data.layout import read_entries
from harmonylib.data.locate import photographs
from harmonylib.study import open_study

SIZE = 16
NETWORK = {"dim": 4, "depths": (1, 1, 1), "heads": (1, 1, 1), "window": 2, "mlp_ratio": 1.0}
SMALL = {"options": NETWORK, "size": SIZE, "batch_size": 4, "steps": 8, "epochs": 1, "learning_rate": 2e-3}
PRETRAIN = replace(experiments.PRETRAIN, **SMALL, cells=4)
FINETUNE = replace(experiments.FINETUNE, **SMALL)


def quiet(*_):
    pass


@pytest.fixture(scope="module")
def prepared(tiny_set, tmp_path_factory):
    """(cache, training rows, validation rows, photographs)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARMONY_DATA", str(tmp_path_factory.mktemp("prepared")))
        train, val = (read_entries(tiny_set, "HCOCO", split) for split in ("train", "val"))
        cache = prepare(train + val, SIZE, say=quiet)
        found = prepare_photographs(sorted((tiny_set / "HFlickr/real_images").glob("*.jpg")), SIZE, say=quiet)
    return cache, cache.rows(train), cache.rows(val), found.pixels


def pretrain(prepared, path, experiment=PRETRAIN, **options) -> training.Trained:
    cache, train, val, pixels = prepared
    return training.train(experiment, cache, train, val, path, photographs=pixels, say=quiet, **options)


def finetune(prepared, path, experiment=FINETUNE, **options) -> training.Trained:
    cache, train, val, _ = prepared
    return training.train(experiment, cache, train, val, path, say=quiet, **options)


def same(a: training.Trained, b: training.Trained) -> bool:
    weights = a.model.state_dict(), b.model.state_dict()
    return all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0]) and a.log.equals(b.log)


def test_foreground_normalised_mse():
    rng = np.random.default_rng(0)
    prediction, target = rng.random((2, 2, 3, 8, 6))
    mask = np.zeros((2, 1, 8, 6))
    mask[0, :, :4] = 1  # 24 px
    mask[1, :, 0, 0] = 1  # 1 px: below the least area
    error = ((2 * prediction - 2 * target) ** 2).sum((1, 2, 3))
    expected = np.mean(error / (3 * np.array([24, 10])))
    found = losses.foreground_normalised(*(torch.from_numpy(a) for a in (prediction, target, mask)), min_area=10)
    assert found.item() == pytest.approx(expected)
    configured = losses.of(replace(FINETUNE, min_area=10 * 256, size=16))  # the area is one of a picture of 256 px
    assert configured(*(torch.from_numpy(a) for a in (prediction, target, mask))).item() == pytest.approx(expected)


def test_batches_of_lemart_are_a_function_of_seed_and_step(prepared):
    device, pixels = torch.device("cpu"), prepared[3]
    first, second = (Perturbed(pixels, PRETRAIN.lemart, 4, 0, device) for _ in range(2))
    _ = first[0], first[1]  # what was drawn before does not matter
    for a, b in zip(first[5], second[5], strict=True):
        assert torch.equal(a, b)
    composite, mask, target = first[5]
    assert torch.equal(composite[(mask == 0).expand_as(target)], target[(mask == 0).expand_as(target)])
    assert not torch.equal(first[5][0], first[6][0])
    assert not torch.equal(first[5][0], Perturbed(pixels, PRETRAIN.lemart, 4, 1, device)[5][0])
    known = {row.tobytes() for row in pixels}
    levels = (255 * target).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    assert all(row.tobytes() in known for row in levels)


def test_an_interrupted_pre_training_ends_with_the_same_weights(prepared, tmp_path, monkeypatch):
    whole = pretrain(prepared, tmp_path / "whole.pt")
    rate = training._learning_rate

    def until(experiment, now, steps):
        if now == 5:
            raise KeyboardInterrupt
        return rate(experiment, now, steps)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_learning_rate", until)
        patch.setattr(training, "CHECKPOINT_SECONDS", 0)
        with pytest.raises(KeyboardInterrupt):
            pretrain(prepared, tmp_path / "broken.pt")
    assert checkpoints.load(tmp_path / "broken.pt")["state"]["step"] == 5
    assert same(whole, pretrain(prepared, tmp_path / "broken.pt"))


def test_fine_tuning_starts_from_the_weights_it_names(prepared, tmp_path):
    pretrain(prepared, tmp_path / "pre.pt")
    still = replace(FINETUNE, learning_rate=1e-12)
    tuned = finetune(prepared, tmp_path / "tuned.pt", still, start=tmp_path / "pre.pt")
    given, scratch = checkpoints.load(tmp_path / "pre.pt")["model"], finetune(prepared, tmp_path / "s.pt", still)
    for key, value in tuned.model.state_dict().items():
        torch.testing.assert_close(value, given[key], rtol=0, atol=1e-8)
    assert any(not torch.allclose(v, given[k], atol=1e-3) for k, v in scratch.model.state_dict().items())


@pytest.mark.parametrize(
    "other", [{"model": "vit", "options": {"width": 8, "depth": 1, "heads": 1}}, {"options": {**NETWORK, "dim": 8}}]
)
def test_a_start_of_another_architecture(prepared, tmp_path, refused, other):
    pretrain(prepared, tmp_path / "pre.pt", replace(PRETRAIN, **other))
    with refused("cannot start from", "pre.pt", "SwinIH", "same network"):
        finetune(prepared, tmp_path / "tuned.pt", start=tmp_path / "pre.pt")
    assert not (tmp_path / "tuned.pt").exists()


def test_micro_batches_add_up_to_the_batch(prepared, tmp_path):
    runs = [finetune(prepared, tmp_path / f"{m}.pt", replace(FINETUNE, micro_batch=m)) for m in (None, 2, 1)]
    for run in runs[1:]:
        for a, b in zip(runs[0].model.parameters(), run.model.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=2e-4)
        np.testing.assert_allclose(run.log["train_loss"].dropna(), runs[0].log["train_loss"].dropna(), rtol=1e-4)


def test_adamw_decays_matrices_only(prepared):
    cache, _, val, _ = prepared
    run = training.Run(FINETUNE, cache, val, None, 10, "")
    decayed, spared = run.optimiser.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0.0)
    assert decayed["betas"] == spared["betas"] == (0.9, 0.95)
    names = {id(p): name for name, p in run.model.named_parameters()}
    assert all(names[id(p)].endswith("weight") for p in decayed["params"])
    assert {names[id(p)].rsplit(".", 1)[-1] for p in spared["params"]} == {"weight", "bias", "table"}
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


def test_a_length_multiplies_steps_and_epochs():
    assert training.total_steps(replace(FINETUNE, length=2.5), 0) == 20
    assert training.total_steps(replace(FINETUNE, steps=None, epochs=3, length=0.5), 100) == 38


def test_divergence_is_told_with_its_log(prepared, tmp_path):
    with pytest.raises(training.Diverged, match="not finite at step") as told:
        pretrain(prepared, tmp_path / "pre.pt", replace(PRETRAIN, learning_rate=1e30, precision="float32"))
    assert len(told.value.log) >= 1


# ------------------------------------------------------------------------------------------------------- study


@pytest.fixture
def study(tiny_set, monkeypatch):
    """The smoke profile on a set that brings no photographs, with a network of a few milliseconds a step."""
    return open_study("smoke", str(tiny_set), say=quiet).lemart


def small(name: str) -> config.Experiment:
    resolved = experiments.resolve(experiments.get(name), PROFILES["smoke"], "tiny")
    return replace(resolved, photographs="target") if resolved.strategy else resolved


def test_photographs_of_the_target_are_those_of_the_training_list(study):
    found = study.photographs(small("pretrain_swinih")).pixels
    names = {e.real for e in study.listed.train}
    assert len(found) == len(names) < len({e.real for e in study.listed.train + study.listed.test})


def test_more_photographs_than_there_are(study, refused):
    with refused("photograph_count=1000", "ask for fewer"):
        study.photographs(replace(small("pretrain_swinih"), photograph_count=1000))
    assert len(study.photographs(replace(small("pretrain_swinih"), photograph_count=3)).pixels) == 3


def test_a_set_without_photographs_says_what_to_do(tiny_set, refused, tmp_path):
    with refused("'unlabelled'", "coco-unlabeled2017", "unlabeled2017"):
        photographs("unlabelled", tiny_set)
    with refused("nowhere"):
        photographs(str(tmp_path / "nowhere"), tiny_set)


def test_a_record_of_what_starts_from_another_run(study, monkeypatch):
    monkeypatch.setitem(experiments.EXPERIMENTS, "pretrain_swinih", replace(experiments.PRETRAIN, photographs="target"))
    record = study.run(small("swinih_lemart"))
    runs = study.results / "runs"
    assert (runs / "pretrain_swinih/seed0/checkpoint.pt").is_file()
    assert record.config["start"] == "pretrain_swinih"
    assert record.metrics["before_training"]["test"] == pytest.approx(
        json.loads((runs / "pretrain_swinih/seed0/metrics.json").read_text())["test"]["bcmi256@32"], rel=1e-3
    )
    keys = record.metrics["key"], study._key(small("swinih"))
    assert keys[0] != keys[1]
    kept = study.run(small("swinih_lemart"))
    assert kept.metrics["key"] == keys[0]
    # another pre-training: what started from it is out of date too
    monkeypatch.setitem(
        experiments.EXPERIMENTS, "pretrain_swinih", replace(experiments.PRETRAIN, photographs="target", ratio=0.3)
    )
    assert study.finished(small("swinih_lemart")) is None


def test_the_trial_of_the_printed_rate_may_diverge(study):
    trial = replace(small(experiments.TRIAL), learning_rate=1e30)
    record = study.run(trial)
    assert "not finite" in record.metrics["diverged"] and not (record.folder / "per_image.csv").exists()
    assert study.finished(trial) is not None
    with pytest.raises(training.Diverged):
        study.run(replace(small("pretrain_swinih"), learning_rate=1e30))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("strategy=stripes", "'stripes'"),
        ("ratio=1.0", "1.0"),
        ("ratio=0", "0"),
        ("cells=7", "cells=7"),
        ("photograph_count=100000", "photograph_count=100000"),
        ("start=nowhere.pt", "nowhere.pt"),
        ("photographs=nowhere", "nowhere"),
    ],
)
def test_bad_settings_end_in_one_line_and_leave_nothing(capsys, tiny_set, tmp_path, setting, words):
    arguments = ["train", "pretrain_swinih", "--profile", "smoke", "--data", str(tiny_set)]
    if not setting.startswith("photographs"):
        arguments += ["--set", "photographs=target"]
    code = main([*arguments, "--set", setting])
    told = capsys.readouterr().err
    assert code == 2 and told.count("\n") == 1 and words in told
    assert not list((tmp_path / "results").rglob("*.json")) and not list((tmp_path / "results").rglob("*.pt"))

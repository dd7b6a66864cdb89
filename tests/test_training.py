"""Training: losses as written, the same bits after an interruption, and bad runs that end in one line."""

import itertools
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from harmonylib import checkpoints, evaluation, losses, training
from harmonylib.batches import Triplets
from harmonylib.config import Experiment
from harmonylib.data.cache import prepare
from harmonylib.data.layout import read_entries

SIZE = 16
UNET = Experiment("unet", "unet", {"width": 4}, learning_rate=2e-3, schedule="cosine", batch_size=3, steps=9, size=SIZE)
S2AM = replace(UNET, name="s2am", model="s2am", options={"width": 4, "heads": 2}, loss="eq7", schedule="constant")


def quiet(*_):
    pass


@pytest.fixture(scope="module")
def prepared(tiny_set, tmp_path_factory):
    """(cache, training rows, validation rows): 7 photographs and 1, two composites each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARMONY_DATA", str(tmp_path_factory.mktemp("prepared")))
        train, val = (read_entries(tiny_set, "HCOCO", split) for split in ("train", "val"))
        cache = prepare(train + val, SIZE, say=quiet)
    return cache, cache.rows(train), cache.rows(val)


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    return tmp_path / "run" / "checkpoint.pt"


def same(a: training.Trained, b: training.Trained) -> bool:
    pd.testing.assert_frame_equal(a.log, b.log, check_exact=True)
    pd.testing.assert_frame_equal(a.validation, b.validation, check_exact=True)
    weights = a.model.state_dict(), b.model.state_dict()
    return weights[0].keys() == weights[1].keys() and all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


class Interrupted(Exception):
    pass


def interrupt_at(monkeypatch, step: int):
    """Training stops before this step (counted from 0), after a checkpoint at every step before it."""
    rate = training._learning_rate

    def until(experiment, now, steps):
        if now == step:
            raise Interrupted
        return rate(experiment, now, steps)

    monkeypatch.setattr(training, "_learning_rate", until)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)


# ------------------------------------------------------------------------------------------------------ losses


def pictures(seed=0):
    rng = np.random.default_rng(seed)
    prediction, target = rng.random((2, 3, 3, 8, 6))
    mask = (rng.random((3, 1, 8, 6)) > 0.6).astype(float)
    return prediction, target, mask


def tensors(*arrays):
    return [torch.from_numpy(a) for a in arrays]


def test_equation_6():
    prediction, target, mask = pictures()
    expected = np.mean(((2 * prediction - 1) - (2 * target - 1)) ** 2)
    assert losses.mse(*tensors(prediction, target, mask)).item() == pytest.approx(expected)


def test_equation_7():
    prediction, target, mask = pictures()
    expected = []
    for p, t, m in zip(2 * prediction - 1, 2 * target - 1, mask[:, 0] > 0, strict=True):
        foreground = np.mean([np.sum((p[:, y, x] - t[:, y, x]) ** 2) for y, x in zip(*np.where(m), strict=True)])
        background = np.mean([np.abs(p[:, y, x] - t[:, y, x]) for y, x in zip(*np.where(~m), strict=True)])
        expected.append(7 * foreground + 2 * background)
    found = losses.foreground_weighted(*tensors(prediction, target, mask), 7, 2)
    assert found.item() == pytest.approx(np.mean(expected))
    configured = losses.of(replace(S2AM, foreground_weight=7, background_weight=2))
    assert configured(*tensors(prediction, target, mask)).item() == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_equation_7_where_a_region_is_missing(fill):
    prediction, target, mask = tensors(*pictures())
    prediction.requires_grad_()
    mask = torch.full_like(mask, fill)
    loss = losses.foreground_weighted(prediction, target, mask)
    loss.backward()
    assert loss > 0
    assert prediction.grad.isfinite().all()


# ----------------------------------------------------------------------------------------------------- batches


def drawn(batches, cache, steps):
    """The rows of the cache that the batches hold, found by their pixels."""
    known = {row.tobytes(): i for i, row in enumerate(cache.composite)}
    assert len(known) == len(cache)
    found = []
    for step in steps:
        composite, mask, target = batches[step]
        for c, m, t in zip(composite, mask, target, strict=True):
            row = known[(255 * c).round().byte().permute(1, 2, 0).contiguous().numpy().tobytes()]
            index = cache.index.iloc[row]
            np.testing.assert_array_equal((255 * t).round().permute(1, 2, 0), cache.real[index["real"]])
            np.testing.assert_array_equal(m[0], cache.mask[index["mask"]])
            found.append(row)
    return found


@pytest.mark.parametrize("resident", [True, False])
def test_each_pass_visits_every_row_once(prepared, monkeypatch, resident):
    cache, rows, _ = prepared
    if not resident:
        monkeypatch.setattr("harmonylib.batches.RESIDENT_BYTES", 0)
    batches = Triplets(cache, rows, 4, 0, torch.device("cpu"))  # 14 rows: a batch spans two passes
    seen = drawn(batches, cache, range(7))
    passes = seen[:14], seen[14:]
    for one in passes:
        assert sorted(one) == sorted(rows)
    assert passes[0] != passes[1]
    assert drawn(batches, cache, [5, 1]) == seen[20:24] + seen[4:8]


def test_the_order_depends_on_the_seed(prepared):
    cache, rows, _ = prepared
    orders = [drawn(Triplets(cache, rows, 2, s, torch.device("cpu")), cache, range(7)) for s in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_no_rows(prepared, refused):
    with refused("no pictures to train on"):
        Triplets(prepared[0], np.array([], int), 2, 0, torch.device("cpu"))


def test_steps_of_a_run():
    assert training.total_steps(replace(UNET, steps=None, epochs=2, batch_size=2), 101) == 100
    assert training.total_steps(replace(UNET, steps=7), 101) == 7


# -------------------------------------------------------------------------------------------------- resumption


@pytest.mark.parametrize(
    ("experiment", "step"), [(UNET, 1), (S2AM, 6)], ids=["unet-eq6-cosine-step1", "s2am-eq7-constant-step6"]
)
def test_resumed_is_bit_identical(prepared, checkpoint, monkeypatch, tmp_path, experiment, step):
    whole = training.train(experiment, *prepared, tmp_path / "whole.pt", key="k", say=quiet)
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises(Interrupted):
            training.train(experiment, *prepared, checkpoint, key="k", say=quiet)
    assert training.finished(checkpoint, "k") is None
    said = []
    resumed = training.train(experiment, *prepared, checkpoint, key="k", say=said.append)
    assert f"resumed at step {step} of 9" in said[0]
    assert same(whole, resumed)
    assert same(whole, training.finished(checkpoint, "k"))


def test_the_log_tells_epochs_and_validation(prepared, checkpoint):
    trained = training.train(UNET, *prepared, checkpoint, say=quiet)
    assert trained.steps == 9
    assert trained.log["step"].is_monotonic_increasing
    ends = trained.log[trained.log["epoch"].notna()]
    assert ends[["step", "epoch"]].to_numpy().tolist() == [[4, 1], [9, 2]]
    assert np.isnan(trained.log["train_loss"][0])
    assert np.isfinite(trained.log["train_loss"][1:]).all()
    assert (trained.log["seen"] == trained.log["step"] * 3).all()
    for epoch in (1, 2):
        rows = trained.validation[trained.validation["epoch"] == epoch]
        assert len(rows) == 2
        assert rows["fmse"].mean() == pytest.approx(ends["val_fmse"].iloc[epoch - 1])


def test_another_key_starts_afresh(prepared, checkpoint, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        with pytest.raises(Interrupted):
            training.train(UNET, *prepared, checkpoint, key="old", say=quiet)
    said = []
    training.train(UNET, *prepared, checkpoint, key="new", say=said.append)
    assert not any("resumed" in line for line in said)
    assert training.finished(checkpoint, "old") is None
    assert training.finished(checkpoint, "new") is not None


def test_the_seed_decides_the_weights(prepared, tmp_path):
    runs = [
        training.train(replace(UNET, seed=s), *prepared, tmp_path / f"{i}.pt", say=quiet)
        for i, s in enumerate((0, 0, 1))
    ]
    assert same(runs[0], runs[1])
    assert not torch.equal(runs[0].model.head.weight, runs[2].model.head.weight)


@pytest.mark.parametrize("experiment", [UNET, S2AM], ids=["unet", "s2am"])
def test_one_batch_can_be_learned_by_heart(prepared, checkpoint, experiment):
    cache, rows, _ = prepared
    few = rows[:4]
    options = experiment.options | {"width": 8}
    experiment = replace(experiment, options=options, batch_size=4, steps=80, learning_rate=1e-2, schedule="cosine")
    trained = training.train(experiment, cache, few, few, checkpoint, say=quiet)
    nothing = evaluation.evaluate_cached(evaluation.baseline("identity"), cache, few)["fmse"].mean()
    assert trained.log["val_fmse"].iloc[-1] < 0.5 * nothing
    assert trained.log["train_loss"].iloc[-1] < 0.25 * trained.log["train_loss"].iloc[1]


# -------------------------------------------------------------------------------------- what ends in one line


def test_a_loss_that_is_not_finite(prepared, checkpoint, monkeypatch, refused):
    calls = itertools.count(1)
    monkeypatch.setattr(
        losses, "of", lambda _: lambda p, t, m: losses.mse(p, t, m) * (np.nan if next(calls) == 4 else 1)
    )
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    with refused("unet, seed 0", "step 4", "not finite"):
        training.train(UNET, *prepared, checkpoint, say=quiet)
    assert checkpoints.load(checkpoint)["state"]["step"] == 3


def test_half_precision_needs_a_gpu(prepared, checkpoint, refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with refused("float16", "GPU"):
        training.train(replace(UNET, precision="float16"), *prepared, checkpoint, say=quiet)
    assert training.pick_precision("auto") == "float32"


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_precision_by_compute_capability(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert training.pick_precision("auto") == precision


@pytest.fixture
def saved(checkpoint):
    """A finished checkpoint without the minutes of training."""
    from harmonylib import models

    model = models.build("unet", width=4)
    checkpoints.save(
        checkpoint, {"experiment": UNET.to_dict(), "model": model.state_dict(), "key": "k", "finished": True}
    )
    return checkpoint


def test_a_checkpoint_gives_its_network(saved):
    model = training.load_model(saved)
    assert (model.size, model.training) == (SIZE, False)
    assert torch.equal(model.head.weight.cpu(), checkpoints.load(saved)["model"]["head.weight"])


@pytest.mark.parametrize("kept", [0, 1, 3, 50, 1000, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint(saved, refused, kept):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with refused(saved):
        checkpoints.load(saved)


@pytest.mark.parametrize("seed", range(8))
def test_a_scrambled_checkpoint_never_shows_a_traceback_of_its_own(saved, refused, seed):
    rng = np.random.default_rng(seed)
    content = np.frombuffer(saved.read_bytes(), np.uint8).copy()
    content[rng.integers(len(content), size=200)] = rng.integers(256, size=200)
    content[:4] ^= np.uint8(seed % 2)  # every other one no longer looks like a zip file
    saved.write_bytes(content.tobytes())
    with refused(saved):
        training.load_model(saved)


@pytest.mark.parametrize("content", [b"not a checkpoint\n", b"\x80\x05]", b"PK\x03\x04"])
def test_files_that_are_no_checkpoints(saved, refused, content):
    saved.write_bytes(content)
    with refused(saved):
        checkpoints.load(saved)


@pytest.mark.parametrize("content", [[1, 2], {"model": {}}, {"experiment": {}}, {"experiment": {}, "model": {}}])
def test_checkpoints_of_others(saved, refused, content):
    torch.save(content, saved)
    with refused(saved):
        training.load_model(saved)


def test_weights_that_do_not_fit(saved, refused):
    content = checkpoints.load(saved)
    content["experiment"]["options"]["width"] = 8
    checkpoints.save(saved, content)
    with refused(saved, "unet"):
        training.load_model(saved)


class Code:
    def __init__(self, marker: Path):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


@pytest.mark.parametrize(
    "write",
    [lambda content, path: torch.save(content, path), lambda content, path: path.write_bytes(pickle.dumps(content))],
)
def test_code_in_a_checkpoint_does_not_run(saved, tmp_path, refused, write):
    marker = tmp_path / "it ran"
    write({"experiment": UNET.to_dict(), "model": Code(marker)}, saved)
    with refused(saved):
        checkpoints.load(saved)
    assert not marker.exists()


def test_missing_checkpoint(tmp_path, refused):
    with refused(tmp_path / "no.pt", "no such checkpoint"):
        checkpoints.load(tmp_path / "no.pt")


def test_a_save_that_fails_midway_leaves_the_old_checkpoint(saved, monkeypatch):
    before = saved.read_bytes()

    def full(content, file):
        file.write(before[:100])
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        checkpoints.save(saved, {})
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_random_states_come_back():
    import random

    checkpoints.seed_everything(3)
    state = checkpoints.random_state()
    first = torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()
    np.random.rand(5)
    checkpoints.restore_random_state(state)
    assert (torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()) == first

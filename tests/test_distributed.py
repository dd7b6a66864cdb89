"""Two processes of torchrun and one: the same learning curves, the same scores, the same refusals."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import several
import torch

from harmonylib import checkpoints, distributed
from harmonylib.cli import main

ROOT = Path(__file__).resolve().parent.parent


def torchrun(*words, processes: int = 2, **environment: str) -> subprocess.CompletedProcess:
    """A command in so many processes on loopback, at a port that is free."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1", f"--nproc_per_node={processes}"]
    command += ["--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0", "--local_addr=127.0.0.1", *map(str, words)]
    quiet = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "PYTHONPATH": str(ROOT)}
    everything = os.environ | quiet | environment
    return subprocess.run(command, cwd=ROOT, env=everything, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def folders(tiny_set, tmp_path_factory):
    """What one process has made, and what two have."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARMONY_DATA", str(tmp_path_factory.mktemp("prepared")))
        torch.set_num_threads(1)
        several.make(tiny_set, one, one / "finetune.pt")
        torch.set_num_threads(threads)
        done = torchrun(ROOT / "tests" / "several.py", tiny_set, two, one / "finetune.pt")
        assert done.returncode == 0, done.stderr
        yield one, two


@pytest.mark.parametrize("name", several.RUNS)
def test_the_learning_curve_is_that_of_one_process(folders, name):
    curves, validations = zip(*(pd.read_pickle(folder / f"{name}.pkl") for folder in folders), strict=True)
    exact = 1e-6 if "double" in name else 1e-5  # a loss is kept in float32
    for column in ("train_loss", "val_fmse"):
        np.testing.assert_allclose(curves[1][column], curves[0][column], rtol=exact)
    assert curves[0]["train_loss"].notna().sum() >= min(several.RUNS[name].steps, 6)
    assert validations[0]["name"].equals(validations[1]["name"])


def test_scores_are_those_of_one_process_to_the_bit(folders):
    """Of the same weights; a list whose last batch is short, and which two processes cannot share evenly."""
    one, two = (pd.read_pickle(folder / "scores.pkl") for folder in folders)
    for rows, shared in zip(one, two, strict=True):
        assert len(rows) == 41
        pd.testing.assert_frame_equal(rows, shared, check_exact=True)


def test_one_process_goes_on_where_two_stopped(folders, tiny_set, tmp_path):
    saved = checkpoints.load(folders[1] / "interrupted.pt")
    assert saved["state"]["step"] == 7 and not saved["finished"]
    told: list[str] = []
    several.quiet, silent = lambda *words: told.extend(words), several.quiet
    resumed = several.train(tiny_set, folders[1], "interrupted", several.INTERRUPTED)
    several.quiet = silent
    assert any("resumed at step 7" in line for line in told)
    whole = several.train(tiny_set, tmp_path, "whole", several.INTERRUPTED)
    for column in ("train_loss", "val_fmse"):
        np.testing.assert_allclose(resumed.log[column], whole.log[column], rtol=1e-5)


def test_what_one_process_cannot_read_stops_both(folders):
    one, two = (pd.read_pickle(folder / "refused.pkl") for folder in folders)
    assert "missing" in one[0] and one[0] == two[0]
    assert not one[1]
    assert "2 processes for 1 pictures" in two[1] and "\n" not in two[1]


def test_others_wait_for_the_main_process_as_long_as_it_takes(tmp_path):
    """Longer than the patience that they have with each other: it may prepare a large set."""
    (tmp_path / "waiting.py").write_text("""
import time
from datetime import timedelta

import torch

from harmonylib import distributed
from harmonylib.errors import HarmonyError

distributed.PATIENCE = timedelta(seconds=2)
with distributed.joined():
    print(distributed.from_main(lambda: time.sleep(5) or "prepared"), distributed.is_main())
    try:
        distributed.from_main(lambda: distributed.share(1, None, torch.nn.Identity()))
    except HarmonyError as error:
        print(error)
""")
    done = torchrun(tmp_path / "waiting.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("prepared True\ntorchrun: 2 processes for 1 pictures")


def test_shares_cover_the_batch(monkeypatch):
    plain, normalising = torch.nn.Linear(1, 1), torch.nn.BatchNorm2d(1)
    for network, batch_size, micro_batch in ((plain, 7, None), (plain, 6, 2), (normalising, 8, 4), (plain, 192, 16)):
        shares = []
        for rank in range(3):
            monkeypatch.setattr(distributed, "world_size", lambda: 3)
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            shares.append(distributed.share(batch_size, micro_batch, network))
        rows = np.concatenate([share.rows for share in shares])
        assert sorted(rows) == list(range(batch_size))
        assert all(len(part) <= (micro_batch or batch_size) for share in shares for part in share.parts)


def test_what_is_normalised_together_stays_together(monkeypatch):
    """With batch normalisation every micro-batch is of all processes; else each has its own."""
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    for network, parts in ((torch.nn.BatchNorm2d(1), [[2, 3], [6, 7]]), (torch.nn.Linear(1, 1), [[4, 5, 6, 7]])):
        assert [list(part) for part in distributed.share(8, 4, network).parts] == parts


@pytest.fixture
def small(tiny_set, tmp_path, monkeypatch):
    """Words that make a run of one minute's work into one of a second's."""
    monkeypatch.setenv("HARMONY_RESULTS", str(tmp_path / "results"))
    return ["--profile", "smoke", "--data", str(tiny_set)]


def test_training_and_scoring_by_command(small, tmp_path, tiny_set):
    done = torchrun("-m", "harmonylib", "train", "unet", *small)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("record: ") == 1
    (folder,) = tmp_path.glob("results/*/runs/unet/seed0")
    assert json.loads((folder / "env.json").read_text())["processes"] == 2
    words = ["evaluate", "--data", str(tiny_set), "--method", "reinhard", str(folder), "--size", "32", "--out"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert main([*words, str(tmp_path / "one.csv")]) == 0
    torch.set_num_threads(threads)
    done = torchrun("-m", "harmonylib", *words, tmp_path / "two.csv")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("one row a picture") == 1
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_scores_of_a_run_in_half_precision_are_those_of_evaluate(small, tmp_path, tiny_set):
    """Trained under autocast, scored without, in the record as from its checkpoint."""
    changes = ["steps=20", "learning_rate=0.01", "precision=bfloat16"]
    assert main(["train", "swinih", *small, *(word for change in changes for word in ("--set", change))]) == 0
    (folder,) = tmp_path.glob("results/*/runs/swinih-*/seed0")
    words = ["evaluate", "--data", str(tiny_set), "--method", str(folder), "--size", "32"]
    assert main([*words, "--out", str(tmp_path / "rows.csv")]) == 0
    rows = [pd.read_csv(file) for file in (folder / "per_image.csv", tmp_path / "rows.csv")]
    recorded = rows[0].query("split == 'test' and protocol == 'bcmi256@32'").set_index("name")
    again = rows[1].set_index("name").loc[recorded.index]
    assert len(recorded) > 3
    np.testing.assert_allclose(recorded["fmse"], again["fmse"], rtol=1e-5)


@pytest.mark.parametrize("name", distributed.LAUNCHERS)
def test_a_process_of_another_launcher(small, monkeypatch, capsys, name):
    monkeypatch.setenv(name, "2")
    monkeypatch.setenv(name.replace("SIZE", "RANK").replace("WORLD_RANK", "RANK"), "0")
    assert main(["train", "unet", *small]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"harmonylib: {name}=2: ") and "unset" in told and told.count("\n") == 1


def test_what_a_launcher_has_left_behind(small, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert main(["train", "unet", *small]) == 0


def test_bad_input_is_told_once():
    done = torchrun("-m", "harmonylib", "train", "nosuch")
    assert done.returncode != 0
    assert done.stderr.count("harmonylib: experiment 'nosuch': not declared") == 1

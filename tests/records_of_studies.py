"""Made-up records whose truth is known, for the tests of claims, tables and the report.

Every per-image value is the picture's difficulty times a number that the run is given, so each claim's answer is known
before it is judged.
"""

from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from harmonylib import claims, experiments, metrics, records
from harmonylib.config import FULL_SIZE, PROFILES
from harmonylib.data.layout import SUBSETS
from harmonylib.evidence import Evidence
from harmonylib.study import PROTOCOLS

PROFILE = replace(PROFILES["quick"], skip=("unet_share30", "s2am_share30", "unet_leaky", *FULL_SIZE))
SCENES, PHOTOGRAPHS = 60, 3  # in the test split; two composites each
LETTERS = dict(zip(SUBSETS, "cafd", strict=True))
BASELINES = {"identity": 1.0, "identity_leaky": 1.0, "constant_shift": 0.9, "histogram": 2.0, "reinhard": 1.2}
ENVIRONMENT = {"profile": "quick", "git_sha": "0" * 40, "git_dirty": False, "data_hash": "d", "source_hash": "s",
               "device": "a computer", "packages": {"torch": "2"}, "seconds": 1.0}  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """What the records of some runs say."""

    shares: dict[str, float | tuple[float, ...]]  # run: its share of doing nothing, or that of each seed
    epochs: dict = field(default_factory=dict)  # run: its shares of the validation pictures after two epochs
    columns: dict = field(default_factory=dict)  # further per-image columns of every run (a pair: hard, other pictures)
    own: dict = field(default_factory=dict)  # run: further columns of it alone
    losses: dict = field(default_factory=dict)  # run: its training loss at the end, or that of each seed

    def but(self, **shares) -> "Truth":
        """The same with other shares."""
        return replace(self, shares=self.shares | shares)


@cache
def pictures(split: str, scenes: int) -> pd.DataFrame:
    """Names, groups, kinds and difficulties of a split, the same for every run; scenes are in every subset."""
    firsts = [f"{LETTERS[SUBSETS[i % 4]]}scene{split}{i:02d}" for i in range(scenes)]
    firsts += [f"f{split}{i}" for i in range(PHOTOGRAPHS)]
    table = pd.DataFrame({"split": split, "name": [f"{first}_1_{k}" for first in firsts for k in (1, 2)]})
    table["subset"] = table["name"].str[0].map({letter: subset for subset, letter in LETTERS.items()})
    table["photo"] = table["group"] = table["name"].str.split("_").str[0]
    table["kind"] = np.where(table["name"].str.contains("scene"), "scene", "photo")
    # difficulties differ little, so that even pictures resampled apart (test against validation) give a narrow interval
    table["difficulty"] = 1000 * np.exp(np.random.default_rng(5).normal(0, 0.05, len(table)))
    table["foreground_ratio"] = np.random.default_rng(6).uniform(0.02, 0.4, len(table)).round(4)
    return table


def per_image(share, seed, columns, *, split="test", epoch=None, protocol="bcmi256@64", scenes=SCENES) -> pd.DataFrame:
    """Per-image rows of one run, whose mean fMSE is `share` of that of doing nothing."""
    rows = pictures(split, scenes).copy()
    noise = np.exp(np.random.default_rng([seed, int(1000 * share)]).normal(0, 0.01, len(rows)))
    scale = metrics.S2AM_T4_SCALE if protocol.startswith("s2am_t4") else 1
    rows["protocol"] = protocol
    rows["fmse"] = rows["difficulty"] * (share * noise if share != 1 else 1) * scale
    rows["mse"] = 0.2 * rows["fmse"]
    for name in ("psnr", "fpsnr"):
        rows[name] = 10 * np.log10(255**2 / rows[name.replace("psnr", "mse")])
    hard = rows["difficulty"] >= rows.loc[rows["kind"] == "scene", "difficulty"].quantile(claims.EXTREME)
    for name, value in columns.items():
        rows[name] = (np.where(hard, *value) if isinstance(value, tuple) else value) * noise
    rows["epoch"] = pd.NA if epoch is None else epoch
    return rows.drop(columns="difficulty")


def write(results: Path, truth: Truth, names=None, *, seeds=2, scenes=SCENES, data="embedded", size=64) -> Evidence:
    """Records of every run of `truth`, or of those named."""
    for name in truth.shares if names is None else names:
        if name in experiments.EXPERIMENTS:
            experiment = experiments.resolve(experiments.get(name), PROFILE, data)
            for seed in range(seeds):
                _write_network(results, replace(experiment, size=size), seed, truth, scenes, data)
        else:
            _write_baseline(results, name, truth, scenes, data, size)
    return Evidence(results)


def write_diverged(results: Path, name: str, seed: int) -> None:
    """The record of a run that diverged, as `Study.run` leaves it: a log to the end, and no scores."""
    config = experiments.get(name).to_dict() | {"seed": seed}
    log = pd.DataFrame({"step": [0, 1], "train_loss": [np.nan, 9e9], "val_fmse": [1400.0, np.nan]})
    environment = ENVIRONMENT | {"data": "embedded"}
    folder = results / "runs" / name / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    records.write(folder, config, {"diverged": f"{name}: step 1: the loss is inf"}, None, log, environment)


def verdicts(evidence: Evidence, study: str) -> dict[str, str]:
    """Claim -> verdict, of one study."""
    judged = claims.judge(evidence)
    assert judged["id"].is_unique
    judged = judged[judged["study"] == study]
    return dict(zip(judged["id"], judged["verdict"], strict=True))


def _write_baseline(results, name, truth, scenes, data, size):
    settings = {"name": name, "model": name, "size": size, "split": "photo", "subset": "all"}
    share, columns = truth.shares[name], truth.columns | truth.own.get(name, {})
    tables = [
        per_image(share, 0, columns, protocol=metrics.caption(p, size), scenes=scenes) for p in PROTOCOLS["s2am_t4"]
    ]
    if name == "identity":
        tables.append(
            per_image(share, 0, columns, split="val", protocol=metrics.caption("bcmi256", size), scenes=scenes)
        )
    _write_run(results, name, 0, settings, {"test": {}}, tables, None, data)


def _write_network(results, experiment, seed, truth, scenes, data):
    name = experiment.name
    share, loss = (_of_seed(values.get(name, 0.7), seed) for values in (truth.shares, truth.losses))
    columns = truth.columns | truth.own.get(name, {})
    names = [metrics.caption(p, experiment.size) for p in PROTOCOLS[experiment.study]]
    tables = [per_image(share, seed, columns, protocol=p, scenes=scenes) for p in names]
    ends = (1.4, *truth.epochs.get(name, (share, share)))
    validation = [
        per_image(v, seed, columns, split="val", epoch=e, protocol=names[0], scenes=scenes) for e, v in enumerate(ends)
    ]
    means = {str(e): {"fmse": validation[e].query("kind == 'scene'")["fmse"].mean()} for e in (1, 2)}
    summary = {"test": {}, "before_training": {"test": {"fmse": 1400.0}}, "validation": means,
               "train_loss": {"1": 0.9, "2": loss}, "parameters": 1234, "steps": 2,
               "pictures": {"train": 60, "val": 30, "test": 10}}  # fmt: skip
    log = pd.DataFrame({"step": [0, 1, 2], "epoch": [0, 1, 2], "seen": [0, 2, 4],
                        "train_loss": [np.nan, 0.9, loss], "val_fmse": [1400.0, 600.0, 500.0]})  # fmt: skip
    kept = validation if experiment.study == "s2am_t4" else validation[-1:]
    config = experiment.to_dict() | {"seed": seed, "schedule": "constant"}
    _write_run(results, name, seed, config, summary, [*tables, *kept], log, data)


def _of_seed(value, seed: int) -> float:
    return value[seed] if isinstance(value, tuple) else value


def _write_run(results, name, seed, config, summary, tables, log, data):
    folder = results / "runs" / name / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    records.write(folder, config, summary, pd.concat(tables), log, ENVIRONMENT | {"data": data})
    if seed:
        return
    (folder / "examples").mkdir(exist_ok=True)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mask = np.zeros_like(picture)
    mask[8:20, 8:20] = 255
    for suffix, content in (("", picture), (".real", picture // 2), (".mask", mask)):
        if not suffix or name == "identity":
            Image.fromarray(content).save(folder / "examples" / f"cscenetest00_1_1{suffix}.png")

"""Verdicts, tables and the report on made-up records whose truth is known.

Every per-image value is the picture's difficulty times a number that the run is given, so each claim's answer is known
before it is judged.
"""

import json
import shutil
from functools import cache

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from harmonylib import claims, cli, experiments, metrics, records, report, tables
from harmonylib.config import PROFILES
from harmonylib.evidence import Evidence
from harmonylib.statistics import CANNOT_TELL, DOES_NOT_HOLD, HOLDS

PROFILE = PROFILES["quick"]
SCENES, PHOTOGRAPHS = 60, 3  # in the test split; two composites each
BASELINES = {"identity": 1.0, "identity_leaky": 1.0, "constant_shift": 0.9, "histogram": 2.0, "reinhard": 1.2}
SHARE_OF_NOTHING = {
    "unet": 0.60, "s2am": 0.50, "unet_eq7": 0.62, "s2am_mse": 0.52, "s2am_place16": 0.55,
    "unet_share10": 0.90, "s2am_share10": 0.60, "unet_share30": 0.70, "s2am_share30": 0.55,
    "unet_leaky": 0.40, "s2am_leaky": 0.30, "s2am_batch2": 0.50, "s2am_s2asc": 0.70, "s2am_s2ad": 0.65,
}  # fmt: skip
TRUE = {  # what the papers claim, or expect: (after epoch 1, after epoch 2) of the validation pictures
    "epochs": {"unet": (0.605, 0.60), "s2am": (0.55, 0.50), "s2am_batch2": (0.6, 0.5)},
    "recovered": (0.3, 0.6),  # of the hardest quarter, of the others
    "background_mse": 0.4,
    "sharpness": 0.8,
}
FALSE = {
    "epochs": {"unet": (0.80, 0.60), "s2am": (0.70, 0.40), "s2am_batch2": (0.5, 0.6)},
    "recovered": (0.7, 0.6),
    "background_mse": 2.5,
    "sharpness": 1.2,
}
REVERSED = SHARE_OF_NOTHING | {
    "unet": 0.50, "s2am": 0.60, "unet_eq7": 0.52, "s2am_mse": 0.62,
    "unet_share10": 0.50, "s2am_share10": 0.90, "s2am_leaky": 0.90,
}  # fmt: skip
ENVIRONMENT = {"profile": "quick", "data": "embedded", "git_sha": "0" * 40, "git_dirty": False, "data_hash": "d",
               "source_hash": "s", "device": "a computer", "packages": {"torch": "2"}, "seconds": 1.0}  # fmt: skip
JUDGED = {
    "s2am_below_unet", "s2am_below_unet_same_loss", "data_efficiency", "epoch1_below_unet", "unet_plateaus",
    "histogram_worse_than_unet", "histogram_worse_than_nothing", "batch2_stable", "test_near_validation",
    "conservative", "background_untouched", "softens_texture", "leak_flatters",
}  # fmt: skip


@cache
def pictures(split: str, scenes: int) -> pd.DataFrame:
    """Names, groups, kinds and difficulties of a split, the same for every run."""
    names = [f"cscene{split}{i:02d}_1_{k}" for i in range(scenes) for k in (1, 2)]
    names += [f"f{split}{i}_1_{k}" for i in range(PHOTOGRAPHS) for k in (1, 2)]
    table = pd.DataFrame({"split": split, "name": names})
    table["subset"] = np.where(table["name"].str.startswith("c"), "HCOCO", "HFlickr")
    table["photo"] = table["group"] = table["name"].str.split("_").str[0]
    table["kind"] = np.where(table["name"].str.startswith("c"), "scene", "photo")
    # difficulties differ little, so that even pictures resampled apart (test against validation) give a narrow interval
    table["difficulty"] = 1000 * np.exp(np.random.default_rng(5).normal(0, 0.05, len(table)))
    table["foreground_ratio"] = np.random.default_rng(6).uniform(0.02, 0.4, len(table)).round(4)
    return table


def per_image(share, seed, truth, split="test", epoch=None, protocol="bcmi256@32", scenes=SCENES) -> pd.DataFrame:
    rows = pictures(split, scenes).copy()
    noise = np.exp(np.random.default_rng([seed, int(1000 * share)]).normal(0, 0.01, len(rows)))
    scale = metrics.S2AM_T4_SCALE if protocol.startswith("s2am_t4") else 1
    rows["protocol"] = protocol
    rows["fmse"] = rows["difficulty"] * (share * noise if share != 1 else 1) * scale
    rows["mse"], rows["psnr"], rows["fpsnr"] = 0.2 * rows["fmse"], 30.0, 25.0
    hard = rows["difficulty"] >= rows.loc[rows["kind"] == "scene", "difficulty"].quantile(claims.EXTREME)
    rows["recovered"] = np.where(hard, *truth["recovered"]) * noise
    rows["background_mse"], rows["sharpness"] = truth["background_mse"] * noise, truth["sharpness"] * noise
    rows["epoch"] = pd.NA if epoch is None else epoch
    return rows.drop(columns="difficulty")


def write_study(results, shares=SHARE_OF_NOTHING, truth=TRUE, only=None, seeds=2, scenes=SCENES) -> Evidence:
    """Records of every run of the study, or `only` of those named."""
    for name, share in (BASELINES | shares).items():
        if name in BASELINES and (only is None or name in only):
            write_baseline(results, name, share, truth, scenes)
    for planned in experiments.plan(PROFILE, "embedded"):
        name = planned.experiment.name
        if only is None or name in only:
            for seed in range(seeds):
                write_network(results, planned.experiment, seed, shares[name], truth, scenes)
    return Evidence(results)


def write_baseline(results, name, share, truth, scenes):
    settings = {"name": name, "model": name, "size": 32, "split": "photo", "subset": "all"}
    rows = [per_image(share, 0, truth, protocol=p, scenes=scenes) for p in ("bcmi256@32", "s2am_t4@32")]
    rows += [per_image(share, 0, truth, "val", scenes=scenes)] if name == "identity" else []
    write_run(results, name, 0, settings, {"test": {}}, rows, None)


def write_network(results, experiment, seed, share, truth, scenes):
    name = experiment.name
    ends = truth["epochs"].get(name, (share, share))
    rows = [per_image(share, seed, truth, protocol=p, scenes=scenes) for p in ("bcmi256@32", "s2am_t4@32")]
    rows += [per_image(v, seed, truth, "val", epoch, scenes=scenes) for epoch, v in enumerate((1.4, *ends))]
    means = {str(e): {"fmse": rows[2 + e].query("kind == 'scene'")["fmse"].mean()} for e in (1, 2)}
    summary = {"test": {}, "before_training": {"test": {"fmse": 1400.0}}, "validation": means,
               "train_loss": {"1": 0.9, "2": 0.7}, "parameters": 1234, "steps": 2,
               "pictures": {"train": 60, "val": 30, "test": 10}}  # fmt: skip
    log = pd.DataFrame({"step": [0, 1, 2], "epoch": [0, 1, 2], "seen": [0, 2, 4],
                        "train_loss": [np.nan, 0.9, 0.7], "val_fmse": [1400.0, 600.0, 500.0]})  # fmt: skip
    write_run(results, name, seed, experiment.to_dict() | {"seed": seed, "schedule": "constant"}, summary, rows, log)


def write_run(results, name, seed, config, summary, rows, log):
    folder = results / "runs" / name / f"seed{seed}"
    records.write(folder, config, summary, pd.concat(rows), log, ENVIRONMENT)
    (folder / "examples").mkdir(exist_ok=True)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mask = np.zeros_like(picture)
    mask[8:20, 8:20] = 255
    for suffix, content in (("", picture), (".real", picture // 2), (".mask", mask)):
        if not suffix or name == "identity":
            Image.fromarray(content).save(folder / "examples" / f"cscenetest00_1_1{suffix}.png")


def memory_lab() -> pd.DataFrame:
    """At 64 x 64 naive attention does not fit at batch 16; at 16 x 16 everything does."""
    rows = []
    for dtype in ("float32", "float16"):
        for place in (64, 16):
            for attention in ("naive", "exact"):
                for heads in (1, 4, 8):
                    for batch in (2, 16):
                        big = attention == "naive" and place == 64
                        size = batch * (2**30 if big else 2**24)
                        rows.append((attention, dtype, 256, place, heads, batch, size, size < 15e9))
    columns = ["attention", "dtype", "size", "place", "heads", "batch", "predicted_bytes", "fits_15GB"]
    return pd.DataFrame(rows, columns=columns)


def verdicts(evidence) -> dict[str, str]:
    judged = claims.judge(evidence)
    assert judged["id"].is_unique
    return dict(zip(judged["id"], judged["verdict"], strict=True))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Records in which everything is as claimed, with the memory lab."""
    evidence = write_study(tmp_path_factory.mktemp("study"))
    memory_lab().to_csv(evidence.results / "runs/memory_lab.csv", index=False)
    return evidence


def test_everything_as_claimed(study):
    found = verdicts(study)
    assert {claim for claim, verdict in found.items() if verdict == HOLDS} == JUDGED | {"memory_place64"}
    assert found["memory_place16"] == DOES_NOT_HOLD
    assert found["larger_gpu"] == CANNOT_TELL
    assert len(found) == len(JUDGED) + 3


def test_everything_the_other_way_round(tmp_path):
    evidence = write_study(tmp_path / "r", REVERSED, FALSE)
    found = verdicts(evidence)
    against = JUDGED - {"histogram_worse_than_unet", "histogram_worse_than_nothing"}
    assert {claim for claim, verdict in found.items() if verdict == DOES_NOT_HOLD} == against


@pytest.fixture
def changed(study, tmp_path):
    """``changed(s2am=0.6)``: the study with these runs written anew; ``changed(without=[...])``: with some left out."""

    def change(without=(), **shares) -> Evidence:
        shutil.copytree(study.results / "runs", tmp_path / "changed/runs")
        for pattern in without:
            found = list((tmp_path / "changed/runs").glob(pattern))
            assert found
            for path in found:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return write_study(tmp_path / "changed", SHARE_OF_NOTHING | shares, only=set(shares))

    return change


def test_histogram_matching_that_helps(changed):
    found = verdicts(changed(histogram=0.3))
    assert found["histogram_worse_than_unet"] == found["histogram_worse_than_nothing"] == DOES_NOT_HOLD


def test_no_difference_cannot_be_told(changed):
    assert verdicts(changed(s2am=0.6))["s2am_below_unet"] == CANNOT_TELL


def test_seeds_that_disagree_cannot_be_told(changed):
    """The first S2AM is so far below the U-Net that the mean is below it too; the second one is above."""
    evidence = changed(s2am=0.05)
    record = evidence.of("s2am")[1]
    rows = record.per_image
    test = (rows["split"] == "test") & (rows["protocol"] == "bcmi256@32")
    records.write(
        record.folder,
        record.config,
        record.metrics,
        pd.concat([rows[~test], per_image(0.9, 1, TRUE)]),
        record.log,
        record.env,
    )
    evidence = Evidence(evidence.results)
    assert evidence.difference("s2am", "unet").side == -1
    assert verdicts(evidence)["s2am_below_unet"] == CANNOT_TELL


def test_one_seed_decides_nothing_about_networks(changed):
    evidence = changed(without=["*/seed1", "memory_lab.csv"])
    found = verdicts(evidence)
    assert {claim for claim, verdict in found.items() if verdict != CANNOT_TELL} == {"histogram_worse_than_nothing"}
    assert "one seed" in claims.judge(evidence).set_index("id")["ours"]["s2am_below_unet"]


def test_few_photographs_decide_nothing(tmp_path):
    found = verdicts(write_study(tmp_path / "r", scenes=10))
    assert {claim for claim, verdict in found.items() if verdict != CANNOT_TELL} == {"batch2_stable"}


def test_missing_runs_decide_nothing(changed):
    judged = claims.judge(changed(without=["s2am", "s2am_batch2", "memory_lab.csv"])).set_index("id")
    for claim in claims.CLAIMS:
        if {"s2am", "s2am_batch2"} & set(claim.runs):
            assert tuple(judged.loc[claim.id, ["ours", "verdict"]]) == (claims.NOT_RUN, CANNOT_TELL)
    assert judged.loc["memory_place64", "verdict"] == CANNOT_TELL
    assert judged.loc["unet_plateaus", "verdict"] == HOLDS


def test_batch_2_is_judged_where_s2am_itself_has_it(changed):
    """As published (profiles t4 and paper) there is no other run at batch 2 than S2AM's own."""
    evidence = changed(without=["s2am_batch2"])
    assert verdicts(evidence)["batch2_stable"] == CANNOT_TELL
    for record in evidence.of("s2am"):
        records.write_json(record.folder / "config.json", record.config | {"batch_size": 2})
    assert verdicts(Evidence(evidence.results))["batch2_stable"] == HOLDS


def test_the_middle_of_a_run_at_a_falling_rate_decides_nothing(changed):
    evidence = changed()
    for record in evidence.of("unet"):
        records.write_json(record.folder / "config.json", record.config | {"schedule": "cosine"})
    found = verdicts(Evidence(evidence.results))
    assert found["epoch1_below_unet"] == found["unet_plateaus"] == CANNOT_TELL
    assert found["s2am_below_unet"] == HOLDS


def test_verdicts_rest_on_scenes_where_there_are_any(study):
    assert study.kinds == ["scene", "photo"]
    assert set(study.per_image("unet")["kind"]) == {"scene"}
    assert len(study.per_image("unet", kind="any")) == 2 * (SCENES + PHOTOGRAPHS)


def test_seeds_are_pooled_by_picture(study):
    rows = study.per_image("unet")
    each = [record.rows("bcmi256", kind="scene")["fmse"] for record in study.of("unet")]
    np.testing.assert_allclose(rows["fmse"], np.mean(each, axis=0))
    assert study.by_seed("unet") == pytest.approx([values.mean() for values in each])
    assert study.ratio("unet").estimate == pytest.approx(0.6, abs=0.005)


def test_every_claim_names_runs_that_exist():
    known = {*experiments.EXPERIMENTS, *BASELINES}
    for claim in claims.CLAIMS:
        assert set(claim.runs) <= known
        assert claim.origin in ("paper", "derived")
        assert claim.rule and claim.place and claim.paper


# ------------------------------------------------------------------------------------------ tables and the page


@pytest.mark.parametrize("name", tables.ALL)
def test_every_table_is_written_three_times(study, tmp_path, name):
    table = tables.ALL[name][0](study)
    assert len(table)
    paths = tables.write(tmp_path, name, table, tables.caption(study, name))
    assert [path.name for path in paths] == [f"{name}.csv", f"{name}.md", f"{name}.tex"]
    back = pd.read_csv(paths[0], dtype=str, keep_default_na=False)
    assert back.columns.tolist() == table.columns.tolist()
    assert len(back) == len(table)
    lines = paths[1].read_text().splitlines()
    assert lines[0] == tables.caption(study, name)
    assert sum(line.startswith("|") for line in lines) == len(table) + 2
    latex = paths[2].read_text()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 1
    assert not any(f" {sign} " in latex.replace(rf"\{sign}", "") for sign in "%#")


def test_table_1_holds_printed_and_measured_values(study):
    table = tables.table1(study).set_index("method")
    assert table.loc["U-Net", "paper fMSE (protocol unstated)"] == "0.1369"
    assert table.loc["S2AM", "paper, 0-255"] == "706.6"
    assert table.loc["do nothing", "share of doing nothing"] == "1.000 [1.000, 1.000]"
    assert float(table.loc["U-Net", "share of doing nothing"].split()[0]) == pytest.approx(0.6, abs=0.005)
    nothing = study.mean("identity").estimate
    assert float(table.loc["do nothing", "the same, 0-255"]) == pytest.approx(nothing, abs=0.06)
    assert table.loc[["U-Net", "do nothing"], "seeds"].tolist() == ["2", ""]


def test_groups_add_up_to_all(study):
    for table, by in ((tables.by_subset(study), "subset"), (tables.by_ratio(study), "foreground")):
        for _, rows in table.groupby("method"):
            assert rows.loc[rows[by] != "all", "n"].sum() == rows.loc[rows[by] == "all", "n"].item()


def test_the_tables_show_what_was_constructed(study):
    two = tables.two_by_two(study).set_index(["network", "loss"])["share of doing nothing"]
    assert float(two["S2AM", "MSE"].split()[0]) == pytest.approx(0.52, abs=0.005)
    share = tables.data_share(study).set_index(["share", "network"])["share of doing nothing"]
    assert float(share["10%", "U-Net"].split()[0]) == pytest.approx(0.9, abs=0.005)
    assert set(tables.runs(study)["run"]) == {*BASELINES, *(p.experiment.name for p in experiments.plan(PROFILE))}


@pytest.fixture(scope="module")
def reported(study):
    """The results folder, with everything written into it, and what was written."""
    return study.results, report.write_all(study.results)


def test_the_report_writes_everything(reported):
    results, written = reported
    assert all(path.exists() for path in written)
    manifest = json.loads((results / "manifest.json").read_text())
    assert manifest["tables"].keys() == tables.ALL.keys()
    assert manifest["figures"].keys() == report.FIGURES.keys()
    for kind, end in (("tables", "csv"), ("figures", "png")):
        for name, made in manifest[kind].items():
            assert (results / kind / f"{name}.{end}").is_file()
            assert all((results / run / "metrics.json").is_file() for run in made["runs"])
    assert {"runs/unet/seed0", "runs/unet/seed1"} <= set(manifest["tables"]["s2am_t4_table1"]["runs"])


def test_the_page(reported):
    results, _ = reported
    page = (results / "report.html").read_text(encoding="utf-8")
    assert str(results.parent) not in page
    assert page.count("<img ") == len(report.FIGURES)
    assert "http://" not in page and "https://" not in page  # it opens offline
    judged = pd.read_csv(results / "claims.csv")
    assert page.count("class='verdict'") == len(judged) + 3  # one a claim, and the three counts
    assert set(judged["verdict"]) <= {HOLDS, DOES_NOT_HOLD, CANNOT_TELL}


@pytest.fixture
def one_figure(monkeypatch):
    """Figures take seconds; one is enough to see that they are made."""
    monkeypatch.setattr(report, "FIGURES", {"s2am_t4_methods": report.FIGURES["s2am_t4_methods"]})


def test_the_tables_again_are_the_same(reported, one_figure):
    results, _ = reported
    figure = results / "figures/s2am_t4_methods.png"
    files = [*(results / "tables").iterdir(), results / "claims.csv", figure]
    before = {path: path.read_bytes() for path in files}
    report.write_all(results)
    assert {path: path.read_bytes() for path in files} == before


def test_the_report_command(changed, tmp_path, tiny_set, capsys, one_figure):
    shutil.move(changed().results, tmp_path / "results/smoke-tiny")
    assert cli.main(["report", "--profile", "smoke", "--data", str(tiny_set)]) == 0
    assert str(tmp_path / "results/smoke-tiny/report.html") in capsys.readouterr().out
    assert (tmp_path / "results/smoke-tiny/figures/s2am_t4_methods.png").is_file()


def test_the_report_of_what_is_at_hand(changed):
    """Only methods without training so far, as after notebook 02: a report all the same."""
    results = changed(without=[p.experiment.name for p in experiments.plan(PROFILE)]).results
    report.write_all(results)
    assert (results / "report.html").is_file()


def test_no_records(tmp_path, refused):
    with refused("no run records"):
        report.write_all(tmp_path)

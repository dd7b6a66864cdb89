"""Verdicts, tables and the report on made-up records of the S2AM-T4 study whose truth is known."""

import json
import shutil

import matplotlib
import numpy as np
import pandas as pd
import pytest
from records_of_studies import BASELINES, PHOTOGRAPHS, PROFILE, SCENES, Truth, verdicts, write

from harmonylib import claims, claims_lemart, cli, experiments, figures, records, report, tables
from harmonylib.evidence import Evidence
from harmonylib.statistics import CANNOT_TELL, DOES_NOT_HOLD, HOLDS

PLANNED = [p.experiment.name for p in experiments.plan(PROFILE, study="s2am_t4")]
SHARE_OF_NOTHING = {
    "unet": 0.60, "s2am": 0.50, "unet_eq7": 0.62, "s2am_mse": 0.52, "s2am_place16": 0.55, "s2am_linear": 0.53,
    "unet_share10": 0.90, "s2am_share10": 0.60, "s2am_leaky": 0.30, "s2am_batch2": 0.50,
    "s2am_s2asc": 0.70, "s2am_s2ad": 0.65,
}  # fmt: skip
TRUE = Truth(  # what the paper claims, or expects
    BASELINES | SHARE_OF_NOTHING,
    epochs={"unet": (0.605, 0.60), "s2am": (0.55, 0.50), "s2am_batch2": (0.6, 0.5)},
    columns={"recovered": (0.3, 0.6), "background_mse": 0.4, "sharpness": 0.8, "blockiness": 1.0},
)
FALSE = Truth(
    TRUE.shares | {"unet": 0.50, "s2am": 0.60, "unet_eq7": 0.52, "s2am_mse": 0.62, "unet_share10": 0.50,
                   "s2am_share10": 0.90, "s2am_leaky": 0.90},
    epochs={"unet": (0.80, 0.60), "s2am": (0.70, 0.40), "s2am_batch2": (0.5, 0.6)},
    columns={"recovered": (0.7, 0.6), "background_mse": 2.5, "sharpness": 1.2, "blockiness": 1.0},
)  # fmt: skip
JUDGED = {
    "s2am_below_unet", "s2am_below_unet_same_loss", "data_efficiency", "epoch1_below_unet", "unet_plateaus",
    "histogram_worse_than_unet", "histogram_worse_than_nothing", "batch2_stable", "test_near_validation",
    "conservative", "background_untouched", "softens_texture", "leak_flatters",
}  # fmt: skip


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


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Records in which everything is as claimed, with the memory lab."""
    evidence = write(tmp_path_factory.mktemp("study"), TRUE)
    memory_lab().to_csv(evidence.results / "runs/memory_lab.csv", index=False)
    return evidence


def test_everything_as_claimed(study):
    found = verdicts(study, "s2am_t4")
    assert {claim for claim, verdict in found.items() if verdict == HOLDS} == JUDGED | {"memory_place64"}
    assert found["memory_place16"] == DOES_NOT_HOLD
    assert found["larger_gpu"] == CANNOT_TELL
    assert len(found) == len(JUDGED) + 3


def test_everything_the_other_way_round(tmp_path):
    evidence = write(tmp_path / "r", FALSE)
    found = verdicts(evidence, "s2am_t4")
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
        return write(tmp_path / "changed", TRUE.but(**shares), shares)

    return change


def test_histogram_matching_that_helps(changed):
    found = verdicts(changed(histogram=0.3), "s2am_t4")
    assert found["histogram_worse_than_unet"] == found["histogram_worse_than_nothing"] == DOES_NOT_HOLD


def test_no_difference_cannot_be_told(changed):
    assert verdicts(changed(s2am=0.6), "s2am_t4")["s2am_below_unet"] == CANNOT_TELL


def test_seeds_that_disagree_cannot_be_told(changed):
    """The first S2AM is so far below the U-Net that the mean is below it too; the second one is above."""
    evidence = changed(s2am=(0.05, 0.9))
    assert evidence.difference("s2am", "unet").side == -1
    assert verdicts(evidence, "s2am_t4")["s2am_below_unet"] == CANNOT_TELL


def test_one_seed_decides_nothing_about_networks(changed):
    evidence = changed(without=["*/seed1", "memory_lab.csv"])
    found = verdicts(evidence, "s2am_t4")
    assert {claim for claim, verdict in found.items() if verdict != CANNOT_TELL} == {"histogram_worse_than_nothing"}
    assert "one seed" in claims.judge(evidence).set_index("id")["ours"]["s2am_below_unet"]


def test_few_photographs_decide_nothing(tmp_path):
    found = verdicts(write(tmp_path / "r", TRUE, scenes=10), "s2am_t4")
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
    assert verdicts(evidence, "s2am_t4")["batch2_stable"] == CANNOT_TELL
    for record in evidence.of("s2am"):
        records.write_json(record.folder / "config.json", record.config | {"batch_size": 2})
    assert verdicts(Evidence(evidence.results), "s2am_t4")["batch2_stable"] == HOLDS


def test_the_middle_of_a_run_at_a_falling_rate_decides_nothing(changed):
    evidence = changed()
    for record in evidence.of("unet"):
        records.write_json(record.folder / "config.json", record.config | {"schedule": "cosine"})
    found = verdicts(Evidence(evidence.results), "s2am_t4")
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
    for claim in (*claims.CLAIMS, *claims_lemart.CLAIMS):
        assert set(claim.runs) <= known
        assert claim.origin in ("paper", "derived")
        assert claim.rule and claim.place and claim.paper


def test_every_figure_names_runs_that_exist():
    known = {*experiments.EXPERIMENTS, *BASELINES}
    assert all(set(runs) <= known for _, _, runs in report.FIGURES.values())


# ------------------------------------------------------------------------------------------ tables and the page


@pytest.mark.parametrize("name", tables.ALL)
def test_every_table_is_written_three_times(study, tmp_path, name):
    table = tables.ALL[name][0](study)
    assert len(table)
    paths = tables.write(tmp_path, name, table, report.caption(study, name))
    assert [path.name for path in paths] == [f"{name}.csv", f"{name}.md", f"{name}.tex"]
    back = pd.read_csv(paths[0], dtype=str, keep_default_na=False)
    assert back.columns.tolist() == table.columns.tolist()
    assert len(back) == len(table)
    lines = paths[1].read_text().splitlines()
    assert lines[0] == report.caption(study, name)
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
    assert set(tables.runs(study)["run"]) == {*BASELINES, *PLANNED}


@pytest.fixture(scope="module")
def reported(study):
    """The results folder, with everything written into it, and what was written."""
    return study.results, report.write_all(study.results)


def drawn(evidence) -> set[str]:
    """The figures that are made from records, and whose runs are at hand."""
    return {name for name, (draw, _, runs) in report.FIGURES.items() if draw and evidence.has(*runs)}


def test_manifest_and_page_are_the_same_in_whatever_order_they_were_made(study, reported):
    """Notebook 06 writes tables and figures in an order of its own, and has read other runs just before the claims."""
    results = reported[0]
    before = [(results / name).read_text() for name in ("manifest.json", "report.html")]
    manifest = {kind: dict(reversed(made.items())) for kind, made in json.loads(before[0]).items()}
    study.read.update(study.runs)
    report.finish(study, manifest)
    after = [(results / name).read_text() for name in ("manifest.json", "report.html")]
    assert len(json.loads(after[0])["claims"]["runs"]) < sum(map(len, study.runs.values()))
    assert after == before


@pytest.mark.parametrize("copied", [False, True])
def test_nothing_is_written_where_the_disk_had_been(study, tmp_path, refused, copied):
    """Not even where the folder that it was mounted on holds the same records, from before."""
    here, away = tmp_path / "results", tmp_path / "away"
    shutil.copytree(study.results / "runs", here / "runs")
    evidence, manifest = Evidence(here), {"tables": {}, "figures": {}}
    report.write_table(evidence, "s2am_t4_table1", manifest)
    here.rename(away)
    if copied:
        shutil.copytree(study.results / "runs", here / "runs")
    for work in (
        lambda: report.write_table(evidence, "s2am_t4_by_subset", manifest),
        lambda: report.write_figure(evidence, "s2am_t4_methods", manifest),
        lambda: report.finish(evidence, manifest),
    ):
        with refused("results", "vanished" if copied else ""):  # else a record that was not read yet is not there
            work()
    assert not here.exists() or [path.name for path in here.iterdir()] == ["runs"]


def test_figures_need_no_latex(study, monkeypatch):
    """Whatever somebody's matplotlibrc asks for."""
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    monkeypatch.setenv("PATH", "")
    figures.methods(study).canvas.draw()


def test_the_report_writes_everything(study, reported):
    results, written = reported
    assert all(path.exists() for path in written)
    manifest = json.loads((results / "manifest.json").read_text())
    assert manifest["tables"].keys() == report.TABLES.keys()
    assert manifest["figures"].keys() == drawn(study)
    for kind, end in (("tables", "csv"), ("figures", "png")):
        for name, made in manifest[kind].items():
            assert (results / kind / f"{name}.{end}").is_file()
            assert all((results / run / "metrics.json").is_file() for run in made["runs"])
    assert {"runs/unet/seed0", "runs/unet/seed1"} <= set(manifest["tables"]["s2am_t4_table1"]["runs"])


def test_the_page(study, reported):
    results, _ = reported
    page = (results / "report.html").read_text(encoding="utf-8")
    assert str(results.parent) not in page
    sliders = page.count("class='pair'")
    assert sliders > 0
    assert page.count("<img ") == len(drawn(study)) + 2 * sliders
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


def test_the_report_command(changed, tmp_path, tiny_set, capsys, one_figure, monkeypatch):
    monkeypatch.setattr(report, "TABLES", {"s2am_t4_table1": report.TABLES["s2am_t4_table1"]})
    shutil.move(changed().results, tmp_path / "results/smoke-tiny")
    assert cli.main(["report", "--profile", "smoke", "--data", str(tiny_set)]) == 0
    assert str(tmp_path / "results/smoke-tiny/report.html") in capsys.readouterr().out
    assert (tmp_path / "results/smoke-tiny/figures/s2am_t4_methods.png").is_file()


def test_the_report_of_what_is_at_hand(changed, one_figure):
    """Only methods without training so far, as after notebook 02: a report all the same."""
    results = changed(without=PLANNED).results
    report.write_all(results)
    assert (results / "report.html").is_file()


def test_the_report_of_records_without_pictures(changed, monkeypatch):
    """As records of other people's photographs are published: no data, no pictures, yet every table and verdict."""
    results = changed().results
    for folder in results.glob("runs/*/*/examples"):
        shutil.rmtree(folder)
    chosen = ("s2am_t4_methods", "s2am_t4_comparison", "s2am_t4_figure1")
    monkeypatch.setattr(report, "FIGURES", {name: report.FIGURES[name] for name in chosen})
    report.write_all(results)
    manifest = json.loads((results / "manifest.json").read_text())
    assert list(manifest["figures"]) == ["s2am_t4_methods"] and manifest["tables"].keys() == report.TABLES.keys()


def test_runs_on_other_data_are_left_out_until_they_are_made_again(changed, capsys):
    """As when a set is built anew over the results of the one before: pictures of the same name may not be the same."""
    results = changed().results
    path = results / "runs/unet/seed1/env.json"
    path.write_text(path.read_text().replace('"data_hash": "d"', '"data_hash": "older"'))
    shutil.copytree(results / "runs/unet/seed1", results / "runs/s2am/seed0", dirs_exist_ok=True)
    shutil.rmtree(results / "runs/s2am/seed1")
    evidence = Evidence(results)
    assert len(evidence.of("unet")) == 1 and not evidence.has("s2am") and evidence.has("reinhard", "s2am_mse")
    assert "to be run again: s2am, unet" in capsys.readouterr().out


def test_no_records(tmp_path, refused):
    with refused("no run records"):
        report.write_all(tmp_path)

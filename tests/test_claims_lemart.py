"""Verdicts, tables and the report on made-up records of the LEMaRT study whose truth is known."""

import html
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from records_of_studies import BASELINES, PROFILE, Truth, verdicts, write, write_diverged

from harmonylib import claims, claims_lemart, experiments, models, paper_values, records, report, tables, tables_lemart
from harmonylib.errors import HarmonyError
from harmonylib.evidence import Evidence
from harmonylib.statistics import CANNOT_TELL, DOES_NOT_HOLD, HOLDS
from harmonylib.tables_lemart import NOT_COMPUTED

NETWORKS = ("swinih", "vit", "resnet", "hrnet", "ht")
PLANNED = [p.experiment.name for p in experiments.plan(PROFILE, study="lemart")]
IN_S2AM_T4 = {"unet": 0.7, "s2am": 0.65}  # columns of LEMaRT's Table 1
SHARE_OF_NOTHING = dict.fromkeys(PLANNED, 0.5) | {
    **{name: 0.8 for name in PLANNED if name.startswith("pretrain_")},
    "swinih": 0.60, "swinih_lemart": 0.40, "vit": 0.70, "vit_lemart": 0.50, "resnet": 0.80, "resnet_lemart": 0.60,
    "hrnet": 0.75, "hrnet_lemart": 0.55, "ht": 0.62, "ht_lemart": 0.45,
    "swinih_ms": 0.70, "swin_t": 0.75, "swinih_local": 0.61,
    "swinih_lemart_grid": 0.55, "swinih_lemart_block": 0.405,
    "swinih_lemart_ratio30": 0.408, "swinih_lemart_ratio70": 0.395,
    "swinih_matched": 0.55, "swinih_share1": 0.95, "swinih_share10": 0.85, "swinih_share50": 0.65,
    "swinih_lemart_share1": 0.70, "swinih_lemart_share10": 0.50, "swinih_lemart_share50": 0.45,
    "swinih_matched_share10": 0.75,
}  # fmt: skip
TRUE = Truth(  # what the paper claims, or expects
    {"identity": 1.0} | SHARE_OF_NOTHING,
    columns={"blockiness": 1.0, "recovered": 0.5, "background_mse": 0.4, "sharpness": 0.8},
    own={"swinih_local": {"blockiness": 1.3}, "identity": {"blockiness": np.nan}},
    losses={"pretrain_swinih": 0.7, experiments.TRIAL: 0.71},
)
FALSE = replace(
    TRUE,
    shares=TRUE.shares
    | {name: TRUE.shares[f"{name}_lemart"] for name in NETWORKS}
    | {f"{name}_lemart": TRUE.shares[name] for name in NETWORKS}
    | {"swinih_ms": 0.30, "swin_t": 0.30, "swinih_local": 0.61, "swinih_lemart_grid": 0.20, "swinih_lemart_block": 0.90,
       "swinih_lemart_ratio30": 0.90, "swinih_lemart_ratio70": 0.80, "swinih_matched": 0.50, "swinih_share10": 0.50,
       "swinih_lemart_share10": 0.85, "swinih_matched_share10": 0.70, "swinih_lemart_share50": 0.65,
       "swinih_lemart_target": 0.90},
    own={"swinih_local": {"blockiness": 0.8}},
    losses={"pretrain_swinih": 0.7, experiments.TRIAL: 1.4},
)  # fmt: skip
NEEDS_IHARMONY4 = {"lemart_above_scs_co", "lemart_half_above_scs_co", "hday2night_on_par"}
NEEDS_MORE = {"lemart_passes_below_40", "realhm_like_ssh"}
CLAIMS = {claim.id: claim for claim in claims_lemart.CLAIMS}
TESTABLE = CLAIMS.keys() - NEEDS_IHARMONY4 - NEEDS_MORE
TABLES = [f"table{number}" for number in range(1, 7)]
UNITS = {"psnr": "PSNR", "mse": "MSE", "fpsnr": "fPSNR", "fmse": "fMSE"}


def runs_of(*ids: str) -> list[str]:
    """The runs that claims need. A run at the printed rate that diverged is none that its claim would wait for."""
    trial = [experiments.TRIAL] if "printed_learning_rate" in ids else []
    return sorted({*trial, *(run for claim in ids for run in CLAIMS[claim].runs)})


def judged(results, *ids: str, truth: Truth = TRUE, **where) -> list[str]:
    """Verdicts of some claims on records of the runs that they need, and no others."""
    evidence = write(results, truth, ["identity", *runs_of(*ids)], **where)
    return [CLAIMS[claim].test(evidence).verdict for claim in ids]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Records in which everything is as claimed, S2AM-T4's two networks among them."""
    truth = replace(TRUE, epochs={"s2am": (0.7, 0.65)}).but(**BASELINES, **IN_S2AM_T4)
    return write(tmp_path_factory.mktemp("study"), truth)


def test_everything_as_claimed(study):
    found = verdicts(study, "lemart")
    assert {claim for claim, verdict in found.items() if verdict == HOLDS} == TESTABLE
    assert all(found[claim] == CANNOT_TELL for claim in NEEDS_IHARMONY4 | NEEDS_MORE)


def test_everything_the_other_way_round(tmp_path):
    found = verdicts(write(tmp_path, FALSE, ["identity", *runs_of(*CLAIMS)]), "lemart")
    counted = {"windows_cheaper"}  # on no record
    assert {claim for claim, verdict in found.items() if verdict == DOES_NOT_HOLD} == TESTABLE - counted
    assert found["windows_cheaper"] == HOLDS


def test_there_is_a_claim_for_every_network():
    assert tuple(models.TABLE_3) == NETWORKS
    for name in NETWORKS:
        claim = CLAIMS[f"lemart_helps_{name}"]
        assert set(claim.runs) == {name, f"{name}_lemart"}
        printed = [paper_values.value("lemart", "table3", "fmse", name + s) for s in ("", "+lemart")]
        assert all(f"{value:.1f}" in claim.paper for value in printed)
    assert claims_lemart.gain("another") == "not in the paper"


def test_nothing_of_it_has_run(tmp_path):
    evidence = write(tmp_path, TRUE, ["identity"])
    table = claims.judge(evidence).query("study == 'lemart'").set_index("id")
    assert table.loc["windows_cheaper", "verdict"] == HOLDS  # counted, on no record
    assert set(table.drop("windows_cheaper")["verdict"]) == {CANNOT_TELL}
    assert table.loc["lemart_helps_ht", "ours"] == claims.NOT_RUN


def test_one_seed_decides_nothing(tmp_path):
    ids = sorted(TESTABLE - {"windows_cheaper"})
    assert set(judged(tmp_path, *ids, seeds=1)) == {CANNOT_TELL}


def test_few_scenes_decide_nothing_about_scores(tmp_path):
    ids = sorted(TESTABLE - {"windows_cheaper", "printed_learning_rate"})
    assert set(judged(tmp_path, *ids, scenes=10)) == {CANNOT_TELL}


def test_as_many_steps_from_scratch_explain_the_gain(tmp_path):
    ids = ("lemart_helps_swinih", "lemart_beats_more_steps", "lemart_helps_10", "lemart_beats_more_steps_10")
    truth = TRUE.but(swinih_matched=0.35, swinih_matched_share10=0.45)
    assert judged(tmp_path, *ids, truth=truth) == [HOLDS, DOES_NOT_HOLD, HOLDS, DOES_NOT_HOLD]


def test_helping_with_little_data_is_not_helping_more_with_it(tmp_path):
    """0.85 to 0.50 and 0.51 to 0.30 are the same gain in dB."""
    ids = ("lemart_helps_swinih", "lemart_helps_10", "lemart_more_with_less")
    truth = TRUE.but(swinih=0.51, swinih_lemart=0.30)
    assert judged(tmp_path, *ids, truth=truth) == [HOLDS, HOLDS, CANNOT_TELL]


def test_seeds_that_disagree_cannot_be_told(tmp_path):
    truth = TRUE.but(ht_lemart=(0.05, 0.7))
    assert judged(tmp_path, "lemart_helps_ht", truth=truth) == [CANNOT_TELL]
    assert Evidence(tmp_path).difference("ht_lemart", "ht").side == -1


@pytest.mark.parametrize(
    ("share", "verdict"),
    [(0.412, HOLDS), (0.388, HOLDS), (0.44, DOES_NOT_HOLD), (0.36, DOES_NOT_HOLD), ((0.40, 0.46), CANNOT_TELL)],
)
def test_the_margin_of_being_alike(tmp_path, share, verdict):
    """5 % of the fMSE of 0.40, on either side; and two seeds of which one is outside."""
    assert judged(tmp_path, "random_like_block", truth=TRUE.but(swinih_lemart_block=share)) == [verdict]


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [((0.41, 0.39), HOLDS), ((0.46, 0.34), DOES_NOT_HOLD), ((0.41, 0.46), CANNOT_TELL), ((0.46, 0.39), CANNOT_TELL)],
)
def test_both_ratios_must_be_alike(tmp_path, ratios, verdict):
    truth = TRUE.but(**dict(zip(("swinih_lemart_ratio30", "swinih_lemart_ratio70"), ratios, strict=True)))
    assert judged(tmp_path, "ratio_hardly_matters", truth=truth) == [verdict]


@pytest.mark.parametrize(("decibels", "verdict"), [(25.1, HOLDS), (26.0, CANNOT_TELL)])
def test_the_same_score_is_the_same_in_both_metrics(tmp_path, decibels, verdict):
    own = {"swinih": {"psnr": 25.0}, "swinih_local": {"psnr": decibels}}
    truth = replace(TRUE.but(swinih_local=0.60), own=own)
    assert judged(tmp_path, "swinih_local_same_score", truth=truth) == [verdict]


def test_grid_must_be_worse_than_both(tmp_path):
    truth = TRUE.but(swinih_lemart=0.40, swinih_lemart_grid=0.50, swinih_lemart_block=0.60)
    assert judged(tmp_path, "grid_worse", truth=truth) == [CANNOT_TELL]


# ------------------------------------------------------------------------------------------ iHarmony4 and its numbers


def on_iharmony4(results, gain: float, size: int = 256) -> Evidence:
    """SwinIH's PSNR `gain` dB above what the three claims ask for."""
    printed = paper_values.value("lemart", "table1", "psnr", "scs-co", "all")
    own = {"swinih_lemart": {"psnr": printed + 1.0 + gain}, "swinih_lemart_share50": {"psnr": printed + 0.4 + gain}}
    names = ["identity", "swinih_lemart", "swinih_lemart_share50"]
    return write(results, replace(TRUE, own=own), names, data="iharmony4", size=size)


@pytest.mark.parametrize(("gain", "verdict"), [(0.3, HOLDS), (-0.3, DOES_NOT_HOLD)])
def test_printed_scores_are_judged_on_iharmony4(tmp_path, gain, verdict):
    found = verdicts(on_iharmony4(tmp_path, gain), "lemart")
    assert {found[claim] for claim in NEEDS_IHARMONY4 - {"hday2night_on_par"}} == {verdict}


@pytest.mark.parametrize(("gain", "verdict"), [(0.1, HOLDS), (-0.6, DOES_NOT_HOLD)])
def test_hday2night_is_judged_by_its_own_pictures(tmp_path, gain, verdict):
    """The rest of iHarmony4 scores 30 dB."""
    printed = paper_values.value("lemart", "table1", "psnr", "scs-co", "Hday2night")
    evidence = write(
        tmp_path, replace(TRUE, own={}), ["identity", "swinih_lemart"], data="iharmony4", size=256, scenes=200
    )
    for record in evidence.of("swinih_lemart"):
        rows = record.per_image
        night = rows["subset"] == "Hday2night"
        rows["psnr"] = np.where(night, printed + gain, 30) + np.random.default_rng(record.seed).normal(
            0, 0.1, len(rows)
        )
        records.write(record.folder, record.config, record.metrics, rows, record.log, record.env)
    assert verdicts(Evidence(tmp_path), "lemart")["hday2night_on_par"] == verdict


@pytest.mark.parametrize("where", [{"size": 64, "data": "iharmony4"}, {"size": 256, "data": "embedded"}])
def test_other_data_and_sizes_do_not_speak_for_printed_scores(tmp_path, where):
    ids = sorted(NEEDS_IHARMONY4)
    assert set(judged(tmp_path, *ids, **where)) == {CANNOT_TELL}
    evidence = Evidence(tmp_path)
    for claim in ids:
        ours = CLAIMS[claim].test(evidence).ours
        assert "needs iHarmony4" in ours
        assert where["data"] in ours and ("@64" in ours) == (where["size"] == 64)


def test_what_no_data_at_hand_can_test(study):
    for claim in NEEDS_MORE:
        assert CLAIMS[claim].test(study).ours.startswith("not run: ")


@pytest.fixture
def real(tmp_path):
    """As on real data: methods without training on HCOCO and again on all subsets, S2AM-T4 on HCOCO alone."""
    write(
        tmp_path,
        TRUE.but(**IN_S2AM_T4),
        ["identity", "swinih", "swinih_lemart", *IN_S2AM_T4],
        data="iharmony4",
        size=256,
    )
    shutil.copytree(tmp_path / "runs/identity", tmp_path / "runs/identity_all")
    evidence = Evidence(tmp_path)
    for name in ("identity", *IN_S2AM_T4):
        for record in evidence.of(name):
            own = record.per_image.query("subset == 'HCOCO'")
            own = own.assign(fmse=2 * own["fmse"], mse=2 * own["mse"])  # so that a mix-up shows
            records.write(record.folder, record.config, record.metrics, own, None, record.env)
    return Evidence(tmp_path)


def test_nothing_is_that_of_the_same_pictures(real):
    assert [real.nothing_for(name) for name in ("swinih", "unet")] == ["identity_all", "identity"]
    assert real.ratio("swinih").estimate == pytest.approx(0.6, abs=0.005)
    assert real.ratio("unet").estimate == pytest.approx(0.7, abs=0.005)
    assert verdicts(real, "lemart")["lemart_helps_swinih"] == HOLDS


def test_without_a_second_record_nothing_is_the_first(study):
    assert study.nothing_for("swinih") == study.nothing_for("unet") == "identity"


@pytest.mark.parametrize("name", tables_lemart.ALL)
def test_tables_of_real_data(real, name):
    """What was scored on HCOCO alone stands in no cell of another subset, nor of all."""
    table = tables_lemart.ALL[name][0](real)
    assert_filled(table)
    if name == "lemart_table1":
        ours = table.set_index(["subset", "metric"])
        nothing = real.mean("identity_all", "mse", kind="any").estimate
        assert ours.loc[("all", "MSE"), "do nothing (here)"].startswith(f"{nothing:.1f} ")
        assert NOT_COMPUTED in set(ours.loc[("all", "MSE"), ["U-Net (here)", "S2AM (here)"]])


def test_table_1_of_a_set_with_one_subset(tmp_path):
    """Such as HCOCO-style pairs made from COCO."""
    evidence = write(tmp_path, TRUE, ["identity", "swinih"])
    for name in ("identity", "swinih"):
        for record in evidence.of(name):
            own = record.per_image.query("subset == 'HCOCO'")
            records.write(record.folder, record.config, record.metrics, own, None, record.env)
    for name in ("lemart_table1", "printed_values"):
        assert_filled(tables_lemart.ALL[name][0](Evidence(tmp_path)))
    table = tables_lemart.table1(Evidence(tmp_path)).set_index(["subset", "metric"])["SwinIH (here)"]
    assert table["HCOCO", "MSE"] == table["all", "MSE"]
    assert not table["HFlickr", "MSE"][0].isdigit()


# ------------------------------------------------------------------------------------------ the printed learning rate


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [((0.71, 0.72), HOLDS), ((0.60, 0.65), HOLDS), ((0.80, 0.90), DOES_NOT_HOLD), ((0.71, 0.90), CANNOT_TELL)],
)
def test_the_loss_at_the_printed_rate(tmp_path, losses, verdict):
    truth = replace(TRUE, losses={"pretrain_swinih": 0.7, experiments.TRIAL: losses})
    assert judged(tmp_path, "printed_learning_rate", truth=truth) == [verdict]


@pytest.mark.parametrize(("diverged", "verdict"), [([0, 1], DOES_NOT_HOLD), ([0], CANNOT_TELL), ([1], CANNOT_TELL)])
def test_runs_that_diverge(tmp_path, diverged, verdict):
    """They are told, they are no missing runs, and nothing else reads scores from them."""
    write(tmp_path, TRUE, ["identity", "pretrain_swinih", experiments.TRIAL])
    for seed in diverged:
        shutil.rmtree(tmp_path / f"runs/{experiments.TRIAL}/seed{seed}")
        write_diverged(tmp_path, experiments.TRIAL, seed)
    evidence = Evidence(tmp_path)
    found = claims.judge(evidence).set_index("id").loc["printed_learning_rate"]
    assert found["verdict"] == verdict
    assert found["ours"].count("diverged") == len(diverged)
    assert evidence.has(experiments.TRIAL) == (len(diverged) < 2)
    told = tables.runs(evidence).set_index("run").loc[experiments.TRIAL]
    assert told["seeds"] == 2 and told.astype(str).str.contains("diverged").any()


def test_one_run_that_diverges_decides_nothing(tmp_path):
    write(tmp_path, TRUE, ["identity", "pretrain_swinih"], seeds=1)
    write_diverged(tmp_path, experiments.TRIAL, 0)
    found = claims.judge(Evidence(tmp_path)).set_index("id").loc["printed_learning_rate"]
    assert found["verdict"] == CANNOT_TELL
    assert "diverged" in found["ours"] and "one seed" in found["ours"]


# ------------------------------------------------------------------------------------------ tables and the page

NOT_APPLICABLE = {  # columns of a table that some rows have no use for
    "seeds": {"do nothing"}, "LEMaRT": {"do nothing"}, "blockiness": {"do nothing"},
    "pre-trained only: share of doing nothing": {"none", "none; as many steps in all"},
}  # fmt: skip


def assert_filled(table: pd.DataFrame) -> None:
    """No cell is empty or NaN, but where a row has no use for the column, or no seeds because it has not run."""
    assert len(table)
    assert not table.isna().any(axis=None)
    for _, row in table.astype(str).iterrows():
        for column in table.columns:
            text = row[column].strip()
            assert "nan" not in text.lower().replace("[", " ").split()
            if not text:
                missing = column == "seeds" and NOT_COMPUTED in set(row)
                assert missing or NOT_APPLICABLE.get(column, set()) & set(row), (column, dict(row))


@pytest.fixture(scope="module")
def reported(study):
    """The results folder with LEMaRT's tables and the page in it (figures have tests of their own), and the tables."""
    manifest = {"tables": {}, "figures": {}}
    made = {name: report.write_table(study, name, manifest) for name in tables_lemart.ALL}
    report.finish(study, manifest)
    return study.results, made


@pytest.fixture(scope="module")
def made(reported):
    return reported[1]


@pytest.mark.parametrize("name", tables_lemart.ALL)
def test_no_cell_is_empty(made, name):
    assert_filled(made[name])


@pytest.mark.parametrize("name", tables_lemart.ALL)
def test_no_cell_is_empty_where_nothing_has_run(study, tmp_path, name):
    for run in ("identity", "pretrain_swinih", "swinih_lemart_quarter"):
        shutil.copytree(study.results / "runs" / run, tmp_path / "runs" / run)
    assert_filled(tables_lemart.ALL[name][0](Evidence(tmp_path)))


@pytest.mark.parametrize("name", tables_lemart.ALL)
def test_every_table_is_written_three_times(study, reported, name):
    results, made = reported
    caption = report.caption(study, name)
    assert "{" not in caption
    back = pd.read_csv(results / f"tables/{name}.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(back, made[name].astype(str).reset_index(drop=True), check_dtype=False)
    lines = (results / f"tables/{name}.md").read_text().splitlines()
    assert lines[0] == caption
    assert sum(line.startswith("|") for line in lines) == len(back) + 2
    latex = (results / f"tables/{name}.tex").read_text()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 1
    assert not any(f" {sign} " in latex.replace(rf"\{sign}", "") for sign in "%#")


def test_every_printed_value_stands_beside_ours(made):
    printed = paper_values.load().query("table != 'settings'")
    keys = ["paper", "table", "subset", "metric", "method"]
    shown = made["printed_values"].set_index(keys)
    assert shown.index.tolist() == printed.set_index(keys).index.tolist()
    assert shown["printed"].astype(float).tolist() == printed["value"].tolist()


def test_ours_stands_beside_the_printed_value_of_the_same_run(study, made):
    shown = made["printed_values"].set_index(["paper", "table", "subset", "metric", "method"])["here"].sort_index()

    def starts(column, run, digits, **where):
        return f"{study.mean(run, column, **where).estimate:.{digits}f} ["

    runs = [
        ("table3", "vit+lemart", "vit_lemart"),
        ("table4", "swin_t", "swin_t"),
        *(("table5", f"lemart/{name}", f"swinih_lemart_{name}") for name in ("grid", "block")),
        *(("table6", f"lemart/{ratio}", f"swinih_lemart_ratio{ratio}") for ratio in (30, 70)),
    ]
    for table, method, run in runs:
        assert shown["lemart", table, "all", "fmse", method].startswith(starts("fmse", run, 1))
        assert shown["lemart", table, "all", "psnr", method].startswith(starts("psnr", run, 2))
    assert (
        shown["lemart", "table5", "all", "mse", "lemart/random"] == shown["lemart", "table6", "all", "mse", "lemart/50"]
    )
    night = shown["lemart", "table1", "Hday2night", "mse", "lemart"]
    assert night.startswith(starts("mse", "swinih_lemart", 1, subset="Hday2night", kind="any"))
    assert "another group" in shown["lemart", "table1", "all", "mse", "dovenet"]
    assert "RealHM" in shown["lemart", "table2", "RealHM", "mse", "lemart"]
    share = float(shown["s2am_t4", "table1", "HCOCO", "fmse", "s2am"].split()[0])
    assert share == pytest.approx(study.mean("s2am", protocol="s2am_t4").estimate, abs=1e-4)
    log = shown.xs(("s2am_t4", "text_4.3.2", "HCOCO"))
    assert log["train_loss", "s2am/epoch1"] == "0.9000"
    assert log["train_loss", "s2am/epoch2"] == "0.7000"
    assert log["train_loss_drop_percent", "s2am/epoch2"] == f"{100 - 70 / 0.9:.1f}"
    validation = study.mean("s2am", split="val", epoch=2).estimate
    assert float(log["val_fmse", "s2am/epoch2"].split()[0]) == pytest.approx(validation * 3 / 127.5**2, abs=1e-4)


def test_table_2_takes_the_rows_that_evaluate_wrote(tmp_path):
    def ours() -> list[str]:
        return (
            tables_lemart.table2(Evidence(tmp_path))
            .set_index("method")
            .loc["LEMaRT", ["MSE (here)", "PSNR (here)"]]
            .tolist()
        )

    assert all("needs RealHM" in cell for cell in ours())
    names = [f"r{number:04d}" for number in range(30)]
    rows = pd.DataFrame({"name": names, "group": names, "protocol": "bcmi256", "mse": 200.0, "psnr": 27.5})
    network = rows.assign(method="results/paper/runs/swinih_realhm/seed0")
    network.to_csv(tmp_path / tables_lemart.REALHM_ROWS, index=False)
    assert all("no rows of identity" in cell for cell in ours())
    both = pd.concat([network, rows.assign(method="identity", mse=400.0, psnr=24.0)])
    both.to_csv(tmp_path / tables_lemart.REALHM_ROWS, index=False)
    mse, psnr = ours()
    assert mse.startswith("200.0 [200.0, 200.0]; doing nothing 400.0") and psnr.startswith("27.50")
    assert "bcmi256" in mse and "another" in tables_lemart.table2(Evidence(tmp_path))["MSE (here)"].iloc[0]
    (tmp_path / tables_lemart.REALHM_ROWS).write_text("method,mse\n")
    with pytest.raises(HarmonyError, match="lacks the column protocol"):
        ours()


def cells(table: str, made: pd.DataFrame) -> dict:
    """(metric, the paper's name of a method, subset) -> the printed cell of one of our tables."""
    if table == "table1":
        return {
            (unit, method, row["subset"]): row[f"{words} (printed)"]
            for _, row in made.iterrows()
            for unit in ("psnr", "mse")
            if row["metric"] == UNITS[unit]
            for method, words in tables_lemart.PRINTED.items()
        }
    names = {
        "table2": {"DoveNet": "dovenet", "S2AM": "s2am", "SSH": "ssh", "LEMaRT": "lemart"},
        "table3": {(tables.title(n), w): n + s for n in NETWORKS for w, s in (("without", ""), ("with", "+lemart"))},
        "table4": {tables.title(name): name for name in ("swinih", *models.TABLE_4)},
        "table5": {name: f"lemart/{name}" for name in ("random", "grid", "block")},
        "table6": {f"{ratio} %": f"lemart/{ratio}" for ratio in (30, 50, 70)},
    }[table]
    keys = made.columns[:2].tolist() if table == "table3" else made.columns[0]
    rows = made.set_index(keys)
    units = [unit for unit in UNITS if f"{UNITS[unit]} (printed)" in rows]
    subset = "RealHM" if table == "table2" else "all"
    return {(u, method, subset): rows.loc[key, f"{UNITS[u]} (printed)"] for key, method in names.items() for u in units}


@pytest.mark.parametrize("table", TABLES)
def test_every_printed_cell_of_a_table_is_in_ours(made, table):
    shown = cells(table, made[f"lemart_{table}"])
    printed = paper_values.load().query("paper == 'lemart' and table == @table and metric in @UNITS")
    expected = {(r.metric, r.method, r.subset): f"{r.value:.1f}" for r in printed.itertuples()}
    assert shown == expected


def test_table_3_has_the_networks_that_are_listed(study, made):
    rows = [(tables.title(name), words) for name in models.TABLE_3 for words in ("without", "with")]
    table = made["lemart_table3"].set_index(["network", "LEMaRT"])
    assert table.index.tolist() == [("do nothing", ""), *rows]
    for name in NETWORKS:
        for words, run in (("without", name), ("with", f"{name}_lemart")):
            row = table.loc[(tables.title(name), words)]
            assert float(row["share of doing nothing"].split()[0]) == pytest.approx(SHARE_OF_NOTHING[run], abs=0.005)
            assert row["fMSE (here)"].startswith(f"{study.mean(run).estimate:.1f} ")


def test_the_tables_show_what_was_constructed(made):
    shares = {
        "lemart_table4": {"SwinIH": 0.60, "SwinIH-MS": 0.70, "SwinIH-Local": 0.61, "Swin-T": 0.75},
        "lemart_table5": {"random": 0.40, "grid": 0.55, "block": 0.405},
        "lemart_table6": {"30 %": 0.408, "50 %": 0.40, "70 %": 0.395},
    }
    for name, expected in shares.items():
        found = made[name].set_index(made[name].columns[0])["share of doing nothing"]
        assert {key: float(found[key].split()[0]) for key in expected} == pytest.approx(expected, abs=0.005)
    blocks = made["lemart_table4"].set_index("design")["blockiness"]
    assert float(blocks["SwinIH-Local"].split()[0]) == pytest.approx(1.3, abs=0.01)
    length = made["lemart_pretraining"].set_index("pre-training")
    assert float(length.loc["the default", "pre-trained only: share of doing nothing"].split()[0]) == pytest.approx(
        0.8, abs=0.005
    )
    assert float(length.loc["none", "fine-tuned: share of doing nothing"].split()[0]) == pytest.approx(0.6, abs=0.005)


def test_data_efficiency_has_the_control(study, made):
    table = made["lemart_data_efficiency"].set_index("share of the data")
    assert table.index.tolist() == ["1%", "10%", "50%", "100%"]
    for share, suffix in (("10%", "_share10"), ("100%", "")):
        for words, other in (("scratch", "swinih"), ("as many steps", "swinih_matched")):
            expected = study.difference(f"swinih_lemart{suffix}", other + suffix, "psnr").estimate
            assert table.loc[share, f"PSNR gain over {words}"].startswith(f"{expected:.2f} ")
    assert table.loc["1%", "PSNR gain over as many steps"] == NOT_COMPUTED


def test_table_1_takes_the_published_number_of_epochs(study, tmp_path):
    """Where a profile has run them; and so does the list of printed values."""
    for run in ("identity", "swinih_lemart"):
        shutil.copytree(study.results / "runs" / run, tmp_path / "runs" / run)
    evidence = write(tmp_path, TRUE.but(swinih_lemart_120=0.30), ["swinih_lemart_120"])
    expected = f"{evidence.mean('swinih_lemart_120', 'mse', kind='any').estimate:.1f} "
    table = tables_lemart.table1(evidence).set_index(["subset", "metric"])
    assert table.loc[("all", "MSE"), "SwinIH + LEMaRT (here)"].startswith(expected)
    shown = tables_lemart.printed_values(evidence).set_index(["paper", "table", "subset", "metric", "method"])["here"]
    assert shown["lemart", "table1", "all", "mse", "lemart"].startswith(expected)
    assert not shown["lemart", "table3", "all", "mse", "swinih+lemart"].startswith(expected)


def test_the_manifest_names_the_runs_of_a_table(reported):
    manifest = json.loads((reported[0] / "manifest.json").read_text())
    assert manifest["tables"].keys() == tables_lemart.ALL.keys()
    read = set(manifest["tables"]["lemart_table3"]["runs"])
    wanted = {f"runs/{name}{suffix}/seed{k}" for name in NETWORKS for suffix in ("", "_lemart") for k in (0, 1)}
    assert read == wanted | {"runs/identity/seed0"}


def test_the_page_holds_claims_and_tables(study, reported):
    results, made = reported
    page = html.unescape((results / "report.html").read_text(encoding="utf-8"))
    judged = pd.read_csv(results / "claims.csv")
    assert set(judged["study"]) == {"s2am_t4", "lemart"}
    assert page.count("class='verdict'") == len(judged) + 3  # one a claim, and the three counts
    assert all(claim.words in page and claim.rule in page for claim in CLAIMS.values())
    for name, table in made.items():
        assert report.caption(study, name) in page
        assert all(f"<td>{cell}</td>" in page for cell in table.iloc[-1].astype(str))

"""The printed numbers are whole, unique and agree with each other as far as the papers do."""

import csv

import pytest

from harmonylib import paper_values
from harmonylib.errors import HarmonyError
from harmonylib.paper_values import value

KEYS = ["paper", "table", "subset", "metric", "method"]
TEST_COMPOSITES = {"HCOCO": 4283, "HAdobe5k": 2160, "HFlickr": 828, "Hday2night": 133}
EARLIER_METHODS = [
    "composite",
    "dih",
    "s2am",
    "dovenet",
    "bargainnet",
    "intrharm",
    "rainnet",
    "is2am",
    "dht+",
    "scs-co",
]
TABLE1_METHODS = [*EARLIER_METHODS, "lemart"]


@pytest.fixture(scope="module")
def values():
    return paper_values.load()


@pytest.fixture(scope="module")
def questions():
    return paper_values.open_questions()


def _table1(metric, method):
    return {subset: value("lemart", "table1", metric, method, subset) for subset in (*TEST_COMPOSITES, "all")}


def _lemart(table, metric, method):
    return value("lemart", table, metric, method)


def test_headers_are_exact():
    for name, header in (
        ("paper_values.csv", "paper,table,subset,metric,method,value"),
        ("open_questions.csv", "paper,statement,place,why,choice,option"),
    ):
        assert (paper_values._FOLDER / name).read_text(encoding="utf-8").splitlines()[0] == header


def test_keys_are_unique_and_known(values):
    assert not values.duplicated(KEYS).any()
    assert set(values["paper"]) == {"s2am_t4", "lemart"}
    assert set(values["subset"]) == {*TEST_COMPOSITES, "all", "RealHM"}
    assert values["table"].str.fullmatch(r"table[1-6]|figure6|settings|text_[\w.]+").all()
    assert values["metric"].str.fullmatch(r"[a-z0-9_\-]+").all()
    assert values["method"].str.fullmatch(r"[a-z0-9_+/\-]+").all()
    assert values["value"].notna().all()


@pytest.mark.parametrize(
    ("paper", "table", "metrics", "count"),
    [
        ("s2am_t4", "table1", {"fmse"}, 3),
        ("s2am_t4", "table1", {"resolution", "epochs"}, 5),
        ("lemart", "table1", {"psnr", "mse"}, 110),
        ("lemart", "table1", {"psnr_delta", "mse_delta"}, 10),
        ("lemart", "table2", {"psnr", "mse"}, 8),
        ("lemart", "table3", {"psnr", "mse", "fpsnr", "fmse"}, 40),
        ("lemart", "table4", {"psnr", "mse", "fpsnr", "fmse"}, 16),
        ("lemart", "table5", {"psnr", "mse", "fpsnr", "fmse"}, 12),
        ("lemart", "table6", {"psnr", "mse", "fpsnr", "fmse"}, 12),
    ],
)
def test_every_cell_of_a_table_is_there(values, paper, table, metrics, count):
    rows = values[(values["paper"] == paper) & (values["table"] == table)]
    assert rows["metric"].isin(metrics).sum() == count


@pytest.mark.parametrize(
    ("keys", "printed"),
    [
        (("s2am_t4", "table1", "fmse", "s2am"), 0.1304),
        (("s2am_t4", "table1", "fmse", "unet"), 0.1369),
        (("s2am_t4", "table1", "fmse", "histogram"), 0.6296),
        (("s2am_t4", "text_4.3.1", "val_fmse", "s2am/epoch1"), 0.1347),
        (("s2am_t4", "text_4.3.2", "val_fmse", "s2am/epoch2"), 0.1327),
        (("s2am_t4", "settings", "learning_rate", "all"), 1e-4),
        (("s2am_t4", "settings", "memory_gb", "all"), 15),
        (("lemart", "table1", "mse", "scs-co", "HFlickr"), 55.8),
        (("lemart", "table2", "mse", "ssh", "RealHM"), 206.9),
        (("lemart", "table3", "fmse", "hrnet"), 811.9),
        (("lemart", "table5", "fmse", "lemart/grid"), 380.3),
        (("lemart", "figure6", "mse_gain_max", "swinih+lemart"), 299.1),
        (("lemart", "figure6", "mse_gain_below", "swinih+lemart/100"), 90.0),
        (("lemart", "settings", "pretrain_learning_rate", "lemart"), 0.027),
        (("lemart", "settings", "finetune_learning_rate", "lemart", "RealHM"), 0.0053),
    ],
)
def test_printed_values(keys, printed):
    assert value(*keys) == printed


def test_value_asks_for_exactly_one_row():
    with pytest.raises(HarmonyError, match="there is none"):
        value("lemart", "table9", "psnr", "lemart")
    with pytest.raises(HarmonyError, match="5 rows match; name one subset"):
        value("lemart", "table1", "psnr", "lemart")


def test_repeated_numbers_agree(values):
    fmse = values[(values["paper"] == "s2am_t4") & values["metric"].isin(["fmse", "val_fmse", "train_loss"])]
    assert (fmse.groupby(["metric", "method"])["value"].nunique() == 1).all()
    for metric in ("psnr", "mse", "fpsnr", "fmse"):
        pretrained = {
            _lemart(table, metric, method)
            for table, method in (("table3", "swinih+lemart"), ("table5", "lemart/random"), ("table6", "lemart/50"))
        }
        assert len(pretrained) == 1
        assert _lemart("table4", metric, "swinih") == _lemart("table3", metric, "swinih")


def test_s2am_t4_loss_drop_is_as_printed():
    first, second = (value("s2am_t4", "text_4.3.2", "train_loss", f"s2am/epoch{epoch}") for epoch in (1, 2))
    printed = value("s2am_t4", "text_4.3.2", "train_loss_drop_percent", "s2am/epoch2")
    assert round(100 * (first - second) / first, 1) == printed


@pytest.mark.parametrize(("metric", "best"), [("psnr", max), ("mse", min)])
def test_table1_deltas_are_to_the_best_earlier_method(metric, best):
    columns = {method: _table1(metric, method) for method in TABLE1_METHODS}
    for subset in (*TEST_COMPOSITES, "all"):
        earlier = best(columns[method][subset] for method in EARLIER_METHODS)
        delta = value("lemart", "table1", f"{metric}_delta", "lemart", subset)
        assert columns["lemart"][subset] - earlier == pytest.approx(delta, abs=1e-6)


def test_table1_all_rows_that_are_not_the_mean_of_their_subsets():
    def off(metric, method):
        printed = _table1(metric, method)
        mean = sum(n * printed[subset] for subset, n in TEST_COMPOSITES.items()) / sum(TEST_COMPOSITES.values())
        return abs(mean - printed["all"]) > 0.1  # two roundings to one decimal explain up to 0.1

    assert [method for method in TABLE1_METHODS if off("psnr", method)] == []
    assert [method for method in TABLE1_METHODS if off("mse", method)] == ["intrharm", "rainnet", "scs-co", "lemart"]


def test_table3_supports_the_ranges_in_the_prose():
    networks = ("swinih", "vit", "resnet", "hrnet", "ht")
    for metric in ("psnr", "fpsnr"):
        gains = [
            round(_lemart("table3", metric, f"{net}+lemart") - _lemart("table3", metric, net), 1) for net in networks
        ]
        assert min(gains) == _lemart("text_4.4a", f"{metric}_gain_min", "all")
        assert max(gains) == _lemart("text_4.4a", f"{metric}_gain_max", "all")
    for metric, sign in (("psnr", 1), ("mse", -1)):
        gain = sign * (_lemart("table3", metric, "swinih+lemart") - _lemart("table3", metric, "swinih"))
        assert gain == pytest.approx(_lemart("text_4.4a", f"{metric}_gain", "swinih+lemart"))


@pytest.mark.parametrize("other", ["swinih_ms", "swin_t"])
def test_table4_supports_the_prose(other):
    for metric, sign in (("psnr", 1), ("mse", -1)):
        gain = sign * (_lemart("table4", metric, "swinih") - _lemart("table4", metric, other))
        assert gain == pytest.approx(_lemart("text_4.4c", f"{metric}_gain_over_{other}", "swinih"))


def test_prose_about_table1_follows_from_it():
    psnr, mse = (_table1(metric, "lemart")["all"] for metric in ("psnr", "mse"))
    before_psnr, before_mse = (_table1(metric, "scs-co")["all"] for metric in ("psnr", "mse"))
    assert psnr - before_psnr == pytest.approx(_lemart("text_4.3a", "psnr_gain_over_scs-co", "lemart"))
    gain = before_mse - mse
    assert gain == pytest.approx(_lemart("text_4.3a", "mse_gain_over_scs-co", "lemart"))
    assert round(100 * gain / before_mse, 1) == _lemart("text_4.3a", "mse_gain_over_scs-co_percent", "lemart")


def test_table6_is_at_the_edge_of_its_prose(questions):
    def width(metric):
        cells = [_lemart("table6", metric, f"lemart/{ratio}") for ratio in (30, 50, 70)]
        return max(cells) - min(cells)

    assert width("fpsnr") == pytest.approx(_lemart("text_4.4e", "fpsnr_range", "lemart"))
    assert width("fmse") == _lemart("text_4.4e", "fmse_range_below", "lemart")  # "smaller than 5.0" is 5.0 as printed
    assert questions["statement"].str.contains("smaller than 5.0").any()


def test_figure6_cannot_be_mse(questions):
    assert _lemart("figure6", "mse_gain_max", "swinih+lemart") > _table1("mse", "composite")["all"]
    assert _lemart("figure6", "psnr_gain", "swinih+lemart/100") < _lemart("text_4.4a", "psnr_gain", "swinih+lemart")
    assert questions["why"].str.contains("cannot be MSE").any()


@pytest.mark.parametrize(
    ("paper", "keyword"),
    [("s2am_t4", keyword) for keyword in (
        "fMSE scale", "64x64", "16x16", "lambda", "one epoch", "lower resolution", "38,000", "60 %", "by composite",
        "different loss", "2 x 2", "do-nothing", "repeated seeds", "0.1347", "Batch normalisation", "low-pass",
    )]
    + [("lemart", keyword) for keyword in (
        "2.7e-2", "heads", "MLP ratio", "output head", "skip", "m of the random grid", "transform ranges", "A_min",
        "grid pattern", "homography", "ResNet width", "HRNet variant", "tokens or pixels", "fine-tuning batch",
        "learning rate from scratch", "299.1", "172.5", "1.4 dB", "2.0 dB", "protocol of every row copied",
    )],
)  # fmt: skip
def test_open_questions_cover_what_the_papers_leave_open(questions, paper, keyword):
    assert (
        questions[questions["paper"] == paper]
        .apply(lambda column: column.str.contains(keyword, regex=False))
        .any(axis=None)
    )


def test_open_questions_are_whole(questions):
    assert not questions.duplicated(["paper", "statement"]).any()
    assert (questions.map(str.strip) == questions).all(axis=None)
    assert (questions != "").all(axis=None)
    with (paper_values._FOLDER / "open_questions.csv").open(encoding="utf-8", newline="") as file:
        assert all("\n" not in cell for row in csv.reader(file) for cell in row)
    assert not questions["option"].str.contains("design:").any(), "a choice that is not built"

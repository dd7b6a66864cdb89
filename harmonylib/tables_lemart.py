"""Tables of the LEMaRT study, from records alone: every printed cell beside ours, or why there is none of ours."""

import pandas as pd

from harmonylib import experiments, metrics, models, paper_values, statistics
from harmonylib.evidence import Evidence
from harmonylib.reading import read_table
from harmonylib.tables import interval, title

UNITS = {"psnr": ("PSNR", 2), "mse": ("MSE", 1), "fpsnr": ("fPSNR", 2), "fmse": ("fMSE", 1)}
SUBSETS = ("HCOCO", "HAdobe5k", "HFlickr", "Hday2night", "all")
PRINTED = {  # LEMaRT's Table 1, its columns
    "composite": "composite image", "dih": "DIH", "s2am": "S2AM", "dovenet": "DoveNet", "bargainnet": "BargainNet", "intrharm": "IntrHarm",
    "rainnet": "RainNet", "is2am": "iS2AM", "dht+": "DHT+", "scs-co": "SCS-Co", "lemart": "LEMaRT (SwinIH)",
}  # fmt: skip
OURS = ("identity", "unet", "s2am", "swinih", "swinih_lemart")  # beside Table 1's columns
NOT_COMPUTED = "not computed in this profile"
REALHM = "not computed: needs RealHM and Open Images (README, Data)"
REALHM_ROWS = "realhm.csv"  # in the results folder: what `evaluate --data data/realhm` wrote, as the README says
NOT_IN_SET = "not in this data set"
NOT_PRINTED = "not printed"


def table1(evidence: Evidence) -> pd.DataFrame:
    """LEMaRT's Table 1: eleven printed columns, and ours on all test pictures, by subset."""
    rows, ours = [], {name: _in_table1(evidence, name) for name in OURS}
    for subset in SUBSETS:
        chosen = None if subset == "all" else subset
        for metric in ("psnr", "mse"):
            row = {"subset": subset, "metric": UNITS[metric][0]}
            row |= {
                f"{words} (printed)": _printed("table1", metric, method, subset) for method, words in PRINTED.items()
            }
            row |= {f"{title(n)} (here)": _ours(evidence, run, metric, subset=chosen) for n, run in ours.items()}
            rows.append(row)
    return pd.DataFrame(rows)


def _in_table1(evidence: Evidence, name: str) -> str | None:
    """The run that stands for a method in Table 1: on all subsets, and of LEMaRT's the one closest to the published."""
    better = ("swinih_lemart_120", "swinih_lemart_full") if name == "swinih_lemart" else ()  # 120 epochs; full size
    return next(filter(evidence.has, better), None) or evidence.on_all(name)


def table2(evidence: Evidence) -> pd.DataFrame:
    """LEMaRT's Table 2, RealHM: printed values, and what ours would need."""
    names = {"dovenet": "DoveNet", "s2am": "S2AM", "ssh": "SSH", "lemart": "LEMaRT"}
    return pd.DataFrame(
        {
            "method": words,
            "MSE (printed)": _printed("table2", "mse", method),
            "PSNR (printed)": _printed("table2", "psnr", method),
            **{f"{UNITS[metric][0]} (here)": _on_realhm(evidence, method, metric) for metric in ("mse", "psnr")},
        }
        for method, words in names.items()
    )


def _on_realhm(evidence: Evidence, method: str, metric: str) -> str:
    """Ours on RealHM with its interval, of the rows of `swinih_realhm` in `REALHM_ROWS`, and doing nothing beside it."""
    if method != "lemart":
        return "not computed: another group's network"
    path = evidence.results / REALHM_ROWS
    if not path.is_file():
        return REALHM
    rows = read_table(path, ("method", "protocol", "group", "mse", "psnr"), "make it with `evaluate --out`")
    ours, idle = (rows[rows["method"].str.contains(name)] for name in ("swinih_realhm", "identity"))
    if not len(ours) or not len(idle):
        return f"{REALHM_ROWS} has no rows of {'swinih_realhm' if len(idle) else 'identity'}"
    mean, digits = statistics.bootstrap_mean(ours[metric], ours["group"]), UNITS[metric][1]
    return f"{interval(mean, digits)}; doing nothing {idle[metric].mean():.{digits}f} ({ours['protocol'].iloc[0]})"


def table3(evidence: Evidence) -> pd.DataFrame:
    """LEMaRT's Table 3: every network in `models.TABLE_3`, without and with pre-training."""
    rows = []
    for name in models.TABLE_3:
        for suffix, words in (("", "without"), ("_lemart", "with")):
            keys = {"network": title(name), "LEMaRT": words}
            rows.append(keys | _beside(evidence, "table3", name + suffix.replace("_", "+"), name + suffix))
    return pd.DataFrame([_nothing(evidence, network="do nothing", LEMaRT=""), *rows])


def table4(evidence: Evidence) -> pd.DataFrame:
    """LEMaRT's Table 4: designs of SwinIH, from scratch; and how much their windows show (1: not at all)."""
    rows = []
    for name in ("swinih", *models.TABLE_4):
        blocks = interval(evidence.mean(name, "blockiness"), 3) if evidence.has(name) else NOT_COMPUTED
        rows.append({"design": title(name)} | _beside(evidence, "table4", name, name) | {"blockiness": blocks})
    return pd.DataFrame([_nothing(evidence, design="do nothing"), *rows]).fillna("")


def table5(evidence: Evidence) -> pd.DataFrame:
    """LEMaRT's Table 5: three strategies to propose masks."""
    names = {"random": "swinih_lemart", "grid": "swinih_lemart_grid", "block": "swinih_lemart_block"}
    rows = [{"strategy": s} | _beside(evidence, "table5", f"lemart/{s}", run) for s, run in names.items()]
    return pd.DataFrame([_nothing(evidence, strategy="do nothing"), *rows])


def table6(evidence: Evidence) -> pd.DataFrame:
    """LEMaRT's Table 6: three mask ratios."""
    names = {"30": "swinih_lemart_ratio30", "50": "swinih_lemart", "70": "swinih_lemart_ratio70"}
    rows = [{"mask ratio": f"{r} %"} | _beside(evidence, "table6", f"lemart/{r}", run) for r, run in names.items()]
    return pd.DataFrame([_nothing(evidence, **{"mask ratio": "do nothing"}), *rows])


def data_efficiency(evidence: Evidence) -> pd.DataFrame:
    """Figure 6 as numbers: the gain of pre-training by share of the data, against scratch and as many steps of it."""
    gains = {
        1: "about 300 (called MSE)",
        10: "2.3 to 2.4 dB (at 10 % or less)",
        50: NOT_PRINTED,
        100: "1.4 dB; below 90 (called MSE)",
    }
    rows = []
    for share in (*experiments.LEMART_SHARES, 1.0):
        names = [experiments.of_share(n, share) for n in ("swinih", "swinih_matched", "swinih_lemart")]
        row = {"share of the data": f"{share:.0%}", "gain (printed)": gains[round(100 * share)]}
        for name, words in zip(names, ("scratch", "scratch, as many steps in all", "LEMaRT"), strict=True):
            row |= {
                f"{words}: {unit}": _ours(evidence, name, metric)
                for metric, (unit, _) in UNITS.items()
                if metric != "fpsnr"
            }
        for name, words in zip(names[:2], ("scratch", "as many steps"), strict=True):
            known = evidence.has(name, names[2])
            row[f"PSNR gain over {words}"] = (
                interval(evidence.difference(names[2], name, "psnr"), 2) if known else NOT_COMPUTED
            )
        rows.append(row)
    return pd.DataFrame(rows)


def pretraining(evidence: Evidence) -> pd.DataFrame:
    """What the paper does not vary: how long, on which photographs and by which transform SwinIH is pre-trained."""
    words = {"": "none", "_lemart_quarter": "a quarter as long", "_lemart_half": "half as long", "_lemart": "the default",
             "_lemart_target": "on the set's own photographs", "_matched": "none; as many steps in all"}  # fmt: skip
    words |= {f"_lemart_{r}": f"{r.removeprefix('only_')} alone" for r in experiments.RECIPES if r.startswith("only_")}
    rows = []
    for suffix, what in words.items():
        name, known = f"swinih{suffix}", evidence.has(f"swinih{suffix}")
        before = "pretrain_" + name.replace("_lemart", "")
        zero = interval(evidence.ratio(before), 3) if evidence.has(before) else NOT_COMPUTED
        rows.append(
            {
                "pre-training": what,
                "seeds": len(evidence.of(name)) if known else "",
                "pre-trained only: share of doing nothing": zero if "_lemart" in suffix else "",
                "fine-tuned: share of doing nothing": interval(evidence.ratio(name), 3) if known else NOT_COMPUTED,
                "fMSE": _ours(evidence, name, "fmse"),
            }
        )
    return pd.DataFrame(rows)


def printed_values(evidence: Evidence) -> pd.DataFrame:
    """Every number that either paper prints as a result, with ours, or with why there is none of ours."""
    table = paper_values.load().query("table != 'settings'")
    cells = [_here(evidence, row) for row in table.itertuples()]
    return table.assign(value=[f"{v:g}" for v in table["value"]], here=cells).rename(columns={"value": "printed"})


ELSEWHERE = "not computed: needs iHarmony4, where the other method was scored"


def _here(evidence: Evidence, row) -> str:
    """Ours beside one printed number."""
    method, _, variant = row.method.partition("/")
    if row.subset == "RealHM":
        return _on_realhm(evidence, method, row.metric)
    name = {"composite": "identity", "lemart": "swinih_lemart", "all": "swinih_lemart"}.get(method, method)
    name = name.replace("+", "_") + VARIANTS.get(variant, "")
    if "delta" in row.metric or "scs-co" in row.metric or "published" in row.metric or "to_pass" in row.metric:
        return ELSEWHERE
    if name not in experiments.EXPERIMENTS and name not in evidence.everything:
        return "not computed: another group's network"
    if row.paper == "s2am_t4" and evidence.has(name):
        return _here_s2am(evidence, row.metric, name, variant.removeprefix("epoch"))
    name = _in_table1(evidence, name) if row.table in ("table1", "text_4.3a") else evidence.on_all(name)
    if name is None or row.paper == "s2am_t4":
        return NOT_COMPUTED
    if row.metric in UNITS:
        subset = {"subset": None if row.subset == "all" else row.subset} if row.table == "table1" else {}
        return _ours(evidence, name, row.metric, **subset)
    unit, _, what = row.metric.partition("_")
    if what.startswith("range"):
        recipes = ("swinih_lemart_ratio30", "swinih_lemart", "swinih_lemart_ratio70")
        means = [evidence.mean(n, unit).estimate for n in recipes if evidence.has(n)]
        return f"{max(means) - min(means):.{UNITS[unit][1]}f}"
    if unit not in UNITS:
        return "1, 10, 50 and 100 %"  # the shares of Figure 6
    pairs = [(name, what.removeprefix("gain_over_"))]
    if row.method == "all":
        pairs = [(f"{n}_lemart", n) for n in models.TABLE_3]
    elif "_over_" not in what:
        shares = {"": [""], "1": ["_share1"], "10": ["_share10", "_share1"], "100": [""]}
        suffixes = shares[variant] if what != "gain_max" or variant else [*VARIANTS.values()][-4:]
        pairs = [(f"swinih_lemart{s}", f"swinih{s}") for s in suffixes]
    sign = 1 if "psnr" in unit else -1
    gains = [sign * evidence.difference(a, b, unit).estimate for a, b in pairs if evidence.has(a, b)]
    if not gains:
        return NOT_COMPUTED
    return f"{(min if what.endswith('min') else max)(gains):.{UNITS[unit][1]}f}"


VARIANTS = {"grid": "_grid", "block": "_block", "30": "_ratio30", "70": "_ratio70",
            "1": "_share1", "10": "_share10", "50": "", "100": ""}  # fmt: skip


def _here_s2am(evidence: Evidence, metric: str, name: str, epoch: str) -> str:
    """Ours beside one number of S2AM-T4's Table 1, its text or its log."""
    runs = evidence.of(name)
    if metric == "fmse":
        return f"{evidence.mean(name, protocol='s2am_t4').estimate:.4f} ({evidence.protocol('s2am_t4')})"
    if metric == "val_fmse":
        mean = evidence.mean(name, split="val", epoch=int(epoch)).estimate
        return f"{metrics.to_s2am_t4(mean):.4f} (bcmi256, on the paper's scale)"
    if metric.startswith("train_loss"):
        ends = [[run.metrics["train_loss"][e] for e in ("1", epoch)] for run in runs]
        drop = metric.endswith("percent")
        return f"{sum(100 - 100 * b / a if drop else b for a, b in ends) / len(ends):.{1 if drop else 4}f}"
    if metric.startswith("background_share"):
        return f"{100 - 100 * evidence.mean(name, 'foreground_ratio').estimate:.0f} on average"
    config = runs[0].config
    if metric == "epochs":
        return f"{config['steps']} steps" if config["steps"] else str(config["epochs"])
    return str(config["size"])


def _printed(table: str, metric: str, method: str, subset: str | None = None) -> str:
    rows = paper_values.load().query(
        "paper == 'lemart' and table == @table and metric == @metric and method == @method"
    )
    rows = rows if subset is None else rows[rows["subset"] == subset]
    return f"{rows['value'].iloc[0]:.1f}" if len(rows) else NOT_PRINTED


def _ours(evidence: Evidence, name: str | None, metric: str, **where) -> str:
    if name is None or not evidence.has(name):
        return NOT_COMPUTED
    if "subset" in where:  # as the paper's subsets: scenes and photographs together
        where["kind"] = "any"
        if evidence.per_image(name, **where)["group"].nunique() < 2:
            return NOT_IN_SET
    return interval(evidence.mean(name, metric, **where), UNITS[metric][1])


def _beside(evidence: Evidence, table: str, method: str, name: str) -> dict:
    """Four metrics, printed and ours, and the share of doing nothing."""
    cells: dict = {"seeds": len(evidence.of(name)) if evidence.has(name) else ""}
    for metric, (unit, _) in UNITS.items():
        cells |= {f"{unit} (printed)": _printed(table, metric, method), f"{unit} (here)": _ours(evidence, name, metric)}
    share = interval(evidence.ratio(name), 3) if evidence.has(name) else NOT_COMPUTED
    return cells | {"share of doing nothing": share}


def _nothing(evidence: Evidence, **keys) -> dict:
    """The row of doing nothing; PSNR and MSE of it are printed in Table 1."""
    name = evidence.on_all("identity")
    cells: dict = {"seeds": ""}
    for metric, (unit, _) in UNITS.items():
        printed = _printed("table1", metric, "composite", "all")
        cells |= {f"{unit} (printed)": printed, f"{unit} (here)": _ours(evidence, name, metric)}
    return keys | cells | {"share of doing nothing": "1"}


ALL = {
    "lemart_table1": (table1, "Table 1 of LEMaRT: printed on iHarmony4 (protocol unstated but for the composite), and here ({protocol}, all test pictures, 95 % intervals)."),
    "lemart_table2": (table2, "Table 2 of LEMaRT: RealHM."),
    "lemart_table3": (table3, "Table 3 of LEMaRT: five networks with and without pre-training; here {protocol}, {kind}s."),
    "lemart_table4": (table4, "Table 4 of LEMaRT: designs of SwinIH, from scratch; here {protocol}, {kind}s."),
    "lemart_table5": (table5, "Table 5 of LEMaRT: how masks are proposed; here {protocol}, {kind}s."),
    "lemart_table6": (table6, "Table 6 of LEMaRT: how much of the picture is masked; here {protocol}, {kind}s."),
    "lemart_data_efficiency": (data_efficiency, "Figure 6 of LEMaRT as numbers, with a run from scratch of as many steps ({protocol}, {kind}s)."),
    "lemart_pretraining": (pretraining, "Beyond the paper: how long, on what and with which perturbation to pre-train ({protocol}, {kind}s)."),
    "printed_values": (printed_values, "Every result that either paper prints, with ours where there is one. Ours are on this profile's data and size."),
}  # fmt: skip

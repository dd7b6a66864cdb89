"""Tables of the S2AM-T4 study, from records alone: csv for machines, md for readers, tex for papers."""

from pathlib import Path

import pandas as pd

from harmonylib import experiments, metrics, paper_values
from harmonylib.errors import plain
from harmonylib.evidence import Evidence
from harmonylib.paths import write_text
from harmonylib.reading import read_table
from harmonylib.statistics import Interval

MEMORY = ("attention", "batch", "size", "heads", "place", "dtype", "predicted_bytes", "fits_15GB")
TITLES = {
    "identity": "do nothing",
    "constant_shift": "best constant colour shift",
    "histogram": "histogram matching",
    "reinhard": "Reinhard",
    "unet": "U-Net",
    "s2am": "S2AM",
    "unet_eq7": "U-Net, equation 7",
    "s2am_mse": "S2AM, MSE",
    "s2am_place16": "S2AM, attention at 16x16",
    "s2am_linear": "S2AM, linear attention",
    "unet_leaky": "U-Net, split by composite",
    "s2am_leaky": "S2AM, split by composite",
    "identity_leaky": "do nothing, split by composite",
    "s2am_batch2": "S2AM, batch 2",
    "unet_printed_steps": "U-Net, as many steps as printed",
    "s2am_printed_steps": "S2AM, as many steps as printed",
    "s2am_s2asc": "S2ASC (Cun and Pun)",
    "s2am_s2ad": "S2AD (Cun and Pun)",
    "swinih": "SwinIH",
    "swinih_matched": "SwinIH, as many steps in all",
    "swinih_ms": "SwinIH-MS",
    "swinih_local": "SwinIH-Local",
    "swin_t": "Swin-T",
    "vit": "ViT",
    "resnet": "ResNet",
    "hrnet": "HRNet",
    "ht": "HT",
}
MAIN = ("identity", "constant_shift", "histogram", "reinhard", "unet", "s2am", "s2am_s2asc", "s2am_s2ad",
        "unet_printed_steps", "s2am_printed_steps")  # fmt: skip
IN_PAPER = ("histogram", "unet", "s2am")
HCOCO_NOTHING = (
    996.59  # fMSE of doing nothing on the official HCOCO test set at 256 px (zhenglab/IntrinsicHarmony, README)
)


def title(name: str) -> str:
    """A run's name as a reader should see it: its network, pre-trained or not, and what is special about it."""
    base, _, share = name.partition("_share")
    if share:
        return f"{title(base)}, {share} % of the data"
    if base.startswith("pretrain_"):
        return f"{title(base.removeprefix('pretrain_'))}, pre-trained only"
    network, lemart, recipe = base.partition("_lemart")
    if lemart:
        return f"{title(network)} + LEMaRT" + recipe.replace("_", ", ", 1).replace("_", " ")
    return TITLES.get(base, base)


def table1(evidence: Evidence, kind: str | None = None) -> pd.DataFrame:
    """S2AM-T4's Table 1: printed values beside ours, on the paper's scale and per channel on 0-255."""
    rows = []
    for name in _present(evidence, MAIN):
        here = {"protocol": "s2am_t4", "kind": kind}
        mean, share = evidence.mean(name, **here), evidence.ratio(name, **here)
        printed = paper_values.value("s2am_t4", "table1", "fmse", name) if name in IN_PAPER else None
        against = printed and printed / metrics.to_s2am_t4(HCOCO_NOTHING)
        seeds = evidence.of(name)
        rows.append(
            {
                "method": title(name),
                "paper fMSE (protocol unstated)": _number(printed, 4),
                "paper, 0-255": _number(printed and metrics.from_s2am_t4(printed), 1),
                "paper / doing nothing on HCOCO": _number(against, 3),
                f"fMSE {evidence.protocol('s2am_t4')}": interval(mean, 4),
                "the same, 0-255": _number(metrics.from_s2am_t4(mean.estimate), 1),
                "share of doing nothing": interval(share, 3),
                "before the first step": _before(evidence, name),
                "seeds": str(len(seeds)) if "parameters" in seeds[0].metrics else "",
            }
        )
    return pd.DataFrame(rows)


def photographs(evidence: Evidence) -> pd.DataFrame | None:
    """Table 1 on the photographs of a set that also has scenes."""
    return table1(evidence, evidence.kinds[1]) if len(evidence.kinds) > 1 else None


def by_subset(evidence: Evidence) -> pd.DataFrame:
    """Every method on every subset and on all, four metrics, scenes and photographs together as the lists have them."""
    return _grouped(evidence, "subset")


def by_ratio(evidence: Evidence) -> pd.DataFrame:
    """Every method by the share of the picture that the foreground takes."""
    return _grouped(evidence, "foreground")


def two_by_two(evidence: Evidence) -> pd.DataFrame:
    """{U-Net, S2AM} x {MSE, equation 7}: the paper changes both at once. The background tells what a loss neglects."""
    grid = {("U-Net", "MSE"): "unet", ("U-Net", "equation 7"): "unet_eq7",
            ("S2AM", "MSE"): "s2am_mse", ("S2AM", "equation 7"): "s2am"}  # fmt: skip
    return pd.DataFrame(
        {
            "network": network,
            "loss": loss,
            **_scores(evidence, name),
            "background MSE": interval(evidence.mean(name, "background_mse"), 1),
        }
        for (network, loss), name in grid.items()
        if evidence.has(name)
    )


def data_share(evidence: Evidence) -> pd.DataFrame:
    """RQ1: the share of the training photographs, at the same number of optimiser steps."""
    rows = []
    for share in (*experiments.SHARES, 1.0):
        for base in experiments.HEADLINE:
            name = experiments.of_share(base, share)
            if evidence.has(name):
                rows.append({"share": f"{share:.0%}", "network": title(base), **_scores(evidence, name)})
    return pd.DataFrame(rows)


def place(evidence: Evidence) -> pd.DataFrame:
    """Attention at 64 x 64, which the memory argument needs, against the bottleneck at 16 x 16 (sides at 256 px)."""
    names = {"none (U-Net, equation 7)": "unet_eq7", "16 x 16": "s2am_place16", "64 x 64": "s2am",
             "64 x 64, linear": "s2am_linear"}  # fmt: skip
    return pd.DataFrame({"attention at": k, **_scores(evidence, n)} for k, n in names.items() if evidence.has(n))


def split(evidence: Evidence) -> pd.DataFrame:
    """What a split by composite does to a score: one photograph may stand on both sides."""
    rows = []
    for base in _present(evidence, experiments.HEADLINE):
        for by, suffix in (("photograph", ""), ("composite", "_leaky")):
            name = base + suffix
            if evidence.has(name, "identity" + suffix):
                share = evidence.ratio(name, "identity" + suffix)
                mean = evidence.mean(name)
                rows.append({"network": title(base), "split by": by, "seeds": len(evidence.of(name)),
                             f"fMSE {evidence.protocol()}": interval(mean, 1), "share of doing nothing": interval(share, 3)})  # fmt: skip
    return pd.DataFrame(rows)


def dynamics(evidence: Evidence) -> pd.DataFrame:
    """Section 4.3: training loss and validation fMSE at the end of each epoch, printed and ours (means over seeds)."""
    rows = []
    for name in _present(evidence, experiments.HEADLINE):
        runs = evidence.of(name)
        for epoch in sorted(runs[0].metrics["validation"], key=int):
            printed = {
                "paper training loss": _printed("train_loss", name, epoch),
                "paper validation fMSE": _printed("val_fmse", name, epoch),
            }
            loss = sum(run.metrics["train_loss"][epoch] for run in runs) / len(runs)
            mean = evidence.mean(name, split="val", epoch=int(epoch))
            ours = {
                "training loss": _number(loss, 4),
                f"validation fMSE {evidence.protocol()}": interval(mean, 1),
                "the same, paper's scale": _number(metrics.to_s2am_t4(mean.estimate), 4),
            }
            rows.append({"network": title(name), "epoch": epoch, **printed, **ours})
    return pd.DataFrame(rows)


def runs(evidence: Evidence) -> pd.DataFrame:
    """Every run that was made, with its settings: nothing tried is left out."""
    rows = []
    for name, made in evidence.everything.items():
        scored = evidence.runs.get(name, [])
        config, found = (scored or made)[0].config, (scored or made)[0].metrics
        diverged = f" ({len(made) - len(scored)} diverged)" if len(scored) < len(made) else ""
        trained = "parameters" in found
        options = ", ".join(f"{k}={v}" for k, v in sorted(config.get("options", {}).items()))
        if not scored:
            rows.append({"run": name, "seeds": len(made), "options": options, "what": _what(config), "steps": diverged})
            continue
        rows.append(
            {
                "run": name,
                "seeds": len(made),
                "options": options,
                "what": _what(config),
                "loss": config.get("loss", ""),
                "learning rate": f"{config['learning_rate']:g} {config['schedule']}" if trained else "",
                "batch": str(config.get("batch_size", "")),
                "steps": str(found.get("steps", "")) + diverged,
                "parameters": f"{found['parameters']:,}" if trained else "",
                "train / val / test": "{train} / {val} / {test}".format(**found["pictures"]) if trained else "",
                f"test fMSE {evidence.protocol()}": _number(evidence.mean(name, kind="any").estimate, 1),
            }
        )
    return pd.DataFrame(rows).fillna("")


def _what(config: dict) -> str:
    """What is special about a run: what it starts from, or what LEMaRT does to which photographs."""
    if config.get("strategy"):
        transforms = " ".join(config["transforms"]) or "all transforms"
        return f"LEMaRT: {config['strategy']} {config['ratio']:g}, {transforms}, {config['photographs']}"
    words = [f"from {config['start']}"] if config.get("start") else []
    words += [f"{config['share']:.0%} of the data"] if config.get("share", 1) < 1 else []
    return ", ".join(words + ([f"{config['length']:g} times the steps"] if config.get("length", 1) != 1 else []))


def memory(evidence: Evidence) -> pd.DataFrame | None:
    """The memory lab's matrix, as notebook 03 left it."""
    path = evidence.results / "runs" / "memory_lab.csv"
    return read_table(path, MEMORY, "run notebook 03 again") if path.is_file() else None


ALL = {
    "s2am_t4_table1": (table1, "Table 1 of S2AM-T4 on {kind}s: foreground MSE on held-out {kind}s, 95 % intervals over {kind}s."),
    "s2am_t4_table1_photographs": (photographs, "Table 1 on the photographs: a handful, there to look at; no statement rests on them."),
    "s2am_t4_by_subset": (by_subset, "Every method on every subset ({protocol}), all test pictures."),
    "s2am_t4_by_foreground": (by_ratio, "Every method by the foreground's share of the picture ({protocol}), all test pictures."),
    "s2am_t4_two_by_two": (two_by_two, "Architecture and loss, apart ({protocol}, {kind}s)."),
    "s2am_t4_data_share": (data_share, "RQ1: the share of the training photographs, at equal optimiser steps ({protocol}, {kind}s)."),
    "s2am_t4_place": (place, "Where the attention acts ({protocol}, {kind}s)."),
    "s2am_t4_split": (split, "Split by photograph against split by composite ({protocol}, {kind}s)."),
    "s2am_t4_dynamics": (dynamics, "Section 4.3: learning by epoch ({kind}s of the validation split)."),
    "s2am_t4_runs": (runs, "Every run, with its settings."),
    "s2am_t4_memory": (memory, "Predicted peak of one training step of S2AM, every combination of the memory lab."),
    "open_questions": (lambda evidence: paper_values.open_questions(), "What the papers leave open, and what was chosen here."),
}  # fmt: skip


def write(results: Path, name: str, table: pd.DataFrame, caption: str) -> list[Path]:
    """tables/<name>.csv, .md and .tex."""
    folder = results / "tables"
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{name}.{suffix}" for suffix in ("csv", "md", "tex")]
    write_text(paths[0], table.to_csv(index=False, lineterminator="\n"))
    write_text(paths[1], f"{caption}\n\n{markdown(table)}\n")
    latex = table.astype(str).to_latex(
        index=False, escape=True, caption=caption.replace("%", r"\%"), label=f"tab:{name}"
    )
    write_text(paths[2], latex)
    return paths


def markdown(table: pd.DataFrame) -> str:
    """A table in GitHub's Markdown."""
    rows = [table.columns, *table.to_numpy()]
    header, *cells = (
        [plain(str(c)).replace("\n", " ").replace("|", r"\|").replace("<", "&lt;") for c in row] for row in rows
    )
    header = "| " + " | ".join(header) + " |\n|" + "---|" * table.shape[1]
    return "\n".join([header, *("| " + " | ".join(row) + " |" for row in cells)])


def interval(value: Interval, digits: int) -> str:
    """Estimate and 95 % interval: ``0.513 [0.489, 0.540]``."""
    return f"{value.estimate:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def _scores(evidence: Evidence, name: str) -> dict:
    return {
        "seeds": len(evidence.of(name)),
        f"fMSE {evidence.protocol()}": interval(evidence.mean(name), 1),
        "share of doing nothing": interval(evidence.ratio(name), 3),
        "before the first step": _before(evidence, name),
    }


def _before(evidence: Evidence, name: str) -> str:
    """The untrained network's test fMSE as a share of doing nothing (all test pictures)."""
    found = [
        run.metrics["before_training"]["test"]["fmse"]
        for run in evidence.of(name)
        if run.metrics.get("before_training")
    ]
    if not found:
        return ""
    nothing = evidence.mean("identity", kind="any").estimate
    return _number(sum(found) / len(found) / nothing, 2)


def _grouped(evidence: Evidence, by: str) -> pd.DataFrame:
    parts = []
    for name in _present(evidence, MAIN):
        rows = evidence.per_image(name, kind="any")
        rows["foreground"] = rows["foreground_ratio"].map(metrics.ratio_bin)
        order = [g for g in (*metrics.RATIO_BINS, "HCOCO", "HAdobe5k", "HFlickr", "Hday2night") if g in set(rows[by])]
        each = metrics.summarise(rows, by).set_index(by).loc[order].reset_index()
        both = pd.concat([each, metrics.summarise(rows).assign(**{by: "all"})])
        parts.append(both.assign(method=title(name)))
    table = pd.concat(parts)
    for column, digits in (("mse", 1), ("fmse", 1), ("psnr", 2), ("fpsnr", 2)):
        table[column] = [_number(v, digits) for v in table[column]]
    names = {"mse": "MSE", "psnr": "PSNR", "fmse": "fMSE", "fpsnr": "fPSNR"}
    return table[["method", by, "n", *names]].rename(columns=names)


def _printed(metric: str, name: str, epoch: str) -> str:
    found = paper_values.load().query(
        "paper == 's2am_t4' and metric == @metric and method == @name + '/epoch' + @epoch"
    )
    return _number(found["value"].iloc[0], 4) if len(found) else ""


def _present(evidence: Evidence, names) -> list[str]:
    return [name for name in names if evidence.has(name)]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"

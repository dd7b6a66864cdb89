"""From records to the page: every table and figure, the verdicts, the manifest, and one report.html that opens offline."""

import base64
import hashlib
import html
from pathlib import Path

import pandas as pd

from harmonylib import claims, figures, figures_lemart, records, tables, tables_lemart
from harmonylib.evidence import Evidence

TABLES = tables.ALL | tables_lemart.ALL
FIGURES = {  # name: (what draws it from records, its caption, the runs it needs); None: notebook 04 or 05 has drawn it
    "s2am_t4_methods": (figures.methods, "Table 1 as a picture: what is left of the error of doing nothing. Diamonds: the paper's values on HCOCO, on the reading of its scale that makes sense.", ("histogram",)),
    "s2am_t4_figure1": (figures.qualitative, "Figure 1 of S2AM-T4 and a column more: the object's outline, and where the output is still off.", ("s2am",)),
    "s2am_t4_learning_curves": (figures.learning_curves, "Section 4.3: one line a seed; dots are the ends of the epochs.", ("unet", "s2am")),
    "s2am_t4_data_share": (figures.data_share, "RQ1: what less training data costs, at the same number of optimiser steps.", ("unet", "s2am", "unet_share10", "s2am_share10")),
    "s2am_t4_comparison": (lambda evidence: figures.comparison(evidence, compared(evidence)), "Every method on the same pictures.", ()),
    "s2am_t4_memory": (lambda evidence: figures.memory_lab(tables.memory(evidence)), "The memory lab: predicted training peak at 256 px, with the line of 15 GB.", ()),
    "lemart_figure1": (None, "Figure 1 of LEMaRT: a photograph, its composite, and what SwinIH makes of it; PSNR by share of the data against others with all of it.", ()),
    "lemart_figure2": (None, "Figure 2 of LEMaRT: the pipeline, in the tensors of one photograph.", ()),
    "lemart_figure3": (None, "Figure 3 of LEMaRT: SwinIH, drawn from the network object.", ()),
    "lemart_figure4": (None, "Figure 4 of LEMaRT: masks of the three strategies.", ()),
    "lemart_transforms": (None, "LEMaRT's transforms, from the low to the high end of their ranges.", ()),
    "lemart_figure5": (figures_lemart.qualitative, "Figure 5 of LEMaRT: every method at hand on the same pictures.", ("swinih_lemart",)),
    "lemart_figure6": (figures_lemart.data_efficiency, "Figure 6 of LEMaRT: less and less training data; the printed curves end where the notes say.", ("swinih", "swinih_lemart")),
    "lemart_figure7": (figures_lemart.block_edges, "Figure 7 of LEMaRT: where windows meet, and how much it shows.", ("swinih", "swinih_local")),
    "lemart_pretraining_length": (figures_lemart.pretraining_length, "Beyond the paper: how long to pre-train, and at which learning rate.", ("swinih", "swinih_lemart")),
    "lemart_transforms_alone": (figures_lemart.transforms_alone, "Beyond the paper: which perturbation teaches most.", ("swinih", "swinih_lemart")),
}  # fmt: skip
VERDICT_COLOURS = {"holds": "#1b7f4d", "does not hold": "#b3261e", "cannot tell at this scale": "#6b7280"}
CSS = """
:root { --ink: #1d2330; --muted: #5d6675; --line: #e3e6eb; --page: #fbfbf9; --accent: #3b6fb6; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.6 "Source Serif 4", Charter, Georgia, serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
h1 { font-size: 2.1rem; line-height: 1.2; margin: 0 0 .4rem; } h2 { margin: 3rem 0 .6rem; font-size: 1.35rem; }
p, li { max-width: 46rem; } .muted, figcaption, caption { color: var(--muted); }
nav { margin: 1.2rem 0 0; font: 14px/1.5 system-ui, sans-serif; } nav a { margin-right: 1rem; white-space: nowrap; }
a { color: var(--accent); }
figure { margin: 1.2rem 0 2rem; } figure img { max-width: 100%; height: auto; background: white; border: 1px solid var(--line); border-radius: 6px; }
figcaption, caption { font-size: .9rem; text-align: left; padding: .4rem 0; caption-side: top; }
.scroll { overflow-x: auto; margin: 1rem 0 2rem; }
table { border-collapse: collapse; font: 13.5px/1.45 system-ui, sans-serif; min-width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .38rem .7rem; border-bottom: 1px solid var(--line); }
th { font-weight: 600; background: #f2f3f0; position: sticky; top: 0; }
td { font-variant-numeric: tabular-nums; }
.verdict { display: inline-block; color: white; border-radius: 999px; padding: .05rem .6rem; font-size: 12.5px; white-space: nowrap; }
.counts { display: flex; flex-wrap: wrap; gap: 1rem; padding: 0; list-style: none; }
.counts li { border: 1px solid var(--line); background: white; border-radius: 8px; padding: .6rem 1rem; font: 14px/1.4 system-ui, sans-serif; }
.counts b { display: block; font-size: 1.6rem; }
details { margin: 1rem 0; } summary { cursor: pointer; font: 600 15px/1.6 system-ui, sans-serif; }
"""


def compared(evidence: Evidence) -> list[str]:
    """The methods of the side-by-side figure that are at hand."""
    return [name for name in ("identity", "histogram", "reinhard", "unet", "s2am") if evidence.has(name)]


def write_all(results: Path) -> list[Path]:
    """Every table, every figure, claims.csv, manifest.json and report.html; the paths written.

    Raises HarmonyError where there are no records.
    """
    evidence = Evidence(results)
    evidence.of("identity")
    manifest: dict[str, dict] = {"tables": {}, "figures": {}}
    for name in TABLES:
        write_table(evidence, name, manifest)
    for name in FIGURES:
        write_figure(evidence, name, manifest)
    return [*finish(evidence, manifest), results / "tables", results / "figures"]


def caption(evidence: Evidence, name: str) -> str:
    """What stands above a table."""
    return TABLES[name][1].format(kind=evidence.kind, protocol=evidence.protocol())


def write_table(evidence: Evidence, name: str, manifest: dict) -> pd.DataFrame | None:
    """One table as csv, md and tex; enters the manifest. None where the records cannot fill it."""
    evidence.read.clear()
    table = TABLES[name][0](evidence)
    if table is None or not len(table):
        return None
    written = tables.write(evidence.results, name, table, caption(evidence, name))
    manifest["tables"][name] = _made_from(evidence, written[0])
    return table


def write_figure(evidence: Evidence, name: str, manifest: dict) -> None:
    """One figure as png, shown where a notebook is running; enters the manifest. Nothing where its runs are missing."""
    evidence.read.clear()
    draw, _, runs = FIGURES[name]
    path = evidence.results / "figures" / f"{name}.png"
    if draw is None and path.is_file():
        figures.show(path)
    elif draw is None or not evidence.has(*runs) or (name == "s2am_t4_memory" and tables.memory(evidence) is None):
        return
    else:
        figures.save(draw(evidence), evidence.results, name)
    manifest["figures"][name] = _made_from(evidence, path)


def finish(evidence: Evidence, manifest: dict) -> list[Path]:
    """claims.csv, manifest.json and report.html."""
    results = evidence.results
    verdicts = claims.judge(evidence)
    verdicts.to_csv(results / "claims.csv", index=False, lineterminator="\n")
    manifest["claims"] = _made_from(evidence, results / "claims.csv")
    records.write_json(results / "manifest.json", manifest)
    (results / "report.html").write_text(page(evidence, verdicts, manifest), encoding="utf-8")
    return [results / name for name in ("claims.csv", "manifest.json", "report.html")]


def page(evidence: Evidence, verdicts: pd.DataFrame, manifest: dict) -> str:
    """The report: verdicts first, then figures, then tables, then what everything was made from."""
    run = evidence.of("identity")[0]
    env, size = run.env, run.config["size"]
    counts = verdicts["verdict"].value_counts()
    tiles = "".join(f"<li><b>{counts.get(v, 0)}</b>{_chip(v)}</li>" for v in VERDICT_COLOURS)
    shown = verdicts[["claim", "place", "origin", "paper", "ours", "rule"]].map(html.escape)
    shown.insert(0, "verdict", [_chip(v) for v in verdicts["verdict"]])
    sections = [
        f"<h1>Image harmonization, reproduced</h1><p class='muted'>S2AM on a Tesla T4 · profile <b>{html.escape(env['profile'])}</b> · "
        f"data <b>{html.escape(env['data'])}</b> · {size} px · tested on {evidence.kind}s</p>",
        "<nav><a href='#claims'>Claims</a><a href='#figures'>Figures</a><a href='#tables'>Tables</a><a href='#made'>What it was made from</a></nav>",
        f"<p>{_introduction(evidence, size)}</p><ul class='counts'>{tiles}</ul>",
        f"<h2 id='claims'>What the paper claims, and whether it held here</h2><p>Verdicts are computed by the rule beside each claim, set down before the runs. "
        f"A verdict belongs to this profile and this data, not to the paper's own data.</p>{_table(shown, '', escape=False)}",
        "<h2 id='figures'>Figures</h2>" + "".join(_figure(evidence, name) for name in manifest["figures"]),
        "<h2 id='tables'>Tables</h2>" + "".join(_folded(evidence, name) for name in manifest["tables"]),
        f"<h2 id='made'>What it was made from</h2>{_provenance(evidence)}",
    ]
    body = "\n".join(sections)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>harmony-companion: {html.escape(env['profile'])} on {html.escape(env['data'])}</title><style>{CSS}</style></head>"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def _introduction(evidence: Evidence, size: int) -> str:
    share = {n: evidence.ratio(n, protocol="s2am_t4") for n in ("histogram", "unet", "s2am") if evidence.has(n)}
    told = ", ".join(f"{tables.title(n)} {tables.interval(r, 2)}" for n, r in share.items())
    scale = (
        ""
        if size == 256
        else f" At {size} px the numbers are comparable with the paper's only as shares of doing nothing."
    )
    return (
        f"Harmonization makes a pasted object look as if it had been photographed in its new place. What counts is how much of the error of "
        f"<b>doing nothing</b> is left (1 is all of it): {told}; intervals are 95 %, over {evidence.kind}s.{scale}"
    )


def _chip(verdict: str) -> str:
    return f"<span class='verdict' style='background:{VERDICT_COLOURS[verdict]}'>{html.escape(verdict)}</span>"


def _table(table: pd.DataFrame, caption: str, escape: bool = True) -> str:
    cells = table.astype(str).map(html.escape) if escape else table
    head = "".join(f"<th>{html.escape(str(c))}</th>" for c in cells.columns)
    rows = "".join("<tr>" + "".join(f"<td>{v}</td>" for v in row) + "</tr>" for row in cells.to_numpy())
    note = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f"<div class='scroll'><table>{note}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def _folded(evidence: Evidence, name: str) -> str:
    table = pd.read_csv(evidence.results / "tables" / f"{name}.csv", dtype=str, keep_default_na=False)
    opened = " open" if len(table) <= 12 else ""
    words = caption(evidence, name)
    return f"<details{opened}><summary>{html.escape(words)}</summary>{_table(table, '')}</details>"


def _figure(evidence: Evidence, name: str) -> str:
    data = base64.b64encode((evidence.results / "figures" / f"{name}.png").read_bytes()).decode()
    caption = html.escape(FIGURES[name][1])
    return (
        f"<figure><img alt='{caption}' src='data:image/png;base64,{data}'><figcaption>{caption}</figcaption></figure>"
    )


def _provenance(evidence: Evidence) -> str:
    rows = []
    for name, made in evidence.runs.items():
        for run in made:
            env = run.env
            rows.append({"run": name, "seed": run.seed, "commit": (env["git_sha"] or "")[:10] + ("+" if env["git_dirty"] else ""),
                         "data": env["data_hash"], "source": env["source_hash"], "device": env["device"], "torch": env["packages"]["torch"],
                         "seconds": env.get("seconds", "")})  # fmt: skip
    note = "<p class='muted'>A + after the commit: the working tree differed from it. Tables and figures are tied to runs in manifest.json.</p>"
    return note + _table(pd.DataFrame(rows), "")


def _made_from(evidence: Evidence, path: Path) -> dict:
    runs = [
        run.folder.relative_to(evidence.results).as_posix()
        for name in sorted(evidence.read)
        for run in evidence.of(name)
    ]
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "runs": runs}

"""report.html: one page with the verdicts, figures and tables of a results folder, which opens offline."""

import base64
import html
import re

import pandas as pd

from harmonylib import figures, slider, tables
from harmonylib.evidence import Evidence

STUDIES = {"s2am_t4": "S2AM on a Tesla T4", "lemart": "LEMaRT and SwinIH"}
EVIDENCE = {  # how a claim's id begins: the tables and figures to look at, for the report's links
    "s2am_below_unet": ("s2am_t4_table1", "s2am_t4_two_by_two", "s2am_t4_methods"),
    "data_efficiency": ("s2am_t4_data_share",),
    "epoch1": ("s2am_t4_dynamics", "s2am_t4_learning_curves"),
    "unet_plateaus": ("s2am_t4_dynamics", "s2am_t4_learning_curves"),
    "histogram": ("s2am_t4_table1", "s2am_t4_methods"),
    "memory": ("s2am_t4_memory",),
    "batch2": ("s2am_t4_runs",),
    "test_near": ("s2am_t4_dynamics", "s2am_t4_table1"),
    "conservative": ("s2am_t4_figure1",),
    "background": ("s2am_t4_two_by_two", "s2am_t4_figure1"),
    "softens": ("s2am_t4_figure1",),
    "leak": ("s2am_t4_split",),
    "larger": ("s2am_t4_runs",),
    "lemart_helps_10": ("lemart_data_efficiency", "lemart_figure6"),
    "lemart_helps": ("lemart_table3",),
    "lemart_beats": ("lemart_data_efficiency", "lemart_figure6"),
    "lemart_more": ("lemart_figure6", "lemart_data_efficiency"),
    "lemart_half_the": ("lemart_figure6", "lemart_figure1"),
    "lemart": ("lemart_table1", "lemart_figure1"),
    "swinih_local_blocks": ("lemart_figure7", "lemart_table4"),
    "swinih": ("lemart_table4",),
    "grid": ("lemart_table5", "lemart_figure4"),
    "random": ("lemart_table5", "lemart_figure4"),
    "ratio": ("lemart_table6",),
    "windows": ("lemart_figure3",),
    "printed": ("lemart_pretraining_length",),
    "target": ("lemart_pretraining",),
    "realhm": ("lemart_table2",),
    "hday2night": ("lemart_table1",),
}
SHOWN = ("reinhard", "unet", "s2am", "swinih", "swinih_lemart")  # in the gallery
VERDICT_COLOURS = {"holds": "#1b7f4d", "does not hold": "#b3261e", "cannot tell at this scale": "#6b7280"}
CSS = """
:root { --ink: #1d2330; --muted: #5d6675; --line: #e3e6eb; --page: #fbfbf9; --accent: #3b6fb6; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.6 "Source Serif 4", Charter, Georgia, serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
h1 { font-size: 2.1rem; line-height: 1.2; margin: 0 0 .4rem; } h2 { margin: 3rem 0 .6rem; font-size: 1.35rem; }
p, li { max-width: 46rem; } .muted, figcaption, caption { color: var(--muted); }
nav { margin: 1.2rem 0 0; font: 14px/1.5 system-ui, sans-serif; } nav a { display: inline-block; margin-right: 1rem; white-space: nowrap; }
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
.row { display: flex; flex-wrap: wrap; gap: .8rem; margin: .8rem 0; }
details { margin: 1rem 0; } summary { cursor: pointer; font: 600 15px/1.6 system-ui, sans-serif; }
"""
SCRIPT = "const open=()=>{const d=document.querySelector(location.hash||'x');if(d&&d.tagName==='DETAILS')d.open=true};addEventListener('hashchange',open);open()"


def page(evidence: Evidence, verdicts: pd.DataFrame, manifest: dict, words: dict[str, str]) -> str:
    """The report: verdicts first, then figures, then tables, then what everything was made from. `words`: captions."""
    run = evidence.of("identity")[0]
    env, size = run.env, run.config["size"]
    counts = verdicts["verdict"].value_counts()
    tiles = "".join(f"<li><b>{counts.get(v, 0)}</b>{_chip(v)}</li>" for v in VERDICT_COLOURS)
    sections = [
        f"<h1>Image harmonization, reproduced</h1><p class='muted'>S2AM on a Tesla T4 · LEMaRT and SwinIH · profile <b>{html.escape(env['profile'])}</b> · "
        f"data <b>{html.escape(env['data'])}</b> · {html.escape(str(size))} px · tested on {evidence.kind}s</p>",
        f"<nav><a href='#claims'>Claims</a>{_gallery_link(evidence)}<a href='#figures'>Figures</a><a href='#tables'>Tables</a><a href='#made'>What it was made from</a></nav>",
        f"<p>{_introduction(evidence, size)}</p><ul class='counts'>{tiles}</ul>",
        "<h2 id='claims'>What the papers claim, and whether it held here</h2><p>Verdicts are computed by the rule beside each claim, set down before the runs. "
        "A verdict belongs to this profile and this data, not to the papers' own data.</p>",
        *(
            f"<h3>{heading}</h3>{_claims(verdicts[verdicts['study'] == study], manifest)}"
            for study, heading in STUDIES.items()
        ),
        _gallery(evidence),
        "<h2 id='figures'>Figures</h2>" + "".join(_figure(evidence, name, words[name]) for name in manifest["figures"]),
        "<h2 id='tables'>Tables</h2>" + "".join(_folded(evidence, name, words[name]) for name in manifest["tables"]),
        f"<h2 id='made'>What it was made from</h2>{provenance(evidence)}",
    ]
    body = "\n".join(sections)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>harmony-companion: {html.escape(env['profile'])} on {html.escape(env['data'])}</title><style>{CSS}</style>{slider.STYLE}</head>"
        f"<body><main>\n{body}\n</main><script>{SCRIPT}</script></body></html>\n"
    )


def _gallery_link(evidence: Evidence) -> str:
    return "<a href='#pictures'>Before and after</a>" if figures.example_names(evidence) else ""


def _gallery(evidence: Evidence) -> str:
    """What methods made of the pictures that they kept, under sliders; nothing where records come without pictures."""
    names = figures.example_names(evidence)
    if not names:
        return ""
    rows = "".join(
        f"<div class='row'>{''.join(_slider(evidence, m, name) for m in SHOWN if figures.has_example(evidence, m, name))}</div>"
        for name in names
    )
    return (
        "<h2 id='pictures'>Before and after</h2><p>Drag a handle, or reach it with the Tab key and use the arrows: left of it is the composite, right of it what the "
        f"method made of it. All are shown at the {html.escape(str(evidence.of('identity')[0].config['size']))} px of this profile.</p>{rows}"
    )


def _slider(evidence: Evidence, method: str, name: str) -> str:
    before, after = (figures.example(evidence, m, name) for m in ("identity", method))
    return slider.slider(before, after, ("composite", tables.title(method)), style=False, width=210)


def _claims(verdicts: pd.DataFrame, manifest: dict) -> str:
    shown = verdicts[["claim", "place", "origin", "paper", "ours", "rule"]].map(html.escape)
    shown.insert(0, "verdict", [_chip(v) for v in verdicts["verdict"]])
    shown["evidence"] = [_links(claim, manifest) for claim in verdicts["id"]]
    return _table(shown, "", escape=False)


def evidence_of(claim: str) -> tuple[str, ...]:
    """The tables and figures that show what a claim was judged by, the most telling first."""
    return next((names for start, names in EVIDENCE.items() if claim.startswith(start)), ())


def _links(claim: str, manifest: dict) -> str:
    made = {**manifest["tables"], **manifest["figures"]}
    return ", ".join(f"<a href='#{name}'>{_short(name)}</a>" for name in evidence_of(claim) if name in made)


def _short(name: str) -> str:
    """`lemart_figure6` as "figure 6"."""
    words = name.removeprefix("s2am_t4_").removeprefix("lemart_").replace("_", " ")
    return re.sub(r"^(table|figure)(\d)", r"\1 \2", words)


def _introduction(evidence: Evidence, size: int) -> str:
    share = {n: evidence.ratio(n, protocol="s2am_t4") for n in ("histogram", "unet", "s2am") if evidence.has(n)}
    share |= {n: evidence.ratio(n) for n in ("swinih", "swinih_lemart") if evidence.has(n)}
    told = ", ".join(f"{tables.title(n)} {tables.interval(r, 2)}" for n, r in share.items())
    scale = (
        ""
        if size == 256
        else f" At {html.escape(str(size))} px the numbers are comparable with the paper's only as shares of doing nothing."
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


def _folded(evidence: Evidence, name: str, words: str) -> str:
    table = pd.read_csv(evidence.results / "tables" / f"{name}.csv", dtype=str, keep_default_na=False)
    opened = " open" if len(table) <= 12 else ""
    return f"<details id='{name}'{opened}><summary>{html.escape(words)}</summary>{_table(table, '')}</details>"


def _figure(evidence: Evidence, name: str, words: str) -> str:
    kind, content = figures.for_screen(evidence.results / "figures" / f"{name}.png")
    data, caption = base64.b64encode(content).decode(), html.escape(words)
    return f"<figure id='{name}'><img alt='{caption}' src='data:image/{kind};base64,{data}'><figcaption>{caption}</figcaption></figure>"


def provenance(evidence: Evidence) -> str:
    """What made each run, as a table."""
    rows = []
    for name, made in evidence.everything.items():
        for run in made:
            env = run.env
            rows.append({"run": name, "seed": run.seed, "commit": (env["git_sha"] or "")[:10] + ("+" if env["git_dirty"] else ""),
                         "data": env["data_hash"], "source": env["source_hash"], "device": env["device"], "torch": env["packages"]["torch"],
                         "seconds": env.get("seconds", "")})  # fmt: skip
    note = "<p class='muted'>A + after the commit: the working tree differed from it. Tables and figures are tied to runs in manifest.json.</p>"
    return note + _table(pd.DataFrame(rows), "")

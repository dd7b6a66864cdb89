"""From records to results: every table and figure, the verdicts, the manifest, and report.html (`page`)."""

import hashlib
from pathlib import Path

import pandas as pd

from harmonylib import claims, figures, figures_lemart, page, records, tables, tables_lemart
from harmonylib.evidence import Evidence
from harmonylib.paths import write_text
from harmonylib.reading import check_links

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

OF_PICTURES = ("s2am_t4_figure1", "s2am_t4_comparison", "lemart_figure5", "lemart_figure7")  # drawn from kept outputs


def compared(evidence: Evidence) -> list[str]:
    """The methods of the side-by-side figure that are at hand."""
    return [name for name in ("identity", "histogram", "reinhard", "unet", "s2am") if evidence.has(name)]


def write_all(results: Path) -> list[Path]:
    """Every table, every figure, claims.csv, manifest.json and report.html; the paths written.

    Raises HarmonyError, before anything is written, where there are no records, one is damaged, or a link leads out.
    """
    check_links(results, results.rglob("*"))
    for name, (draw, *_) in FIGURES.items():  # before anything is written: the others are drawn here
        if draw is None and (path := results / "figures" / f"{name}.png").is_file():
            figures.for_screen(path)
    evidence = Evidence(results)
    evidence.of("identity")
    _read(evidence)
    manifest: dict[str, dict] = {"tables": {}, "figures": {}}
    for name in TABLES:
        write_table(evidence, name, manifest)
    for name in FIGURES:
        write_figure(evidence, name, manifest)
    return [*finish(evidence, manifest), results / "tables", results / "figures"]


def _read(evidence: Evidence) -> None:
    """Every record, once; they are kept. New tables beside an old manifest would be no results."""
    for made in evidence.runs.values():
        for record in made:
            _ = record.per_image
    tables.memory(evidence)
    page.provenance(evidence)


def caption(evidence: Evidence, name: str) -> str:
    """What stands above a table."""
    return TABLES[name][1].format(kind=evidence.kind, protocol=evidence.protocol())


def write_table(evidence: Evidence, name: str, manifest: dict) -> pd.DataFrame | None:
    """One table as csv, md and tex; enters the manifest. None where the records cannot fill it."""
    evidence.read.clear()
    table = TABLES[name][0](evidence)
    if table is None or not len(table):
        return None
    evidence.check_place()
    written = tables.write(evidence.results, name, table, caption(evidence, name))
    manifest["tables"][name] = _made_from(evidence, written[0])
    return table


def write_figure(evidence: Evidence, name: str, manifest: dict) -> None:
    """One figure as png, shown where a notebook is running; enters the manifest.

    Nothing where its runs are missing, or the pictures that they kept (records of photographs are published without).
    """
    evidence.read.clear()
    draw, _, runs = FIGURES[name]
    path = evidence.results / "figures" / f"{name}.png"
    if draw is None and path.is_file():
        figures.show(path)
    elif draw is not None and _can_draw(evidence, name, runs):
        figure = draw(evidence)
        evidence.check_place()
        figures.save(figure, evidence.results, name)
    else:
        return
    manifest["figures"][name] = _made_from(evidence, path)


def _can_draw(evidence: Evidence, name: str, runs: tuple[str, ...]) -> bool:
    if name in OF_PICTURES and not figures.example_names(evidence):
        return False
    return evidence.has(*runs) and not (name == "s2am_t4_memory" and tables.memory(evidence) is None)


def finish(evidence: Evidence, manifest: dict) -> list[Path]:
    """claims.csv, manifest.json and report.html."""
    results = evidence.results
    for part, order in (("tables", TABLES), ("figures", FIGURES)):  # whoever wrote them, in whatever order
        manifest[part] = {name: manifest[part][name] for name in order if name in manifest[part]}
    evidence.read.clear()
    verdicts = claims.judge(evidence)
    evidence.check_place()
    write_text(results / "claims.csv", verdicts.to_csv(index=False, lineterminator="\n"))
    manifest["claims"] = _made_from(evidence, results / "claims.csv")
    records.write_json(results / "manifest.json", manifest)
    words = {name: caption(evidence, name) for name in manifest["tables"]} | {
        n: FIGURES[n][1] for n in manifest["figures"]
    }
    content = page.page(evidence, verdicts, manifest, words)
    evidence.check_place()
    write_text(results / "report.html", content)
    return [results / name for name in ("claims.csv", "manifest.json", "report.html")]


def _made_from(evidence: Evidence, path: Path) -> dict:
    runs = [
        run.folder.relative_to(evidence.results).as_posix()
        for name in sorted(evidence.read)
        for run in evidence.of(name)
    ]
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "runs": runs}

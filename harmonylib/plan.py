"""``python -m harmonylib plan``: every run of a profile, with the time, memory and disk it will take on this device.

Time is that of some of its own steps and of pictures scored (`probe`), times how many there are. Memory is counted on
tensors without data (`memory`). For a card that is not here (`on_cards`), time is counted operations over the card's
stated peak, times the share of its own peak that this device was measured to reach.
"""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pandas as pd
import torch

from harmonylib import experiments, memory, models, training, workers
from harmonylib.config import Experiment
from harmonylib.errors import HarmonyError
from harmonylib.paths import ROOT, shown, write_text
from harmonylib.probe import all_costs, cost, flops_per_picture, options_from, seconds
from harmonylib.reading import read_table
from harmonylib.records import MADE_HERE, Record
from harmonylib.study import PROTOCOLS, Study
from harmonylib.training import CURVE_IMAGES, total_steps, validations

PROBE_SIZE = 64  # px of the picture that the share of a peak is measured on
NOTEBOOKS, STARTS = "the notebooks themselves", 75  # times as long as a start of Python with the package
SEEDS = 1000  # of a run, more than anybody repeats it
RUN_SECONDS = 0.5  # of a run, besides steps and scores: files opened and written
PICTURES = {"s2am_t4": 22_800, "lemart": 65_742, "photographs": 120_000}  # to train on, as the papers have them
CARDS = {  # stated peak of dense matrix products in the precision that trains there, FLOP/s; memory, bytes
    "T4 (float16)": (65e12, 15e9),
    "A100 80 GB (bfloat16)": (312e12, 80e9),
    "H100 80 GB (bfloat16)": (989e12, 80e9),
}


def show(study: Study, out: Path | None = None) -> None:
    """Print one row a run, the sum, what does not fit, and, where a profile trains at the papers' sizes, the hours on
    other cards. `out` keeps the rows, for `compare`."""
    table = runs(study)
    print(table.drop(columns=["bytes"]).to_string(index=False, float_format="%.2f"))
    at_once, disk = processes(study), table["bytes"].sum() + cached(study)
    training, others = table["minutes"].sum() / at_once, notebooks()
    print(
        f"training and scoring {training:.1f} min, {at_once} at once, on {_device()}; with the notebooks' own work "
        f"`make reproduce` takes about {training + others:.1f} min; the largest step needs at most "
        f"{table['GiB'].max():.2f} GiB; checkpoints and prepared pictures take {disk / 1e9:.2f} GB of disk"
    )
    for line in misfits(study, table, disk):
        print(line)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        table.loc[len(table)] = {"run": NOTEBOOKS, "minutes": others}
        write_text(out, table.to_csv(index=False, lineterminator="\n"))
    if study.profile.preset is None:
        print("\nOn other cards, for LEMaRT's runs:\n" + on_cards().to_string(index=False))


def notebooks() -> float:
    """Minutes that all notebooks take besides training (data, figures, tables): so many times as long as a start."""
    start = [sys.executable, "-c", "import harmonylib.study"]
    times = []
    for _ in range(3):  # the first may find cold disk caches
        started = time.perf_counter()
        subprocess.run(start, check=True, cwd=ROOT)
        times.append(time.perf_counter() - started)
    return STARTS * min(times) / 60


def runs(study: Study) -> pd.DataFrame:
    """One row a run: seeds, steps, batch, px, minutes (all seeds one after another), GiB of its step, bytes of disk."""
    planned = experiments.plan(study.profile, study.data)
    # Most runs differ in their data alone, and not in what a step of theirs costs.
    firsts = {_shape(p.experiment): p.experiment for p in reversed(planned)}
    names = [experiment.name for experiment in firsts.values()]
    costs = all_costs(names, study.profile.name, study.data, processes(study))
    known = {shape: (costs[e.name], _gib(e), _parameters(e)) for shape, e in firsts.items()}
    rows = []
    for experiment, seeds in ((p.experiment, len(p.seeds)) for p in planned):
        cost, gib, parameters = known[_shape(experiment)]
        steps = total_steps(experiment, _pictures(experiment, study))
        spent = seeds * (steps * cost.step + scored(experiment, study) * cost.picture + RUN_SECONDS)
        size = experiment.batch_size, experiment.size
        rows.append((experiment.name, seeds, steps, *size, spent / 60, gib, seeds * parameters))
    return pd.DataFrame(rows, columns=["run", "seeds", "steps", "batch", "px", "minutes", "GiB", "bytes"])


def scored(experiment: Experiment, study: Study) -> int:
    """Pictures that a run is scored on: its learning curve, its validations, and the test list under its protocols."""
    split = study.like(experiment).split(experiment.split)
    val, test = len(split.val), len(split.test)
    before = test if experiment.study == "s2am_t4" else 0
    ends, points = validations(experiment, total_steps(experiment, _pictures(experiment, study)))
    curve = (1 + len(points) - len(ends)) * min(CURVE_IMAGES, val) + len(ends) * val
    return curve + before + len(PROTOCOLS[experiment.study]) * test


def cached(study: Study) -> float:
    """Bytes of the prepared composites, targets and masks; photographs for LEMaRT come on top."""
    studies = {id(s): s for p in experiments.plan(study.profile, study.data) for s in [study.like(p.experiment)]}
    entries = [(s.size, e) for s in studies.values() for part in vars(s.listed).values() for e in part]
    pictures = {(size, path) for size, e in entries for path in (e.composite, e.real)}
    masks = {(size, e.mask) for size, e in entries}
    return sum(3 * size**2 for size, _ in pictures) + sum(size**2 for size, _ in masks)


def processes(study: Study) -> int:
    """How many runs are trained at once: `Study.run_all`."""
    alone = not study.profile.parallel or torch.cuda.is_available()
    return 1 if alone else min(torch.get_num_threads(), workers.MOST)


def on_cards() -> pd.DataFrame:
    """Hours of LEMaRT's main runs at the paper's size on other cards, and the pictures that a card holds at once.

    A tenth of the stated peak would be a slow program, half of it a very good one: the share that this device reaches
    on the same network, `share_of_peak`, stands in for it. Memory counts attention maps that a GPU's fused kernels
    never hold, so more pictures may fit. One row a run and card.
    """
    share, rows = share_of_peak(), []
    for name in ("pretrain_swinih", "swinih_lemart", "swinih_lemart_120"):
        experiment = experiments.EXPERIMENTS[name]
        steps = total_steps(experiment, PICTURES["photographs" if experiment.strategy else "lemart"])
        flops = steps * experiment.batch_size * flops_per_picture(experiment.model, experiment.size)
        for card, (peak, room) in CARDS.items():
            hours, least = (f"{flops / speed / 3600:,.1f}" for speed in (peak * share, peak))
            row = {"run": name, "card": card, "optimiser steps": steps, "PFLOP": f"{flops / 1e15:,.0f}", "hours": hours}
            rows.append(row | {"at the stated peak": least, "pictures at once": _fitting(experiment, room)})
    print(f"this device reaches {share:.0%} of its own peak ({_device()}, SwinIH at {PROBE_SIZE} px, float32)")
    return pd.DataFrame(rows)


def misfits(study: Study, table: pd.DataFrame, disk: float) -> list[str]:
    """What does not fit the memory or the disk of this machine, a line each, with what would make it fit."""
    room, lines = memory.room(), []
    for planned in experiments.plan(study.profile, study.data):
        experiment = planned.experiment
        gib = table.loc[table["run"] == experiment.name, "GiB"].iloc[0]
        if gib * processes(study) * 2**30 > room:
            words = f"{experiment.name}: a step needs {gib:.1f} GiB, {_device()} has {room / 2**30:.1f}"
            lines.append(f"does not fit: {words}; {_remedy(experiment, room)}")
    folder = next(path for path in (study.results, *study.results.parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if disk > free:
        lines.append(f"does not fit: {shown(folder)} has {free / 1e9:.1f} GB free; set HARMONY_RESULTS, HARMONY_DATA")
    return lines


def compare(study: Study, file: Path) -> None:
    """Print what `show` predicted beside what the runs that this machine made since then took, and beside the time from
    then until now, which is that of `make reproduce` where it was not interrupted.

    Raises HarmonyError where there is no such file.
    """
    advice = "`plan --out` writes it before the runs are made"
    kinds = {"run": str, "minutes": float, "seeds": float}
    planned = read_table(file, ("run", "minutes"), advice, dtype=kinds).set_index("run")
    if NOTEBOOKS not in planned.index:
        print(f"plan: {shown(file)} was written by another version; nothing to compare")
        return
    others, rows = planned.loc[NOTEBOOKS, "minutes"], []
    planned = planned.drop(index=NOTEBOOKS)
    named = planned.index.astype(str).str.fullmatch(r"\w{1,99}").all()  # folders will be called so
    own = planned.index.is_unique and not planned.index.hasnans and isinstance(others, float)
    if "seeds" not in planned or not own or not named or not planned["seeds"].between(1, SEEDS).all():
        raise HarmonyError(f"{shown(file)}: no plan, rows without a name of their own or a number of seeds; {advice}")
    for name, row in planned.iterrows():
        records = [Record(study.results / "runs" / name / f"seed{seed}") for seed in range(int(row["seeds"]))]
        spent = [_seconds(record) for record in records if _made_since(record, file)]
        if len(spent) == len(records) and None not in spent:
            took = sum(spent) / 60
            rows.append((name, row["minutes"], took, row["minutes"] / took))
    if not rows:
        print("plan: no run was made since; nothing to compare")
        return
    table = pd.DataFrame(rows, columns=["run", "predicted", "took", "ratio"]).sort_values("took", ascending=False)
    print(table.head(12).to_string(index=False, float_format="%.2f"))
    trained, took = table["predicted"].sum(), table["took"].sum()
    print(f"plan: {len(table)} runs, predicted {trained:.1f} min, took {took:.1f} min: {trained / took:.2f} of it")
    if len(table) == len(planned):
        whole, passed = trained / processes(study) + others, (time.time() - file.stat().st_mtime) / 60
        print(f"plan: in all, predicted {whole:.1f} min, {passed:.1f} min have passed: {whole / passed:.2f} of it")


def _seconds(record: Record) -> float | None:
    """What training and scoring took, if the record says it."""
    spent = [record.env.get(name) for name in ("seconds", "scoring_seconds")]
    return sum(spent) if all(type(s) in (int, float) and 0 < s < 1e9 for s in spent) else None


def _made_since(record: Record, file: Path) -> bool:
    made = record.folder / MADE_HERE
    return made.is_file() and made.stat().st_mtime >= file.stat().st_mtime


@lru_cache
def share_of_peak() -> float:
    """What full-size SwinIH reaches of the speed of a large matrix product on this device, in float32."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    square = torch.rand(2048, 2048, device=device)
    peak = 2 * 2048**3 / seconds(lambda _: square @ square, device)
    probed = cost(Experiment("probe", "swinih", batch_size=1, size=PROBE_SIZE))
    return min(1.0, flops_per_picture("swinih", PROBE_SIZE) / probed.step / peak)


def _shape(experiment: Experiment) -> str:
    """What a step costs depends on: neither names, nor data, nor how many there are."""
    same = {"name": "", "epochs": 1, "steps": None, "length": 1.0, "share": 1.0, "start": "", "split": "photo",
            "photographs": "unlabelled", "photograph_count": None, "subset": "all", "learning_rate": 1.0}  # fmt: skip
    return replace(experiment, **same).config_id


def _gib(experiment: Experiment) -> float:
    return _step_bytes(experiment, _at_once(experiment)) / 2**30


def _step_bytes(experiment: Experiment, batch: int) -> int:
    half = training.pick_precision(experiment.precision) != "float32"
    what = experiment.model, json.dumps(experiment.options), batch, experiment.size
    return _peak(*what, "float16" if half else "float32", experiment.optimiser)


def _at_once(experiment: Experiment) -> int:
    return experiment.micro_batch or experiment.batch_size


def _parameters(experiment: Experiment) -> int:
    """Bytes of a finished checkpoint."""
    with torch.device("meta"):
        state = models.build(experiment.model, **experiment.options).state_dict()
    return sum(tensor.nbytes for tensor in state.values())


def _remedy(experiment: Experiment, room: float) -> str:
    """What would make a step fit: another attention, or a part of the batch at once."""
    if experiment.options.get("attention") == "naive":
        return "--set options.attention=exact"
    parts = [n for n in range(1, _at_once(experiment)) if experiment.batch_size % n == 0]
    for part in reversed(parts):
        if _step_bytes(experiment, part) <= room:
            return f"--set micro_batch={part} does (batch normalisation then sees {part} pictures)"
    return "not even one picture does: --set size=... smaller, or a larger device"


def _pictures(experiment: Experiment, study: Study) -> int:
    """Pictures of one pass: those at hand, and where a profile counts in epochs on other data, the papers'."""
    if experiment.steps:
        return 0  # a fixed budget does not depend on them
    if study.data == "embedded":
        return PICTURES["photographs" if experiment.strategy else experiment.study]
    if experiment.strategy:
        return len(study.like(experiment).photographs(experiment).pixels)
    return len(study.like(experiment).split(experiment.split).train)


def _fitting(experiment: Experiment, room: float) -> int:
    """The largest number of pictures whose training step stays within `room` bytes, counted with autocast."""
    counted = [_peak(experiment.model, "{}", batch, experiment.size, "float16", "adamw") for batch in (1, 2)]
    return max(0, int(1 + (room - counted[0]) // (counted[1] - counted[0])))


@lru_cache
def _peak(model: str, options: str, batch: int, size: int, dtype: str, optimiser: str) -> int:
    """`memory.training_peak`, with options as JSON."""
    return memory.training_peak(model, options_from(options), batch, size, dtype, optimiser)["total_peak"]


def _device() -> str:
    return (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"this CPU with {torch.get_num_threads()} threads"
    )

"""A study: one profile on one data set. It finds the data, trains what is declared, and writes the run records."""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from harmonylib import checkpoints, config, evaluation, experiments, metrics, models, records, training, workers
from harmonylib.checkpoints import seed_everything
from harmonylib.config import Experiment, Profile
from harmonylib.data import layout
from harmonylib.data.cache import Cache, Photographs, prepare, prepare_photographs
from harmonylib.data.dataset import HarmonyDataset
from harmonylib.data.layout import Entry
from harmonylib.data.locate import LADDER, find, locate, name_of, photographs
from harmonylib.distributed import from_main, main_first
from harmonylib.errors import HarmonyError
from harmonylib.paths import alone, building, results_dir, shown
from harmonylib.reading import check_links
from harmonylib.records import Record

PROTOCOLS = {"s2am_t4": ("bcmi256", "s2am_t4"), "lemart": ("bcmi256",)}  # that a study's runs are scored under
METHODS = ("identity", "constant_shift", "histogram", "reinhard")  # without training
VAL_SHARE = 1 / 3  # of the training list: with a tenth of the photographs in the test list, S2AM-T4's 60/30/10
EXAMPLES = 6  # pictures kept for the qualitative figure, as the networks gave them


@dataclass(frozen=True)
class Split:
    train: list[Entry]
    val: list[Entry]
    test: list[Entry]


@dataclass(frozen=True)
class Study:
    """One profile on one data set, with the folder its results go to."""

    profile: Profile
    data: str
    root: Path
    results: Path
    subset: str
    size: int  # side in px of the pictures that are trained and evaluated on
    say: Callable = print
    others: dict = field(default_factory=dict, compare=False, repr=False)  # the same at other subsets and sizes
    prepared: dict = field(default_factory=dict, compare=False, repr=False)  # photographs for LEMaRT, by their source

    def like(self, experiment: Experiment) -> "Study":
        """The same study at an experiment's own subset and size, where they differ."""
        key = experiment.subset, experiment.size
        if key == (self.subset, self.size):
            return self
        return self.others.setdefault(key, replace(self, subset=key[0], size=key[1], prepared={}))

    @property
    def given(self) -> str:
        """By what name or path another process, in whatever folder it works, opens the same set."""
        below = self.data == "embedded" or (self.data in LADDER and find(self.data) == self.root)
        return self.data if below else str(self.root.resolve())

    @property
    def lemart(self) -> "Study":
        """The LEMaRT half: on real data it is about all subsets, where S2AM-T4 is about HCOCO."""
        return self.like(experiments.resolve(experiments.FINETUNE, self.profile, self.data))

    @cached_property
    def listed(self) -> Split:
        """S2AM-T4's 60/30/10 by photograph: the test list is held out, the training list is divided 2 : 1."""
        read = {s: layout.read_entries(self.root, self.subset, s, VAL_SHARE) for s in layout.SPLITS}
        return Split(**read)

    @cached_property
    def cache(self) -> Cache:
        parts = self.listed
        return main_first(lambda: prepare(parts.train + parts.val + parts.test, self.size, say=self.say))

    def split(self, by: str) -> Split:
        """``photo``: the lists. ``composite``: all composites divided 60/30/10 at random, as S2AM-T4 did it.

        Of the validation part, as many as the profile looks at.
        """
        train, val, test = self.listed.train, self.listed.val, self.listed.test
        if by == "composite":
            rest, test = layout.hold_out(train + val + test, 0.1, by="name", salt="composite")
            train, val = layout.hold_out(rest, VAL_SHARE, by="name", salt="composite")
        return Split(train, _spread(val, self.profile.val_images), test)

    def photographs(self, experiment: Experiment) -> Photographs:
        """What LEMaRT perturbs in this run. Raises HarmonyError where there are none, or fewer than asked for."""
        if experiment.photographs not in self.prepared:
            self.prepared[experiment.photographs] = self._prepare(experiment.photographs)
        found = self.prepared[experiment.photographs]
        count = experiment.photograph_count or len(found.pixels)
        if count > len(found.pixels):
            raise HarmonyError(
                f"experiment {experiment.name}: photograph_count={count}, but {experiment.photographs} has "
                f"{len(found.pixels)}; ask for fewer or add photographs"
            )
        return replace(found, pixels=found.pixels[:count])

    def _prepare(self, source: str) -> Photographs:
        if source == "target":
            rows = np.unique(self.cache.index["real"].to_numpy()[self.cache.rows(self.listed.train)])
            return Photographs(self.cache.real[rows], self.cache.data_hash)
        files = photographs(source, self.root)
        return main_first(lambda: prepare_photographs(files, self.size, self.say))

    def run_all(self, names: Iterable[str] | None = None, study: str | None = None) -> None:
        """Train every planned run (of one paper's study), or those named with what they start from."""
        planned = experiments.plan(self.profile, self.data, study)
        runs = [replace(p.experiment, seed=seed) for p in planned for seed in p.seeds]
        if names is not None:
            wanted = set(names)
            runs = [e for e in runs if e.name in wanted]
            missing = {label(p): p for e in runs if (p := self._parent(e)) is not None}
            runs = list({label(e): e for e in (*missing.values(), *runs)}.values())
        gpus = torch.cuda.device_count()
        processes = gpus or (min(torch.get_num_threads(), workers.MOST) if self.profile.parallel else 1)
        if processes == 1 and not gpus:
            for experiment in runs:
                self.run(experiment)
            return
        # On GPUs always in processes of their own: a notebook's kernel then holds no memory of theirs.
        jobs = {label(e): e for e in runs if self.finished(e) is None}
        if jobs:
            needs = {name: label(p) for name, e in jobs.items() if (p := self._parent(e)) is not None}
            workers.run(self.profile.name, self.given, list(jobs), needs, processes, self.say)

    def run(self, experiment: Experiment, seed: int | None = None) -> Record:
        """Train and evaluate one run, or open its record if nothing it depends on has changed.

        What it starts from is trained first. The trial of the printed learning rate may diverge: its record says when.
        Where another process is at it, this one waits and opens the record.
        """
        experiment = experiment if seed is None else replace(experiment, seed=seed)
        if self.like(experiment) is not self:
            return self.like(experiment).run(experiment)
        key = self._key(experiment)  # which prepares the pictures: a matter of all processes
        with self._alone(self._folder(experiment)):
            return from_main(lambda: self.finished(experiment)) or self._train(experiment, key)

    def _train(self, experiment: Experiment, key: str) -> Record:
        folder = self._folder(experiment)
        split = self.split(experiment.split)
        train = layout.take_share(split.train, experiment.share)
        rows = [self.cache.rows(part) for part in (train, split.val, split.test)]
        parent = self._parent(experiment)
        if parent is not None:
            self.run(parent)
        file = Path(experiment.start) if experiment.start else None
        start = file if parent is None else self._folder(parent) / "checkpoint.pt"
        material = {"start": start, "full_count": len(split.train)}
        if experiment.strategy:
            pixels = self.photographs(experiment).pixels
            material |= {"photographs": pixels, "full_count": len(pixels)}
        checkpoint = folder / "checkpoint.pt"
        try:
            trained = training.finished(checkpoint, key) or training.train(
                experiment, self.cache, *rows[:2], checkpoint, **material, key=key, say=self.say
            )
        except training.Diverged as error:
            if experiment.name != experiments.TRIAL:
                raise
            self.say(str(error))
            return self._write_diverged(experiment, error)
        scoring = time.perf_counter()
        method = evaluation.network(trained.model)
        test = [evaluation.evaluate(method, split.test, p, experiment.size) for p in PROTOCOLS[experiment.study]]
        per_image = pd.concat([_tagged(rows, "test") for rows in test] + [_tagged(trained.validation, "val")])
        counts = {"train": material["full_count"] if experiment.strategy else len(train)}
        summary = _summary(test) | {
            "before_training": self._before(experiment, parent, start, rows[2]),
            "validation": {str(e): _means(rows) for e, rows in trained.validation.groupby("epoch")},
            "train_loss": {str(int(r.epoch)): float(f"{r.train_loss:.6g}") for r in _epoch_ends(trained.log)},
            "parameters": sum(p.numel() for p in trained.model.parameters()),
            "steps": trained.steps,
            "pictures": counts | {"val": len(split.val), "test": len(split.test)},
            "key": key,
        }
        if experiment.split == "photo" and experiment.seed == 0 and experiment.share == 1 and not experiment.strategy:
            from_main(lambda: self._keep_examples(folder, method))
        environment = self._environment(trained) | {"scoring_seconds": round(time.perf_counter() - scoring, 1)}
        parts = experiment.to_dict(), summary, per_image, trained.log, environment
        return from_main(lambda: records.write(folder, *parts))

    def _before(self, experiment: Experiment, parent: Experiment | None, start: Path | None, test: np.ndarray) -> dict:
        """The test means of the weights that training started from; a parent run has measured its own.

        LEMaRT's networks start next to doing nothing, as the first point of their curve says.
        """
        if parent is not None:
            measured = Record(self._folder(parent)).metrics["test"]
            return {"test": measured[metrics.caption("bcmi256", parent.size)]}
        if experiment.study == "lemart":
            return {}
        seed_everything(experiment.seed)
        untrained = training.load_model(start) if start else models.build(experiment.model, **experiment.options)
        return {"test": _means(evaluation.evaluate_cached(evaluation.network(untrained), self.cache, test))}

    def run_baselines(self) -> None:
        """Score every method without training on the test pictures, and doing nothing on the split by composite's."""
        for name in METHODS:
            self.run_baseline(name)
        self.run_baseline("identity", "composite")

    def run_baseline(self, name: str, by: str = "photo") -> Record:
        """Score one method without training, or open its record if this machine made it from the same data and source.

        The constant colour shift is fitted on the training pictures.
        """
        suffix = "_leaky" if by == "composite" else "_all" if self.subset == "all" and self.data != "embedded" else ""
        folder = self.results / "runs" / (name + suffix) / "seed0"
        settings = {"name": name, "model": name, "size": self.size, "split": by, "subset": self.subset}
        key = records.run_key([str(settings), self.cache.data_hash, records.source_hash()])
        with self._alone(folder):
            return from_main(lambda: records.reusable(folder, key)) or self._score(name, by, folder, settings, key)

    def _score(self, name: str, by: str, folder: Path, settings: dict, key: str) -> Record:
        split = self.split(by)
        if name == "constant_shift":
            shift = evaluation.fit_constant_shift(self.cache, self.cache.rows(split.train))
            method = evaluation.constant_shift(shift)
            settings["shift"] = [round(float(v), 4) for v in shift]
        else:
            method = evaluation.baseline(name)
        test = [evaluation.evaluate(method, split.test, p, self.size) for p in PROTOCOLS["s2am_t4"]]
        tables = [_tagged(rows, "test") for rows in test]
        if name == "identity":
            val = evaluation.evaluate_cached(method, self.cache, self.cache.rows(split.val))
            tables.append(_tagged(val, "val"))
        if by == "photo":
            from_main(lambda: self._keep_examples(folder, method))
        parts = settings, _summary(test) | {"key": key}, pd.concat(tables), None, self._environment()
        return from_main(lambda: records.write(folder, *parts))

    def examples(self) -> list[Entry]:
        """Test composites for the qualitative figures, spread over the list; a third photographs if there are any."""
        firsts = [e for e in self.listed.test if e.name.endswith("_1_1")]
        scenes, photographs = ([e for e in firsts if e.kind == kind] for kind in ("scene", "photo"))
        if not scenes or not photographs:
            return _spread(firsts or self.listed.test, EXAMPLES)
        return _spread(scenes, EXAMPLES - EXAMPLES // 3) + _spread(photographs, EXAMPLES // 3)

    def _keep_examples(self, folder: Path, method: evaluation.Method) -> None:
        """The method's output on the example pictures, as PNG: figures are made from records alone."""
        (folder / "metrics.json").unlink(missing_ok=True)  # from here to the end of `records.write` there is no record
        with building(folder / "examples") as target:
            for item in HarmonyDataset(self.examples(), self.size):
                pictures = {"": method(255 * item["composite"][None], item["mask"][None])[0]}
                if folder.parent.name.startswith("identity"):
                    pictures |= {".real": 255 * item["target"], ".mask": 255 * item["mask"].expand(3, -1, -1)}
                for suffix, picture in pictures.items():
                    levels = picture.clamp(0, 255).round().byte().permute(1, 2, 0).cpu().numpy()
                    Image.fromarray(levels).save(target / f"{item['name']}{suffix}.png")

    def _alone(self, folder: Path) -> AbstractContextManager[None]:
        """The run of a folder for this process; of ranks that train together, the first stands for all."""
        if os.environ.get("RANK", "0") != "0":
            return nullcontext()
        check_links(self.results, (folder.parent, folder, *folder.rglob("*")))
        words = f"{folder.parent.name}, {folder.name}: another process is at this run; waiting for it"
        return alone(folder / ".lock", lambda: self.say(words))

    def _folder(self, experiment: Experiment) -> Path:
        return self.results / "runs" / experiment.name / f"seed{experiment.seed}"

    def place(self, experiment: Experiment) -> tuple[Path, str]:
        """The folder of a run's record, and the key of a record that is up to date."""
        return self._folder(experiment), self.like(experiment)._key(experiment)

    def _parent(self, experiment: Experiment) -> Experiment | None:
        return experiments.parent(experiment, self.profile, self.data)

    def _key(self, experiment: Experiment) -> str:
        """What a run depends on: configuration, data, source, and all of that for what it starts from."""
        parts = [experiment.config_id, self.cache.data_hash, records.source_hash()]
        if experiment.strategy:
            parts.append(self.photographs(experiment).data_hash)
        parent = self._parent(experiment)
        if parent is not None:
            parts.append(self.like(parent)._key(parent))
        elif experiment.start:
            parts.append(checkpoints.digest(Path(experiment.start)))
        return records.run_key(parts)

    def finished(self, experiment: Experiment) -> Record | None:
        """The record of a run that need not be made again: beside this machine's own checkpoint, with the same key."""
        if self.like(experiment) is not self:
            return self.like(experiment).finished(experiment)
        folder, words = self._folder(experiment), f"{experiment.name}, seed {experiment.seed}"
        kept = records.trained(folder, self._key(experiment))
        if kept is not None:
            self.say(f"{words}: finished before with the same configuration, data and source; kept")
            return kept
        if (folder / records.MADE_HERE).is_file() and (folder / "metrics.json").is_file():
            self.say(f"{words}: its record was made with {self._changed(Record(folder))}; training again")
        return None

    def _changed(self, record: Record) -> str:
        """What a record that is out of date was made with, in words."""
        try:
            made = record.env
        except HarmonyError:
            return "what it cannot tell any more, for it is damaged"
        found = ["other source"] if made.get("source_hash") != records.source_hash() else []
        if made.get("data_hash") != self.cache.data_hash:
            elsewhere = made.get("avx512", records.avx512()) != records.avx512()
            why = " (processors with and without AVX-512 render some pixels otherwise)" if elsewhere else ""
            found.append(f"other data{why}")
        return " and ".join(found) or "another configuration, or another start"

    def _write_diverged(self, experiment: Experiment, error: training.Diverged) -> Record:
        summary = {"diverged": str(error), "key": self._key(experiment)}
        parts = experiment.to_dict(), summary, None, error.log, self._environment()
        return from_main(lambda: records.write(self._folder(experiment), *parts))

    def _environment(self, trained: training.Trained | None = None) -> dict:
        extra = {"profile": self.profile.name, "data": self.data, "data_hash": self.cache.data_hash}
        if trained is not None:
            extra |= {"seconds": round(trained.seconds, 1), "peak_gpu_bytes": trained.peak_bytes}
        return records.environment(**extra)


def open_study(profile: str = "auto", data: str = "auto", say: Callable = print) -> Study:
    """Resolve profile and data (``auto``: the best at hand), make the embedded set if needed, say what was chosen."""
    chosen = config.profile(profile, name_of(data))
    name, root = from_main(lambda: locate(data, chosen.scenes, say))
    typical = experiments.resolve(experiments.UNET, chosen, name)
    study = Study(chosen, name, root, results_dir(chosen.name, name), typical.subset, typical.size, say)
    say(f"profile {chosen.name} ({chosen.purpose}; {chosen.time}) on {name}; results in {shown(study.results)}")
    return study


def results_of(profile: str = "auto", data: str = "auto") -> Path:
    """The results folder of a study, without opening its data."""
    name = name_of(data)
    return results_dir(config.profile(profile, name).name, name)


def label(experiment: Experiment) -> str:
    """``name:seed``."""
    return f"{experiment.name}:{experiment.seed}"


def _tagged(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    rows = rows.copy()
    if "epoch" not in rows:
        rows["epoch"] = pd.NA
    rows.insert(0, "split", split)
    return rows


def _epoch_ends(log: pd.DataFrame):
    ends = log[log["epoch"].notna()]
    return ends[ends["step"] > 0].itertuples()


def _means(rows: pd.DataFrame) -> dict:
    means = metrics.summarise(rows).iloc[0]
    return {name: float(f"{means[name]:.6g}") for name in (*metrics.METRICS, "n", "left_out")}


def _summary(test: list[pd.DataFrame]) -> dict:
    return {"test": {rows["protocol"].iloc[0]: _means(rows) for rows in test}}


def _spread(items: list, count: int | None) -> list:
    """`count` of the items, evenly spread over the list; all of them for None."""
    if count is None or count >= len(items):
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)]

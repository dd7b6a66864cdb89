"""``python -m harmonylib``: the commands. Bad input ends in one line on stderr and exit code 2."""

import argparse
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from harmonylib import __version__, cli_data, cli_harmonize, cli_scores, cli_sweep
from harmonylib.cli_data import DATA_HELP, check_side
from harmonylib.config import PROFILES
from harmonylib.errors import HarmonyError, one_line, plain
from harmonylib.interruption import EXIT_CODE, Terminated, end_with_starter, leaving
from harmonylib.paths import check_free, check_writable, shown, write_text

NO_MEMORY = "can't allocate memory|out of memory|ALLOC_FAILED|could not create a memory"
FIRST = 5  # seconds that the main process of several has to say what went wrong in all of them


class Parser(argparse.ArgumentParser):
    """argparse's usage block would bury the reason; one line does."""

    def error(self, message: str):
        _complain(f"{self.prog}: {one_line(message)}; see {self.prog} --help")
        self.exit(2)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0: done, 1: a checking command found something wrong, 2: bad input, 75: stopped by SIGTERM."""
    options = _parser().parse_args(arguments)
    end_with_starter()
    several = "LOCAL_RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1" and options.run is not _doctor
    if not sys.warnoptions:  # libraries' words about a file would stand beside the one line about it
        warnings.simplefilter("ignore")
        logging.getLogger("PIL").setLevel(logging.CRITICAL)
    return exit_code(lambda: (_together if several else options.run)(options))


def exit_code(work: Callable[[], int | None]) -> int:
    """What a command ends with; where its work is refused or interrupted, after one line on stderr."""
    try:
        with leaving():
            return work() or 0
    except (HarmonyError, OSError) as error:
        code = getattr(error, "exit_code", 2)
        ask = "; `python -m harmonylib doctor` looks for the cause" if isinstance(error, OSError) else ""
        _complain(f"harmonylib: {one_line(error)}{ask}", to_all=code == EXIT_CODE)
        return code
    except (MemoryError, RuntimeError) as error:  # torch's are RuntimeErrors
        if not (isinstance(error, MemoryError) or re.search(NO_MEMORY, str(error))):
            raise
        _complain("harmonylib: not enough memory for this; use smaller pictures, or a larger machine")
        return 2
    except ImportError as error:
        _complain(f"harmonylib: {one_line(error)}; `python -m harmonylib doctor` says what to do")
        return 2
    except KeyboardInterrupt as interrupt:
        words = "interrupted; the same command goes on from the last checkpoint, if there is one yet"
        _complain(f"harmonylib: {words}", to_all=True)
        return EXIT_CODE if isinstance(interrupt, Terminated) else 130


def _together(options) -> int:
    """A command in one of the processes that torchrun started."""
    if options.run not in (_train, _evaluate):
        raise HarmonyError("torchrun: only train and evaluate share their work; start this command with python")
    if "MASTER_ADDR" not in os.environ:
        raise HarmonyError(
            "LOCAL_RANK is set, but torchrun did not start this process; unset RANK LOCAL_RANK WORLD_SIZE"
        )
    from harmonylib.distributed import joined

    with joined():
        return options.run(options) or 0


def _complain(line: str, to_all: bool = False) -> None:
    """Of several processes the main one speaks: alone of what happened `to_all`, else first, and torchrun ends the
    others before they repeat it."""
    if os.environ.get("RANK", "0") != "0":
        if to_all:
            return
        time.sleep(FIRST)
    print(line, file=sys.stderr, flush=True)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m harmonylib",
        description="Reproducible companion to two image-harmonization papers.",
        epilog="Exit codes: 0 done, 1 a check found something, 2 refused, 75 SIGTERM: the same command goes on.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = _add(commands, "doctor", _doctor, "what works here, what does not, what to do")
    command.add_argument("--data", default="auto", help=DATA_HELP)

    data = commands.add_parser("data", help="fetch, prepare or verify a data set")
    actions = data.add_subparsers(title="actions", required=True, metavar="ACTION")
    cli_data.add_actions(actions, _add)

    command = _add(commands, "train", _train, "train and evaluate one declared experiment")
    command.add_argument("experiment", metavar="EXPERIMENT")
    _profile_and_data(command)
    command.add_argument("--seed", type=int)
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")

    text = "train a grid of experiments, each in a process of its own, here or on Slurm; exit code 1 if one failed"
    command = _add(commands, "sweep", cli_sweep.run, text)
    _profile_and_data(command)
    cli_sweep.add(command)

    command = _add(commands, "evaluate", _evaluate, "score methods on a test list, one row a picture")
    command.add_argument("--data", default="auto", help=DATA_HELP)
    command.add_argument("--subset", default="all")
    command.add_argument("--split", default="test")
    _methods(command)
    command.add_argument("--protocol", nargs="+", default=["bcmi256"], help="one or more (default bcmi256)")
    command.add_argument(
        "--size", type=int, help="evaluate at this side instead of the protocol's (or the checkpoint's)"
    )
    command.add_argument("--out", type=Path, required=True, help="CSV file to write")

    cli_scores.add_score(_add(commands, "score", cli_scores.score, "score a prediction, or a folder of them"))

    text = "compare foreground with background before and after, on real composites that have no target"
    command = _add(commands, "composites", _composites, text)
    command.add_argument("root", metavar="ROOT", help="folder with composite/ and mask/ in it, or in folders below")
    _methods(command)
    command.add_argument("--size", type=int, default=256, help="side in px for methods without their own (default 256)")
    command.add_argument("--out", type=Path, required=True, help="CSV file to write, one row a composite and method")
    command.add_argument("--pictures", type=Path, metavar="FOLDER", help="write a strip of pictures for each composite")

    text = "give the object of a composite the colours that its surroundings ask for, at full resolution"
    cli_harmonize.add(_add(commands, "harmonize", cli_harmonize.run, text))

    command = _add(commands, "export", _export, "write a network as ONNX, after comparing it with PyTorch")
    command.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="file to write")
    command.add_argument(
        "--model", metavar="MODEL", help="a checkpoint, or a run's folder (default: the one that comes along)"
    )
    command.add_argument("--force", action="store_true", help="overwrite")

    command = _add(commands, "leaderboard", cli_scores.board, "rank the rows of `evaluate` under one protocol")
    command.add_argument("rows", nargs="+", metavar="CSV", help="files that `evaluate --out` wrote")
    command.add_argument("--protocol", help="which, where the rows are of several: these are never mixed")

    command = _add(commands, "votes", cli_scores.votes, "Bradley-Terry scores from pairwise votes")
    command.add_argument("votes", metavar="CSV", help="one row a vote: winner, loser and, if you have it, picture")
    command.add_argument("--out", type=Path, help="CSV file to write the scores to")

    command = _add(commands, "plan", _plan, "what a profile would run, how long and how much memory it takes here")
    _profile_and_data(command)
    command.add_argument("--out", type=Path, metavar="FILE", help="keep the rows here, to compare them with later")
    command.add_argument("--compare", type=Path, metavar="FILE", help="such rows beside what the runs took; no probe")
    text = "instead: the paper's pre-training, and on ten times its data, on so many cards"
    command.add_argument("--gpus", type=int, nargs="+", metavar="N", help=text)
    text = "of its stated peak that a card reaches (default: what this device is measured to reach of its own)"
    command.add_argument("--share", type=float, help=text)

    command = _add(
        commands, "report", _report, "write tables, figures, claims and report.html from the records at hand"
    )
    _profile_and_data(command)

    text = "check records that were made elsewhere, without their data; exit code 1 if anything is wrong"
    command = _add(commands, "check-records", _check_records, text)
    command.add_argument("folder", metavar="FOLDER", help="the folder that holds runs/")
    return parser


def _add(commands, name: str, run, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(run=run)
    return command


def _methods(command: argparse.ArgumentParser) -> None:
    text = (
        "one or more of harmonizer (the network that comes along), identity, histogram, reinhard, checkpoints, "
        "folders of runs, and (evaluate) of anyone's outputs"
    )
    command.add_argument("--method", nargs="+", required=True, metavar="METHOD", help=text)


def _profile_and_data(command: argparse.ArgumentParser) -> None:
    command.add_argument("--profile", default="auto", help=f"auto, {', '.join(PROFILES)}")
    command.add_argument("--data", default="auto", help=DATA_HELP)


def _doctor(options) -> int:
    from harmonylib import doctor

    return doctor.run(options.data)


def _train(options) -> None:
    from harmonylib import config, evaluation, experiments, metrics
    from harmonylib.data.locate import name_of
    from harmonylib.study import PROTOCOLS, open_study

    changes = options.set + ([] if options.seed is None else [f"seed={options.seed}"])
    declared = experiments.get(options.experiment)
    name = name_of(options.data)
    profile = config.profile(options.profile, name)
    experiment = config.override(experiments.resolve(declared, profile, name), changes)  # what is wrong is told first
    study = open_study(options.profile, options.data)
    if options.set:  # tables take runs/<name> for the declared experiment: what was changed gets a name of its own
        experiment = replace(experiment, name=f"{experiment.name}-{replace(experiment, seed=0).config_id[:6]}")
    study = study.like(experiment)
    if not options.set:  # before the run: to a sweep, its record says that all of this command is done
        study.run_baseline("identity", experiment.split)
    record = study.run(experiment)
    print(f"record: {shown(record.folder)}")
    test = study.split(experiment.split).test
    for protocol in PROTOCOLS[experiment.study] if "test" in record.metrics else ():
        label = metrics.caption(protocol, experiment.size)
        nothing = evaluation.evaluate(evaluation.baseline("identity"), test, protocol, experiment.size)["fmse"].mean()
        fmse = record.metrics["test"][label]["fmse"]
        print(f"{label}: fMSE {fmse:.4g}; doing nothing {nothing:.4g}; share {fmse / nothing:.3f}")


def _evaluate(options) -> None:
    import pandas as pd

    from harmonylib import distributed, evaluation, metrics
    from harmonylib.data.layout import read_entries
    from harmonylib.data.locate import locate
    from harmonylib.methods import is_outputs, method_from

    check_writable(options.out)
    if options.size is not None:
        check_side(options.size)
    rules = [metrics.get_protocol(protocol) for protocol in options.protocol]
    outputs = {name for name in options.method if is_outputs(name)}
    methods = {name: (None, None) if name in outputs else method_from(name) for name in options.method}
    _, root = distributed.from_main(lambda: locate(options.data))
    entries = read_entries(root, options.subset, options.split)
    tables, idle = [], {}  # doing nothing, by protocol and size
    for rule in rules:  # outside, so that the pictures of a protocol are read once for all methods
        for name, (method, own_size) in methods.items():
            size = (own_size if rule.size else None) if options.size is None else options.size
            key = rule.name, size
            if key not in idle:
                idle[key] = evaluation.evaluate(evaluation.baseline("identity"), entries, *key)
            if name in outputs:
                rows = evaluation.evaluate_outputs(Path(name), entries, *key)
            else:
                rows = idle[key] if name == "identity" else evaluation.evaluate(method, entries, *key)
            tables.append(rows.assign(method=name))
            _print_scores(name, rows, idle[key])
    if distributed.is_main():
        write_text(options.out, pd.concat(tables, ignore_index=True).to_csv(index=False))
    print(f"one row a picture: {options.out}")


def _print_scores(name: str, rows, nothing) -> None:
    """Means by subset, and the share of doing nothing: of scenes and photographs apart, where a set has both."""
    from harmonylib import metrics

    table = metrics.summarise(rows, "subset")
    total = metrics.summarise(rows).assign(subset="all")
    print(f"{name} under {rows['protocol'].iloc[0]}:")
    print(table.merge(total, how="outer", sort=False).to_string(index=False, float_format="%.2f"))
    kinds = {"all": rows.index} | (rows.groupby("kind").groups if rows["kind"].nunique() > 1 else {})
    for kind, chosen in kinds.items():
        fmse, idle = rows["fmse"][chosen].mean(), nothing["fmse"][chosen].mean()
        print(f"{kind}: fMSE {fmse:.2f}; doing nothing {idle:.2f}; share {fmse / idle:.3f}")


def _composites(options) -> None:
    from harmonylib import no_reference
    from harmonylib.data.composites import find_composites
    from harmonylib.methods import method_from

    check_writable(options.out)
    check_side(options.size)
    found = {name: method_from(name) for name in options.method}
    methods = {name: (method, own or options.size) for name, (method, own) in found.items()}
    rows = no_reference.compare(find_composites(options.root), methods, options.pictures)
    write_text(options.out, rows.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    print(plain(no_reference.summarise(rows).to_string(index=False, float_format="%.3g")))


def _export(options) -> None:
    from harmonylib import export

    check_writable(options.out)
    check_free(options.out, options.force)
    difference = export.export(options.model, options.out)
    print(f"{options.out}: differs from PyTorch by {difference:.1e} at most")


def _check_records(options) -> int:
    from harmonylib import community

    made, faults = community.check(options.folder)
    for fault in faults:
        print(one_line(f"{fault.kind}: {fault.file}: {fault.detail}"))
    if made:
        print(plain(community.summary(made).to_string(index=False, float_format="%.4g", na_rep="-")))
        if not community.is_official(made):
            data = one_line(made[0].env.get("data"))
            print(f"published values were not asked for: the data is {data}, not iharmony4")
    print(f"{len(made)} sound records; {len(faults) or 'no'} fault{'' if len(faults) == 1 else 's'}")
    return 1 if faults else 0


def _plan(options) -> None:
    from harmonylib import plan, scaling
    from harmonylib.study import open_study

    if options.gpus:
        if min(options.gpus) < 1 or not (options.share is None or 0 < options.share <= 1):
            raise HarmonyError("plan: --gpus are numbers from 1, --share is above 0 and at most 1")
        share = plan.share_of_peak() if options.share is None else options.share
        print(scaling.table(options.gpus, share).to_string(index=False))
        print(f"taken: cards reach {share:.0%} of their stated peak; measured on none but this device")
        return
    study = open_study(options.profile, options.data)
    if options.compare:
        plan.compare(study, options.compare)
    else:
        plan.show(study, options.out)


def _report(options) -> None:
    os.environ["MPLBACKEND"] = "agg"  # nothing is shown
    from harmonylib import report
    from harmonylib.reading import DAMAGE
    from harmonylib.study import results_of

    results = results_of(options.profile, options.data)  # records alone: the data may be elsewhere
    try:
        written = report.write_all(results)
    except DAMAGE as error:  # of a record whose files are whole: a value is missing, or of another kind
        why = f"{type(error).__name__}: {error}"
        raise HarmonyError(f"{results}: no records as runs write them ({why}); `check-records` tells more") from error
    print(*written, sep="\n")

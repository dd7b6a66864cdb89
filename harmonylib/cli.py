"""``python -m harmonylib``: the commands. Bad input ends in one line on stderr and exit code 2."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from harmonylib import __version__, cli_data, cli_harmonize, cli_scores
from harmonylib.cli_data import DATA_HELP, check_side
from harmonylib.config import PROFILES
from harmonylib.errors import HarmonyError
from harmonylib.paths import check_free, check_writable, shown


class Parser(argparse.ArgumentParser):
    """argparse's usage block would bury the reason; one line does."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0: done, 1: a checking command found something wrong, 2: bad input."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except HarmonyError as error:
        print(f"harmonylib: {' '.join(str(error).split())}", file=sys.stderr)
    except OSError as error:
        print(f"harmonylib: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(
            "harmonylib: interrupted; the same command goes on from the last checkpoint, if there is one yet",
            file=sys.stderr,
        )
        return 130
    return 2


def _parser() -> Parser:
    parser = Parser(
        prog="python -m harmonylib", description="Reproducible companion to two image-harmonization papers."
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
    from harmonylib import evaluation, experiments, metrics
    from harmonylib.config import override
    from harmonylib.study import PROTOCOLS, open_study

    changes = options.set + ([] if options.seed is None else [f"seed={options.seed}"])
    declared = experiments.get(options.experiment)
    override(declared, changes)  # a wrong key should not wait for the data
    study = open_study(options.profile, options.data)
    experiment = override(experiments.resolve(declared, study.profile, study.data), changes)
    if options.set:  # tables take runs/<name> for the declared experiment: what was changed gets a name of its own
        experiment = replace(experiment, name=f"{experiment.name}-{replace(experiment, seed=0).config_id[:6]}")
    study = study.like(experiment)
    record = study.run(experiment)
    print(f"record: {shown(record.folder)}")
    if not options.set:
        study.run_baseline("identity", experiment.split)
    test = study.split(experiment.split).test
    for protocol in PROTOCOLS[experiment.study] if "test" in record.metrics else ():
        label = metrics.caption(protocol, experiment.size)
        nothing = evaluation.evaluate(evaluation.baseline("identity"), test, protocol, experiment.size)["fmse"].mean()
        fmse = record.metrics["test"][label]["fmse"]
        print(f"{label}: fMSE {fmse:.4g}; doing nothing {nothing:.4g}; share {fmse / nothing:.3f}")


def _evaluate(options) -> None:
    import pandas as pd

    from harmonylib import evaluation, metrics
    from harmonylib.data.layout import read_entries
    from harmonylib.data.locate import locate
    from harmonylib.study import is_outputs, method_from

    check_writable(options.out)
    rules = [metrics.get_protocol(protocol) for protocol in options.protocol]
    outputs = {name for name in options.method if is_outputs(name)}
    methods = {name: (None, None) if name in outputs else method_from(name) for name in options.method}
    _, root = locate(options.data)
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
    pd.concat(tables, ignore_index=True).to_csv(options.out, index=False)
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
    from harmonylib.study import method_from

    check_writable(options.out)
    check_side(options.size)
    found = {name: method_from(name) for name in options.method}
    methods = {name: (method, own or options.size) for name, (method, own) in found.items()}
    rows = no_reference.compare(find_composites(options.root), methods, options.pictures)
    rows.to_csv(options.out, index=False, float_format="%.6g", lineterminator="\n")
    print(no_reference.summarise(rows).to_string(index=False, float_format="%.3g"))


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
        print(f"{fault.kind}: {fault.file}: {fault.detail}")
    if made:
        print(community.summary(made).to_string(index=False, float_format="%.4g", na_rep="-"))
        if not community.is_official(made):
            print(f"published values were not asked for: the data is {made[0].env.get('data')}, not iharmony4")
    print(f"{len(made)} sound records; {len(faults) or 'no'} fault{'' if len(faults) == 1 else 's'}")
    return 1 if faults else 0


def _plan(options) -> None:
    from harmonylib import plan
    from harmonylib.study import open_study

    study = open_study(options.profile, options.data)
    if options.compare:
        plan.compare(study, options.compare)
    else:
        plan.show(study, options.out)


def _report(options) -> None:
    from harmonylib import report
    from harmonylib.study import results_of

    for path in report.write_all(results_of(options.profile, options.data)):  # records alone: the data may be elsewhere
        print(path)

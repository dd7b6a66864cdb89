"""The arguments of ``python -m harmonylib sweep``."""

import argparse


def add(command: argparse.ArgumentParser) -> None:
    command.add_argument("names", nargs="*", metavar="EXPERIMENT", help="these, and what they start from (default all)")
    command.add_argument("--study", choices=("s2am_t4", "lemart"), help="all runs of one paper's study")
    command.add_argument("--seeds", type=int, nargs="+", default=[], help="these (default: as many as the profile has)")
    command.add_argument("--gpus", type=int, help="of a run, and of each of its nodes (default 1, none without a GPU)")
    command.add_argument("--cpus", type=int, default=1, help="threads of each process (default 1)")
    command.add_argument("--at-most", type=int, metavar="N", help="runs at once")
    slurm = command.add_argument_group("on Slurm")
    slurm.add_argument("--slurm", action="store_true", help="submit arrays of jobs, and wait for them")
    slurm.add_argument("--leave", action="store_true", help="do not wait")
    slurm.add_argument("--nodes", type=int, default=1, help="of a run (default 1)")
    slurm.add_argument(
        "--hours", type=float, default=24.0, help="of a job (default 24); a longer run goes on in the next"
    )
    slurm.add_argument("--partition")
    text = "further options of sbatch: account=..., mem=64G"
    slurm.add_argument("--sbatch", nargs="+", default=[], metavar="KEY=VALUE", help=text)


def run(options) -> int:
    import torch

    from harmonylib import experiments, sweep
    from harmonylib.errors import HarmonyError
    from harmonylib.study import open_study

    counts = {name: getattr(options, name) for name in ("gpus", "cpus", "at_most", "nodes", "hours")}
    for name, value in counts.items():
        if value is not None and ((value <= 0 and name != "gpus") or value < 0):
            raise HarmonyError(f"--{name.replace('_', '-')} {value}: give a number above 0")
    if options.nodes > 1 and not options.slurm:
        raise HarmonyError(f"--nodes {options.nodes}: runs on several nodes need --slurm")
    wrong = [text for text in options.sbatch if "=" not in text]
    if wrong:
        raise HarmonyError(f"--sbatch {wrong[0]}: write key=value")
    for name in options.names:
        experiments.get(name)  # before any data are looked at
    usual = 1 if options.slurm or torch.cuda.is_available() else 0
    means = sweep.Means(
        gpus=usual if options.gpus is None else options.gpus,
        cpus=options.cpus,
        nodes=options.nodes,
        at_once=options.at_most,
        hours=options.hours,
        partition=options.partition,
        sbatch=dict(text.split("=", 1) for text in options.sbatch),
    )
    study = open_study(options.profile, options.data)
    done = sweep.run(study, options.names, options.study, options.seeds, means, options.slurm, not options.leave)
    return 0 if done else 1

"""``python -m harmonylib data``: fetch, prepare and verify."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from harmonylib.errors import HarmonyError
from harmonylib.paths import check_writable, data_dir, shown, write_text

MAKING = ("source", "out", "limit", "base", "variants", "seed", "apart", "unlabelled")  # options of `data prepare`
DATA_HELP = "auto, embedded, coco-mini, iharmony4, or a folder in iHarmony4's layout"


def add_actions(actions, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Enter the three actions; `add` enters one command with its function and its help."""
    command = add(actions, "fetch", _fetch, "download photographs, all or some; the same command goes on after a break")
    command.add_argument("set", metavar="SET", help="coco-val2017, coco-unlabeled2017 or open-images")
    command.add_argument("--limit", type=int, metavar="N", help="the first N photographs only")
    command.add_argument("--base", metavar="URL", help="address of a mirror with the same paths")
    command.add_argument("--to", type=Path, metavar="FOLDER", help="where to (default: a folder of its name in data/)")
    command.add_argument("--workers", type=int, default=8, help="downloads at once (default 8)")

    text = "write the training cache of a set; coco-mini is made first, and COCO fetched before that"
    command = add(actions, "prepare", _prepare, text)
    command.add_argument("data", nargs="?", default="embedded", help=DATA_HELP)
    command.add_argument("--size", type=int, default=256, help="side of the pictures in px (default 256)")
    command.add_argument("--subset", default="all", help="all (the default): LEMaRT's runs; HCOCO: those of S2AM-T4")
    own = command.add_argument_group("sets that are made: coco-mini, realhm")
    text = "what it is made of (coco-mini: a folder in COCO's format, default val2017, which is fetched)"
    own.add_argument("--source", type=Path, metavar="FOLDER", help=text)
    own.add_argument("--out", type=Path, metavar="FOLDER", help="where to make it (default: data/ and its name)")
    own = command.add_argument_group("coco-mini")
    own.add_argument("--limit", type=int, metavar="N", help="use N photographs only")
    own.add_argument("--base", metavar="URL", help="mirror that COCO is fetched from, where it is not there yet")
    own.add_argument("--variants", type=int, help="pairs an object (default 2)")
    own.add_argument("--seed", type=int, help="of the recipes (default 0)")
    text = "pictures to be tested on elsewhere: no photograph that nearly duplicates one is used (repeatable)"
    own.add_argument("--apart", type=Path, action="append", default=[], metavar="FOLDER", help=text)
    text = "photographs without outlines for LEMaRT, linked into the set but for near-duplicates of tests"
    own.add_argument("--unlabelled", type=Path, metavar="FOLDER", help=text)
    command = add(
        actions, "verify", _verify, "look at every list and file of a set and name what is wrong; exit code 1 if any is"
    )
    command.add_argument("root", metavar="ROOT")
    command.add_argument("--official", action="store_true", help="compare with what is published of iHarmony4")
    command.add_argument("--report", type=Path, metavar="CSV", help="write every fault, one row a file")


def check_side(size: int) -> None:
    """Raises HarmonyError where pictures of that side, in px, would be of no use or would not fit."""
    if not 8 <= size <= 4096:
        raise HarmonyError(f"--size {size}: give a side between 8 and 4096 px")


def _prepare(options) -> None:
    from harmonylib.data.cache import prepare
    from harmonylib.data.layout import SPLITS, read_entries
    from harmonylib.data.locate import locate
    from harmonylib.study import VAL_SHARE  # or training would make a cache of its own

    check_side(options.size)
    made = options.data in ("coco-mini", "realhm")
    given = [f"--{key}" for key in MAKING if getattr(options, key) not in (None, [])]
    if given and not made:
        raise HarmonyError(
            f"{given[0]}: goes with coco-mini or realhm, which are made; {options.data} is there already"
        )
    root = _made(options) if made else locate(options.data)[1]
    if options.data == "realhm":  # a test list alone: nothing is trained on it
        return
    entries = [e for split in SPLITS for e in read_entries(root, options.subset, split, VAL_SHARE)]
    cache = prepare(entries, options.size)
    print(f"{len(cache)} composites at {options.size} px, data hash {cache.data_hash}: {cache.folder}")


def _made(options) -> Path:
    """The folder of a set that is made from another one: made now, from what is fetched now, if it is not there yet."""
    from harmonylib.data import coco_mini, realhm
    from harmonylib.data.fetch import fetch
    from harmonylib.data.locate import find

    out = options.out or find(options.data) or data_dir() / options.data
    given = {key: getattr(options, key) for key in ("seed", "variants") if getattr(options, key) is not None}
    settings = coco_mini.Settings(**given)
    more = {"limit": options.limit, "apart": options.apart, "unlabelled": options.unlabelled}
    if out.exists() and options.data == "realhm":
        print(f"{shown(out)}: is there already, and used as it is")
    elif out.exists():
        asked = given or options.source or options.limit or options.apart or options.unlabelled
        if asked and not coco_mini.is_made_of(out, settings, options.source, **more):
            raise HarmonyError(
                f"{shown(out)}: was made otherwise (build.json); name another folder with --out, or remove it"
            )
    elif options.data == "coco-mini":
        source = options.source or fetch("coco-val2017", limit=options.limit, base=options.base)
        coco_mini.build(source, out, settings, **more)
    elif options.source:
        realhm.convert(options.source, out)
    else:
        raise HarmonyError("realhm: give the folder of your copy with --source (data/README.md says where to get it)")
    return out


def _fetch(options) -> None:
    from harmonylib.data.fetch import fetch

    fetch(options.set, options.limit, options.base, options.to, options.workers)


def _verify(options) -> int:
    from harmonylib.data import verify

    check_writable(options.report)
    started = time.perf_counter()
    sides, faults = verify.verify(options.root)
    seconds = time.perf_counter() - started
    counts = {split: len(entries) for split, entries in sides.items() if entries}
    told = ", ".join(f"{count} in {split}" for split, count in counts.items())
    print(f"{options.root}: triplets: {told or 'none'}; {sum(counts.values()) / seconds:.0f} a second")
    if options.official:
        from harmonylib import official

        table, off = official.check_nothing(verify.sound(sides["test"], faults))
        print(table.to_string(index=False, float_format="%.2f", na_rep="-"))
        noted = [fault for fault in faults if official.is_in_the_official_lists(fault)]
        faults = [fault for fault in faults if fault not in noted] + official.check_counts(sides) + off
        if noted:
            print(f"as in the official lists: {len(noted)} views of Hday2night's scenes are on both sides")
    if options.report:
        write_text(options.report, verify.report(faults).to_csv(index=False))
    print("\n".join(verify.summary(faults)) or "no fault: every file decodes, fits its triplet and is listed once")
    return 1 if faults else 0

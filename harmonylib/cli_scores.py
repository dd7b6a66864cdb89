"""``python -m harmonylib score``, ``leaderboard``, ``votes``: what others have made, measured and ranked."""

import json
import math
from pathlib import Path

from harmonylib.errors import HarmonyError, one_line, plain
from harmonylib.paths import check_writable, write_text


def add_score(command) -> None:
    """Its arguments."""
    for name, text in (("pred", "picture, or a folder of them"), ("real", "its target"), ("mask", "its mask")):
        command.add_argument(f"--{name}", type=Path, required=True, metavar="FILE", help=text)
    command.add_argument("--protocol", default="bcmi256")
    command.add_argument(
        "--json", action="store_true", help="one JSON object (of a folder: one a line) instead of lines"
    )


def score(options) -> None:
    """One prediction, or each of a folder and their means."""
    from harmonylib import metrics

    folders = [path for path in (options.pred, options.real, options.mask) if path.is_dir()]
    if 0 < len(folders) < 3:
        raise HarmonyError(f"{folders[0]}: is a folder, and others are not; name three files or three folders")
    triplets = _triplets(options) if folders else {"": (options.pred, options.mask, options.real)}
    rows = []
    for name, files in triplets.items():
        prediction, mask, real = files
        pixels, target, region = metrics.read_triplet(prediction, mask, real, options.protocol)
        values = metrics.score(pixels, target, region, options.protocol)
        rows.append(values)
        if options.json:
            finite = {key: value if math.isfinite(value) else str(value) for key, value in values.items()}
            named = {"name": name} if name else {}
            print(json.dumps(named | {"protocol": options.protocol} | finite, allow_nan=False))  # "inf", "nan": strings
    if not options.json:
        print(f"protocol {options.protocol}" + (f", mean of {len(rows)} pictures" if folders else ""))
        for key in rows[0]:
            print(f"{key:6}{sum(row[key] for row in rows) / len(rows):.6g}")


def _triplets(options) -> dict[str, tuple[Path, Path, Path]]:
    """Prediction, mask and target by name. Raises HarmonyError: no pictures, or one without its mask or target."""
    from harmonylib.data.layout import PICTURES, file_of

    found = {}
    for file in sorted(options.pred.iterdir()):
        if file.suffix.lower() in PICTURES:
            parts = [file_of(file.stem, folder) for folder in (options.mask, options.real)]
            for part, folder in zip(parts, (options.mask, options.real), strict=True):
                if part is None:
                    raise HarmonyError(f"{folder}: nothing there of the name {file.stem}, for {file}; add it")
            found[file.stem] = (file, *parts)
    if not found:
        raise HarmonyError(f"{options.pred}: no pictures in it; name a folder of predictions")
    return found


def board(options) -> None:
    """Rows of `evaluate`, ranked under one protocol."""
    from harmonylib import leaderboard

    rows = leaderboard.under(leaderboard.read(options.rows), options.protocol)
    subsets = list(dict.fromkeys(rows["subset"]))
    for subset in [*subsets, None] if len(subsets) > 1 else subsets:
        print(one_line(f"{subset or 'all'} under {rows['protocol'].iloc[0]}:"))
        print(plain(leaderboard.ranked(rows, subset).to_string(index=False, float_format="%.2f")))
    print(f"{leaderboard.UNSTATED}:")
    print(leaderboard.printed(subsets).to_string(index=False, float_format="%g", na_rep="-"))


def votes(options) -> None:
    """Bradley-Terry scores of a CSV of votes."""
    from harmonylib import votes

    check_writable(options.out)
    table = votes.scores(votes.read(options.votes))
    print(plain(table.to_string(index=False, float_format="%.3f")))
    if options.out:
        write_text(options.out, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))

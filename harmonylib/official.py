"""What is published about the official iHarmony4, and whether a copy agrees: how many triplets, and their errors.

Sources: bcmi/Image-Harmonization-Dataset-iHarmony4 (``README.md``: counts, MSE and PSNR of the composites) and
zhenglab/IntrinsicHarmony (``README.md``: fMSE), both at 256 px, which is the protocol ``bcmi256``.
"""

from collections import Counter
from collections.abc import Iterator

import pandas as pd

from harmonylib import evaluation
from harmonylib.data.layout import SUBSETS, Entry
from harmonylib.data.verify import Fault

COUNTS = {  # training, test
    "HCOCO": (38545, 4283),
    "HAdobe5k": (19437, 2160),
    "HFlickr": (7449, 828),
    "Hday2night": (311, 133),
}
NOTHING = {  # doing nothing on the test lists: MSE, PSNR, fMSE; of all no fMSE is published that its parts add up to
    "HCOCO": {"mse": 69.37, "psnr": 33.94, "fmse": 996.59},
    "HAdobe5k": {"mse": 345.54, "psnr": 28.16, "fmse": 2051.61},
    "HFlickr": {"mse": 264.35, "psnr": 28.32, "fmse": 1574.37},
    "Hday2night": {"mse": 109.65, "psnr": 34.01, "fmse": 1409.98},
    "all": {"mse": 172.47, "psnr": 31.63},
}
AGREES = 0.01  # relative
REASON = "data/README.md says what moves this row"


def check_counts(sides: dict[str, list[Entry]]) -> list[Fault]:
    """A fault for every list with another number of triplets than the official one. `sides`: train (with val), test."""
    faults = []
    for number, split in enumerate(("train", "test")):
        listed = sides[split] + (sides["val"] if split == "train" else [])
        found = Counter(entry.subset for entry in listed)
        for subset in SUBSETS:
            if found[subset] != COUNTS[subset][number]:
                detail = f"{found[subset]} triplets, {COUNTS[subset][number]} in the official list"
                faults.append(Fault(f"{subset}/{subset}_{split}.txt", "official count", detail))
    return faults


def is_in_the_official_lists(fault: Fault) -> bool:
    """Whether the official lists themselves have this fault: four scenes of Hday2night are on both sides, in other
    views. To be known, not to be mended: whoever moved them would test on other pictures than everybody else."""
    return fault.kind == "views on both sides" and fault.file.startswith("Hday2night/")


def check_nothing(test: list[Entry]) -> tuple[pd.DataFrame, list[Fault]]:
    """The do-nothing row, ours beside the published one, and a fault for every value that is more than 1 % off.

    Reads every test triplet. The table has a row for each subset at hand and one for all: subset, n, and for each of
    mse, psnr and fmse the measured and the published value.
    """
    if not test:
        return pd.DataFrame(columns=["subset", "n", "mse", "psnr", "fmse"]), []
    rows = evaluation.evaluate(evaluation.baseline("identity"), test, "bcmi256")
    parts = {name: part for name in SUBSETS if len(part := rows[rows["subset"] == name])}
    if len(parts) == len(SUBSETS):
        parts["all"] = rows
    table, faults = [], []
    for name, part in parts.items():
        row = {"subset": name, "n": len(part)}
        for metric in ("mse", "psnr", "fmse"):
            row |= {metric: float(part[metric].mean()), f"{metric} published": NOTHING[name].get(metric)}
        table.append(row)
        faults += [Fault(f"{name} test", "do-nothing row", detail) for detail in differences(name, part)]
    return pd.DataFrame(table), faults


def differences(name: str, rows: pd.DataFrame) -> Iterator[str]:
    """What is more than 1 % off the published row of a subset, or of all: `rows` of doing nothing, one a picture."""
    for metric, published in NOTHING[name].items():
        measured = float(rows[metric].mean())
        if not abs(measured / published - 1) <= AGREES:
            yield f"{metric} {measured:.2f}, published {published} ({measured / published - 1:+.1%}): {REASON}"

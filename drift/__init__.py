"""The same result tomorrow? A small fixed set of results, made here and compared with the committed ones. No part of
the package.

    python -m drift                 # every kind of result against results/drift/reference.json; twice, for equal bytes
    python -m drift.record swinih   # one run of the profile quick from scratch against its committed record
"""

from typing import NamedTuple

from harmonylib.paths import ROOT

FOLDER = ROOT / "results" / "drift"
REFERENCE = FOLDER / "reference.json"


class Kind(NamedTuple):
    """What may differ between two machines, as a share of the largest value; 0 is every byte."""

    tolerance: float
    words: str


KINDS = {
    "data": Kind(0, "files of the embedded set, prepared pictures, splits, orders, masks"),
    "levels": Kind(1 / 255, "8-bit pictures, of colour statistics and of the harmonizer: one level"),
    "arithmetic": Kind(1e-4, "metrics, intervals, colour transfer, LEMaRT's composites"),
    "network": Kind(1e-5, "what a network answers before training, and through ONNX"),
    "trained": Kind(0.1, "what it answers after 20 steps"),
}
RUNS = {"swinih": 0.01, "unet": 0.4}  # of the mean error of a picture, after 50 and 675 steps of the profile quick

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
    elsewhere: float  # without AVX-512, which the reference was made with: scenes have a few other pixels
    words: str


KINDS = {
    "data": Kind(0, 0, "splits, orders, draws, masks of LEMaRT"),
    "scenes": Kind(0, 0.05, "files of the embedded set, and what is prepared from them"),
    "levels": Kind(1 / 255, 1 / 255, "8-bit pictures, of colour statistics and of the harmonizer: one level"),
    "arithmetic": Kind(1e-4, 0.05, "metrics, intervals, colour transfer, LEMaRT's composites; all of them of scenes"),
    "network": Kind(1e-5, 1e-5, "what a network answers before training, and through ONNX"),
    "trained": Kind(0.1, 0.3, "what it answers after 20 steps on scenes"),
}
RUNS = {"swinih": 0.01, "unet": 0.4}  # of the mean error of a picture, after 50 and 675 steps of the profile quick

"""The harmonizer that comes with the package: how its weights were made, and where they are.

    python -m harmonylib.harmonizer FOLDER       # of real composites, as `data prepare coco-mini` makes it

trains it again and writes `weights/harmonizer.safetensors`; the model card beside it, `weights/README.md`, says on what
and how well. It belongs to neither paper's study: no table of theirs has a row for it.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from harmonylib import checkpoints, records, training
from harmonylib.batches import Recoloured
from harmonylib.cli import exit_code
from harmonylib.config import Experiment
from harmonylib.data import layout
from harmonylib.data.cache import prepare
from harmonylib.fullres import WEIGHTS
from harmonylib.paths import alone, data_dir

VAL_SHARE = 0.1  # of the training list, by photograph
RECIPE = Experiment(
    "harmonizer", "outline", loss="fn_mse", optimiser="adamw", weight_decay=0.02, learning_rate=2e-3,
    schedule="cosine", batch_size=24, steps=7000, epochs=1, size=384, subset="all",
)  # fmt: skip


def train(root: Path, out: Path = WEIGHTS, steps: int | None = None, seed: int = 0, say=print) -> training.Trained:
    """Train on the set at `root` and write the weights; an interrupted training goes on where it was.

    Its test list is trained on too: what counts is another set. Raises HarmonyError as `layout.read_entries` does.
    """
    recipe = replace(RECIPE, seed=seed, **({"steps": steps} if steps else {}))
    read = {split: layout.read_entries(root, recipe.subset, split, VAL_SHARE) for split in layout.SPLITS}
    cache = prepare([entry for entries in read.values() for entry in entries], recipe.size, say=say)
    rows = {split: cache.rows(entries) for split, entries in read.items()}
    checkpoint = data_dir() / "harmonizer" / "checkpoint.pt"
    with alone(checkpoint.with_name(".lock"), lambda: say(f"{checkpoint}: another process trains it; waiting")):
        key = records.run_key([recipe.config_id, cache.data_hash, records.source_hash()])
        trained = training.finished(checkpoint, key) or training.train(  # finished: the weights could not be written
            recipe, cache, [*rows["train"], *rows["test"]], rows["val"], checkpoint,
            batches=Recoloured, key=key, say=say,
        )  # fmt: skip
        checkpoints.export_weights(checkpoint, out)
    return trained


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m harmonylib.harmonizer", usage="%(prog)s FOLDER")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    raise SystemExit(exit_code(lambda: train(options.folder) is None))  # 0

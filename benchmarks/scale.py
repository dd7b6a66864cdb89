"""What does a large set cost? Every loader on generated trees of tiny files: seconds and peak memory by their number.

    python -m benchmarks.scale [--composites 70000] [--parts 0.25 0.5 1] [--out results/bench/scale.csv]

Each step runs in a process of its own, at each part of the size, so that its peak memory is its own.
The exponent is fitted to the seconds: 1 is linear. The files have 16 px a side: what is measured is everything but
the pictures, whose decoding costs the same however many there are.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

SIDE = 16  # px
VARIANTS = 4  # composites a photograph, two an object
PARTS = (0.25, 0.5, 1.0)
STEPS = {  # name: (what it is, the statement that does it; root, size and entries are there)
    "read_entries": ("lists read, every file found", "count = len(entries())"),
    "verify": ("every file decoded, hashed, compared", "count = sum(map(len, verify(root)[0].values()))"),
    "prepare": ("decoded, checked, hashed, resized, written to the cache", "count = len(prepare(entries(), size))"),
    "prepare again": ("the cache found up to date, opened", "count = len(prepare(entries(), size))"),
    "dataset": ("every item read as tensors", "count = sum(1 for _ in HarmonyDataset(entries(), size))"),
    "evaluate": ("every composite scored", "count = len(evaluate(baseline('identity'), entries(), 'bcmi256', size))"),
    "photographs": ("listed and prepared for LEMaRT", "count = len(lemart_photographs())"),
    "read_objects": ("COCO's annotations read", "count = len(read_objects(root / 'coco'))"),
}  # fmt: skip
PRELUDE = """
import sys, time
from pathlib import Path
from harmonylib.data.cache import prepare, prepare_photographs
from harmonylib.data.coco import read_objects
from harmonylib.data.dataset import HarmonyDataset
from harmonylib.data.layout import read_entries
from harmonylib.data.locate import photographs
from harmonylib.data.verify import verify
from harmonylib.evaluation import baseline, evaluate
root, size = Path(sys.argv[1]), 16
def entries():
    return [e for split in ("train", "val", "test") for e in read_entries(root, "all", split)]
def lemart_photographs():
    return prepare_photographs(photographs(str(root / "HCOCO" / "composite_images"), root), size).pixels
started = time.perf_counter()
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--composites", type=int, default=70_000)
    parser.add_argument("--parts", type=float, nargs="+", default=PARTS, help="shares of it that are measured")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for part in options.parts:
            root = Path(folder) / f"{part}"
            composites = round(part * options.composites / VARIANTS) * VARIANTS
            files = write_tree(root, composites)
            rows += [measure(name, root, composites, files) for name in STEPS]
            shutil.rmtree(root)
        table = summarise(pd.DataFrame(rows))
    print(table.to_string(index=False))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(options.out, index=False, lineterminator="\n")


def write_tree(root: Path, composites: int) -> int:
    """A set in the layout with this many composites, and the same photographs in COCO's format; its number of files."""
    generator = np.random.default_rng(0)
    photographs = composites // VARIANTS
    subset = root / "HCOCO"
    for name in ("composite_images", "masks", "real_images"):
        (subset / name).mkdir(parents=True)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[4:12, 4:12] = 255
    Image.fromarray(mask).save(root / "mask.png")
    mask_bytes = (root / "mask.png").read_bytes()
    names = []
    for photo in range(photographs):
        real = generator.integers(40, 216, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(real).save(subset / "real_images" / f"c{photo}.jpg")
        for number in range(VARIANTS):
            composite = np.where(mask[..., None] > 0, real + np.uint8(10 * (number + 1)), real)
            name = f"c{photo}_{1 + number // 2}_{1 + number % 2}.jpg"
            Image.fromarray(composite.astype(np.uint8)).save(subset / "composite_images" / name)
            (subset / "masks" / f"c{photo}_{1 + number // 2}.png").write_bytes(mask_bytes)
            names.append(f"HCOCO/composite_images/{name}\n")
    cut = len(names) * 9 // 10 // VARIANTS * VARIANTS
    (root / "IHD_train.txt").write_text("".join(names[:cut]))
    (root / "IHD_test.txt").write_text("".join(names[cut:]))
    _write_coco(root, photographs)
    return composites + composites // 2 + photographs


def _write_coco(root: Path, photographs: int) -> None:
    (root / "coco" / "annotations").mkdir(parents=True)
    shutil.copytree(root / "HCOCO" / "real_images", root / "coco" / "images", copy_function=os.link)
    outline = [[4.0, 4.0, 12.0, 4.0, 12.0, 12.0, 4.0, 12.0]]
    content = {
        "images": [{"id": i, "file_name": f"c{i}.jpg", "width": SIDE, "height": SIDE} for i in range(photographs)],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": VARIANTS * i + k, "image_id": i, "category_id": 1, "segmentation": outline, "iscrowd": 0}
            for i in range(photographs)
            for k in range(VARIANTS)
        ],
    }
    (root / "coco" / "annotations" / "instances_tiny.json").write_text(json.dumps(content))


def measure(name: str, root: Path, composites: int, files: int) -> dict:
    """One step in a process of its own: how many it handled, seconds without imports, peak memory above theirs."""
    say = "print('MEASURED', count, time.perf_counter() - started, base)"
    base = "import resource; base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss"
    code = f"{PRELUDE}{base}\n{STEPS[name][1]}\n{say}"
    environment = os.environ | {"HARMONY_DATA": str(root / "data"), "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)", str(root)],
        capture_output=True, text=True, check=True, env=environment, cwd=Path(__file__).resolve().parent.parent,
    )  # fmt: skip
    words = next(line.split() for line in done.stdout.splitlines() if line.startswith("MEASURED"))
    peak = next(line.split() for line in done.stdout.splitlines() if line.startswith("PEAK"))
    row = {"step": name, "composites": composites, "files": files, "count": int(words[1]), "seconds": float(words[2])}
    print(f"{name}: {words[1]} in {row['seconds']:.1f} s", flush=True)
    return row | {"mib": (int(peak[1]) - int(words[3])) / 1024}


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a step: count and seconds of the largest tree, per second, the fitted exponent, memory of each size."""
    table = []
    for name, part in rows.groupby("step", sort=False):
        exponent = np.polyfit(np.log(part["composites"]), np.log(part["seconds"]), 1)[0]
        last = part.iloc[-1]
        table.append(
            {"step": name, "what": STEPS[name][0], "count": last["count"], "seconds": round(last["seconds"], 1),
             "a second": round(last["count"] / last["seconds"]), "exponent": round(float(exponent), 2),
             **{f"MiB at {c}": round(m) for c, m in zip(part["composites"], part["mib"], strict=True)}}
        )  # fmt: skip
    return pd.DataFrame(table)


if __name__ == "__main__":
    main()

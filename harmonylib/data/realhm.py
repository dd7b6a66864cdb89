"""RealHM (Jiang et al., "SSH", ICCV 2021): 216 real composites with hand-made results, brought into the common layout.

Its file names mislead. Of an example X, in VITA-Group/SSHarmonization's ``demo.ipynb``:

    X.jpg       the object, where it belongs in the picture (the rest of it is not used)
    X_mask.jpg  the mask, a JPEG: grey at the edges, and not quite 0 and 255 elsewhere
    X_fore.jpg  the background, despite the name
    X_gt.jpg    the result made by hand: the target
    X_small.jpg the photograph that the object was taken from

So the composite is X.jpg inside the mask and X_fore.jpg outside. Its own evaluation divides by a fixed 200.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from harmonylib.data.layout import FOLDERS, REALHM, Entry, open_rgb, write_lists
from harmonylib.errors import HarmonyError
from harmonylib.metrics import open_image
from harmonylib.paths import check_missing, making, shown, write_text
from harmonylib.reading import inside

COUNT = 216
NOISE = 16  # levels from the ends of the scale that count as the ends: what JPEG does to a mask


def convert(source: str | Path, out: Path, say=print) -> list[Entry]:
    """Write RealHM's examples into `out` in iHarmony4's layout, as a test list of the subset RealHM.

    `out` appears when everything in it is written.

    Raises:
        HarmonyError: no such folder, no example in it, an example whose files are missing, differ in size, or cannot
            be read; `out` is there already.
    """
    check_missing(out)
    source = Path(source).expanduser()
    examples = find_examples(source)
    with making(out) as folder:
        for name in FOLDERS:
            (folder / REALHM / name).mkdir(parents=True)
        entries = [_write(folder, number, path) for number, path in enumerate(examples, 1)]
        write_lists(folder, {"train": [], "test": entries})
        names = [(e.name, path.relative_to(source).as_posix()) for e, path in zip(entries, examples, strict=True)]
        write_text(folder / "manifest.csv", pd.DataFrame(names, columns=["name", "example"]).to_csv(index=False))
    found = f"{len(examples)} examples" + ("" if len(examples) == COUNT else f", not the {COUNT} of the whole set")
    say(f"{found}: {shown(out)}")
    return [Entry(out, e.subset, e.name) for e in entries]


def find_examples(source: str | Path) -> list[Path]:
    """Each example by the path of its X.jpg, sorted. Raises HarmonyError: no folder, no examples, a file missing."""
    source = Path(source).expanduser()
    if not source.is_dir():
        raise HarmonyError(f"{source}: no such folder; give the one that holds RealHM's vendor_testing_1, _2 and _3")
    found = sorted(path.with_name(path.name.replace("_mask.jpg", ".jpg")) for path in source.rglob("*_mask.jpg"))
    if not found:
        raise HarmonyError(f"{source}: no *_mask.jpg in it; give the folder that holds RealHM's vendor_testing_1, ...")
    for path in found:
        for part in (path, _part(path, "fore"), _part(path, "gt"), _part(path, "mask")):
            if not inside(source, part).is_file():
                raise HarmonyError(f"{part}: missing beside {_part(path, 'mask').name}; copy the example again")
    return found


def _write(folder: Path, number: int, example: Path) -> Entry:
    entry = Entry(folder, REALHM, f"r{number:04d}_1_1")
    fore, back, target = (np.asarray(open_rgb(p)) for p in (example, _part(example, "fore"), _part(example, "gt")))
    grey = np.asarray(open_image(_part(example, "mask")).convert("L"), np.float32)
    for path, part in (("fore", back), ("gt", target), ("mask", grey)):
        if part.shape[:2] != fore.shape[:2]:
            size = f"{part.shape[1]}x{part.shape[0]} px, but {example.name} is {fore.shape[1]}x{fore.shape[0]}"
            raise HarmonyError(f"{_part(example, path)}: {size}; copy the example again")
    mask = ((grey - NOISE) / (255 - 2 * NOISE)).clip(0, 1)
    composite = np.rint(fore * mask[..., None] + back * (1 - mask[..., None])).astype(np.uint8)
    Image.fromarray(composite).save(entry.composite, quality=98, subsampling=0)
    Image.fromarray(np.rint(255 * mask).astype(np.uint8)).save(entry.mask)
    entry.real.write_bytes(_part(example, "gt").read_bytes())
    return entry


def _part(example: Path, name: str) -> Path:
    return example.with_name(f"{example.stem}_{name}.jpg")

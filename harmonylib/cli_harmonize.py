"""``python -m harmonylib harmonize``: one picture, or a folder of them."""

import errno
import sys
from collections import Counter
from pathlib import Path

from harmonylib.errors import HarmonyError, one_line
from harmonylib.paths import check_free, check_writable

OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}  # no other picture could be written either


def add(command) -> None:
    """Its arguments."""
    command.add_argument("composite", type=Path, metavar="COMPOSITE", help="a picture, or a folder of pictures")
    text = "an image, polygons in JSON, or the word alpha; for a folder: a folder with the same names in it, or alpha"
    command.add_argument("mask", type=Path, metavar="MASK", help=text)
    command.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="file, or folder, to write")
    text = "a checkpoint, a run's folder, or identity, histogram, reinhard (default: the network that comes along)"
    command.add_argument("--model", metavar="MODEL", help=text)
    command.add_argument("--strength", type=float, default=1.0, help="0 changes nothing, 1 is the model's own, up to 2")
    command.add_argument("--force", action="store_true", help="overwrite")


def run(options) -> int:
    from harmonylib import fullres, picture_masks, pictures

    jobs = _jobs(options)
    for _, _, out in jobs:
        pictures.format_of(out)
        check_free(out, options.force)
    change = fullres.changer(options.model, options.strength)

    def harmonize(composite: Path, mask: Path, out: Path) -> None:
        picture_masks.check_size(mask, pictures.size_of(composite))
        picture = pictures.read(composite)
        levels = picture_masks.read(mask, picture)
        pictures.write(picture.with_rgb(change(picture.rgb, levels)), out)

    if not options.composite.is_dir():
        harmonize(*jobs[0])
        print(jobs[0][2])
        return 0
    return _all(jobs, harmonize, options.out)


def _all(jobs: list[tuple[Path, Path, Path]], harmonize, folder: Path) -> int:
    """Every picture that can be done; what is wrong with the others is said, one line each, and the exit code is 2."""
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    wrong = []
    for job in tqdm(jobs, unit="picture", disable=None):
        try:
            harmonize(*job)
        except HarmonyError as error:
            wrong.append(str(error))
        except OSError as error:
            if error.errno in OF_THE_DISK:
                raise
            wrong.append(one_line(error) if error.filename else f"{job[2]}: {error.strerror or error}")
    for line in wrong:
        print(f"harmonylib: {one_line(line)}", file=sys.stderr)
    print(f"{len(jobs) - len(wrong)} of {len(jobs)} pictures in {folder}")
    return 2 if wrong else 0


def _jobs(options) -> list[tuple[Path, Path, Path]]:
    """(composite, mask, out) of each picture. Raises HarmonyError: a folder on one side only, no picture, no mask."""
    from harmonylib.data.layout import mask_of
    from harmonylib.picture_masks import ALPHA
    from harmonylib.pictures import FORMATS

    composite, mask, out = options.composite, options.mask, options.out
    if not composite.is_dir():
        check_writable(out)
        return [(composite, mask, out)]
    alpha = str(mask) == ALPHA
    if not (alpha or mask.is_dir()) or out.is_file():
        wrong = out if out.is_file() else mask
        raise HarmonyError(f"{wrong}: no folder, but {composite} is one; name folders on all three sides")
    paths = sorted(p for p in composite.iterdir() if p.suffix.lower() in (*FORMATS, ".bmp", ".gif"))
    if not paths:
        raise HarmonyError(f"{composite}: no pictures in it; name a folder of JPEG, PNG, TIFF or WebP files")
    jobs = []
    for path in paths:
        found = mask if alpha else mask_of(path.stem, mask, (".png", ".json", *FORMATS))
        if found is None:
            raise HarmonyError(f"{mask}: no mask {path.stem}.png (nor .jpg, .tif, .webp, .json) for {path}; add one")
        ending = path.suffix if path.suffix.lower() in FORMATS else ".png"
        jobs.append((path, found, out / f"{path.stem}{ending}"))
    twice = [file for file, count in Counter(job[2] for job in jobs).items() if count > 1]
    if twice:
        raise HarmonyError(f"{min(twice)}: two pictures would be written there; rename one of them")
    return jobs

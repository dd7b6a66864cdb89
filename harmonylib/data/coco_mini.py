"""coco-mini: HCOCO-style pairs made from outlined photographs, in iHarmony4's layout.

What HCOCO did with COCO (Cong et al., "DoveNet", CVPR 2020, section 3; S2AM-T4 section 3.1 calls it inverse
compositing): a photograph is the target; one of its objects takes the colours of an object of the same category in
another photograph, by one of four transfers; what looks broken is dropped. People did the last step there; here
`why_broken` does it, and its reasons are counted.

Every pair follows from its seed, photograph, object and variant, and from which photographs there are to take colours
from: neither the order of the work nor the number of workers changes a byte. `manifest.csv` keeps the recipe of each.
"""

import hashlib
import json
import multiprocessing
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from harmonylib.colour_transfer import TRANSFERS
from harmonylib.data import QUIET, near_duplicates
from harmonylib.data.broken import CHANGE, colourfulness, why_broken
from harmonylib.data.coco import Object, annotation_file, read_objects
from harmonylib.data.layout import FOLDERS, Entry, hold_out, open_rgb, write_lists
from harmonylib.data.near_duplicates import Thumbnails, thumbnails, twins
from harmonylib.errors import HarmonyError, one_line
from harmonylib.interruption import end_with
from harmonylib.paths import check_missing, making, shown
from harmonylib.reading import content, read_json

SUBSET = "HCOCO"
AREA = (0.01, 0.60)  # of its photograph that an object covers; HCOCO's smallest is 1 %
STRENGTH = (0.6, 1.0)  # of a transfer that is applied; iHarmony4 applies all of it
ATTEMPTS = 4  # transfers, each with a reference of its own, until one passes
REFERENCE_PIXELS = 16384  # of a reference that its colours are taken from
WORTH_PROCESSES = 100  # photographs, from which on they are shared out among processes
PREVIEW_PIXELS = 2048  # of an object, on which a transfer is tried first
JPEG = {"quality": 95, "subsampling": 0}


@dataclass(frozen=True)
class Settings:
    """What decides a set, apart from the photographs.

    variants: pairs an object; objects: of a photograph, at most, the largest first; test_share: of the photographs.
    """

    seed: int = 0
    variants: int = 2
    objects: int = 4
    test_share: float = 0.1

    def __post_init__(self):
        if min(self.variants, self.objects) < 1 or not 0 < self.test_share < 1 or self.seed < 0:
            raise HarmonyError(f"{self}: variants and objects are at least 1, test_share lies in (0, 1), seed is >= 0")


def build(
    coco: str | Path,
    out: Path,
    settings: Settings | None = None,
    limit: int | None = None,
    apart: Sequence[Path] = (),
    unlabelled: Path | None = None,
    workers: int | None = None,
    say=print,
) -> pd.DataFrame:
    """Make the set `out` from a folder in COCO's format; its manifest, one row a pair, is returned.

    `out` appears when everything in it is written. With it come `manifest.csv` (the recipes), `rejected.csv` (why
    transfers were dropped, and how often) and `build.json` (the settings).

    Args:
        limit: use this many photographs only, the first by id.
        apart: folders of pictures to be tested on elsewhere: photographs that nearly duplicate one are not used, as
            targets or for their colours.
        unlabelled: a folder of photographs for LEMaRT, linked into the set's `unlabelled/`, but for near-duplicates of
            the set's own test photographs and of `apart`.
        workers: processes; None: one a core.

    Raises:
        HarmonyError: what `read_objects` refuses, `out` is there already, a folder without pictures, a picture in
            `apart` that cannot be read, all objects in one photograph, or no pair came out.
    """
    settings = settings or Settings()
    check_missing(out)
    tests = near_duplicates.of_tests(apart)
    photographs = near_duplicates.pictures(unlabelled) if unlabelled else []
    made_of = _made_of(coco, settings, limit, tests, photographs)
    by_photograph = defaultdict(list)
    for thing in read_objects(coco):
        if AREA[0] <= thing.area <= AREA[1]:
            by_photograph[thing.photograph].append(thing)
    chosen = dict(list(by_photograph.items())[:limit])
    left_out = _twins_of(tests, {p: things[0].file for p, things in chosen.items()})
    chosen = {p: things for p, things in chosen.items() if p not in left_out}
    if len(chosen) < 2:
        raise HarmonyError(f"{coco}: {len(chosen)} photographs with outlines to use; transfers need two or more")
    reasons = Counter({"near-duplicate of a test": len(left_out)})
    with making(out) as folder:
        for name in FOLDERS:
            (folder / SUBSET / name).mkdir(parents=True)
        rows = []
        for made, found in _photographs(folder, chosen, settings, workers, out.name):
            rows += made
            reasons += found
        if not rows:
            raise HarmonyError(f"{coco}: no pair passed ({_told(reasons)}); are these photographs with outlines?")
        manifest = _with_splits(folder, pd.DataFrame(rows), settings)
        manifest.to_csv(folder / "manifest.csv", index=False)
        rejected = pd.DataFrame(sorted(reasons.items()), columns=["reason", "count"])
        rejected.to_csv(folder / "rejected.csv", index=False)
        if photographs:
            names = manifest["name"][manifest["split"] == "test"]
            own = thumbnails(sorted({Entry(folder, SUBSET, name).real for name in names}))
            _link(photographs, folder / "unlabelled", tests + own, say)
        (folder / "build.json").write_text(json.dumps(made_of, indent=1) + "\n")
    say(f"{len(manifest)} pairs of {manifest['photograph'].nunique()} photographs in {shown(out)}; {_told(reasons)}")
    return manifest


def is_made_of(out: Path, settings: Settings, coco: Path | None, limit=None, apart=(), unlabelled=None) -> bool:
    """Whether a set that is there was made with these settings and folders (`coco` None: from whatever folder)."""
    try:
        made = read_json(out / "build.json", "make the set again")
    except (OSError, HarmonyError):
        return False
    photographs = near_duplicates.pictures(unlabelled) if unlabelled else []
    wanted = _made_of(coco, settings, limit, near_duplicates.of_tests(apart), photographs)
    return all(made.get(key) == value for key, value in wanted.items())


def _made_of(coco: str | Path | None, settings: Settings, limit: int | None, tests: Thumbnails, photographs) -> dict:
    """What a set is made of, folders by their content; found out, and refused, before anything is made."""
    if limit is not None and limit < 1:
        raise HarmonyError(f"limit {limit}: give the number of photographs to use, at least 1")
    origin = {} if coco is None else {"annotations": hashlib.sha256(content(annotation_file(coco))).hexdigest()}
    linked = "\n".join(f"{path.name} {path.stat().st_size}" for path in photographs)
    folders = {
        "apart": tests.digest if len(tests) else None,
        "unlabelled": hashlib.sha256(os.fsencode(linked)).hexdigest() if linked else None,
    }
    return asdict(settings) | {"limit": limit} | folders | origin


def _twins_of(tests: Thumbnails, files: dict) -> set:
    """The keys of the files that nearly duplicate a test."""
    if not len(tests):
        return set()
    keys = list(files)
    return {keys[row] for row in twins(thumbnails(files.values()), tests)}


def _photographs(folder: Path, chosen: dict, settings: Settings, workers: int | None, name: str) -> Iterator:
    """What `_photograph` returns for each, in order; when one fails or the user interrupts, the rest is not begun.

    By processes, for NumPy holds Python's lock half of the time; a few photographs are not worth starting them.
    """
    workers = workers or os.cpu_count() or 1
    start = {"initializer": _start, "initargs": (folder, chosen, settings)}
    if workers == 1 or len(chosen) < WORTH_PROCESSES:
        pool = ThreadPoolExecutor(1, **start)
    else:
        spawn = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks, held or not
        pool = ProcessPoolExecutor(workers, spawn, **start)
    with pool:
        jobs = [pool.submit(_photograph, photograph) for photograph in chosen]
        try:
            for job in tqdm(jobs, desc=name, unit="photograph", disable=QUIET):
                yield job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def recolour(patch: np.ndarray, mask: np.ndarray, reference: np.ndarray, method: str, strength: float, generator):
    """An object's surroundings (h, w, 3) uint8 with the object in the colours of `reference` (M, 3) uint8.

    `mask` (h, w) in [0,1] blends at the edge; pixels where it is 0 stay as they are.
    """
    touched = np.flatnonzero(mask > 0)
    source = patch.reshape(-1, 3).take(touched, 0)
    moved = TRANSFERS[method](source, reference, generator)
    weight = strength * mask.take(touched)[:, None]
    result = patch.copy()
    result.reshape(-1, 3)[touched] = np.rint((source + weight * (moved - source)).clip(0, 255))
    return result


def _surely_broken(pixels: np.ndarray, reference: np.ndarray, method: str, strength: float) -> str | None:
    """Whether a transfer changes so much that its trial on a few pixels (N, 3) tells: half of all transfers do."""
    moved = TRANSFERS[method](pixels, reference, np.random.default_rng(0)).clip(0, 255)
    change = strength * float(np.square(moved - pixels).mean()) ** 0.5
    return "overdone" if change > 1.1 * CHANGE[1] else None


_given: dict = {}  # what every photograph's work needs, in a process or a thread of its own


def _start(folder: Path, chosen: dict[int, list[Object]], settings: Settings) -> None:
    if parent := multiprocessing.parent_process():
        end_with(parent.pid)
    pool = _by_category([thing for things in chosen.values() for thing in things])
    _given.update(folder=folder, chosen=chosen, settings=settings, pool=pool)


def _photograph(photograph: int) -> tuple[list[dict], Counter]:
    """Write every pair of one photograph; (manifest rows, how often each reason dropped something)."""
    folder, settings, pool = _given["folder"], _given["settings"], _given["pool"]
    things = _given["chosen"][photograph]
    photo, rows, reasons = f"c{things[0].photograph}", [], Counter()
    try:
        pixels = read_photograph(things[0])
    except HarmonyError as error:
        return rows, Counter([str(error)])
    for thing in sorted(things, key=lambda o: (-o.area, o.id))[: settings.objects]:
        mask = thing.mask()
        left, top, right, bottom = thing.box
        variants = 0
        for number in range(settings.variants):
            pair = _pair(pixels[top:bottom, left:right], mask, thing, pool, settings.seed, number, reasons)
            if pair:
                variants += 1
                name, composite = f"{photo}_{thing.id}_{variants}", pixels.copy()
                composite[top:bottom, left:right] = pair[0]
                Image.fromarray(composite).save(folder / SUBSET / "composite_images" / f"{name}.jpg", **JPEG)
                rows.append({"name": name, "photograph": photo, "file": one_line(thing.file.name)} | pair[1])
        if variants:
            whole = np.zeros(pixels.shape[:2], np.uint8)
            whole[top:bottom, left:right] = np.rint(255 * mask)
            Image.fromarray(whole).save(folder / SUBSET / "masks" / f"{photo}_{thing.id}.png")
    if rows:
        _save_target(things[0].file, pixels, folder / SUBSET / "real_images" / f"{photo}.jpg")
    return rows, reasons


def _pair(patch, mask, thing: Object, pool, seed: int, number: int, reasons: Counter):
    """(recoloured patch, recipe), or None where no attempt passed; what was dropped is counted in `reasons`."""
    generator = np.random.default_rng([seed, thing.photograph, thing.id, number])
    # another method for each variant of an object, in an order of its own
    order = np.random.default_rng([seed, thing.photograph, thing.id]).permutation(len(TRANSFERS))
    inside = mask > 0.5
    if not inside.any():
        reasons["outline around nothing"] += 1
        return None
    few = _some(patch[inside], PREVIEW_PIXELS, generator)
    for attempt in range(ATTEMPTS):
        method = list(TRANSFERS)[order[(number + attempt) % len(order)]]
        strength = round(float(generator.uniform(*STRENGTH)), 3)
        reference = _reference(thing, pool, generator)
        try:
            colours = object_pixels(reference, generator)
        except HarmonyError as error:
            reasons[str(error)] += 1
            continue
        reason = _surely_broken(few, colours, method, strength)
        if not reason:
            result = recolour(patch, mask, colours, method, strength, generator)
            reason = why_broken(patch, result, inside)
        if not reason:
            recipe = {"category": thing.category, "area": round(thing.area, 4), "method": method, "strength": strength,
                      "reference": reference.photograph, "reference_object": reference.id, "seed": seed,
                      "number": number, "attempt": attempt}  # fmt: skip
            return result, recipe
        reasons[reason] += 1
    return None


def _reference(thing: Object, pool: dict[str, list[Object]], generator: np.random.Generator) -> Object:
    """An object of the same category in another photograph; of any category where there is none."""
    for candidates in (pool[thing.category], pool[""]):
        for _ in range(8):  # most categories are in many photographs, so that a draw or two will do
            candidate = candidates[generator.integers(len(candidates))]
            if candidate.photograph != thing.photograph:
                return candidate
        others = [c for c in candidates if c.photograph != thing.photograph]
        if others:
            return others[generator.integers(len(others))]
    raise AssertionError("`build` refuses a set of one photograph")


def read_photograph(thing: Object) -> np.ndarray:
    """The photograph of an object, (H, W, 3) uint8. Raises HarmonyError, without its name, where it cannot serve."""
    try:
        pixels = np.array(open_rgb(thing.file))
    except HarmonyError:
        raise HarmonyError("unreadable photograph") from None
    if pixels.shape[1::-1] != thing.size:
        raise HarmonyError("photograph of another size than its annotation says")
    if colourfulness(pixels[::4, ::4]) < 3:
        raise HarmonyError("grey photograph")
    return pixels


def object_pixels(thing: Object, generator: np.random.Generator) -> np.ndarray:
    """Pixels of an object, (M, 3) uint8, at most `REFERENCE_PIXELS`, drawn evenly. Raises like `read_photograph`, and
    where the outline encloses no pixel."""
    left, top, right, bottom = thing.box
    pixels = read_photograph(thing)[top:bottom, left:right][thing.inside()]
    if not len(pixels):
        raise HarmonyError("outline around nothing")
    return _some(pixels, REFERENCE_PIXELS, generator)


def _some(pixels: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` of the pixels, where there are more."""
    return pixels[generator.integers(len(pixels), size=count)] if len(pixels) > count else pixels


def _save_target(source: Path, pixels: np.ndarray, target: Path) -> None:
    """The photograph's own bytes where they are an RGB JPEG, as in HCOCO; else it is written as one."""
    with Image.open(source) as image:
        as_it_is = image.format == "JPEG" and image.mode == "RGB"
    if as_it_is:
        target.write_bytes(source.read_bytes())
    else:
        Image.fromarray(pixels).save(target, **JPEG)


def _link(files: list[Path], folder: Path, tests: Thumbnails, say) -> None:
    """Link photographs into `folder`, but for near-duplicates of `tests`."""
    folder.mkdir()
    left_out = twins(thumbnails(files), tests)
    for row, path in enumerate(files):
        if row not in left_out:
            (folder / f"{row:06d}-{path.name}").symlink_to(path.resolve())
    count = len(files) - len(left_out)
    say(f"{count} photographs linked for LEMaRT; near-duplicates of a test left out: {len(left_out)}")


def _with_splits(folder: Path, manifest: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Write the lists, divided by photograph; the manifest with the side of each pair.

    A photograph that nearly duplicates one of the test list goes there as well.
    """
    entries = [Entry(folder, SUBSET, name) for name in manifest["name"]]
    train, test = hold_out(entries, settings.test_share, salt="coco-mini")
    tested = thumbnails({e.photo: e.real for e in test}.values())
    moved = _twins_of(tested, {e.photo: e.real for e in train})
    held = {e.name for e in test} | {e.name for e in train if e.photo in moved}
    write_lists(
        folder,
        {"train": [e for e in entries if e.name not in held], "test": [e for e in entries if e.name in held]},
    )
    manifest.insert(1, "split", ["test" if name in held else "train" for name in manifest["name"]])
    return manifest


def _by_category(things: list[Object]) -> dict[str, list[Object]]:
    pool = defaultdict(list, {"": things})
    for thing in things:
        pool[thing.category].append(thing)
    return pool


def _told(reasons: Counter) -> str:
    return "dropped: " + (
        ", ".join(f"{reason} {count}" for reason, count in reasons.most_common() if count) or "nothing"
    )

"""The public sets of photographs, image by image from where they are published, or from a mirror of the same paths.

COCO (cocodataset.org/#download): val2017 with its outlines, which coco-mini is made of, and unlabeled2017, which
LEMaRT pre-trains on. Open Images V6 (storage.googleapis.com/openimages/web/download_v6.html): LEMaRT's Table 2 takes
"120K" of its photographs without saying which; this is its test part, of about as many.
"""

import csv
import json
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from PIL import Image
from tqdm.auto import tqdm

from harmonylib.data import QUIET
from harmonylib.data.download import Damaged, Downloader, extract, same_bytes
from harmonylib.errors import HarmonyError
from harmonylib.paths import alone, data_dir, shown
from harmonylib.reading import DAMAGE, UNDECODED, content

COCO = "http://images.cocodataset.org"
WORKERS = range(1, 65)
AHEAD = 32  # images a worker that wait for their turn
GIVE_UP = 50  # images in a row that cannot be had: then it is not the images
PHOTOGRAPH = 1 << 26  # bytes; hardly one of these sets has a tenth
LIST = 1 << 29  # bytes of a list; the largest of COCO's has 0.45 GB
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.jpg")


class Photograph(NamedTuple):
    name: str
    size: tuple[int, int] | None  # width, height in px, where the list says so


@dataclass(frozen=True)
class Published:
    """Where a set lies; `base` of `fetch` takes the place of both hosts.

    list_path: the list of its images, or an archive with the list as `member`, of `size` bytes and `md5` where known;
    room: bytes on the disk until the list is read, about; photographs: how many, of about `each` bytes.
    """

    list_path: str
    image_folder: str
    photographs: int
    member: str = ""
    size: int | None = None
    md5: str | None = None
    room: int = 50_000_000
    each: int = 165_000  # COCO's archives of unlabeled2017 and val2017 hold 163 kB an image
    list_host: str = COCO
    image_host: str = COCO

    @property
    def listing(self) -> str:
        """The list's place in the folder of the set."""
        return self.member or Path(self.list_path).name


SETS = {
    "coco-val2017": Published(
        "annotations/annotations_trainval2017.zip",
        "val2017",
        5000,
        member="annotations/instances_val2017.json",
        size=252_907_541,
        md5="f4bbac642086de4f52a3fdda2de5fa2c",
        room=275_000_000,
    ),
    "coco-unlabeled2017": Published(
        "annotations/image_info_unlabeled2017.zip",
        "unlabeled2017",
        123_403,
        member="annotations/image_info_unlabeled2017.json",
        md5="ede38355d5c3e5251bb7f8b68e2c068f",
    ),
    "open-images": Published(
        "2018_04/test/test-images-with-rotation.csv",
        "test",
        125_436,
        each=320_000,
        list_host="https://storage.googleapis.com/openimages",
        image_host="https://open-images-dataset.s3.amazonaws.com",
    ),
}


def fetch(
    name: str,
    limit: int | None = None,
    base: str | None = None,
    to: str | Path | None = None,
    workers: int = 8,
    say: Callable[[str], None] = print,
) -> Path:
    """The folder with the first `limit` photographs of a set (all of them without), after what is missing has come.

    base: address of a mirror, below which the same paths lie; to: the folder, else one of the set's name in the data
    folder; workers: connections at once. A file under its own name is whole and has been checked: a length equal to
    the announced one, MD5 where known, every picture decoded, and of the size that COCO states. Such files are not
    asked for again, and the rest of broken ones goes on where it stopped.

    Raises HarmonyError: a set, limit, base or number of workers that makes no sense, another process at work in the
    folder, too little room on the disk, a list that cannot be had or names something else than pictures, and, once all
    others are there, images that could not be had.
    """
    published = _understood(name, limit, base, workers)
    folder = Path(to).expanduser() if to else data_dir() / name
    downloader = Downloader()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder / ".lock", partial(_busy, folder)):
            listing = folder / published.listing
            if not listing.exists():
                expected = min(limit or published.photographs, published.photographs) * published.each
                _ask_for_room(folder, published.room + expected)
                _fetch_list(downloader, published, base, listing, say)
            if published.member:
                listing.with_suffix(".zip").unlink(missing_ok=True)
            photographs = _listed(listing)[:limit]
            _fetch_photographs(downloader, name, photographs, base, folder, workers, say)
    except OSError as problem:
        raise HarmonyError(f"{shown(folder)}: {problem.strerror or problem}; what is there is kept") from None
    say(f"{name}: {len(photographs):,} images in {shown(folder / published.image_folder)}")
    return folder


def _understood(name: str, limit: int | None, base: str | None, workers: int) -> Published:
    if name not in SETS:
        raise HarmonyError(f"{name}: no set that can be fetched; there are {', '.join(SETS)}")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise HarmonyError(f"limit {limit!r}: give a whole number of images, 1 or more")
    if type(workers) is not int or workers not in WORKERS:
        raise HarmonyError(f"workers {workers!r}: give a whole number from {WORKERS[0]} to {WORKERS[-1]}")
    try:
        address = urlsplit((base or COCO).encode().decode())  # ValueError: of bytes that are no text
        understood = address.scheme in ("http", "https") and address.hostname and not address.query + address.fragment
        _ = address.port
    except ValueError:
        understood = False
    if not understood or base == "":
        raise HarmonyError(f"base {base!r}: no address; give one such as {COCO}")
    return SETS[name]


def _busy(folder: Path) -> None:
    raise HarmonyError(f"{shown(folder)}: another process fetches into it; wait for it, or use --to") from None


def _ask_for_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise HarmonyError(
            f"{shown(folder)}: about {_amount(needed)} needed, {_amount(free)} free; use --limit, or --to another disk"
        )


def _amount(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _fetch_list(downloader: Downloader, published: Published, base: str | None, listing: Path, say) -> None:
    url = f"{(base or published.list_host).rstrip('/')}/{published.list_path}"
    listing.parent.mkdir(parents=True, exist_ok=True)
    size = f", {_amount(published.size)}" if published.size else ""
    say(f"first the list of images: {url}{size}{', deleted once the list is out of it' if published.member else ''}")
    with tqdm(desc="list", total=published.size, unit="B", unit_scale=True, leave=False, disable=QUIET) as bar:
        get = partial(downloader.get, url, size=published.size, moved=lambda length: bar.update(length - bar.n))
        if not published.member:
            get(listing, check=_read_list)
            return
        archive = listing.with_suffix(".zip")
        get(archive, check=partial(same_bytes, md5=published.md5))
    try:
        extract(archive, published.member, listing, check=_read_list)
    except HarmonyError:
        archive.unlink()
        raise


def _listed(path: Path) -> list[Photograph]:
    try:
        return _read_list(path)
    except Damaged as why:
        raise HarmonyError(f"{shown(path)}: {why}; delete it, and it comes again") from None


def _read_list(path: Path) -> list[Photograph]:
    """What COCO's JSON names, by id, or Open Images' CSV, in its order. Raises `Damaged`."""
    try:
        text = content(path, LIST).decode("utf-8")
        photographs = _from_json(text) if text.lstrip().startswith("{") else _from_csv(text)
    except (HarmonyError, csv.Error, *DAMAGE):
        raise Damaged("no list of images: neither COCO's JSON nor a CSV with a column ImageID") from None
    seen = set()
    for photograph in photographs:
        if not NAME.fullmatch(photograph.name):
            raise Damaged(f"names {photograph.name[:100]!r}, which is no plain name of a picture; refused")
        if photograph.name.lower() in seen:
            raise Damaged(f"names {photograph.name} twice; refused")
        seen.add(photograph.name.lower())
    if not photographs:
        raise Damaged("a list without images")
    return photographs


def _from_json(text: str) -> list[Photograph]:
    images = sorted(json.loads(text)["images"], key=lambda image: int(image["id"]))
    return [Photograph(str(image["file_name"]), (int(image["width"]), int(image["height"]))) for image in images]


def _from_csv(text: str) -> list[Photograph]:
    return [Photograph(row["ImageID"] + ".jpg", None) for row in csv.DictReader(StringIO(text, newline=""))]


def _fetch_photographs(
    downloader: Downloader, name: str, photographs: list[Photograph], base: str | None, folder: Path, workers: int, say
) -> None:
    published = SETS[name]
    place = folder / published.image_folder
    place.mkdir(exist_ok=True)
    there = {path.name for path in place.iterdir()}
    missing = [photograph for photograph in photographs if photograph.name not in there]
    if missing:
        needed = len(missing) * published.each
        _ask_for_room(folder, needed)
        size = f"{_amount(needed)} (estimated, at {published.each // 1000} kB each)"
        say(f"{name}: {len(missing):,} of {len(photographs):,} images to fetch, about {size}, into {shown(place)}")
    host = f"{(base or published.image_host).rstrip('/')}/{published.image_folder}"

    def get(photograph: Photograph) -> None:
        check = partial(_check_picture, size=photograph.size)
        downloader.get(f"{host}/{photograph.name}", place / photograph.name, check, most=PHOTOGRAPH)

    failed, in_a_row = [], 0
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(desc=name, total=len(missing), unit="image", leave=False, disable=QUIET) as bar,
    ):
        try:
            for outcome in _in_order(pool, get, missing, AHEAD * workers):
                problem = outcome.exception()
                if isinstance(problem, HarmonyError):
                    failed.append(str(problem))
                elif problem:
                    raise problem
                in_a_row = in_a_row + 1 if problem else 0
                if in_a_row == GIVE_UP:
                    raise HarmonyError(f"{name}: {GIVE_UP} failures in a row, given up; the first: {failed[-GIVE_UP]}")
                bar.update()
        except BaseException:  # Ctrl-C above all: nobody waits for what is under way
            downloader.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failed:
        raise HarmonyError(
            f"{name}: {len(failed):,} of {len(photographs):,} images could not be had, the first: {failed[0]}; "
            f"the others are in {shown(place)}, and the same command goes on from there"
        )


def _in_order(pool: ThreadPoolExecutor, work: Callable, items: list, ahead: int) -> Iterator[Future]:
    """Each item's finished work, in their order, with no more than `ahead` of them handed out."""
    jobs = (pool.submit(work, item) for item in items)
    waiting = deque(islice(jobs, ahead))
    while waiting:
        waiting[0].exception()  # waits
        yield waiting.popleft()
        waiting.extend(islice(jobs, 1))


def _check_picture(path: Path, size: tuple[int, int] | None) -> None:
    """Raises `Damaged` where it is no JPEG that decodes to its end, or one of another size than stated."""
    try:
        with Image.open(path, formats=["JPEG"]) as picture:
            picture.load()
            found = picture.size
    except UNDECODED:
        raise Damaged("no JPEG that can be decoded to its end") from None
    if size and found != size:
        raise Damaged(f"a picture of {found[0]}x{found[1]} px, where the list says {size[0]}x{size[1]}")

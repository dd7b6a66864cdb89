"""What reads pictures, masks, lists, outlines and what is fetched, with small files of each: half of `readers`."""

import io
from pathlib import Path

import numpy as np
from hypothesis.strategies import SearchStrategy

from harmonylib import (
    metrics,
    picture_masks,
    pictures,
)
from harmonylib.data import coco, coco_mini, download, fetch, layout, verify
from harmonylib.errors import HarmonyError
from torture import strategies as spoil

SIZE = (24, 16)
ENDINGS = (".png", ".jpg", ".tif", ".webp")


def written(content: bytes, file: Path) -> Path:
    file.write_bytes(content)
    return file


def read_picture(content: bytes, folder: Path) -> None:
    file = written(content, folder / "picture.png")
    picture = pictures.read(file)
    for ending in ENDINGS:
        with _refusals():
            pictures.encode(picture, ending)
    with _refusals():
        metrics.resize_image(metrics.open_image(file), "bcmi256", 8)


def read_mask(content: bytes, folder: Path) -> None:
    file = written(content, folder / "mask.png")
    with _refusals():
        metrics.resize_mask(layout.open_mask(file), "bcmi256", 8)
    picture_masks.read(file, pictures.Picture(np.zeros((*SIZE[::-1], 3), np.uint8)))


class _refusals:
    """What is refused here is no reason not to try the next thing with the same file."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace) -> bool:
        return kind is not None and issubclass(kind, HarmonyError)


def sound_pictures(size: tuple[int, int]) -> list[bytes]:
    deep = pictures.Picture(np.full((*size[::-1], 3), 300, np.uint16))
    eight = [spoil.picture(ending, mode, size) for ending in spoil.FORMATS for mode in range(4)]
    return [*eight, pictures.encode(deep, ".png"), pictures.encode(deep, ".tif")]


def spoilt_pictures(size: tuple[int, int] | None = None) -> SearchStrategy[bytes]:
    return spoil.edited_pictures(size) | spoil.edited_bytes(sound_pictures(size or (5, 4)))


CORNERS = [[2, 2], [20, 3], [9, 14]]
POLYGONS = [{"polygons": [CORNERS]}, [[2, 2, 20, 3, 9, 14]], {"shapes": [{"points": CORNERS}]}]
LINES = b"HCOCO/composite_images/c1_1_1.jpg\nHCOCO/composite_images/c1_1_2.jpg\nHCOCO/composite_images/c2_1_1.jpg\n"
LINE_WORDS = (b"../", b"/", b"\\", b"\0", b"\r\n", b"\xef\xbb\xbf", b"\xff", b"HFlickr/composite_images/",
              b"_", b"A" * 300, b"\x1b[2J", "é🙂".encode())  # fmt: skip


def write_set(folder: Path) -> None:
    for name in layout.FOLDERS:
        (folder / "HCOCO" / name).mkdir(parents=True)
    jpg, mask = spoil.picture("jpg", 1, SIZE), io.BytesIO()
    half = np.zeros(SIZE[::-1], np.uint8)
    half[:, :9] = 255
    pictures.Image.fromarray(half).save(mask, "PNG")
    for photo in ("c1", "c2"):
        (folder / "HCOCO/real_images" / f"{photo}.jpg").write_bytes(jpg)
        (folder / "HCOCO/masks" / f"{photo}_1.png").write_bytes(mask.getvalue())
        for variant in (1, 2):
            (folder / "HCOCO/composite_images" / f"{photo}_1_{variant}.jpg").write_bytes(jpg)
    for split in ("train", "test"):
        (folder / f"IHD_{split}.txt").write_bytes(LINES)


def read_list(content: bytes, folder: Path) -> None:
    written(content, folder / "IHD_test.txt")
    _, faults = verify.verify(folder, workers=1)
    "\n".join(verify.summary(faults)).encode()
    layout.read_entries(folder, "all", "test")


ANNOTATIONS = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "width": SIZE[0], "height": SIZE[1]} for i in (1, 2)],
    "categories": [{"id": 1, "name": "cup"}],
    "annotations": [
        {"id": i, "image_id": i, "category_id": 1, "iscrowd": 0, "segmentation": [[2, 2, 20, 3, 9, 14]]} for i in (1, 2)
    ],
}


def write_coco(folder: Path) -> None:
    (folder / "annotations").mkdir()
    (folder / "images").mkdir()
    for name in (1, 2):
        (folder / "images" / f"{name}.jpg").write_bytes(spoil.picture("jpg", 1, SIZE, name))


def read_coco(content: bytes, folder: Path) -> None:
    written(content, folder / "annotations/instances_own.json")
    for thing in coco.read_objects(folder)[:4]:
        _ = thing.area, f"{thing.category}".encode()
        coco_mini.read_photograph(thing)
        thing.mask(), thing.inside()


LISTED = b"ImageID,Subset\n000a,test\n000b,test\n"
MEMBER = "annotations/list.csv"


def read_archive(content: bytes, folder: Path) -> None:
    out = folder / "list.csv"
    out.unlink(missing_ok=True)
    download.extract(written(content, folder / "list.zip"), MEMBER, out, check=fetch._read_list)


def sound_archives() -> list[bytes]:
    target = io.BytesIO()
    with download.zipfile.ZipFile(target, "w", download.zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, LISTED)
        archive.writestr("README", b"")
    return [target.getvalue()]


NOTE = {"url": "http://localhost/1.jpg", "mark": '"1"', "total": 9}


def read_note(content: bytes, folder: Path) -> None:
    written(content, folder / "1.jpg.tag.part")
    download._Part(folder / "1.jpg", NOTE["url"]).marked()

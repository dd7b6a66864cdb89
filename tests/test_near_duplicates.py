"""The same photograph under two names is found whatever was done to it; different photographs are not."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from harmonylib.data.near_duplicates import BLOCK, Thumbnails, of_tests, thumbnails, twins


def photograph(seed: int) -> Image.Image:
    """Coloured blobs of several sizes, with noise: as unlike each other as photographs are."""
    generator = np.random.default_rng(seed)
    picture = np.zeros((120, 160, 3))
    for cells in (3, 6, 24):
        small = Image.fromarray(generator.integers(0, 256, (cells, cells, 3), np.uint8))
        picture += np.asarray(small.resize((160, 120), Image.Resampling.BICUBIC), float) / 3
    return Image.fromarray((picture + generator.normal(0, 5, picture.shape)).clip(0, 255).astype(np.uint8))


def through_jpeg(picture, tmp_path, quality=40):
    picture.save(tmp_path / "again.jpg", quality=quality)
    return Image.open(tmp_path / "again.jpg").convert("RGB")


CHANGES = {
    "encoded again": through_jpeg,
    "smaller": lambda p, _: p.resize((64, 48), Image.Resampling.BILINEAR),
    "squeezed": lambda p, _: p.resize((96, 96)),
    "mirrored": lambda p, _: ImageOps.mirror(p),
    "brighter": lambda p, _: ImageEnhance.Brightness(p).enhance(1.3),
    "less contrast": lambda p, _: ImageEnhance.Contrast(p).enhance(0.6),
    "cropped by a little": lambda p, _: p.crop((2, 2, 158, 118)),
    "an object recoloured": lambda p, _: recoloured(p),
}


def recoloured(picture: Image.Image) -> Image.Image:
    pixels = np.asarray(picture).astype(int).copy()
    pixels[40:80, 60:100] += np.array([25, -10, -25])
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def saved(folder, pictures) -> list:
    """The pictures as PNG, by number."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number}.png" for number in range(len(pictures))]
    for file, picture in zip(files, pictures, strict=True):
        picture.save(file)
    return files


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_photograph_is_found(change, tmp_path):
    photographs = thumbnails(saved(tmp_path / "a", [photograph(seed) for seed in range(10)]))
    tests = thumbnails(saved(tmp_path / "b", [CHANGES[change](photograph(7), tmp_path)]))
    assert twins(photographs, tests) == {7}


def test_different_photographs_are_not(tmp_path):
    first = thumbnails(saved(tmp_path / "a", [photograph(seed) for seed in range(60)]))
    second = thumbnails(saved(tmp_path / "b", [photograph(seed) for seed in range(60, 120)]))
    assert twins(first, second) == set()


@pytest.mark.parametrize("folders", [("composite", "mask"), ("composite_images", "masks")])
@pytest.mark.parametrize("side", [40, 80])
def test_a_composite_is_known_by_its_background(tmp_path, folders, side):
    """Half of it may be another picture: without its mask it would be like none."""
    pasted, mask = photograph(3), Image.new("L", (160, 120))
    box = (60, 20, 60 + side, 20 + side)
    pasted.paste(photograph(50).crop(box), box)
    mask.paste(255, box)
    for folder, picture, name in ((folders[0], pasted, "3_1_1.png"), (folders[1], mask, "3_1.png")):
        (tmp_path / folder).mkdir()
        picture.save(tmp_path / folder / name)
    if folders[0] == "composite":
        (tmp_path / "mask/3_1.png").rename(tmp_path / "mask/3_1_1.png")
    photographs = thumbnails(saved(tmp_path / "a", [photograph(seed) for seed in range(10)]))
    assert twins(photographs, of_tests([tmp_path / folders[0]])) == {3}
    blind = thumbnails(saved(tmp_path / "b", [pasted]))
    assert side == 40 or twins(photographs, blind) == set()


def test_more_than_a_block_at_once():
    pixels = np.random.default_rng(0).normal(size=(BLOCK + 10, 256, 3)).astype(np.float32)
    everything = np.ones((len(pixels), 256), bool)
    rows = [3, BLOCK + 5]
    assert twins(Thumbnails(pixels, everything), Thumbnails(pixels[rows], everything[rows])) == set(rows)


def test_what_cannot_be_read_and_what_has_no_content_is_like_nothing(tmp_path, refused):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    Image.new("RGB", (40, 30), (90, 120, 30)).save(tmp_path / "flat.png")
    rows = thumbnails([tmp_path / "broken.jpg", tmp_path / "flat.png"])
    assert twins(rows, rows) == twins(rows, thumbnails([])) == set()
    with refused("broken.jpg"):  # a test that cannot be read cannot be kept apart either
        of_tests([tmp_path])
    with refused("nowhere", "no pictures"):
        of_tests([tmp_path / "nowhere"])

"""The same photograph under two names is found whatever was done to it; different photographs are not."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from harmonylib.data.near_duplicates import BLOCK, fingerprint, fingerprints, near_duplicates


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


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_photograph_is_found(change, tmp_path):
    others = np.array([fingerprint(photograph(seed)) for seed in range(10)])
    changed = fingerprint(CHANGES[change](photograph(7), tmp_path))[None]
    assert [(row, twin) for row, twin, _ in near_duplicates(changed, others)] == [(0, 7)]


def test_different_photographs_are_not():
    first = np.array([fingerprint(photograph(seed)) for seed in range(100)])
    second = np.array([fingerprint(photograph(seed)) for seed in range(100, 200)])
    assert list(near_duplicates(first, second)) == []


def test_more_than_a_block_at_once():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(BLOCK + 10, 768)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert [row for row, *_ in near_duplicates(rows, rows[[3, BLOCK + 5]])] == [3, BLOCK + 5]


def test_what_cannot_be_read_and_what_has_no_content_is_like_nothing(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    Image.new("RGB", (40, 30), (90, 120, 30)).save(tmp_path / "flat.png")
    rows = fingerprints([tmp_path / "broken.jpg", tmp_path / "flat.png"])
    assert list(near_duplicates(rows, rows)) == []
    assert list(near_duplicates(rows, fingerprints([]))) == []

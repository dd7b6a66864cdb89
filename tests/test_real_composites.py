"""RealHM's misleading file names, and composites without targets."""

import numpy as np
import pytest
from PIL import Image

from harmonylib.cli import main
from harmonylib.data.composites import find_composites
from harmonylib.data.layout import read_entries
from harmonylib.data.realhm import convert
from harmonylib.data.verify import verify

WIDTH, HEIGHT = 64, 48
LEVELS = {"": 200, "_fore": 90, "_gt": 120, "_small": 10}  # of grey, and no two alike


def write_example(folder, name: str) -> None:
    """X.jpg grey 200, X_fore.jpg 90, X_gt.jpg 120, and a mask whose right half is the object."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, level in LEVELS.items():
        Image.new("RGB", (WIDTH, HEIGHT), (level, level + 5, level - 5)).save(folder / f"{name}{part}.jpg", quality=95)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, WIDTH // 2 :] = 255
    Image.fromarray(mask).save(folder / f"{name}_mask.jpg", quality=75)


@pytest.fixture
def realhm(tmp_path):
    for folder, name in (("vendor_testing_1/a", "x1"), ("vendor_testing_1/b", "x2"), ("vendor_testing_3", "x1")):
        write_example(tmp_path / "RealHM" / folder, name)
    return tmp_path / "RealHM"


def test_realhm_is_composed_as_its_demo_does(realhm, tmp_path):
    entries = convert(realhm, tmp_path / "set", say=lambda line: None)
    composite, mask, real = (
        np.asarray(Image.open(p)) for p in (entries[0].composite, entries[0].mask, entries[0].real)
    )
    assert np.abs(composite[4:-4, 40:].mean((0, 1)) - (200, 205, 195)).max() < 2  # the object: X.jpg
    assert np.abs(composite[4:-4, :24].mean((0, 1)) - (90, 95, 85)).max() < 2  # the background: X_fore.jpg
    assert np.abs(real.mean((0, 1)) - (120, 125, 115)).max() < 2
    assert set(np.unique(mask[:, :24])) == {0} and set(np.unique(mask[:, 40:])) == {255}  # JPEG's noise is gone


def test_realhm_becomes_a_test_list(realhm, tmp_path):
    told = []
    convert(realhm, tmp_path / "set", say=told.append)
    entries = read_entries(tmp_path / "set", "all", "test")
    assert len(entries) == 3 and {e.subset for e in entries} == {"RealHM"}
    assert {fault.kind for fault in verify(tmp_path / "set")[1]} <= {"background", "duplicate"}  # grey pictures
    assert "3 examples, not the 216" in told[0]
    manifest = (tmp_path / "set/manifest.csv").read_text().splitlines()
    assert manifest[1] == "r0001_1_1,vendor_testing_1/a/x1.jpg" and len(manifest) == 4


def test_realhm_command_twice(realhm, tmp_path, capsys):
    command = ["data", "prepare", "realhm", "--source", str(realhm), "--out", str(tmp_path / "set")]
    assert main(command) == 0 and main(command) == 0
    assert "is there already, and used as it is" in capsys.readouterr().out
    assert main(["data", "prepare", "embedded", *command[3:]]) == 2
    assert "--source" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["", "_fore", "_gt"])
def test_realhm_with_a_file_missing(realhm, tmp_path, refused, part):
    (realhm / f"vendor_testing_1/b/x2{part}.jpg").unlink()
    with refused(f"x2{part}.jpg", "missing"):
        convert(realhm, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_bad_realhm(realhm, tmp_path, refused):
    with refused("nowhere"):
        convert(tmp_path / "nowhere", tmp_path / "set")
    Image.new("RGB", (20, 20)).save(realhm / "vendor_testing_3/x1_gt.jpg")
    with refused("x1_gt.jpg", "20x20"):
        convert(realhm, tmp_path / "set")
    assert not list(tmp_path.glob("*set*"))


def write_composite(folder, name: str, size=(WIDTH, HEIGHT), mask_size=(WIDTH, HEIGHT)) -> None:
    for kind in ("composite", "mask"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 80, 70)).save(folder / "composite" / f"{name}.jpg")
    mask = Image.new("L", mask_size)
    mask.paste(255, (10, 10, 30, 30))
    mask.save(folder / "mask" / f"{name}.png")


def test_composites_are_found_with_their_masks(tmp_path):
    write_composite(tmp_path / "one", "b")
    write_composite(tmp_path / "one", "a")
    write_composite(tmp_path / "deep/er", "c")
    found = find_composites(tmp_path)
    assert [(c.source, c.path.stem) for c in found] == [("er", "c"), ("one", "a"), ("one", "b")]
    picture, mask = found[0].read()
    assert picture.shape == (HEIGHT, WIDTH, 3) and mask.sum() == 400


def test_bad_composites(tmp_path, refused):
    with refused("nowhere"):
        find_composites(tmp_path / "nowhere")
    with refused("no pictures"):
        find_composites(tmp_path)
    write_composite(tmp_path, "a", mask_size=(40, 40))
    with refused("a.png", "40x40"):
        find_composites(tmp_path)[0].read()
    (tmp_path / "mask" / "a.png").unlink()
    with refused("a.jpg", "no mask"):
        find_composites(tmp_path)

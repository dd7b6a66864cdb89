"""How far an object stands off from its surroundings: exact where it can be worked out, and through the command."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from harmonylib import no_reference
from harmonylib.cli import main
from harmonylib.data.composites import find_composites
from harmonylib.evaluation import baseline

INSIDE = np.zeros((48, 48), bool)
INSIDE[12:36, 12:36] = True


def picture(front, back, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    pixels = np.where(INSIDE[..., None], front, back) + np.random.default_rng(seed).normal(0, noise, (48, 48, 3))
    return pixels.clip(0, 255)


def test_equal_sides_differ_by_nothing():
    sides = no_reference.compare_sides(picture((90, 120, 60), (90, 120, 60)), INSIDE.astype(float))
    assert sides == pytest.approx(dict.fromkeys(no_reference.STATISTICS, 0), abs=1e-9)


def test_greys_differ_in_lightness_alone():
    # L* of the greys 119 and 198 is 50.0 and 79.9 (CIE 1976, D65)
    sides = no_reference.compare_sides(picture(119, 198), INSIDE.astype(float))
    assert sides["lightness"] == pytest.approx(29.9, abs=0.2)
    assert sides["lightness_distribution"] == pytest.approx(sides["lightness"])
    assert max(sides["contrast"], sides["colour"], sides["saturation"]) < 0.01


def test_hue_without_saturation_and_the_other_way():
    red, blue, pale = (200, 80, 80), (80, 80, 200), (150, 130, 130)
    opposite = no_reference.compare_sides(picture(red, blue), INSIDE.astype(float))
    washed = no_reference.compare_sides(picture(red, pale), INSIDE.astype(float))
    assert opposite["colour"] > 60 and washed["saturation"] > 30


def test_contrast():
    rough, smooth = picture(128, 128, noise=30), picture(128, 128, noise=5)
    mixed = np.where(INSIDE[..., None], rough, smooth)
    assert no_reference.compare_sides(mixed, INSIDE.astype(float))["contrast"] > 5


@pytest.mark.parametrize("mask", [np.zeros((48, 48)), np.ones((48, 48))])
def test_one_side_alone_has_no_answer(mask):
    assert all(np.isnan(value) for value in no_reference.compare_sides(picture(10, 20), mask).values())


@pytest.fixture
def composites(tmp_path):
    """24 composites in two sources whose objects are too bright."""
    for number in range(24):
        place = tmp_path / "real" / f"source{number % 2}"
        for folder in ("composite", "mask"):
            (place / folder).mkdir(parents=True, exist_ok=True)
        pixels = picture((190, 180, 170), (90, 100, 110), noise=12, seed=number).astype(np.uint8)
        Image.fromarray(pixels).save(place / "composite" / f"{number}.png")
        Image.fromarray(255 * INSIDE.astype(np.uint8)).save(place / "mask" / f"{number}.png")
    return tmp_path / "real"


def test_doing_nothing_changes_nothing_and_reinhard_comes_nearer(composites):
    methods = {name: (baseline(name), 48) for name in ("identity", "reinhard")}
    table = no_reference.summarise(no_reference.compare(find_composites(composites), methods))
    idle, reinhard = (table[table["method"] == name].set_index("statistic") for name in methods)
    assert (idle["difference"] == 0).all() and set(idle["side"]) == {"cannot tell"}
    assert reinhard.loc["lightness", "side"] == reinhard.loc["colour", "side"] == "nearer"
    assert reinhard.loc["lightness", "after"] < 0.1 * reinhard.loc["lightness", "before"]
    assert set(table["n"]) == {24}


def test_one_composite_alone_has_no_interval(composites):
    rows = no_reference.compare(find_composites(composites)[:1], {"reinhard": (baseline("reinhard"), 48)})
    table = no_reference.summarise(rows)
    assert set(table["side"]) == {"cannot tell"} and table["low"].isna().all() and set(table["n"]) == {1}


def test_pictures_of_composites_with_the_longest_names(composites, tmp_path):
    composite = find_composites(composites)[0]
    renamed = composite.path.rename(composite.path.with_name("é" * 125 + composite.path.suffix))
    methods = {"identity": (baseline("identity"), 32)}
    no_reference.compare([replace(composite, path=renamed)], methods, tmp_path / "pictures")
    (strip,) = (tmp_path / "pictures").iterdir()
    assert strip.name.startswith("001-") and strip.suffix == ".png"


def test_command(composites, tmp_path, capsys):
    out, pictures = tmp_path / "rows.csv", tmp_path / "pictures"
    words = ["composites", str(composites), "--method", "identity", "histogram", "--size", "32"]
    assert main([*words, "--out", str(out), "--pictures", str(pictures)]) == 0
    rows = pd.read_csv(out)
    assert len(rows) == 48 and set(rows["size"]) == {32}
    assert rows.groupby("method")["change"].mean().round(3)["identity"] == 0
    assert len(list(pictures.iterdir())) == 24
    told = capsys.readouterr().out
    assert "histogram" in told and "nearer" in told
    assert main([*words[:1], str(tmp_path / "nowhere"), *words[2:], "--out", str(out)]) == 2
    assert main([*words[:-1], "4", "--out", str(out)]) == 2

"""Which set `auto` takes, and what it says before it fetches anything."""

import shutil
from dataclasses import replace

import pytest
import torch

from harmonylib.data import coco_mini, embedded, fetch, locate
from harmonylib.study import open_study


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("HARMONY_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("there", "colab", "cuda", "expected"),
    [
        ((), False, False, "embedded"),
        ((), False, True, "embedded"),
        ((), True, False, "embedded"),
        ((), True, True, "coco-mini"),
        (("coco-mini",), False, False, "coco-mini"),
        (("coco-mini", "iHarmony4"), True, True, "iharmony4"),
    ],
)
def test_auto(data, monkeypatch, there, colab, cuda, expected):
    for name in there:
        (data / name / "HCOCO").mkdir(parents=True)
    if colab:
        monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert locate.auto() == expected


def test_colab_makes_coco_mini_and_says_so_first(data, monkeypatch):
    told = []

    def fetched(name, say):
        told.append(f"fetched {name}")
        return data / name

    def built(source, out, say):
        told.append(f"built from {source.name}")
        (out / "HCOCO").mkdir(parents=True)

    monkeypatch.setattr(locate, "_gpu_in_colab", lambda: True)
    monkeypatch.setattr(fetch, "fetch", fetched)
    monkeypatch.setattr(coco_mini, "build", built)
    assert locate.locate("auto", say=told.append) == ("coco-mini", data / "coco-mini")
    assert "1.1 GB" in told[0] and "minutes" in told[0]
    assert told[1:] == ["fetched coco-val2017", "built from coco-val2017"]


def test_a_set_that_is_named_is_not_made_unasked(data, refused):
    with refused("coco-mini", "data prepare coco-mini"):
        locate.locate("coco-mini")


def test_a_folder_named_like_a_rung_is_not_the_rung(data, tiny_set, tmp_path):
    """Processes of a study open the set that was given, whatever lies below the data folder."""
    shutil.copytree(tiny_set, tmp_path / "own/coco-mini")
    (data / "coco-mini" / "HCOCO").mkdir(parents=True)
    study = open_study("smoke", str(tmp_path / "own/coco-mini"), say=lambda *_: None)
    assert (study.data, study.given) == ("coco-mini", str(tmp_path / "own/coco-mini"))
    assert locate.name_of(str(tmp_path / "embedded")) == "embedded-folder"
    assert replace(study, root=data / "coco-mini").given == "coco-mini"


def test_elsewhere_auto_is_embedded(data, monkeypatch):
    monkeypatch.setattr(embedded, "ensure", lambda scenes, say: data / "embedded")
    assert locate.locate("auto") == ("embedded", data / "embedded")

"""The embedded set: written in seconds, offline, from code and from photographs that scikit-image and matplotlib ship.

Most of it are procedurally lit scenes with exact ground truth (`scenes`; of some, another processor renders a few
pixels otherwise); a few natural photographs with objects outlined by hand (`photographs`) are there to look at. It
fills iHarmony4's layout with all four subset folders:

    c|a|f|dscene0042_1_2.jpg     subset's letter, scene 42, its one foreground, relighting 2
    fphoto... (e.g. fcoffee_3_1) a photograph, its third region, recolouring 1: all in HFlickr

A tenth of the scenes of each subset, and two of the six photographs, are the test lists. `unlabelled/` holds further
scenes, which no list names and which have neither masks nor composites: what LEMaRT pre-trains on.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from harmonylib.data import photographs, scenes
from harmonylib.data.layout import FOLDERS, SUBSETS, Entry, write_lists
from harmonylib.errors import HarmonyError
from harmonylib.interruption import end_with
from harmonylib.paths import ROOT, alone, beside, building, data_dir, shown
from harmonylib.reading import content

VERSION = 4  # raise it when the pictures change: an older copy is then written anew
SCENES = 640
RELIGHTINGS = 3
UNLABELLED = 100_000  # number of the first unlabelled scene: all of them are other scenes than the listed ones
TEST_EVERY = 10
TEST_PHOTOGRAPHS = ("astronaut", "coffee")
LETTER = {"HCOCO": "c", "HAdobe5k": "a", "HFlickr": "f", "Hday2night": "d"}
JPEG = {"quality": 95, "subsampling": 0}


def ensure(scene_count: int = SCENES, workers: int | None = None, say=print) -> Path:
    """The folder of the embedded set, written first where it is missing or of another version.

    `scene_count` (a multiple of 40, so that each subset has whole tenths) makes a smaller set for a quick look.
    """
    if scene_count % 40:
        raise HarmonyError(
            f"scene_count {scene_count}: must be a multiple of 40 (four subsets, a tenth of each for the test)"
        )
    root = data_dir() / ("embedded" if scene_count == SCENES else f"embedded-{scene_count}")
    stamp = f"embedded set, version {VERSION}, {scene_count} scenes x {RELIGHTINGS}\n"
    done = root / "VERSION.txt"
    if done.is_file() and content(done) == stamp.encode():
        return root
    with alone(beside(root, "lock"), lambda: say(f"{shown(root)}: another process writes it; waiting")):
        if done.is_file() and content(done) == stamp.encode():
            return root
        say(f"writing the embedded set to {shown(root)} ...")
        with building(root) as started:
            for subset in SUBSETS:
                for folder in FOLDERS:
                    (started / subset / folder).mkdir(parents=True)
            (started / "unlabelled").mkdir()
            _write_all(started, scene_count, workers or os.cpu_count() or 1)
            (started / "VERSION.txt").write_text(stamp)
    return root


def _write_all(root: Path, scene_count: int, workers: int) -> None:
    # processes of their own rather than a pool: it works the same from a script, a notebook and `python -`
    command = [sys.executable, "-m", "harmonylib.data.embedded", str(os.getpid()), str(root), str(scene_count)]
    pipe = {"cwd": ROOT, "stderr": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([*command, str(first), str(workers)], **pipe) for first in range(workers)]
    try:
        names = [name for photo_id in photographs.photographs() for name in _write_photograph(root, photo_id)]
        told = [writer.communicate()[1].strip() for writer in writers]
    finally:
        for writer in writers:
            writer.terminate()
            writer.wait()
    for writer, words in zip(writers, told, strict=True):
        if writer.returncode:
            raise HarmonyError(words.splitlines()[-1] if words else f"{root}: a process that wrote scenes was ended")
    names = [name for index in range(scene_count) for name in _scene_names(index)] + names
    lists = {"train": [], "test": []}
    for subset, name, split in names:
        lists[split].append(Entry(root, subset, name))
    write_lists(root, lists)


def _place(index: int) -> tuple[str, str, str]:
    """(subset, photo, split) of a scene."""
    subset = SUBSETS[index % len(SUBSETS)]
    return subset, f"{LETTER[subset]}scene{index:04d}", "test" if index // len(SUBSETS) % TEST_EVERY == 0 else "train"


def _scene_names(index: int) -> list[tuple[str, str, str]]:
    subset, photo, split = _place(index)
    return [(subset, f"{photo}_1_{k}", split) for k in range(1, RELIGHTINGS + 1)]


def _write_scene(root: Path, index: int) -> None:
    subset, photo, _ = _place(index)
    scene = scenes.render_scene(index, subset, RELIGHTINGS)
    _write(root / subset, photo, 1, scene.real, scene.mask, scene.composites)


def _write_unlabelled(root: Path, index: int) -> None:
    scene = scenes.render_scene(UNLABELLED + index, SUBSETS[index % len(SUBSETS)], relightings=0, size=(120, 160))
    Image.fromarray(scene.real).save(root / "unlabelled" / f"scene{UNLABELLED + index}.jpg", **JPEG)


def _write_photograph(root: Path, photo_id: str) -> list[tuple[str, str, str]]:
    photograph, subset, written = photographs.photographs()[photo_id], "HFlickr", []
    split = "test" if photo_id.split("-")[0] in TEST_PHOTOGRAPHS else "train"
    for number, region in enumerate(photographs.regions(photo_id), 1):
        seed = [number, *photo_id.encode()]
        composites = [
            photographs.recolour(photograph, region.mask, np.random.default_rng([k, *seed])) for k in range(RELIGHTINGS)
        ]
        names = _write(root / subset, f"f{photo_id}", number, photograph, region.mask, composites)
        written += [(subset, name, split) for name in names]
    return written


def _write(folder: Path, photo: str, number: int, real, mask, composites) -> list[str]:
    names = [f"{photo}_{number}_{k}" for k in range(1, len(composites) + 1)]
    Image.fromarray(real).save(folder / "real_images" / f"{photo}.jpg", **JPEG)
    Image.fromarray(mask).save(folder / "masks" / f"{photo}_{number}.png")
    for name, composite in zip(names, composites, strict=True):
        Image.fromarray(composite).save(folder / "composite_images" / f"{name}.jpg", **JPEG)
    return names


if __name__ == "__main__":
    parent, folder, count, first, step = int(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
    end_with(parent)
    try:
        for scene_index in range(first, count, step):
            _write_scene(folder, scene_index)
            if scene_index % 2:  # half as many
                _write_unlabelled(folder, scene_index // 2)
    except OSError as problem:
        sys.exit(f"{problem.filename or shown(folder)}: {problem.strerror or problem}")

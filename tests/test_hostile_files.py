"""Malicious files, each given to the command that reads it, in a process of its own: `python -m torture.malice`."""

import io
import json
import os
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode

from harmonylib import cli, config, evaluation, experiments, fullres, metrics, models, scrub, training
from harmonylib.cli import main
from harmonylib.paths import ROOT
from torture.malice import cases

if sys.platform == "win32":
    pytest.skip("forks, pipes and limits are of POSIX", allow_module_level=True)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str | None]:
    done = subprocess.run([sys.executable, "-m", "torture.malice"], cwd=ROOT, capture_output=True, text=True)
    return {line["case"]: line["lost"] for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", [case.name for case in cases()])
def test_nothing_is_lost(outcomes, name):
    assert name in outcomes, "the process ended before it"
    assert outcomes[name] is None


# ------------------------------------------------------------------------------------- results of a stranger's


LINKS = "runs/identity/seed0", "runs/unet", "runs/unet/seed0/config.json", "logs/unet-seed0.log"


@pytest.mark.parametrize("link", LINKS)
def test_nothing_is_written_through_a_link_out_of_the_results(tiny_set, tmp_path, capsys, monkeypatch, link):
    monkeypatch.setenv("HARMONY_RESULTS", str(tmp_path / "results"))
    victim = tmp_path / "victim"
    victim.mkdir()
    place = tmp_path / "results/smoke-tiny" / link
    place.parent.mkdir(parents=True)
    if place.suffix:
        (victim / "file").write_text("mine")
        place.symlink_to(victim / "file")
    else:
        place.symlink_to(victim)
    command = ["sweep", "unet", "--gpus", "0", "--seeds", "0"] if "logs" in link else ["train", "unet"]
    assert main([*command, "--profile", "smoke", "--data", str(tiny_set)]) == 2
    told = capsys.readouterr().err
    assert "leads out" in told and told.count("\n") == 1
    assert [path.read_text() for path in victim.iterdir()] == ["mine"] * bool(place.suffix)


def test_a_checkpoint_of_one_number_many_times(tiny_set, tmp_path, refused):
    path = tmp_path / "unet.pt"
    network = models.build("unet", width=64)
    experiment = replace(experiments.get("unet"), options={"width": 64})
    spread = {name: torch.zeros((), dtype=v.dtype).expand(v.shape) for name, v in network.state_dict().items()}
    torch.save({"experiment": experiment.to_dict(), "model": spread}, path)
    assert path.stat().st_size < 1e6
    with refused("unet.pt", "does not fit"):
        training.load_model(path)


def test_pictures_go_through_a_network_as_many_at_once_as_fit(tmp_path, monkeypatch):
    path, network = tmp_path / "vit.pt", models.build("vit", **models.class_of("vit").presets["tiny"])
    experiment = replace(experiments.get("vit"), options=models.class_of("vit").presets["tiny"], size=32)
    torch.save({"experiment": experiment.to_dict(), "model": network.state_dict()}, path)
    assert training.load_model(path).at_once == evaluation.AT_ONCE
    monkeypatch.setattr(training.memory, "room", lambda: 4.5 / training.ROOM * needed)
    with FakeTensorMode():
        needed, _ = training.memory.forward_needs(models.build("vit", **experiment.options), 32)
    narrow = training.load_model(path)
    assert narrow.at_once == 4 * 32 * 32
    pictures, masks, given = 255 * torch.rand(6, 3, 32, 32), torch.ones(6, 1, 32, 32), []
    narrow.register_forward_pre_hook(lambda _, inputs: given.append(len(inputs[0])))
    parts = evaluation.network(narrow)(pictures, masks)
    assert given == [4, 2]
    torch.testing.assert_close(parts, evaluation.network(network)(pictures, masks), atol=1e-3, rtol=0)


def test_memory_that_torch_cannot_have_is_a_line(capsys):
    assert cli.exit_code(lambda: torch.empty(2**60)) == 2
    told = capsys.readouterr().err
    assert "not enough memory" in told and told.count("\n") == 1
    with pytest.raises(RuntimeError, match="another"):
        cli.exit_code(lambda: (_ for _ in ()).throw(RuntimeError("another")))


def test_a_notebook_of_countless_values(tmp_path, refused):
    path = tmp_path / "a.ipynb"
    path.write_bytes(b'{"cells": [' + b"{}," * 600_000 + b"{}]}")
    with refused("a.ipynb", "1,000,000 values"):
        scrub.scrub(str(path), str(tmp_path / "b.ipynb"))


def test_weights_in_a_folder_that_safetensors_cannot_name(tmp_path, refused):
    folder = tmp_path / os.fsdecode(b"w\xff")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system has names of UTF-8 alone")
    (folder / "a.safetensors").write_bytes(fullres.WEIGHTS.read_bytes())
    with refused("a.safetensors", "UTF-8"):
        training.load_model(folder / "a.safetensors")


def test_settings_that_no_run_can_have(refused):
    large = [f"{name}=1{400 * '0'}" for name in ("learning_rate", "steps", "batch_size")]
    for change in (*large, "beta2=5", "length=1e300"):
        with refused("experiment", change.split("=")[0]):
            config.override(experiments.get("unet"), [change])


def test_a_tiff_whose_tile_is_larger_than_its_picture(tmp_path, refused):
    path = tmp_path / "tile.tif"
    tifffile.imwrite(path, np.zeros((16, 32, 3), np.uint8), tile=(4096, 4096), compression="zlib", photometric="rgb")
    with refused("tile.tif", "tiles of"):
        metrics.open_image(path)
    tifffile.imwrite(path, np.zeros((16, 32, 3), np.uint8), tile=(256, 256), compression="zlib", photometric="rgb")
    assert metrics.open_image(path).size == (32, 16)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_of_countless_parts(tmp_path, refused, kind):
    """Pillow gathers them one by one, which takes minutes for some megabytes."""
    made = io.BytesIO()
    Image.new("RGB", (8, 8)).save(made, kind)
    jpeg, png = b"\xff\xe1\x00\x12Exif\0\0" + bytes(10), struct.pack(">I4s", 2, b"tEXt") + b"a\0" + bytes(4)
    part, after = (jpeg, 2) if kind == "JPEG" else (png, 33)
    whole = made.getvalue()
    path = tmp_path / "picture"
    path.write_bytes(whole[:after] + 300_000 * part + whole[after:])
    with refused("picture", "parts"):
        metrics.open_image(path)
    path.write_bytes(whole[:after] + 20 * jpeg + whole[after:] if kind == "JPEG" else whole)
    assert metrics.open_image(path).size == (8, 8)

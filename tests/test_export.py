"""ONNX files say the same as PyTorch, for every network that a user would export."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from harmonylib import checkpoints, export, fullres, memory, models
from harmonylib.cli import main
from harmonylib.config import Experiment

OPTIONS = {"outline": {"places": 32, "width": 16}, "unet": {"width": 4}, "s2am": {"width": 4, "heads": 2}}


def checkpoint(folder, name: str, **options):
    """Of a network with weights that do something, at 32 px."""
    torch.manual_seed(0)
    network = models.build(name, **options)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    experiment = Experiment(name, name, options=options, size=32)
    file = folder / "checkpoint.pt"
    checkpoints.save(file, {"experiment": experiment.to_dict(), "model": network.state_dict()})
    return file


@pytest.mark.parametrize("name", OPTIONS)
def test_a_batch_of_any_number_through_onnxruntime(tmp_path, capsys, name):
    file, out = checkpoint(tmp_path, name, **OPTIONS[name]), tmp_path / "network.onnx"
    assert main(["export", "--model", str(file), "-o", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    network = fullres.load(file)
    for batch in (1, 5):
        image, mask = torch.rand(batch, 3, 32, 32), (torch.rand(batch, 1, 32, 32) > 0.5).float()
        with torch.no_grad():
            expected = network(image, mask).numpy()
        (found,) = session.run(["harmonized"], {"image": image.numpy(), "mask": mask.numpy()})
        assert np.abs(found - expected).max() < export.TOLERANCE
        assert np.abs(expected - image.numpy()).max() > 0.01


def test_the_network_that_comes_along(tmp_path):
    assert export.export(None, tmp_path / "harmonizer.onnx") < export.TOLERANCE


def test_nothing_is_overwritten_unasked(tmp_path, capsys):
    file, out = checkpoint(tmp_path, "unet", width=4), tmp_path / "network.onnx"
    out.write_text("mine")
    assert main(["export", "--model", str(file), "-o", str(out)]) == 2
    assert "--force" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_what_differs_is_not_written(tmp_path, monkeypatch, refused):
    monkeypatch.setattr(export, "_difference", lambda *_: 0.01)
    with refused("checkpoint.pt", "differs"):
        export.export(checkpoint(tmp_path, "unet", width=4), tmp_path / "network.onnx")
    assert not (tmp_path / "network.onnx").exists()


def test_what_onnxruntime_could_not_hold_is_not_begun(tmp_path, refused, monkeypatch):
    """It keeps all scores of three pictures; PyTorch's attention, which the checkpoint is loaded for, keeps none."""
    file, out = checkpoint(tmp_path, "s2am", **OPTIONS["s2am"]), tmp_path / "network.onnx"
    with FakeTensorMode():
        needed, _ = memory.forward_needs(models.build("s2am", **OPTIONS["s2am"]), 32)
    monkeypatch.setattr(memory, "room", lambda: 2 * needed)
    with refused("onnxruntime", "larger machine"):
        export.export(file, out)
    assert not out.exists()


def test_a_missing_library_is_named(tmp_path, monkeypatch, refused):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with refused("onnxscript", "pip install"):
        export.export(checkpoint(tmp_path, "unet", width=4), tmp_path / "network.onnx")

"""The harmonizer that comes with the package: its network, what it is trained on, its weights, and what they do."""

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import pair
from PIL import Image
from safetensors import safe_open
from torch import nn

import harmonylib as hl
from harmonylib import batches, checkpoints, evaluation, fullres, harmonizer, models, recolour
from harmonylib.data import scenes
from harmonylib.data.cache import prepare
from harmonylib.data.layout import read_entries
from harmonylib.errors import HarmonyError
from harmonylib.models.outline import FEATURES

CARD = fullres.WEIGHTS.with_name("README.md")


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = models.build("outline", places=64, width=16)
    nn.init.normal_(network.answer[-1].weight, std=0.1)
    return network


class TestOutline:
    def test_the_background_keeps_its_bits(self, network):
        image, mask = pair(48, 40)
        output = network(image, mask)
        assert torch.equal(output * (1 - mask), image * (1 - mask))
        assert not torch.allclose(output, image)

    def test_it_begins_by_changing_nothing(self):
        image, mask = pair()
        assert torch.equal(models.build("outline", places=16, width=8)(image, mask), image)

    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_without_an_outline_it_is_finite(self, network, value):
        image, mask = pair(9, 8)
        mask[0] = value
        output = network(image, mask)
        output.sum().backward()
        assert output.isfinite().all()
        assert all(p.grad.isfinite().all() for p in network.parameters())

    @pytest.mark.parametrize("options", [{"places": 0}, {"width": 0}, {"places": -1}])
    def test_nothing_can_be_seen_from_no_place(self, options, refused):
        with refused("outline", "at least 1"):
            models.build("outline", **options)

    def test_every_parameter_is_trained(self, network):
        image, mask = pair()
        (network(image, mask) - 0.5).square().mean().backward()
        assert not [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]

    def test_what_is_far_from_the_outline_is_not_looked_at(self, network):
        image, mask = pair(64, 64)
        other = image.clone()
        other[..., 50:, :] = 0
        other[:, :, 24, 24:26] = 1  # inside the object, 8 px from its border
        assert torch.equal(network.eval().maps(image, mask), network.maps(other, mask))

    def test_features_of_one_place_by_hand(self, network):
        """A vertical outline between two flat colours: what differs, what is the mean, and what a place is itself."""
        image = torch.zeros(1, 3, 32, 32)
        image[:, :, :, :16], image[:, :, :, 16:] = 0.2, 0.6
        mask = torch.zeros(1, 1, 32, 32)
        mask[..., 16:] = 1
        seen, there = network.eval().look(image, mask)
        assert seen.shape == (1, 64, FEATURES) and there.sum() == 64  # two columns of 32
        of_object = seen[seen[..., -3] == 1]
        assert len(of_object) == 32
        middle = of_object[:, :9][(of_object[:, -2] - 2 / 3).abs() < 1e-4]  # nowhere near the picture's border
        # of the 9 pixels of the narrowest ring 6 are object and 3 are not
        expected = 4 * (6 * 0.6 / 6.3 - 3 * 0.2 / 3.3)
        torch.testing.assert_close(middle[:, :3], torch.full_like(middle[:, :3], expected))

    def test_it_learns_to_undo_a_change_that_a_loose_mask_shows(self):
        """A mask that takes a strip of background in shows what was done to it."""
        torch.manual_seed(0)
        network = models.build("outline", places=64, width=32)
        optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
        losses = []
        for _ in range(60):
            target = torch.rand(8, 3, 1, 1).expand(8, 3, 32, 32).clone()
            target[:, :, 11:21, 11:21] = torch.rand(8, 3, 1, 1)
            mask = torch.zeros(8, 1, 32, 32)
            mask[:, :, 8:24, 8:24] = 1
            composite = target + mask * (0.4 * torch.rand(8, 3, 1, 1) - 0.2)
            loss = (mask * (network(composite, mask) - target)).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert np.mean(losses[-5:]) < 0.35 * np.mean(losses[:5])


class TestRecolour:
    def test_a_table_and_a_matrix_do_the_same_to_pictures_and_to_pixels(self):
        rng = np.random.default_rng(0)
        picture = rng.integers(60, 190, (8, 9, 3)).astype(np.uint8)
        for change in (recolour.retouch(rng, 0.5), recolour.transfer(rng, picture.reshape(-1, 3), 0.7 * picture[0])):
            image = np.asarray(change.image(Image.fromarray(picture))).reshape(-1, 3)
            exact = change.pixels(picture.reshape(-1, 3)).clip(0, 255)
            assert np.abs(image - exact).max() < 3  # rounded twice

    def test_all_of_a_transfer_gives_the_others_colours(self):
        rng = np.random.default_rng(1)
        own, others = rng.normal(100, 20, (500, 3)), rng.normal((140, 90, 110), (15, 25, 30), (400, 3))
        whole = min(
            (recolour.transfer(rng, own, others) for _ in range(40)),
            key=lambda change: np.abs(change.pixels(own).mean(0) - others.mean(0)).max(),
        )
        assert np.abs(whole.pixels(own).mean(0) - others.mean(0)).max() < 5
        assert np.abs(whole.pixels(own).mean(0) - own.mean(0)).max() > 20

    def test_what_is_chosen_is_seen_and_does_not_clip(self):
        rng = np.random.default_rng(2)
        pixels = rng.integers(60, 190, (300, 3)).astype(np.uint8)
        others = rng.integers(40, 150, (200, 3)).astype(np.uint8)
        kept = 0
        for _ in range(50):
            levels = recolour.recolouring(rng, pixels, others, 1.0, 0.3).pixels(pixels)
            change = np.square(levels.clip(0, 255) - pixels).mean()
            kept += recolour.CHANGE[0] < change < recolour.CHANGE[1]
        assert kept >= 47  # a few are the last of as many attempts


def test_batches_depend_on_seed_and_step_alone(tiny_set):
    cache = prepare(read_entries(tiny_set, "all", "train"), 96, say=lambda line: None)
    rows = np.arange(len(cache.index))
    first, second = (batches.Recoloured(cache, rows, 4, 7, torch.device("cpu")) for _ in range(2))
    ahead = [first[step] for step in (0, 1, 2)]
    for one, other in zip(ahead[2], second[2], strict=True):
        assert torch.equal(one, other)
    composite, mask, target = ahead[0]
    assert composite.shape == target.shape == (4, 3, batches.SEEN, batches.SEEN) and mask.shape[1] == 1
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    change = (composite - target).abs().mean(1, keepdim=True)
    near = nn.functional.max_pool2d(mask, 9, 1, 4)
    assert change[near == 0].max() <= 0.5  # the set's own composites are JPEGs
    assert change[mask == 1].mean() > 5 * change[near == 0].mean()


def test_trained_and_kept_and_loaded(tiny_set, tmp_path, monkeypatch):
    small = replace(harmonizer.RECIPE, options={"places": 16, "width": 8}, batch_size=2, size=64)
    monkeypatch.setattr(harmonizer, "RECIPE", small)
    out = tmp_path / "weights" / "mine.safetensors"
    trained = harmonizer.train(tiny_set, out, steps=3, say=lambda line: None)
    assert trained.steps == 3
    loaded = fullres.load(out)
    assert loaded.size == 64
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name].cpu(), tensor.cpu())


def test_damaged_weights_are_refused_in_one_line(tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(fullres.WEIGHTS.read_bytes()[:1000])
    with pytest.raises(HarmonyError, match=r"broken\.safetensors"):
        fullres.load(broken)


class TestShipped:
    def test_it_loads_without_a_network_connection(self, monkeypatch):
        def refuse(*_, **__):
            raise AssertionError("it asked for a connection")

        monkeypatch.setattr(socket, "socket", refuse)
        assert isinstance(fullres.load(), models.Harmonizer)
        assert fullres.WEIGHTS.stat().st_size < 10e6

    def test_the_weights_say_what_made_them(self):
        with safe_open(fullres.WEIGHTS, "pt") as file:
            made = json.loads(file.metadata()["experiment"])
        for setting in ("model", "loss", "learning_rate", "batch_size", "steps", "size", "seed"):
            assert made[setting] == getattr(harmonizer.RECIPE, setting), setting
        assert checkpoints.load(fullres.WEIGHTS)["experiment"] == made

    def test_it_makes_scenes_better(self):
        """Drawn scenes are nothing that it has seen."""
        before, after = [], []
        for index in range(12):
            scene = scenes.render_scene(1000 + index, "HFlickr", 1, (384, 512))
            composite, inside = scene.composites[0], scene.mask > 127
            result = hl.harmonize(composite, scene.mask)
            assert np.array_equal(result[scene.mask == 0], composite[scene.mask == 0])
            for errors, picture in ((before, composite), (after, result)):
                errors.append(np.square(picture[inside].astype(float) - scene.real[inside]).mean())
        assert np.mean(after) < np.mean(before)

    def test_nothing_becomes_softer(self):
        """Without the best affine fit of its colours, an object's gradients have the energy that they had."""
        for index in range(6):
            scene = scenes.render_scene(2000 + index, "HAdobe5k", 1, (300, 400))
            composite, inside = scene.composites[0], scene.mask == 255
            assert softness(composite, hl.harmonize(composite, scene.mask), inside) == pytest.approx(1, abs=0.05)


def softness(composite: np.ndarray, result: np.ndarray, inside: np.ndarray) -> float:
    """Gradient energy of a result over that of the best affine fit of the composite's colours to it, in an object."""
    known = np.column_stack([composite[inside], np.ones(inside.sum())]).astype(float)
    fit = np.linalg.lstsq(known, result[inside].astype(float), rcond=None)[0]
    fitted = np.concatenate([composite, np.ones_like(composite[..., :1])], 2).astype(float) @ fit
    energies = []
    for picture in (result.astype(float), fitted):
        down, across = (np.diff(picture, axis=axis) for axis in (0, 1))
        both = inside[1:] & inside[:-1], inside[:, 1:] & inside[:, :-1]
        energies.append(np.square(down[both[0]]).sum() + np.square(across[both[1]]).sum())
    return energies[0] / energies[1]


@pytest.mark.skipif(not os.environ.get("HARMONY_TRIPLETS"), reason="HARMONY_TRIPLETS names no folder of triplets")
class TestOnRealTriplets:
    def test_nothing_becomes_softer(self):
        for entry in read_entries(Path(os.environ["HARMONY_TRIPLETS"]), "all", "test")[::3]:
            composite, mask = (
                np.asarray(Image.open(p).convert(m)) for p, m in ((entry.composite, "RGB"), (entry.mask, "L"))
            )
            assert softness(composite, hl.harmonize(composite, mask), mask > 127) == pytest.approx(1, abs=0.05), (
                entry.name
            )

    def test_the_card_says_what_is_measured(self):
        entries = read_entries(Path(os.environ["HARMONY_TRIPLETS"]), "all", "test")
        methods = evaluation.baseline("identity"), evaluation.network(fullres.load())
        idle, ours = (evaluation.evaluate(method, entries, "fullres")["fmse"] for method in methods)
        card = CARD.read_text(encoding="utf-8")
        assert f"| **harmonizer** | **{ours.mean():.0f}**" in card
        assert f"| **{ours.mean() / idle.mean():.2f}**" in card
        assert f"| **{100 * (ours < idle).mean():.0f} %**" in card

"""LEMaRT's figures say what records, networks and transforms say, and name what is not there."""

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image

from harmonylib import experiments, figures_lemart, figures_method, models, records
from harmonylib.evidence import Evidence
from harmonylib.lemart import LEMaRT
from harmonylib.masks import draw
from harmonylib.models.windows import GlobalAttention
from harmonylib.transforms import TRANSFORMS, adjust

SIDE, EXAMPLES = 32, ("cscenetest00_1_1", "cscenetest01_1_1")
SHARE_OF_NOTHING = {
    "identity": 1.0, "unet": 0.8, "s2am": 0.75, "swinih": 0.6, "swinih_share1": 0.95, "swinih_share10": 0.8,
    "swinih_share50": 0.65, "swinih_lemart": 0.4, "swinih_lemart_share1": 0.7, "swinih_lemart_share10": 0.6,
    "swinih_lemart_share50": 0.5, "swinih_matched": 0.55, "swinih_matched_share10": 0.75, "swinih_local": 0.61,
    "swinih_lemart_quarter": 0.5, "swinih_lemart_half": 0.45, "pretrain_swinih": 0.7, "pretrain_swinih_half": 0.75,
    "swinih_lemart_only_hue": 0.5, "swinih_lemart_only_defocus": 0.9,
}  # fmt: skip
FIGURES = ("data_efficiency", "qualitative", "block_edges", "pretraining_length", "transforms_alone")
NETWORKS = ("swinih", "swinih_local", "swinih_ms", "swin_t")
PICTURES = [("photograph", np.full((8, 8, 3), 90, np.uint8), None)]


@pytest.fixture(autouse=True)
def closed_and_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


@cache
def pictures(split: str) -> pd.DataFrame:
    names = [f"cscene{split}{i:02d}_1_{k}" for i in range(12) for k in (1, 2)]
    table = pd.DataFrame({"split": split, "name": names, "subset": "HCOCO", "kind": "scene", "protocol": "bcmi256@32"})
    table["group"] = table["photo"] = table["name"].str.split("_").str[0]
    table["foreground_ratio"] = 0.1
    table["fmse"] = np.exp(np.random.default_rng(len(split)).normal(7, 0.5, len(names)))
    return table


def write(results, name: str, share: float, subset: str = "HCOCO", study: str = "lemart", blocky: float = 1.0) -> None:
    rows = pd.concat([pictures("test"), pictures("val")], ignore_index=True)
    rows["fmse"] *= share
    rows["mse"], rows["psnr"] = rows["fmse"] / 10, 60 - 10 * np.log10(rows["fmse"])
    rows["blockiness"] = np.nan if name.startswith("identity") else blocky
    if subset != "HCOCO":  # other pictures
        rows["name"] = subset + rows["name"]
    steps = np.arange(0, 50, 10)
    log = pd.DataFrame({"step": steps, "train_loss": [np.nan, 4, 3, 2, 1], "val_fmse": 900.0 - steps})
    folder = results / "runs" / name / "seed0"
    folder.mkdir(parents=True, exist_ok=True)
    config = {"name": name, "size": SIDE, "study": study, "learning_rate": 0.002}
    records.write(folder, config, {"parameters": 1}, rows, log, {})
    (folder / "examples").mkdir()
    mask = np.zeros((SIDE, SIDE, 3), np.uint8)
    mask[8:24, 8:24] = 255
    composite = np.full_like(mask, 100)
    output = composite + (mask // 255) * 20
    suffixes = {"": composite if name == "identity" else output}
    suffixes |= {".mask": mask, ".real": output} if name == "identity" else {}
    for suffix, picture in suffixes.items():
        for example in EXAMPLES:
            Image.fromarray(picture).save(folder / "examples" / f"{example}{suffix}.png")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    results = tmp_path_factory.mktemp("whole")
    for name, share in SHARE_OF_NOTHING.items():
        study = "s2am_t4" if name in ("identity", "unet", "s2am") else "lemart"
        write(results, name, share, study=study, blocky=1.3 if name == "swinih_local" else 1.0)
    log = pd.DataFrame(
        {"step": [0, 10, 20, 30], "train_loss": [np.nan, 5, 70, np.inf], "val_fmse": [900, 1e3, 1e4, np.inf]}
    )
    trial = results / "runs" / experiments.TRIAL / "seed0"
    trial.mkdir(parents=True, exist_ok=True)
    config = {"name": experiments.TRIAL, "size": SIDE, "study": "lemart", "learning_rate": 0.027}
    records.write(trial, config, {"diverged": "step 30"}, None, log, {})
    return Evidence(results)


def words(figure) -> str:
    """Everything that is written in a figure."""
    figure.canvas.draw()
    return "\n".join(text.get_text() for text in figure.findobj(plt.Text))


def drawn(figure, label: str) -> np.ndarray:
    """The y values of all lines with this label."""
    lines = [line for axis in figure.axes for line in axis.lines if line.get_label() == label]
    return np.array([line.get_ydata() for line in lines])


def test_figure6_draws_the_means_and_the_paired_gains(whole):
    figure = figures_lemart.data_efficiency(whole)
    names = ["swinih_lemart_share1", "swinih_lemart_share10", "swinih_lemart_share50", "swinih_lemart"]
    for row, metric in enumerate(("psnr", "mse", "fmse")):
        expected = [whole.mean(name, metric).estimate for name in names]
        assert drawn(figure, "LEMaRT, fine-tuned")[row] == pytest.approx(expected)
    gains = [line.get_ydata()[0] for line in figure.axes[3].lines if line.get_marker() == "o"]
    assert gains == pytest.approx(
        [10 * np.log10(a / b) for a, b in ((0.95, 0.7), (0.8, 0.6), (0.65, 0.5), (0.6, 0.4))], rel=1e-4
    )
    fmse = [line.get_ydata()[0] for line in figure.axes[5].lines if line.get_marker() == "D"]
    assert fmse[0] > 0  # less error is a gain
    printed = [line for axis in figure.axes[3:] for line in axis.lines if line.get_color() == "black"]
    points = {(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in printed}
    assert points == {(100, 1.4), (1, 300), (100, 90)}  # section 4.4b
    bar = figure.axes[3].collections[0].get_paths()[0].get_extents()
    assert (bar.x0, bar.x1, bar.y0, bar.y1) == pytest.approx((1, 10, 2.3, 2.4))
    text = words(figure)
    assert "iHarmony4" in text and "no records" not in text


def test_figure1_has_the_pictures_the_curve_and_the_others(whole):
    figure = figures_lemart.figure1(whole, PICTURES)
    assert drawn(figure, "SwinIH + LEMaRT, by share")[0][0] == pytest.approx(
        whole.mean("swinih_lemart_share1", "psnr").estimate
    )
    text = words(figure)
    assert all(part in text for part in ("photograph", "U-Net: ", "S2AM: ", "SwinIH: ", "do nothing: "))


def test_figure5_has_every_method_with_pictures(whole):
    text = words(figures_lemart.qualitative(whole))
    assert all(part in text for part in ("composite", "U-Net", "SwinIH +\nLEMaRT", "target", "fMSE 400", "fMSE 0"))
    assert "no records of histogram, vit, resnet, hrnet, ht" in text


def test_figure7_shows_both_networks_and_the_measure(whole):
    figure = figures_lemart.block_edges(whole, rows=1)
    text = words(figure)
    assert "SwinIH-Local\nchange" in text and "1.300" in text
    change = figure.axes[1].images[0].get_array()
    assert change.shape == (12, 12, 3)  # three eighths of 32 px
    assert change[0, 0, 0] == 227  # all of the crop is foreground: 127.5 + 5 * 20, cut to levels
    assert "no records of vit, resnet, hrnet, ht, swinih_ms, swin_t" in text.replace("\n", " ")


def test_length_of_pretraining_and_the_trial_that_diverged(whole):
    figure = figures_lemart.pretraining_length(whole)
    points = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert points == pytest.approx([0.6, 0.5, 0.45, 0.4])
    assert drawn(figure, "0.027").tolist() == [[5, 70]]
    assert drawn(figure, "diverged").tolist() == [[70]]
    assert "no records of pretrain_swinih_quarter" in words(figure)


def test_transforms_are_sorted_by_what_they_teach(whole):
    figure = figures_lemart.transforms_alone(whole)
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert labels[::-1] == ["all six", "hue alone", "no pre-training", "defocus alone"]  # best at the top
    assert "swinih_lemart_only_sharpness" in words(figure).replace("\n", " ")


@pytest.mark.parametrize("name", FIGURES)
def test_without_records_of_lemart_a_figure_says_so(tmp_path, name):
    for method in ("identity", "unet"):
        write(tmp_path, method, 1.0, study="s2am_t4")
    text = words(getattr(figures_lemart, name)(Evidence(tmp_path))).replace("\n", " ")
    assert "no records of" in text and "swinih" in text


def test_on_real_data_doing_nothing_is_that_on_all_subsets(tmp_path):
    write(tmp_path, "identity", 1.0, study="s2am_t4")
    write(tmp_path, "unet", 0.5, study="s2am_t4")
    write(tmp_path, "identity_all", 2.0, "HFlickr", study="s2am_t4")
    write(tmp_path, "swinih", 1.0, "HFlickr")
    evidence = Evidence(tmp_path)
    chosen = [evidence.on_all(name) for name in ("identity", "unet", "swinih", "vit")]
    assert chosen == ["identity_all", None, "swinih", None]
    assert figures_lemart.data_efficiency(evidence).axes[2].lines[-1].get_ydata()[0] == pytest.approx(
        2 * pictures("test")["fmse"].mean()
    )


def photograph() -> torch.Tensor:
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def test_transform_strip_shows_the_configured_range():
    image = photograph()
    figure = figures_method.transform_strip(image, columns=3)
    assert len(figure.axes) == 3 * len(TRANSFORMS)
    low = adjust(image, {"brightness": TRANSFORMS["brightness"].low})
    assert np.array_equal(figure.axes[0].images[0].get_array(), figures_method.levels(low[0]))
    text = words(figure)
    assert all(f"probability {transform.probability:g}" in text for transform in TRANSFORMS.values())


def test_masks_are_those_of_the_strategies():
    figure = figures_method.masks(64, seed=3, columns=2)
    expected = draw("random", (2, 64, 64), generator=torch.Generator().manual_seed(3))
    assert np.array_equal(figure.axes[1].images[0].get_array(), expected[1, 0].numpy())
    assert np.array_equal(*(figure.axes[i].images[0].get_array() for i in (2, 3)))  # grid: the same for all


def test_pipeline_shows_the_tensors_of_its_steps():
    network = models.build("swinih", **models.class_of("swinih").presets["tiny"])
    image, lemart = photograph(), LEMaRT(cells=8)
    figure = figures_method.pipeline(image, lemart, network, torch.Generator().manual_seed(1))
    steps = lemart.steps(image, torch.Generator().manual_seed(1))
    insets = [child for child in figure.axes[0].child_axes if child.images]
    shown = [inset.images[0].get_array() for inset in insets]
    assert len(shown) == 5 and network.training
    for picture, tensor in zip(shown, (image, steps.transformed, None, steps.composite), strict=False):
        assert tensor is None or np.array_equal(picture, figures_method.levels(tensor[0]))
    assert not np.array_equal(shown[3], shown[4])
    assert "SwinIH" in words(figure)


@pytest.mark.parametrize("name", NETWORKS)
def test_architecture_is_read_off_the_network(name):
    model = models.build(name, **models.class_of(name).presets["tiny"])
    text = words(figures_method.architecture(model, 64))
    sides = {"swinih_ms": (16, 8, 16), "swin_t": (16, 8, 4)}.get(name, (16, 16, 16))
    for stage, side in zip(model.stages, sides, strict=True):
        assert f"{side} × {side} tokens" in text
        assert f"{sum(p.numel() for p in stage.parameters()):,} parameters" in text
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in text
    ends_globally = any(isinstance(module, GlobalAttention) for module in model.modules())
    assert ("global attention" in text) == ends_globally
    assert ("merge" in text) == (name in ("swinih_ms", "swin_t"))
    assert next(model.parameters()).device.type == "cpu"

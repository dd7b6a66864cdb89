"""What is made for the comparison, on one thread of the CPU: `python -m drift.values FILE` writes it as JSON.

Of each result the digest of all its bytes, and some of its numbers to measure a difference with.
"""

import hashlib
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

SCENES = 40  # the smallest embedded set
SIDE = 32  # px that networks see
STEPS = 20  # of training
KEPT = 64  # numbers of a result
Made = tuple[str, str, np.ndarray | bytes]  # name, kind (`drift.KINDS`), what was made


def everything() -> dict[str, dict]:
    """name -> kind, digest and numbers."""
    import torch

    torch.set_num_threads(1)
    return {name: _kept(kind, made) for part in PARTS for name, kind, made in part()}


def versions() -> dict[str, str]:
    """Of Python, the processor and the packages."""
    from harmonylib import records

    environment = records.environment()
    return {name: environment[name] for name in ("python", "device", "avx512")} | environment["packages"]


def _kept(kind: str, made: np.ndarray | bytes) -> dict:
    if isinstance(made, bytes):
        return {"kind": kind, "digest": _digest(made)}
    flat = np.ascontiguousarray(made).reshape(-1)
    some = flat[np.linspace(0, len(flat) - 1, min(KEPT, len(flat))).astype(int)]
    return {"kind": kind, "digest": _digest(flat.tobytes()), "numbers": [float(f"{x:.9g}") for x in some.tolist()]}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def data() -> Iterator[Made]:
    """The embedded set as files and as pixels, its lists and splits, and what is prepared from it."""
    from PIL import Image

    from harmonylib.data import layout

    root, cache = _set()
    for folder in ("composite_images", "masks", "real_images"):
        files = sorted(root.glob(f"*/{folder}/*"))
        yield f"embedded: files in {folder}", "scenes", b"".join(map(Path.read_bytes, files))
        pixels = (np.asarray(Image.open(file)).tobytes() for file in files)
        yield f"embedded: pixels of {folder}", "scenes", b"".join(pixels)
    yield "embedded: lists", "data", b"".join(map(Path.read_bytes, sorted(root.rglob("*.txt"))))
    for split in layout.SPLITS:
        names = [entry.name for entry in layout.read_entries(root, "all", split, 1 / 3)]
        yield f"embedded: split, {split}", "data", "\n".join(names).encode()
    for name in ("composite", "real", "mask"):
        yield f"prepared at {SIDE} px: {name}", "scenes", np.asarray(getattr(cache, name))


def batches() -> Iterator[Made]:
    """What training steps get: composites, LEMaRT's, and the harmonizer's recoloured ones."""
    import torch

    from harmonylib.batches import Perturbed, Recoloured, Triplets
    from harmonylib.lemart import LEMaRT

    _, cache = _set()
    rows, device = np.arange(len(cache)), torch.device("cpu")
    for kind in (Triplets, Recoloured):
        made = kind(cache, rows, 4, 0, device)[3]
        for name, tensor in zip(("composite", "mask", "target"), made, strict=True):
            yield f"batch of {kind.__name__}: {name}", "scenes", tensor.numpy()
    for strategy in ("random", "grid", "block"):
        composite, mask, _ = Perturbed(np.array(cache.real), LEMaRT(strategy), 8, 0, device)[3]
        yield f"LEMaRT, {strategy}: masks", "data", mask.numpy()
        yield f"LEMaRT, {strategy}: composites", "arithmetic", composite.numpy()


def scores() -> Iterator[Made]:
    """One picture under every protocol, an interval, and methods without training."""
    from harmonylib import baselines, colour_transfer, evaluation, fullres, metrics, statistics
    from harmonylib.data.layout import open_mask, open_rgb, read_entries

    root, _ = _set()
    entries = read_entries(root, "all", "test")
    composite, real = (np.asarray(open_rgb(path)) for path in (entries[0].composite, entries[0].real))
    mask = np.asarray(open_mask(entries[0].mask)) > 127
    for protocol in metrics.PROTOCOLS:
        rows = evaluation.evaluate(evaluation.baseline("identity"), entries, protocol)
        yield f"doing nothing under {protocol}", "arithmetic", rows[list(metrics.METRICS)].to_numpy(np.float64)
    other = evaluation.evaluate(evaluation.baseline("reinhard"), entries)
    found = statistics.paired_bootstrap(other["fmse"], rows["fmse"], rows["group"], statistic="ratio")
    yield "interval of a ratio", "arithmetic", np.array([found.estimate, found.low, found.high])
    for name, method in baselines.BASELINES.items():
        yield f"method {name}", "levels", method(composite, mask)
    for name, transfer in colour_transfer.TRANSFERS.items():
        moved = transfer(composite[mask], real[~mask], np.random.default_rng(0))
        yield f"transfer {name}", "arithmetic", moved
    yield "method harmonizer", "levels", fullres.harmonize(composite, mask)


def networks() -> Iterator[Made]:
    """Every network: its answer before and after a few steps of training, and the harmonizer's."""
    import torch

    from harmonylib import config, experiments, fullres, models, training
    from harmonylib.checkpoints import seed_everything

    _, cache = _set()
    rows = np.arange(len(cache))
    picture, mask = _example()
    for name in (*models.S2AM_T4, *models.TABLE_3, *models.TABLE_4):
        declared = experiments.resolve(experiments.get(name), config.PROFILES["smoke"], "embedded")
        seed_everything(0)
        network = models.build(name, **declared.options).eval()
        with torch.no_grad():
            yield f"{name}: before training", "network", network(picture, mask).numpy()
        with tempfile.TemporaryDirectory() as folder:
            experiment = replace(declared, steps=STEPS, batch_size=4, size=SIDE)
            trained = training.train(experiment, cache, rows[:40], rows[40:48], Path(folder) / "c.pt", say=_silent)
        with torch.no_grad():
            yield f"{name}: after {STEPS} steps", "trained", trained.model.eval()(picture, mask).numpy()
        yield f"{name}: losses", "trained", trained.log["train_loss"].to_numpy()[1:]
    with torch.no_grad():
        yield "harmonizer: answer", "network", fullres.load()(*_example(128)).numpy()


def exported() -> Iterator[Made]:
    """The harmonizer through ONNX; nothing where its libraries are not installed."""
    from harmonylib import export, fullres
    from harmonylib.errors import HarmonyError

    network = fullres.load()
    try:
        content = export.serialised(network)
    except HarmonyError:
        return
    import onnxruntime

    picture, mask = (tensor.numpy() for tensor in _example(network.size))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    yield "harmonizer: answer through ONNX", "network", session.run(None, {"image": picture, "mask": mask})[0]


PARTS = (data, batches, scores, networks, exported)


def _set():
    """The embedded set's folder, and its composites prepared."""
    from harmonylib.data import embedded, layout
    from harmonylib.data.cache import prepare

    root = embedded.ensure(SCENES, say=_silent)
    entries = [entry for split in layout.SPLITS for entry in layout.read_entries(root, "all", split)]
    return root, prepare(entries, SIDE, say=_silent)


def _example(side: int = SIDE):
    """A picture without chance (1,3,S,S) and its mask (1,1,S,S), as tensors."""
    import torch

    ramp = torch.linspace(0, 1, side * side).view(1, 1, side, side)
    mask = torch.zeros(1, 1, side, side)
    mask[..., side // 4 : side // 2, side // 4 : 3 * side // 4] = 1
    return torch.cat([ramp, ramp.mT, 1 - ramp], dim=1), mask


def _silent(*_words) -> None:
    pass


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as data_folder:
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "HARMONY_DATA": data_folder}
        made = {"versions": versions(), "values": everything()}
        Path(sys.argv[1]).write_text(json.dumps(made, indent=0) + "\n")

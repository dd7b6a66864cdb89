"""Predicted training memory: against real tensors, against PyTorch's own allocator records, and against arithmetic."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile

from harmonylib import memory
from harmonylib.errors import HarmonyError
from harmonylib.models import build

GIB = 2**30


def allocator_peak(step) -> int:
    """Peak of what the CPU allocator hands out during ``step``, from the profiler's records."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as records:
        step()
    events = [e for e in records.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


@pytest.mark.parametrize(("heads", "batch", "expected"), [(8, 16, 24), (8, 2, 3), (4, 16, 12)])
def test_naive_block_holds_three_maps(heads, batch, expected):
    """Backward holds softmax, its gradient and the scores' gradient: 3 x batch x heads x 4096^2 x 4 bytes."""
    peak = memory.block_peak("naive", heads, batch)["total_peak"]
    assert expected * GIB < peak < 1.05 * expected * GIB


def test_naive_block_is_small_at_the_bottleneck():
    assert memory.block_peak("naive", 8, 16, side=16, channels=512)["total_peak"] < 0.2 * GIB


def test_exact_block_is_linear_in_the_positions():
    small, large = (memory.block_peak("exact", batch=4, side=side)["activations_peak"] for side in (64, 128))
    assert large / small == pytest.approx(4, rel=0.02)
    naive = memory.block_peak("naive", batch=4, side=128)["activations_peak"]
    assert naive > 50 * large


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_no_storage_of_the_exact_block_holds_a_map(dtype):
    with memory.FakeTensorMode():
        trainee = memory.prepare(memory.ForegroundBackgroundAttention(64, 2), "sgd")
        features = torch.empty(2, 64, 32, 32, requires_grad=True)
        with memory.StorageLog() as log, memory._autocast("cpu", dtype):
            trainee.network(features, torch.empty(2, 1, 32, 32)).float().sum().backward()
    assert max(size for _, size in log.events) < 2 * 1024 * 1024  # batch x N x N, one byte each


def test_half_precision_keeps_the_softmax_in_single():
    """2.5 float32 maps: softmax in float32 and in float16, gradients of both, or of softmax and scores."""
    maps = memory.block_peak("naive", 8, 16, dtype="float16")["activations_peak"] / (16 * 8 * 4096**2 * 4)
    assert 2.5 < maps < 2.6


@pytest.mark.parametrize("attention", ["naive", "exact"])
def test_prediction_agrees_with_real_tensors(attention):
    options, batch, size = {"width": 16, "heads": 4, "attention": attention}, 2, 96
    predicted = memory.training_peak("s2am", options, batch, size)
    trainee = memory.prepare(build("s2am", **options), "adam")
    counted = memory._trace_model(trainee, batch, size, "float32").peak()
    assert {k: predicted[k] for k in ("parameters", "gradients", "optimiser")} == {
        k: counted[k] for k in ("parameters", "gradients", "optimiser")
    }
    assert predicted["total_peak"] == pytest.approx(counted["total_peak"], rel=0.02)

    trainee.optimiser.zero_grad()
    image, mask, target = (torch.rand(batch, channels, size, size) for channels in (3, 1, 3))
    before = predicted["parameters"] + predicted["optimiser"] + sum(x.nbytes for x in (image, mask, target))

    def step():
        F.mse_loss(trainee.network(image, mask), target).backward()
        trainee.optimiser.step()

    assert predicted["total_peak"] == pytest.approx(before + allocator_peak(step), rel=0.05)


def test_what_a_forward_needs_is_of_this_processor():
    """SwinIH's large windows keep no scores on a CPU; counted as on a GPU they would take 3.7 GB."""
    with FakeTensorMode():
        needed, operations = memory.forward_needs(build("swinih"), 512)
        assert memory.forward_needs(build("vit", patch=8, width=512, heads=1, depth=1), 512)[1] == 4 * 64**4 * 512
    assert 3e8 < needed < 8e8  # a process was measured to grow by 0.67 GB
    assert operations == 4 * 16 * (512 // 4) ** 4 * 32  # of the global block: heads, pairs of tokens, channels


def test_parts_of_the_prediction():
    peak = memory.training_peak("unet", {"width": 8}, 1, 64)
    count = sum(p.numel() for p in build("unet", width=8).parameters())
    assert peak["gradients"] == 4 * count
    assert peak["optimiser"] == pytest.approx(8 * count, rel=0.01)
    assert memory.training_peak("unet", {"width": 8}, 1, 64, optimiser="sgd")["optimiser"] == 0
    whole = sum(peak[k] for k in ("parameters", "gradients", "optimiser", "activations_peak"))
    assert peak["parameters"] + peak["optimiser"] < peak["total_peak"] <= whole


def test_the_optimiser_step_can_be_the_peak():
    """One tiny picture on a large network: weights, gradients, two moments and Adam's temporary are what counts."""
    peak = memory.training_peak("s2am_s2ad", {"width": 16, "depth": 5}, 1, 32)
    assert peak["total_peak"] > 1.2 * (peak["parameters"] + peak["gradients"] + peak["optimiser"])


@pytest.mark.parametrize(("attention", "dtype"), [("naive", "float32"), ("exact", "float16")])
def test_matrix_equals_counting_every_cell(attention, dtype):
    options = {"width": 8, "depth": 2}
    grid = memory.matrix((attention,), (1, 5, 16), (64,), (2,), (64,), (dtype,), **options).set_index("batch")
    for batch in (1, 5, 16):
        counted = memory.training_peak("s2am", options | {"heads": 2, "attention": attention}, batch, 64, dtype)
        exactly = 0 if batch > 1 else 0.01  # where an axis has length 1, PyTorch makes other copies
        assert grid.loc[batch, "predicted_bytes"] == pytest.approx(counted["total_peak"], rel=exactly, abs=0)


def test_matrix_on_the_claim_of_the_paper():
    """Batch 16 does not fit 15 GB with 8 heads at 64 x 64 in float32, and batch 2 does; exact attention always fits."""
    grid = memory.matrix(batch=(2, 16), size=(256,), heads=(8,), place=(64,), dtype=("float32",))
    fits = grid.set_index(["attention", "batch"])["fits_15GB"]
    assert not fits["naive", 16]
    assert fits["naive", 2] and fits["exact", 2] and fits["exact", 16]
    assert list(grid.columns) == [
        "attention",
        "batch",
        "size",
        "heads",
        "place",
        "dtype",
        "predicted_bytes",
        "fits_15GB",
    ]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: memory.training_peak("s2am", dtype="int8"), "float32, float16"),
        (lambda: memory.training_peak("s2am", optimiser="lion"), "adam, adamw, sgd"),
        (lambda: memory.training_peak("s2am", batch=0), "at least 1"),
        (lambda: memory.block_peak("lazy"), "exact, naive"),
    ],
)
def test_errors_say_what_exists(call, words):
    with pytest.raises(HarmonyError, match=words):
        call()


def test_measuring_needs_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(HarmonyError, match="training_peak"):
        memory.measured_peak("unet")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("attention", ["naive", "exact"])
def test_prediction_agrees_with_the_gpu(attention):
    options = {"width": 32, "attention": attention}
    measured = memory.measured_peak("s2am", options, 4, 256)
    assert memory.training_peak("s2am", options, 4, 256)["total_peak"] == pytest.approx(measured, rel=0.15)

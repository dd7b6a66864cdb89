"""ONNX: a trained network as one file for other runtimes, checked against PyTorch before it is kept."""

import copy
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from harmonylib import memory
from harmonylib.errors import HarmonyError, one_line
from harmonylib.fullres import SIDE, load
from harmonylib.paths import whole_file

TOLERANCE = 1e-4  # of pictures in [0, 1]
OPSET = 18
COMPARED = 3  # pictures of noise


def export(model: str | Path | None, out: Path) -> float:
    """Write a network (`fullres.load`) to `out`; the largest difference from PyTorch on a picture of noise.

    Inputs: image (B, 3, S, S) and mask (B, 1, S, S), float32 in [0, 1], S the side of training. Output: harmonized,
    like the image and clamped. Raises HarmonyError, and writes nothing: no such checkpoint, onnx or onnxruntime is
    missing, the comparison needs more memory than there is, or differs by more than 1e-4.
    """
    network = load(model).cpu().float().eval()
    _check_memory(network, model)
    content = serialised(network)
    difference = _difference(network, content)
    if not difference <= TOLERANCE:
        raise HarmonyError(f"{model}: differs by {difference:.1e} in ONNX; not written")
    with whole_file(out) as file:
        file.write(content)
    return difference


def _check_memory(network: nn.Module, name: str | Path | None) -> None:
    """onnxruntime knows no fused attention: it holds all scores, of all pictures at once."""
    side, room = getattr(network, "size", SIDE), memory.room()
    network = copy.deepcopy(network)  # it may keep what has no data
    with FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH):
        needed = COMPARED * memory.forward_needs(network, side)[0]
    if needed > room:
        words = f"takes onnxruntime {needed / 1e9:.3g} GB at {side} px, and there are {room / 1e9:.3g} here"
        raise HarmonyError(f"{name}: {words}; export it on a larger machine")


def serialised(network: nn.Module) -> bytes:
    """The network as an ONNX model. Raises HarmonyError where a library is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise HarmonyError(f"{error.name}: not installed; pip install onnx onnxruntime onnxscript") from None
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own exporter, about itself
        try:
            program = torch.onnx.export(
                network, _example(network, 2), dynamo=True, opset_version=OPSET, verbose=False,
                input_names=["image", "mask"], output_names=["harmonized"],
                dynamic_shapes={"image": {0: batch}, "mask": {0: batch}},
            )  # fmt: skip
        except torch.onnx.OnnxExporterError:
            raise HarmonyError(
                f"PyTorch {torch.__version__} cannot export this network; install 2.11 or newer"
            ) from None
    return program.model_proto.SerializeToString()


def _example(network: nn.Module, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    side, generator = getattr(network, "size", SIDE), torch.Generator().manual_seed(0)
    image = torch.rand(batch, 3, side, side, generator=generator)
    mask = torch.zeros(batch, 1, side, side)
    mask[..., side // 4 : side // 2, side // 4 : 3 * side // 4] = 1
    return image, mask


def _difference(network: nn.Module, content: bytes) -> float:
    import onnxruntime

    image, mask = _example(network, COMPARED)
    with torch.no_grad():
        wanted = network(image, mask).numpy()
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"image": image.numpy(), "mask": mask.numpy()})
    except Exception as error:  # its exceptions have no common base
        raise HarmonyError(f"onnxruntime: {one_line(error)}; not written, use another network") from None
    return float(np.abs(found - wanted).max())

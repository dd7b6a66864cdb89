"""ONNX: a trained network as one file for other runtimes, checked against PyTorch before it is kept."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from harmonylib.errors import HarmonyError
from harmonylib.fullres import SIDE, load
from harmonylib.paths import whole_file

TOLERANCE = 1e-4  # of pictures in [0, 1]
OPSET = 18


def export(model: str | Path | None, out: Path) -> float:
    """Write a network (`fullres.load`) to `out`; the largest difference from PyTorch on a picture of noise.

    Inputs: image (B, 3, S, S) and mask (B, 1, S, S), float32 in [0, 1], S the side of training. Output: harmonized,
    like the image and clamped. Raises HarmonyError: no such checkpoint, onnx or onnxruntime is missing, the difference
    is above 1e-4 (then nothing is written).
    """
    network = load(model).cpu().float().eval()
    content = serialised(network)
    difference = _difference(network, content)
    if not difference <= TOLERANCE:
        raise HarmonyError(f"{model}: differs by {difference:.1e} in ONNX; not written")
    with whole_file(out) as file:
        file.write(content)
    return difference


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

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    image, mask = _example(network, 3)
    with torch.no_grad():
        wanted = network(image, mask).numpy()
    (found,) = session.run(None, {"image": image.numpy(), "mask": mask.numpy()})
    return float(np.abs(found - wanted).max())

"""All four metrics of many pairs: batched, against the per-image NumPy and scikit-image way of the field's scripts."""

from collections.abc import Iterator

import numpy as np
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio

from benchmarks.pictures import triplets
from benchmarks.timing import Machine, Row, compare
from harmonylib import metrics

PAIRS, SIZE, BATCH = 500, 256, 16
PROTOCOL = "ht256"  # a PSNR peak of 255, as in scripts
TOLERANCE = 1e-6  # relative


def rows(machine: Machine) -> Iterator[Row]:
    predictions, reals, masks = (np.stack(arrays) for arrays in zip(*triplets(PAIRS, SIZE, SIZE), strict=True))

    def ours() -> np.ndarray:
        found = []
        for start in range(0, PAIRS, BATCH):
            prediction, real = (torch.from_numpy(a[start : start + BATCH]) for a in (predictions, reals))
            mask = torch.from_numpy(masks[start : start + BATCH])[:, None]
            planes = (picture.to(machine.device).permute(0, 3, 1, 2) for picture in (prediction, real))
            scores = metrics.score_batch(*planes, mask.to(machine.device), PROTOCOL)
            found.append(torch.stack([scores[name] for name in metrics.METRICS], 1).cpu())
        return torch.cat(found).numpy()

    def theirs() -> np.ndarray:
        return np.array([_script(*pair) for pair in zip(predictions, reals, masks, strict=True)])

    np.testing.assert_allclose(ours(), theirs(), rtol=TOLERANCE)
    yield compare(
        machine,
        f"scoring {PAIRS} pairs at {SIZE} px, mse, psnr, fmse, fpsnr",
        "scikit-image and NumPy, per image",
        ours,
        theirs,
        aim=5,
        moved=predictions.nbytes + reals.nbytes + masks.nbytes,
        note=f"equal to {TOLERANCE:g}",
    )


def _script(prediction: np.ndarray, real: np.ndarray, mask: np.ndarray) -> tuple[float, ...]:
    """As the field's evaluation scripts: whole-picture MSE and PSNR, and MSE of masked pictures over their area."""
    mse = mean_squared_error(real, prediction)
    psnr = peak_signal_noise_ratio(real, prediction, data_range=255)
    inside = mask[..., None].astype(np.float32)
    area = inside.sum()
    fmse = mean_squared_error(real * inside, prediction * inside) * mask.size / area
    return mse, psnr, fmse, 10 * np.log10(255**2 / fmse)

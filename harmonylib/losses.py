"""The losses of both papers, on pictures in [-1, 1]: S2AM-T4 section 3.6, LEMaRT section 3.5."""

from functools import partial

from torch import Tensor

from harmonylib.config import Experiment


def mse(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Equation 6, the mean over pixels and channels. (B,3,H,W) in [0,1] -> scalar, on the scale of [-1,1]."""
    return 4 * (prediction - target).square().mean()


def foreground_weighted(
    prediction: Tensor, target: Tensor, mask: Tensor, foreground_weight: float = 5.0, background_weight: float = 1.0
) -> Tensor:
    """Equation 7: weight x squared error of the foreground + weight x absolute error of the background.

    The paper prints neither the weights nor the normalisation. Here the squared error is summed over the channels and
    averaged over the foreground's pixels, as its fMSE is (equation 8), and the absolute error is averaged over the
    background's pixels and channels, each per picture: with 5 and 1 this is compatible with the printed training loss
    (0.7213 beside a validation fMSE of 0.1327). (B,3,H,W) in [0,1], mask (B,1,H,W) -> scalar, on the scale of [-1,1].
    """
    difference = 2 * (prediction - target)
    background = 1 - mask
    axes = (1, 2, 3)
    foreground_error = (mask * difference.square()).sum(axes) / mask.sum(axes).clamp(min=1)
    background_error = (background * difference.abs()).sum(axes) / (3 * background.sum(axes)).clamp(min=1)
    return (foreground_weight * foreground_error + background_weight * background_error).mean()


def foreground_normalised(prediction: Tensor, target: Tensor, mask: Tensor, min_area: float = 100.0) -> Tensor:
    """LEMaRT's loss of fine-tuning: the squared error of the whole picture over the size of the foreground.

    LEMaRT (section 3.5) follows iS2AM (Sofiiuk et al., WACV 2021) here without a value for the least area: 100 px is
    iDIH's (SamsungLabs/image_harmonization). The numerator is not masked, so that the background is learnt too.
    (B,3,H,W) in [0,1], mask (B,1,H,W), `min_area` in px -> scalar, on the scale of [-1,1].
    """
    axes = (1, 2, 3)
    return (4 * (prediction - target).square().sum(axes) / (3 * mask.sum(axes).clamp(min=min_area))).mean()


def of(experiment: Experiment):
    """The experiment's loss as a function of (prediction, target, mask)."""
    if experiment.loss == "mse":
        return mse
    if experiment.loss == "fn_mse":
        return partial(foreground_normalised, min_area=experiment.min_area * (experiment.size / 256) ** 2)
    weights = {name: getattr(experiment, name) for name in ("foreground_weight", "background_weight")}
    return partial(foreground_weighted, **weights)

"""The two losses of S2AM-T4 (section 3.6), on pictures in [-1, 1]."""

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


def of(experiment: Experiment):
    """The experiment's loss as a function of (prediction, target, mask)."""
    if experiment.loss == "mse":
        return mse
    weights = experiment.foreground_weight, experiment.background_weight
    return lambda prediction, target, mask: foreground_weighted(prediction, target, mask, *weights)

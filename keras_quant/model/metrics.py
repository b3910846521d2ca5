"""What answers are worth, by task: one number an image, whose mean is what people compare.

All functions take the outputs of some images and what these should be, and give float64
(images,); numpy alone computes them, so that a file is judged as a model is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from keras_quant.model.tasks import (
    CLASSIFICATION,
    LIKELIHOOD,
    POSTERIOR_MEAN,
    POSTERIOR_VARIANCE,
)

Metric = Callable[[np.ndarray, np.ndarray], np.ndarray]
Metrics = Mapping[str, Mapping[str, Metric]]
"""By output, and by the name that a table shows."""

SHARES = ("accuracy", "top-5")
"""Metrics that are shares of the images."""

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03
"""Wang, Bovik, Sheikh and Simoncelli, Image Quality Assessment: From Error Visibility to Structural
Similarity, IEEE Transactions on Image Processing 13(4), 2004, section III.C."""

TOP = 5
_SUM_OF_PROBABILITIES = 1e-3  # how far from 1 float32, or an 8-bit softmax, may leave it


def top1(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """1 where the largest output is that of the label, else 0.

    Args:
        outputs: (images, classes); of equal ones the first counts.
        targets: int (images,), class numbers.
    """
    return np.asarray(outputs.argmax(axis=-1) == targets, np.float64)


def top5(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """1 where fewer than five outputs are larger than that of the label, else 0; as top1.

    NaN is larger than any number, so that it cannot count as right.
    """
    own = np.take_along_axis(outputs, targets[:, np.newaxis].astype(np.intp), axis=-1)
    return np.asarray((~(outputs <= own)).sum(axis=-1) < TOP, np.float64)


def cross_entropy(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Minus the logarithm of the label's probability, in nats.

    Args:
        outputs: (images, classes), logits; or probabilities, where an image's are at least 0 and
            add up to 1.
        targets: int (images,), class numbers.
    """
    reals: NDArray[np.float64] = outputs.astype(np.float64)
    shifted = reals - reals.max(axis=-1, keepdims=True)
    of_logits = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    tiny = np.finfo(np.float64).tiny
    logarithms = np.where(are_shares(reals), np.log(np.maximum(reals, tiny)), of_logits)
    own: NDArray[np.float64] = logarithms[np.arange(len(targets)), targets]
    return -own


def are_shares(outputs: np.ndarray) -> np.ndarray:
    """Whether an image's outputs are probabilities: at least 0, and adding up to 1.

    Args:
        outputs: (images, classes).
    Returns: bool (images, 1).
    """
    positive = np.all(outputs >= 0, axis=-1, keepdims=True)
    sums = np.sum(outputs, axis=-1, keepdims=True)
    return np.asarray(positive & (np.abs(sums - 1) <= _SUM_OF_PROBABILITIES))


def squared_error(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Mean of the squared differences of an image.

    Args:
        outputs: (images, *shape), of any shape with as many values as targets have.
        targets: (images, height, width, channels).
    """
    squares = np.square(outputs.reshape(targets.shape).astype(np.float64) - targets)
    return np.asarray(squares.reshape(len(squares), -1).mean(axis=1))


def pixel_surprise(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Minus the logarithm of an image's likelihood, in nats: the sum of cross entropies of pixels.

    Kingma and Welling 2013, appendix C.1, with pixels as probabilities of bits.

    Args:
        outputs: (images, *shape), logits, of any shape with as many values as targets have.
        targets: (images, height, width, channels), 0 to 1.
    """
    logits: NDArray[np.float64] = outputs.reshape(len(outputs), -1).astype(np.float64)
    # max(x, 0) - x p + log(1 + exp(-|x|)) is -p log(s(x)) - (1 - p) log(1 - s(x)), s the sigmoid.
    each = np.maximum(logits, 0) - logits * targets.reshape(logits.shape)
    return np.asarray((each + np.log1p(np.exp(-np.abs(logits)))).sum(axis=1))


def mean_divergence(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """What means m of a normal posterior add to its divergence from the standard normal, in nats.

    The sum of m**2 / 2: that and `variance_divergence` are Kingma and Welling 2013, appendix B.

    Args:
        outputs: (images, dimensions).
        targets: not used.
    """
    means: NDArray[np.float64] = outputs.astype(np.float64)
    return np.asarray(np.square(means).sum(axis=1) / 2)


def variance_divergence(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """What logarithms v of its variances add: the sum of (exp(v) - 1 - v) / 2, in nats.

    Args:
        outputs, targets: as for mean_divergence.
    """
    logarithms: NDArray[np.float64] = outputs.astype(np.float64)
    return np.asarray((np.expm1(logarithms) - logarithms).sum(axis=1) / 2)


def psnr(outputs: np.ndarray, targets: np.ndarray, *, span: float) -> np.ndarray:
    """Peak signal-to-noise ratio, 10 log10(span**2 / squared_error), in dB; infinite for equals.

    Args:
        span: distance of the least and the greatest value that a target can have.
    """
    with np.errstate(divide="ignore"):
        return 10 * np.log10(span**2 / squared_error(outputs, targets))


def ssim(outputs: np.ndarray, targets: np.ndarray, *, span: float) -> np.ndarray:
    """Structural similarity, Wang et al. 2004, eq. 13, averaged over an image; at most 1.

    The window is the paper's Gaussian, of 11x11 pixels and a standard deviation of 1.5, where it
    lies within the image; smaller images get the largest odd window that fits.

    Args:
        outputs, targets: as for squared_error.
        span: as for psnr, the paper's L.
    """
    x, y = outputs.reshape(targets.shape).astype(np.float64), targets.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    variances = _blur(x * x) - mean_x**2 + _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (SSIM_K1 * span) ** 2, (SSIM_K2 * span) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    similarity: NDArray[np.float64] = luminance * (2 * covariance + c2) / (variances + c2)
    return np.asarray(similarity.mean(axis=(1, 2, 3)))


_VARIATIONAL: Mapping[str, Metric] = {
    POSTERIOR_MEAN: mean_divergence,
    POSTERIOR_VARIANCE: variance_divergence,
    LIKELIHOOD: pixel_surprise,
}


def metrics_of(task: str, *, num_classes: int, span: float) -> dict[str, Metric]:
    """What the outputs of a task are judged by, by the name that a table shows.

    Args:
        task: of `model.tasks`. Targets of classification are class numbers, all others the
            images as the model takes them, without noise.
        num_classes: how many there are.
        span: distance of the least and the greatest value of an image.
    """
    if task == CLASSIFICATION:
        top = {"top-5": top5} if num_classes > TOP else {}
        return {"accuracy": top1, **top, "loss": cross_entropy}
    if task in _VARIATIONAL:
        return {"loss": _VARIATIONAL[task]}
    return {
        "PSNR": partial(psnr, span=span),
        "SSIM": partial(ssim, span=span),
        "loss": squared_error,
    }


@dataclass(slots=True, kw_only=True)
class Scores:
    """What the answers so far came to.

    Attributes:
        metrics: by output and name; an output without any is not judged.
        images: how many were judged.
        sums: of each metric over them, by output and metric.
    """

    metrics: Metrics = field(default_factory=dict)
    images: int = 0
    sums: defaultdict[tuple[str, str], float] = field(default_factory=partial(defaultdict, float))

    def add(self, outputs: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> None:
        """Judges the answers to a batch; both by output, targets for those that are judged."""
        self.images += len(next(iter(targets.values()), ()))
        for name, metrics in self.metrics.items():
            for title, metric in metrics.items():
                self.sums[name, title] += float(metric(outputs[name], targets[name]).sum())

    def merge(self, other: Scores) -> None:
        """Adds what the answers to other images came to."""
        self.images += other.images
        for key, value in other.sums.items():
            self.sums[key] += value

    def means(self) -> dict[str, dict[str, float]]:
        """The mean of each metric over all images, by output and metric."""
        return {
            name: {title: self.sums[name, title] / self.images for title in metrics}
            for name, metrics in self.metrics.items()
        }


def _blur(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted means of what the window sees at each position within the image."""
    sides = x.shape[1:3]
    size = min(SSIM_WINDOW, *(side - 1 + side % 2 for side in sides))
    distances = np.arange(size) - size // 2
    window = np.exp(-np.square(distances) / (2 * SSIM_SIGMA**2))
    window /= window.sum()
    rows, columns = (_banded(window, side) for side in sides)
    blurred: NDArray[np.float64] = np.einsum("yh,nhwc,xw->nyxc", rows, x, columns, optimize=True)
    return blurred


def _banded(window: np.ndarray, side: int) -> np.ndarray:
    """(positions, side): the window at each position along an axis."""
    positions = side - len(window) + 1
    matrix = np.zeros((positions, side))
    for position in range(positions):
        matrix[position, position : position + len(window)] = window
    return matrix

"""Statistics without images: what batch norms say of the values that they put out.

Behind a batch norm a channel is taken for normal with mean beta and deviation gamma, and for
nothing beyond RANGE deviations: Nagel et al., "Data-Free Quantization Through Weight Equalization
and Bias Correction" (2019), section 4.2.1. Behind a ReLU it has the mean of the clipped normal
distribution (appendix C), with which biases are corrected. Each channel is held as values at even
quantiles, of which operations compute others as if channels, and what is added, were independent.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from keras_quant.calibration.collect import Statistics, fingerprint
from keras_quant.calibration.statistics import observe
from keras_quant.errors import DataError
from keras_quant.methods.twins import float_kernel
from keras_quant.model.operations import COMPUTE, Lookup, Operation
from keras_quant.prepare import Plan
from keras_quant.prepare.adjust.correct_bias import through
from keras_quant.qparams import QParams
from keras_quant.tf import keras

# Deviations to either side, n of section 4.2.1: "we use n = 6".
RANGE = 6.0
QUANTILES = 2048

Samples = NDArray[np.float32]
"""(QUANTILES, channels), in an order of its own in each channel."""


def imagine(plan: Plan, source: keras.Model, pixels: QParams | None) -> Statistics:
    """What images would show, as far as batch norms say it.

    A layer with a kernel that has no batch norm behind it puts out what its inputs' means and
    variances give; pooling over positions puts out the distribution of one of them, which is wider.

    Args:
        pixels: the codes that images have, of which each is taken for as frequent as the others.
    Returns: statistics of no images, of all that a plan rounds, and of channels that kernels read.
    Raises:
        DataError: the model has no batch norm, or its inputs are no pixels.
    """
    check_imaginable(plan, pixels)
    assert pixels is not None
    rng = np.random.default_rng(0)
    values: dict[str, Samples] = {}
    for operation in plan.operations:
        read = [values[name] for name in operation.inputs]
        found = _reals(operation, pixels) if operation.kind == "input" else _of(operation, read)
        values[operation.name] = rng.permuted(found.astype(np.float32), axis=0)
    return Statistics(
        model=fingerprint(source),
        images=0,
        fresh=False,
        tensors={name: observe(found, per_channel=True) for name, found in values.items()},
        pixels=pixels,
    )


def check_imaginable(plan: Plan, pixels: QParams | None) -> None:
    """Checks that batch norms say something of a model, and pixels of its inputs.

    Args:
        pixels: see `imagine`.
    Raises:
        DataError: they do not.
    """
    if not any(operation.kind == "batch_norm" for operation in plan.operations):
        raise DataError(
            "the model has no batch norms, which alone say without images what its "
            "layers put out (folded into kernels they are gone): give --data train"
        )
    if pixels is None:
        raise DataError(
            "without images nothing says which values the model is given, unless they are 8-bit "
            "pixels: give --data train"
        )


def without_norms(plan: Plan) -> tuple[str, ...]:
    """Layers with kernels whose values no batch norm describes, though they are rounded or read."""
    return tuple(
        operation.name
        for operation in plan.operations
        if operation.kind in COMPUTE
        and any(
            reader.kind not in ("batch_norm", "output")
            for reader in plan.operations.readers[operation.name]
        )
    )


def _normal(mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values at even quantiles, and the ends of the range."""
    places = (np.arange(QUANTILES) + 0.5) / QUANTILES
    z = np.array([NormalDist().inv_cdf(place) for place in places])
    z[0], z[-1] = -RANGE, RANGE
    return np.asarray(mean + z[:, np.newaxis] * deviation, np.float64)


def _reals(operation: Operation, pixels: QParams) -> NDArray[np.float64]:
    codes = np.rint(np.linspace(pixels.qmin, pixels.qmax, QUANTILES)) - pixels.zero_point
    return np.repeat(codes[:, np.newaxis] * pixels.scale, operation.shape[-1], axis=1)


def _of(operation: Operation, read: list[Samples]) -> NDArray[np.float64]:
    """What an operation gives of samples."""
    first = read[0].astype(np.float64)
    kind = operation.kind
    if kind == "batch_norm":
        return _of_norm(operation)
    if kind in COMPUTE:
        return _of_kernel(operation, first)
    if kind == "relu":
        return np.asarray(np.clip(first, 0, operation.max_value), np.float64)
    if kind == "add":
        return np.asarray(sum(part.astype(np.float64) for part in read), np.float64)
    if kind == "multiply":
        return np.asarray(math.prod(part.astype(np.float64) for part in read), np.float64)
    if kind in ("max_pool", "global_max_pool"):
        return first
    if kind == "concat":
        joined = np.concatenate(read, axis=1).astype(np.float64)
        return _as_channels(joined, operation.shape[-1])
    if kind == "softmax":
        return np.repeat(np.linspace(0, 1, QUANTILES)[:, np.newaxis], operation.shape[-1], axis=1)
    if isinstance(operation, Lookup):
        return np.asarray(operation.function(read[0]), np.float64)
    return _as_channels(first, operation.shape[-1])


def _of_norm(operation: Operation) -> NDArray[np.float64]:
    own = operation.layer
    channels = operation.shape[-1]
    beta = np.zeros(channels) if own.beta is None else np.asarray(own.beta, np.float64)
    gamma = np.ones(channels) if own.gamma is None else np.asarray(own.gamma, np.float64)
    return _normal(beta, np.abs(gamma))


def _of_kernel(operation: Operation, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normal, with the mean and the variance of a sum of independent values."""
    kernel = float_kernel(operation.layer)
    bias = np.asarray(operation.layer.bias, np.float64) if operation.layer.use_bias else 0.0
    mean = through(operation, kernel, x.mean(axis=0)) + bias
    variance = through(operation, np.square(kernel), x.var(axis=0))
    return _normal(mean, np.sqrt(variance))


def _as_channels(x: NDArray[np.float64], channels: int) -> NDArray[np.float64]:
    """For other channels: the same again behind a Flatten, else those of all together."""
    if x.shape[1] == channels:
        return x
    if channels % x.shape[1] == 0:
        return np.tile(x, (1, channels // x.shape[1]))
    pooled = np.sort(x, axis=None)
    places = (np.arange(QUANTILES) + 0.5) / QUANTILES * len(pooled)
    return np.repeat(pooled[places.astype(int)][:, np.newaxis], channels, axis=1)

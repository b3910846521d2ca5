"""Kernels as codes, and batch norm folded into their scales without touching a code."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.graph.ir import Weight
from keras_quant.lower.layers import kernel_layout
from keras_quant.methods.readers import read_bias, read_kernel
from keras_quant.model.operations import Operation
from keras_quant.tf import keras

MAX_CODE = 127  # TFLite's int8 weights leave out -128, which has no negative


def kernel_of(operation: Operation) -> Weight:
    """Reads a layer's kernel in the graph's layout; codes where the layer has a quantizer for it.

    Returns: int8 codes with a float64 scale (channels,), or float32 values.
    Raises:
        LoweringError: the quantizer's values are no integers times a step.
    """
    layer = operation.layer
    read = read_kernel(layer)
    if read is None or read.scale is None:
        kernel = layer.depthwise_kernel if operation.kind == "depthwise_conv2d" else layer.kernel
        return Weight(values=kernel_layout(np.asarray(kernel, np.float32), operation))
    largest = np.abs(read.values).max(initial=0)
    if largest > MAX_CODE:
        raise LoweringError(
            f"layer {layer.name}: kernel codes reach {largest}; int8 kernels take -{MAX_CODE} to "
            f"{MAX_CODE}: train with a symmetric quantizer"
        )
    scale = kernel_layout(np.broadcast_to(read.scale, read.values.shape), operation)
    return Weight(
        values=kernel_layout(read.values.astype(np.int8), operation),
        scale=scale.reshape(-1, scale.shape[-1])[0],
        bits=read.bits,
    )


def bias_of(operation: Operation) -> np.ndarray | None:
    """Reads a layer's bias, (channels,) float64 in real units; None where there is none to add."""
    if not operation.layer.use_bias:
        return None
    rounded = read_bias(operation.layer)
    return np.asarray(operation.layer.bias, np.float64) if rounded is None else rounded


def unit_kernel(channels: int, *, in_codes: bool) -> Weight:
    """A depthwise kernel that changes nothing, for a batch norm that has no other to fold into.

    The batch norm's gain becomes its scale, so its codes are signs: -1, 0 and 1.
    """
    shape = (1, 1, channels)
    if in_codes:
        return Weight(values=np.ones(shape, np.int8), scale=np.ones(channels), bits=2)
    return Weight(values=np.ones(shape, np.float32))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Norm:
    """What a batch norm does in inference: (x - mean) * gamma / sqrt(variance + epsilon) + beta.

    Attributes:
        gamma, beta: (channels,) float; None where there is none.
        mean, variance: (channels,) float.
    """

    gamma: np.ndarray | None
    beta: np.ndarray | None
    mean: np.ndarray
    variance: np.ndarray
    epsilon: float

    def gain_and_shift(self) -> tuple[np.ndarray, np.ndarray]:
        """The same as x * gain + shift, both (channels,) float64."""
        gain = 1.0 / np.sqrt(self.variance.astype(np.float64) + self.epsilon)
        if self.gamma is not None:
            gain = gain * self.gamma.astype(np.float64)
        beta = 0.0 if self.beta is None else self.beta.astype(np.float64)
        return gain, beta - self.mean.astype(np.float64) * gain


def read_norm(layer: keras.layers.BatchNormalization) -> Norm:
    """Reads a batch norm's weights."""
    return Norm(
        gamma=np.asarray(layer.gamma) if layer.scale else None,
        beta=np.asarray(layer.beta) if layer.center else None,
        mean=np.asarray(layer.moving_mean),
        variance=np.asarray(layer.moving_variance),
        epsilon=layer.epsilon,
    )


def fold_batch_norm(
    kernel: Weight, bias: np.ndarray | None, norm: Norm
) -> tuple[Weight, np.ndarray]:
    """Folds a batch norm that follows a kernel into the kernel's scale, sign and bias.

    With g = gamma / sqrt(variance + epsilon) the kernel's scale becomes scale * |g|, codes
    change sign where g < 0, and the bias becomes (bias - mean) * g + beta. Where g is 0 the
    codes are 0 and the scale is 1.
    """
    gain, shift = norm.gain_and_shift()
    bias = shift if bias is None else bias * gain + shift
    if kernel.scale is None:
        values = (kernel.values * gain).astype(np.float32)
        return dataclasses.replace(kernel, values=values), bias
    values = kernel.values * np.sign(gain).astype(np.int8)
    scale = np.where(gain == 0, 1.0, kernel.scale * np.abs(gain))
    return dataclasses.replace(kernel, values=values, scale=scale), bias

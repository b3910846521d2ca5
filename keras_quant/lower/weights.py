"""Kernels as codes, and batch norm folded into their scales without touching a code."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.graph.ir import Node, Weight
from keras_quant.lower.layers import kernel_layout
from keras_quant.methods.qkeras import freeze_kernel
from keras_quant.model.steps import Step
from keras_quant.tf import keras

MAX_CODE = 127  # TFLite's int8 weights leave out -128, which has no negative


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kernel:
    """A kernel in the graph's layout, with its bias.

    Attributes:
        values: int8 codes, or float32; channels on the last axis.
        scale: (channels,) float64; None for float values.
        bits: logical width; 32 for float values.
        bias: (channels,) float64, in real units; None where there is none to add.
    """

    values: np.ndarray
    scale: np.ndarray | None
    bits: int
    bias: np.ndarray | None

    @property
    def in_codes(self) -> bool:
        return self.scale is not None


def read_kernel(step: Step) -> Kernel:
    """Reads a layer's kernel and bias; codes where the layer has a kernel quantizer.

    Raises:
        LoweringError: the quantizer's values are no integers times a step.
    """
    layer = step.layer
    frozen = freeze_kernel(layer)
    if frozen is None:
        kernel = layer.depthwise_kernel if step.kind == "depthwise_conv2d" else layer.kernel
        values, scale, bits = np.asarray(kernel, np.float32), None, 32
    else:
        if np.abs(frozen.codes).max(initial=0) > MAX_CODE:
            raise LoweringError(
                f"layer {layer.name}: kernel codes reach {np.abs(frozen.codes).max()}; int8 "
                f"kernels take -{MAX_CODE} to {MAX_CODE}: train with a symmetric quantizer"
            )
        values, bits = frozen.codes.astype(np.int8), frozen.bits
        full = kernel_layout(np.broadcast_to(frozen.scale, frozen.codes.shape), step)
        scale = full.reshape(-1, full.shape[-1])[0]
    values = kernel_layout(values, step)
    bias = None
    if layer.use_bias:
        quantizer = getattr(layer, "bias_quantizer_internal", None)
        bias = np.asarray(quantizer(layer.bias) if quantizer else layer.bias, np.float64)
    return Kernel(values=values, scale=scale, bits=bits, bias=bias)


def unit_kernel(channels: int, *, in_codes: bool) -> Kernel:
    """A depthwise kernel that changes nothing, for a batch norm that has no other to fold into.

    The batch norm's gain becomes its scale, so its codes are signs: -1, 0 and 1.
    """
    shape = (1, 1, channels)
    if in_codes:
        return Kernel(values=np.ones(shape, np.int8), scale=np.ones(channels), bits=2, bias=None)
    return Kernel(values=np.ones(shape, np.float32), scale=None, bits=32, bias=None)


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


def fold_batch_norm(kernel: Kernel, norm: Norm) -> Kernel:
    """Folds a batch norm that follows a kernel into the kernel's scale, sign and bias.

    With g = gamma / sqrt(variance + epsilon) the kernel's scale becomes scale * |g|, codes
    change sign where g < 0, and the bias becomes (bias - mean) * g + beta. Where g is 0 the
    codes are 0 and the scale is 1.
    """
    gain, shift = norm.gain_and_shift()
    bias = shift if kernel.bias is None else kernel.bias * gain + shift
    if kernel.scale is None:
        values = (kernel.values * gain).astype(np.float32)
        return dataclasses.replace(kernel, values=values, bias=bias)
    values = kernel.values * np.sign(gain).astype(np.int8)
    scale = np.where(gain == 0, 1.0, kernel.scale * np.abs(gain))
    return dataclasses.replace(kernel, values=values, scale=scale, bias=bias)


def with_kernel(node: Node, kernel: Kernel, *, in_codes: bool) -> Node:
    """The node with a kernel's values, scale and bias.

    Args:
        in_codes: whether the node puts out codes; a bias that is added to reals is float32.
    """
    bias = kernel.bias
    if bias is not None and not in_codes:
        bias = bias.astype(np.float32)
    weight = Weight(values=kernel.values, scale=kernel.scale, bits=kernel.bits)
    return dataclasses.replace(node, weight=weight, bias=bias)

"""Reads what QKeras layers compute with: kernels as codes, activations as grids."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_quant.graph.ir import Weight
from keras_quant.methods.method import Activation, Movable
from keras_quant.methods.qkeras.activations import read_activation
from keras_quant.methods.qkeras.door import qkeras
from keras_quant.methods.qkeras.kernels import read_codes
from keras_quant.methods.qkeras.quantizers import fitted_bits
from keras_quant.methods.qkeras.repair import settled
from keras_quant.tf import keras

# Axes of the kernel that count output channels, where they are not the last one.
_CHANNELS = {"QConv2DTranspose": (2,), "QDepthwiseConv2D": (2, 3)}


def freeze_kernel(layer: keras.layers.Layer) -> Weight | None:
    """Reads a QKeras layer's kernel as codes, for any quantizer with a uniform grid.

    Returns: None for a layer without a kernel quantizer.
    Raises:
        LoweringError: no int8 codes with one scale an output channel are the kernel that the
            layer computes with.
    """
    quantizer, weights = _kernel_of(layer)
    if quantizer is None:
        return None
    channels = _CHANNELS.get(type(layer).__name__, (len(weights.shape) - 1,))
    return read_codes(quantizer, weights, channels=channels, layer=layer)


def freeze_bias(layer: keras.layers.Layer) -> np.ndarray | None:
    """Reads what a QKeras layer rounds its bias to; None where it has no quantizer for it."""
    quantizer = getattr(layer, "bias_quantizer_internal", None)
    if quantizer is None or not layer.use_bias:
        return None
    return np.asarray(quantizer(layer.bias), np.float64)


def movable_of(layer: keras.layers.Layer) -> Movable | None:
    """The variables that may be moved of a batch norm of QKeras', alone or in a convolution.

    And those of a layer with a kernel of `fitted_bits`, whose scale is fitted to each channel.
    """
    if isinstance(layer, qkeras.QBatchNormalization):
        return Movable(
            bias=layer.beta if layer.beta_quantizer_internal is None else None,
            gamma=layer.gamma if layer.gamma_quantizer_internal is None else None,
        )
    norm = getattr(layer, "batchnorm", None)
    if norm is not None:
        return Movable(bias=norm.beta if layer.bias_quantizer_internal is None else None)
    quantizer, kernel = _kernel_of(layer)
    if not isinstance(quantizer, fitted_bits) or quantizer.scale_axis is None:
        return None
    has_plain_bias = layer.use_bias and layer.bias_quantizer_internal is None
    return Movable(bias=layer.bias, kernel=kernel) if has_plain_bias else None


def write_kernel(layer: keras.layers.Layer, weight: Weight) -> bool:
    """Sets a kernel of `fitted_bits` to codes times scales, which it then keeps.

    Args:
        weight: with a scale for each of its channels, or one for all, as the layer has them.
    Returns: False for other layers, and one bit, whose scale is the mean size of the weights.
    """
    quantizer, kernel = _kernel_of(layer)
    if not isinstance(quantizer, fitted_bits) or quantizer.bits == 1 or weight.scale is None:
        return False
    axes = quantizer.scale_axis
    axes = () if axes is None else (axes,) if isinstance(axes, int) else axes
    channels = [axis % weight.values.ndim for axis in axes]
    scale = np.broadcast_to(weight.scale, weight.values.shape)
    first = scale[tuple(slice(None) if a in channels else 0 for a in range(scale.ndim))]
    quantizer.first = [float(step) for step in np.float32(first).reshape(-1)]
    kernel.assign(weight.values * np.float32(scale))
    return True


def _kernel_of(layer: keras.layers.Layer) -> tuple[Any, Any]:
    """A layer's quantizer for its kernel, and that kernel; None and None without one."""
    for kind in ("kernel", "depthwise"):
        quantizer = getattr(layer, f"{kind}_quantizer_internal", None)
        if quantizer is not None:
            depthwise = getattr(layer, "depthwise_kernel", None)
            return quantizer, layer.kernel if depthwise is None else depthwise
    return None, None


def freeze_activation(activation: object, name: str) -> Activation | None:
    """Reads what an activation layer of QKeras computes, or one of its quantizers.

    Args:
        name: of the layer, for errors.
    Returns: None for anything else.
    Raises:
        LoweringError: the quantizer has no fixed uniform grid.
    """
    if isinstance(activation, qkeras.QAdaptiveActivation):
        return read_activation(settled(activation), name)
    if isinstance(activation, qkeras.QActivation):
        quantizer = activation.quantizer
        plain = Activation(function=quantizer)
        return read_activation(quantizer, name) if is_quantizer(quantizer) else plain
    return read_activation(activation, name) if is_quantizer(activation) else None


def is_quantizer(function: object) -> bool:
    """Whether an activation is one of QKeras' quantizers, and not a plain function."""
    return isinstance(function, qkeras.quantizers.BaseQuantizer)

"""Reads what QKeras layers compute with: kernels as codes, activations as grids."""

from __future__ import annotations

from keras_quant.methods.grid import FrozenKernel
from keras_quant.methods.layers import FixedGrid
from keras_quant.methods.qkeras.activations import Activation, read_activation
from keras_quant.methods.qkeras.kernels import read_codes
from keras_quant.methods.qkeras.repair import settled
from keras_quant.qparams import QParams
from keras_quant.tf import keras, qkeras

# Axes of the kernel that count output channels, where they are not the last one.
_CHANNELS = {"QConv2DTranspose": (2,), "QDepthwiseConv2D": (2, 3)}


def freeze_kernel(layer: keras.layers.Layer) -> FrozenKernel | None:
    """Reads a fitted QKeras layer's kernel as codes, for any quantizer with a uniform grid.

    Returns: None for a layer without a kernel quantizer.
    Raises:
        LoweringError: no int8 codes with one scale an output channel are the kernel that the
            layer computes with.
    """
    quantizer = getattr(layer, "kernel_quantizer_internal", None) or getattr(
        layer, "depthwise_quantizer_internal", None
    )
    if quantizer is None:
        return None
    depthwise = getattr(layer, "depthwise_kernel", None)
    weights = layer.kernel if depthwise is None else depthwise
    channels = _CHANNELS.get(type(layer).__name__, (len(weights.shape) - 1,))
    return read_codes(quantizer, weights, channels=channels, layer=layer)


def freeze_activation(layer: keras.layers.Layer) -> QParams | None:
    """Reads what an activation layer of QKeras, or our FixedGrid, rounds to.

    Returns: None for any other layer, and where QActivation is given a plain function.
    Raises:
        LoweringError: the quantizer has no fixed uniform grid.
    """
    if isinstance(layer, FixedGrid):
        bits = (layer.qmax - layer.qmin).bit_length()
        return QParams(scale=layer.scale, qmin=layer.qmin, qmax=layer.qmax, bits=bits)
    found = activation_of(layer)
    return found and found.qparams


def activation_of(layer: keras.layers.Layer) -> Activation | None:
    """Reads what an activation layer of QKeras computes.

    Returns: None for any other layer, and where QActivation is given a plain function.
    Raises:
        LoweringError: the quantizer has no fixed uniform grid.
    """
    if isinstance(layer, qkeras.QAdaptiveActivation):
        return read_activation(settled(layer), layer.name)
    if isinstance(layer, qkeras.QActivation) and is_quantizer(layer.quantizer):
        return read_activation(layer.quantizer, layer.name)
    return None


def is_quantizer(function: object) -> bool:
    """Whether an activation is one of QKeras' quantizers, and not a plain function."""
    return isinstance(function, qkeras.quantizers.BaseQuantizer)

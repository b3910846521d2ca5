"""From a float layer to the QKeras layer that computes it with a quantized kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras_quant.errors import UsageError
from keras_quant.methods.layers import FixedGrid
from keras_quant.methods.qkeras.door import qkeras
from keras_quant.methods.qkeras.quantizers import FITS, fitted_bits
from keras_quant.methods.qkeras.repair import QConv2DTranspose
from keras_quant.qparams import QParams
from keras_quant.schemes.scheme import QuantSpec
from keras_quant.tf import keras

# Keras class: QKeras class, the argument that takes the kernel's quantizer, axes of channels.
WRAPPED: dict[str, tuple[Any, str, int | tuple[int, ...]]] = {
    "Conv1D": (qkeras.QConv1D, "kernel_quantizer", -1),
    "Conv2D": (qkeras.QConv2D, "kernel_quantizer", -1),
    "Conv2DTranspose": (qkeras.QConv2DTranspose, "kernel_quantizer", 2),
    "Dense": (qkeras.QDense, "kernel_quantizer", -1),
    "DepthwiseConv2D": (qkeras.QDepthwiseConv2D, "depthwise_quantizer", (2, 3)),
}
_DROPPED = ("activation", "kernel_constraint", "depthwise_constraint")


@dataclass(frozen=True, slots=True, kw_only=True)
class QKerasOptions:
    """What a scheme may say of this method.

    Attributes:
        fit: how scales of kernels are found, see `fitted_bits`.
    """

    fit: str = "gaussian"

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise UsageError(f"fit is {self.fit!r}; {' or '.join(FITS)} is allowed")


def wrap(
    layer: keras.layers.Layer, weight: QuantSpec, options: QKerasOptions
) -> keras.layers.Layer:
    """Makes the QKeras twin of a layer of WRAPPED.

    The twin has the layer's name and settings, but no activation (a layer of its own).
    Weights are the caller's to copy.
    """
    kind = type(layer).__name__
    cls, argument, axis = WRAPPED[kind]
    cls = QConv2DTranspose if kind == "Conv2DTranspose" else cls
    config = {k: v for k, v in layer.get_config().items() if k not in _DROPPED}
    channels = axis if weight.per_channel else None
    quantizer = fitted_bits(weight.bits, weight.narrow_range, channels, options.fit)
    known = _arguments_of(layer)
    twin = cls(**{k: v for k, v in config.items() if k in known}, **{argument: quantizer})
    # QKeras clips kernels to [-1, 1]; our scale is fitted, so that they need no clipping.
    for name in ("kernel_constraint", "depthwise_constraint", "bias_constraint"):
        if hasattr(twin, name):
            setattr(twin, name, None)
    return twin


def _arguments_of(layer: keras.layers.Layer) -> set[str]:
    conv = {"kernel_size", "strides", "padding", "dilation_rate", "data_format"}
    kernel = {"kernel_initializer", "kernel_regularizer"}
    own = {
        "Conv1D": conv | kernel | {"filters", "groups"},
        "Conv2D": conv | kernel | {"filters", "groups"},
        "Conv2DTranspose": conv | kernel | {"filters", "output_padding"},
        "Dense": kernel | {"units"},
        "DepthwiseConv2D": conv
        | {"depth_multiplier", "depthwise_initializer", "depthwise_regularizer"},
    }[type(layer).__name__]
    return own | {"name", "trainable", "use_bias", "bias_initializer", "bias_regularizer"}


def activation(name: str, grid: QParams) -> keras.layers.Layer:
    """Makes the layer that puts a tensor on a grid; QKeras' own cost five passes over memory."""
    return FixedGrid(grid.scale, grid.qmin, grid.qmax, grid.zero_point, name=name)

"""QKeras: layers with fake-quantized kernels, activations with power-of-two scales.

Coelho et al., "Automatic heterogeneous quantization of deep neural networks for low-latency
inference on the edge for particle detectors", Nature Machine Intelligence 3 (2021).
Also reads what users trained with QKeras' own quantizers.
"""

from __future__ import annotations

import math

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.methods.grid import ActivationGrid, FrozenKernel
from keras_quant.methods.quantizers import FixedGrid, fitted_bits, repair_qkeras
from keras_quant.qparams import QParams, signed, unsigned
from keras_quant.schemes.scheme import QuantSpec
from keras_quant.tf import keras, qkeras

repair_qkeras()

# Keras class: QKeras class, the argument that takes the kernel's quantizer, axes of channels.
WRAPPED = {
    "Conv1D": (qkeras.QConv1D, "kernel_quantizer", -1),
    "Conv2D": (qkeras.QConv2D, "kernel_quantizer", -1),
    "Conv2DTranspose": (qkeras.QConv2DTranspose, "kernel_quantizer", 2),
    "Dense": (qkeras.QDense, "kernel_quantizer", -1),
    "DepthwiseConv2D": (qkeras.QDepthwiseConv2D, "depthwise_quantizer", (2, 3)),
}
_DROPPED = ("activation", "kernel_constraint", "depthwise_constraint")

# How far a kernel divided by its step may be from integers: float32 rounding, no more.
CODE_TOLERANCE = 1e-3


def wrap(layer: keras.layers.Layer, weight: QuantSpec) -> keras.layers.Layer:
    """Makes the QKeras twin of a layer of WRAPPED.

    The twin has the layer's name and settings, but no activation (a layer of its own).
    Weights are the caller's to copy.
    """
    cls, argument, axis = WRAPPED[type(layer).__name__]
    config = {k: v for k, v in layer.get_config().items() if k not in _DROPPED}
    quantizer = fitted_bits(weight.bits, weight.narrow_range, axis if weight.per_channel else None)
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


def activation(name: str, grid: ActivationGrid) -> keras.layers.Layer:
    """Makes the layer that puts a tensor on a grid: a QActivation where its step is 2**k."""
    exponent, qparams = math.log2(grid.step), grid.qparams
    if not exponent.is_integer():
        return FixedGrid(grid.step, qparams.qmin, qparams.qmax, name=name)
    if grid.signed:
        integer = int(exponent) + grid.bits - 1
        text = f"quantized_bits({grid.bits},{integer},{int(grid.narrow_range)},alpha=1)"
    else:
        text = f"quantized_relu({grid.bits},{int(exponent) + grid.bits})"
    return qkeras.QActivation(text, name=name)


def freeze_kernel(layer: keras.layers.Layer) -> FrozenKernel | None:
    """Reads a fitted QKeras layer's kernel as codes, for any quantizer with a uniform grid.

    Returns: None for a layer without a kernel quantizer.
    Raises:
        LoweringError: the quantizer's values are no integers times a step.
    """
    quantizer = getattr(layer, "kernel_quantizer_internal", None) or getattr(
        layer, "depthwise_quantizer_internal", None
    )
    if quantizer is None:
        return None
    kernel = getattr(layer, "depthwise_kernel", None)
    values = np.asarray(quantizer(layer.kernel if kernel is None else kernel), np.float64)
    step, bits = _kernel_step(quantizer, values, layer.name)
    codes = np.rint(values / step)
    off = float(np.abs(values / step - codes).max(initial=0))
    if off > CODE_TOLERANCE or np.abs(codes).max(initial=0) > 255:
        raise LoweringError(
            f"layer {layer.name}: the kernel of {quantizer} is not integers times one step "
            f"(off by {off:.2g} of a step); quantizers with a uniform grid can be lowered"
        )
    return FrozenKernel(codes=codes.astype(np.int16), scale=step, bits=bits)


def _kernel_step(quantizer: object, values: np.ndarray, name: str) -> tuple[np.ndarray, int]:
    kind = type(quantizer).__name__
    scale = np.asarray(getattr(quantizer, "scale", 1.0), np.float64)
    scale = np.where(scale > 0, scale, 1.0)  # 0 for a channel that is zero everywhere
    if kind == "fitted_bits":
        return scale, quantizer.bits
    if kind in ("binary", "stochastic_binary"):
        return scale, 1
    if kind in ("ternary", "stochastic_ternary"):
        return scale, 2
    if kind == "quantized_bits":
        unit = 2.0 ** (int(quantizer.integer) - (quantizer.bits - quantizer.keep_negative))
        return scale * unit, quantizer.bits
    if kind == "quantized_po2":
        sizes = np.abs(values).reshape(-1, values.shape[-1])
        smallest = np.where(sizes > 0, sizes, np.inf).min(axis=0)
        return np.where(np.isfinite(smallest), smallest, 1.0), quantizer.bits
    raise LoweringError(
        f"layer {name}: kernels of {kind} are not lowered yet; fitted_bits, quantized_bits, "
        "binary, ternary and quantized_po2 are"
    )


def freeze_activation(layer: keras.layers.Layer) -> QParams | None:
    """Reads what a QActivation, or our FixedGrid, rounds to.

    Returns: None for any other layer.
    Raises:
        LoweringError: the quantizer has no fixed uniform grid.
    """
    if isinstance(layer, FixedGrid):
        bits = (layer.qmax - layer.qmin).bit_length()
        return QParams(scale=layer.scale, qmin=layer.qmin, qmax=layer.qmax, bits=bits)
    if not isinstance(layer, qkeras.QActivation):
        return None
    return activation_qparams(layer.quantizer, layer.name)


def activation_qparams(quantizer: object, name: str) -> QParams:
    """Reads the grid of a QKeras activation quantizer.

    Raises:
        LoweringError: quantizers without a fixed uniform grid through zero.
    """
    kind = type(quantizer).__name__
    if kind == "quantized_relu" and not (
        quantizer.use_sigmoid or quantizer.negative_slope or not quantizer.is_quantized_clip
    ):
        return unsigned(quantizer.bits, 2.0 ** (int(quantizer.integer) - quantizer.bits))
    if (
        kind == "quantized_bits"
        and quantizer.alpha in (1, None)
        and quantizer.bits > 1
        and quantizer.keep_negative
    ):
        step = 2.0 ** (int(quantizer.integer) - quantizer.bits + 1)
        return signed(quantizer.bits, step, narrow_range=bool(quantizer.symmetric))
    raise LoweringError(
        f"layer {name}: activation {quantizer} is not lowered yet; quantized_relu(bits, integer) "
        "and quantized_bits(bits, integer, symmetric, alpha=1) with 2 bits or more are"
    )

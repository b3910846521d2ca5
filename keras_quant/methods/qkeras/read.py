"""Reads what QKeras layers compute with: kernels as codes, activations as grids."""

from __future__ import annotations

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.graph.ir import Weight
from keras_quant.qparams import QParams, signed, unsigned
from keras_quant.tf import keras, qkeras

# How far a kernel divided by its step may be from integers: float32 rounding, no more.
CODE_TOLERANCE = 1e-3


def freeze_kernel(layer: keras.layers.Layer) -> Weight | None:
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
    return Weight(values=codes.astype(np.int16), scale=step, bits=bits)


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


def freeze_bias(layer: keras.layers.Layer) -> np.ndarray | None:
    """Reads what a QKeras layer rounds its bias to; None where it has no quantizer for it."""
    quantizer = getattr(layer, "bias_quantizer_internal", None)
    if quantizer is None or not layer.use_bias:
        return None
    return np.asarray(quantizer(layer.bias), np.float64)


def freeze_activation(activation: object, name: str) -> QParams | None:
    """Reads what a QActivation, or a quantizer of QKeras, rounds to.

    Args:
        name: of the layer, for errors.
    Returns: None for anything else.
    Raises:
        LoweringError: the quantizer has no fixed uniform grid.
    """
    if isinstance(activation, qkeras.QActivation):
        return activation_qparams(activation.quantizer, name)
    if isinstance(activation, qkeras.quantizers.BaseQuantizer):
        return activation_qparams(activation, name)
    return None


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

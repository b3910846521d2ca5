"""Kernels of QKeras' layers as codes, with one scale an output channel.

A quantizer gives each weight as code * scale, with a scale for all, for each output channel, or
for each place along any axis (alpha as an array, scale_axis; the scale that QKeras fits is one an
input channel in a transposed convolution). Where it differs among weights that are summed, a finer
step is looked for of which all are multiples.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.graph.ir import Weight
from keras_quant.methods.qkeras.door import qkeras
from keras_quant.methods.qkeras.naming import check_noise, name_of
from keras_quant.tf import keras, tf

# int8 weights leave out -128: LiteRT 8-bit quantization specification, "Symmetric vs asymmetric".
# Its ARM kernels add two products in 16 bits, which -128 * -128 twice would pass.
MAX_CODE = 127
MAX_BITS = 8
# QKeras computes w + (q(w) - w) in float32, with q(w) = scale * code: three roundings.
FLOAT32_ROUNDING = 2.0**-22

_SIGNS = {"binary": 1, "stochastic_binary": 1, "ternary": 2, "stochastic_ternary": 2}
_KINDS = ("fitted_bits", "given_codes", "quantized_bits", "quantized_po2", *_SIGNS)


class given_codes(qkeras.quantizers.BaseQuantizer):  # noqa: N801  (QKeras' way of naming)
    """Leaves weights as they are, which are codes times a scale already.

    Args:
        bits: of the codes.
        scale: float64, (channels,), of the kernel's last axis.
    """

    alpha = "auto"  # asks QKeras not to rescale the kernel's initial values

    def __init__(self, bits: int, scale: np.ndarray) -> None:
        super().__init__()
        self.bits, self.scale = bits, scale

    def __call__(self, weights: tf.Tensor) -> tf.Tensor:
        return weights


def read_codes(
    quantizer: Any, weights: Any, *, channels: Sequence[int], layer: keras.layers.Layer
) -> Weight:
    """Reads what a kernel quantizer makes of weights.

    Args:
        quantizer: one of QKeras', or fitted_bits.
        weights: float32 tensor or variable, what the layer gives it.
        channels: the kernel's axes along which output channels are told apart.
        layer: for messages.
    Raises:
        LoweringError: its values are no integers within +-127 times one step for each output
            channel, or it does not give all of the quantized values.
    """
    where = f"layer {layer.name}"
    _check_kind(quantizer, where)
    check_noise(quantizer, where)
    values = _called(quantizer, weights, where)
    scale, bits = _scale(quantizer, values)
    codes = np.rint(values / scale)
    off = np.abs(values - codes * scale)
    if (off > FLOAT32_ROUNDING * (np.abs(weights) + np.abs(values))).any():
        raise LoweringError(
            f"{where}: the kernel of {name_of(quantizer)} is not integers times its scale, but off "
            f"by up to {float((off / scale).max()):.2g} of a step"
        )
    scale = scale.reshape((1,) * (values.ndim - scale.ndim) + scale.shape)
    summed = [a for a in range(values.ndim) if a not in channels and scale.shape[a] != 1]
    if summed:
        codes, fine = _on_common_steps(codes, np.broadcast_to(scale, codes.shape), channels)
        if np.abs(codes).max(initial=0) > MAX_CODE:
            raise LoweringError(_uneven(quantizer, where, scale, summed, channels))
        scale = fine
    _check_range(quantizer, codes, where)
    width = int(max(codes.max(initial=0), -1 - codes.min(initial=0))).bit_length() + 1
    logical = min(bits, MAX_BITS) if bits == 1 or width <= bits else width
    return Weight(values=codes.astype(np.int16), scale=scale, bits=logical)


def _called(quantizer: Any, weights: Any, where: str) -> np.ndarray:
    """What a quantizer makes of weights, as float64."""
    try:
        values = np.asarray(quantizer(weights), np.float64)
    except Exception as error:  # QKeras, or what a user wrote, may fail in any way
        text = re.sub(r"{{.*?}} ?", "", str(error)).partition("\n")[0]
        raise LoweringError(
            f"{where}: {name_of(quantizer)} cannot compute its kernel ({text}); the model itself "
            "does not run with it either"
        ) from error
    bad = np.count_nonzero(~np.isfinite(values))
    if bad:
        raise LoweringError(
            f"{where}: {name_of(quantizer)} makes {bad} of {values.size} weights NaN or infinite; "
            "of 1 bit, use binary(alpha='auto')"
        )
    return values


def _check_kind(quantizer: Any, where: str) -> None:
    kind = type(quantizer).__name__
    if kind not in _KINDS:
        reason = "is random in inference too" if kind == "bernoulli" else "is not lowered"
        raise LoweringError(
            f"{where}: a kernel of {name_of(quantizer)} {reason}; kernels of fitted_bits, "
            "quantized_bits, binary, ternary and quantized_po2 are lowered"
        )


def _scale(quantizer: Any, values: np.ndarray) -> tuple[np.ndarray, int]:
    """The step of each weight, float64, broadcastable to the kernel, and the logical bits."""
    kind = type(quantizer).__name__
    if kind == "quantized_po2":
        return 2.0 ** np.rint(np.log2(np.abs(values))), int(quantizer.bits)  # it gives no zeros
    scale = np.abs(np.asarray(getattr(quantizer, "scale", 1.0), np.float64))
    scale = np.where(scale > 0, scale, 1.0)  # 0 for a channel that is zero everywhere
    if kind in ("fitted_bits", "given_codes"):
        return scale, quantizer.bits
    if kind in _SIGNS:
        return scale, _SIGNS[kind]
    fraction = int(quantizer.bits) - bool(quantizer.keep_negative)
    # Without bits for its size, a value is a sign times the scale, whatever `integer` says.
    unit = 2.0 ** (int(quantizer.integer) - fraction) if fraction else 1.0
    return scale * unit, int(quantizer.bits)


def _on_common_steps(
    codes: np.ndarray, scale: np.ndarray, channels: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of one step for each output channel: the largest of which all of its are multiples.

    Returns: float64 codes, any size; and the steps, broadcastable to them.
    """
    ends = tuple(range(-len(channels), 0))
    by_channel = np.moveaxis(scale, channels, ends).reshape(-1, _size(codes.shape, channels))
    used = np.moveaxis(codes, channels, ends).reshape(by_channel.shape) != 0
    steps = np.array(
        [
            _common_step(s[u] if u.any() else s[:1])
            for s, u in zip(by_channel.T, used.T, strict=True)
        ]
    )
    shape = [size if axis in channels else 1 for axis, size in enumerate(codes.shape)]
    steps = steps.reshape(shape)
    return np.where(codes == 0, 0, codes * (scale / steps)), steps


def _size(shape: Sequence[int], axes: Sequence[int]) -> int:
    return math.prod(shape[axis] for axis in axes)


def _common_step(scales: np.ndarray) -> float:
    """The largest number of which all scales are multiples; floats are integers times 2**e."""
    fractions = [Fraction(float(scale)) for scale in np.unique(scales)]
    unit = max(fraction.denominator for fraction in fractions)
    return math.gcd(*(int(fraction * unit) for fraction in fractions)) / unit


def _uneven(
    quantizer: Any, where: str, scale: np.ndarray, summed: Sequence[int], channels: Sequence[int]
) -> str:
    """Why scales that differ among summed weights cannot be lowered, and what to do."""
    kind = type(quantizer).__name__
    given = f"{where}: the kernel of {name_of(quantizer)} has"
    if kind == "quantized_po2":
        return (
            f"{given} powers of two from {scale.min():g} to {scale.max():g}; within an output "
            f"channel, up to a factor of 64 fits int8. Narrow them with bits or max_value, and "
            "train on"
        )
    remedy, wanted = "alpha=1", "one scale for all"
    if channels:
        wanted = f"one scale an output channel (axis {', '.join(map(str, channels))})"
        if kind == "quantized_bits":
            remedy = (
                f"scale_axis={channels[0]} (which QKeras' own files lose: save with "
                "keras_quant.model.files.save_model), or alpha=1"
            )
    return (
        f"{given} scales from {scale.min():.3g} to {scale.max():.3g} along axis "
        f"{', '.join(map(str, summed))}, over which the layer sums: integers have {wanted}. Give "
        f"it {remedy}, and train on"
    )


def _check_range(quantizer: Any, codes: np.ndarray, where: str) -> None:
    """Checks that codes are within +-127.

    Raises:
        LoweringError: with the cause that the quantizer's arguments show.
    """
    lowest, highest = int(codes.min(initial=0)), int(codes.max(initial=0))
    if lowest >= -MAX_CODE and highest <= MAX_CODE:
        return
    given = f"{where}: the kernel of {name_of(quantizer)} has codes from {lowest} to {highest}"
    if lowest == -MAX_CODE - 1 and highest <= MAX_CODE:
        raise LoweringError(
            f"{given}, where int8 kernels take -{MAX_CODE} to {MAX_CODE}: on ARM they add two "
            "products in 16 bits. Give it symmetric=1, which leaves the lowest out, and train on"
        )
    bits = f"{quantizer.bits} bits" + ("" if quantizer.keep_negative else " without a sign")
    raise LoweringError(
        f"{given}: {bits}, where kernels of up to {MAX_BITS} bits, with a sign, are lowered "
        f"(-{MAX_CODE} to {MAX_CODE}). Give it fewer bits, and train on"
    )

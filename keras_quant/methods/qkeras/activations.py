"""QKeras' activation quantizers: a function of one value, rounded to a uniform grid.

| quantizer | function | rounded to steps of |
|---|---|---|
| quantized_relu | none: its grid begins at 0 | 2**(integer - bits) |
| with negative_slope | x, or slope * x below 0 | 2**(integer - bits + 1) |
| with use_sigmoid | 2 sigmoid(x / 2**integer) - 1 | 2**(integer - bits) |
| quantized_bits | none | 2**(integer - bits + 1), unsigned 2**(integer - bits) |
| with alpha | alpha * x | alpha times that |
| of 1 bit | sign | alpha |
| quantized_hswish | x * relu6(x + 3) / 6 | as quantized_bits |
| quantized_tanh | tanh, or none: x cut at -1 and 1 is its default | 2**(1 - bits) |
| quantized_sigmoid | sigmoid, or 0.5 x + 0.5 | 2**-bits |
| binary, ternary | sign, with a dead band | alpha |

Rounding is to even, in float32; functions are QKeras' own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.methods.method import Activation
from keras_quant.methods.qkeras.door import qkeras
from keras_quant.methods.qkeras.naming import check_noise, name_of
from keras_quant.qparams import INT8_CODES, QParams, signed, unsigned
from keras_quant.tf import keras

READABLE = (
    "quantized_relu, quantized_bits, quantized_hswish, quantized_tanh, quantized_sigmoid, "
    "binary and ternary, with an alpha that is no text, are lowered"
)


def read_activation(quantizer: Any, name: str) -> Activation:
    """Reads an activation quantizer.

    Args:
        name: of the layer, for messages.
    Raises:
        LoweringError: its values are no codes of one uniform grid, or depend on more than the
            value itself.
    """
    where = f"layer {name}: activation"
    reader = _READERS.get(type(quantizer).__name__)
    if reader is None:
        raise LoweringError(f"{where} {name_of(quantizer)} is not lowered; {READABLE}")
    check_noise(quantizer, where)
    try:
        found = reader(quantizer)
    except UnreadableError as reason:
        raise LoweringError(f"{where} {name_of(quantizer)} {reason}") from None
    grid = found.qparams
    codes = 0 if grid is None else grid.qmax - grid.qmin + 1
    if codes > INT8_CODES:
        raise LoweringError(
            f"{where} {name_of(quantizer)} has {codes:,} codes, {quantizer.bits} bits; activations "
            f"of up to 8 bits, {INT8_CODES} codes, are lowered"
        )
    return found


class UnreadableError(Exception):
    """Why a quantizer is not lowered."""


def _relu(q: Any) -> Activation:
    slope, bits, integer = float(q.negative_slope), int(q.bits), _integer(q)
    step = 2.0 ** (integer - bits + (slope > 0))
    top = 2 ** (bits - (slope > 0)) - 1
    bound = None if q.is_quantized_clip or not q.relu_upper_bound else float(q.relu_upper_bound)
    if bound is not None and bound < top * step:
        if not (bound / step).is_integer() or bound <= 0:
            raise UnreadableError(f"is cut at {bound:g}, which is no multiple of its step {step:g}")
        top = int(bound / step)
    if q.use_sigmoid:
        if slope or bound is not None:
            raise UnreadableError("joins use_sigmoid with a slope or a bound; one is lowered")
        return Activation(qparams=_codes(0, top, step, bits), function=q)
    if not slope:
        return Activation(qparams=_codes(0, top, step, bits))
    lowest = slope * (2 ** (bits - 1))
    if not lowest.is_integer():
        raise UnreadableError(
            f"is cut at {-lowest * step:g} below 0, which is no multiple of its step {step:g}: a "
            f"slope of at least 2**{1 - bits} is lowered"
        )
    return Activation(
        qparams=_codes(-int(lowest), top, step, bits),
        function=lambda x: keras.backend.relu(x, alpha=slope),
    )


def _bits(q: Any) -> Activation:
    alpha, bits = _alpha(q), int(q.bits)
    fraction = bits - bool(q.keep_negative)
    if not fraction:
        return Activation(qparams=_signs(alpha), function=q, dead_band=0.0)
    lowest = -(2**fraction) + bool(q.symmetric) if q.keep_negative else 0
    step = 2.0 ** (_integer(q) - fraction)
    qparams = _codes(lowest, 2**fraction - 1, step, bits)
    if alpha == 1:
        return Activation(qparams=qparams)
    if not math.log2(alpha).is_integer():
        raise UnreadableError(f"has alpha={alpha:g}; 1, or another power of two, is lowered")
    return Activation(
        qparams=replace(qparams, scale=alpha * step),
        function=lambda x: x * alpha,
        line=(alpha, 0.0),
    )


def _hswish(q: Any) -> Activation:
    grid = _bits(q)
    if grid.function is not None:
        return replace(grid, function=q, line=None)
    shift, bound = float(q.relu_shift), float(q.relu_upper_bound)

    def hard_swish(x: Any) -> Any:
        return x * keras.backend.relu(x + shift, max_value=bound) / bound

    return replace(grid, function=hard_swish)


def _tanh(q: Any) -> Activation:
    top, sigmoid = 2 ** (int(q.bits) - 1), qkeras.quantizers._sigmoid
    qparams = _codes(-top + bool(q.symmetric), top - 1, 1 / top, int(q.bits))
    if q.use_real_tanh:
        return Activation(qparams=qparams, function=keras.backend.tanh)
    if sigmoid is qkeras.quantizers.hard_sigmoid:
        return Activation(qparams=qparams)  # the grid cuts where 2 * hard_sigmoid(x) - 1 does
    return Activation(qparams=qparams, function=lambda x: 2.0 * sigmoid(x) - 1.0)


def _sigmoid(q: Any) -> Activation:
    bits = int(q.bits)
    qparams = unsigned(bits, 2.0**-bits)
    if q.symmetric:  # code 0 is left out
        return Activation(qparams=qparams, function=q)
    if q.use_real_sigmoid:
        return Activation(qparams=qparams, function=keras.backend.sigmoid)
    sigmoid = qkeras.quantizers._sigmoid
    is_hard = sigmoid is qkeras.quantizers.hard_sigmoid
    return Activation(qparams=qparams, function=sigmoid, line=(0.5, 0.5) if is_hard else None)


def _binary(q: Any) -> Activation:
    alpha = _alpha(q)
    if getattr(q, "use_01", False):
        return Activation(qparams=unsigned(1, alpha), function=q, dead_band=0.0)
    return Activation(qparams=_signs(alpha), function=q, dead_band=0.0)


def _ternary(q: Any) -> Activation:
    threshold = q.default_threshold if q.threshold is None else q.threshold
    if not threshold > 0:
        raise UnreadableError(f"has the threshold {threshold:g}; one above 0 is lowered")
    dead_band = float(np.float32(threshold))
    return Activation(qparams=_signs(_alpha(q)), function=q, dead_band=dead_band)


_READERS: dict[str, Callable[[Any], Activation]] = {
    "quantized_relu": _relu,
    "quantized_bits": _bits,
    "quantized_hswish": _hswish,
    "quantized_tanh": _tanh,
    "quantized_sigmoid": _sigmoid,
    "binary": _binary,
    "stochastic_binary": _binary,
    "ternary": _ternary,
    "stochastic_ternary": _ternary,
}


def _codes(qmin: int, qmax: int, step: float, bits: int) -> QParams:
    if qmin >= qmax:
        raise UnreadableError("gives one value only")
    return QParams(scale=step, qmin=qmin, qmax=qmax, bits=bits)


def _signs(alpha: float) -> QParams:
    """-1 and 1, and 0 where there is one, as two signed bits."""
    return signed(2, alpha, narrow_range=True)


def _integer(q: Any) -> int:
    """Bits in front of the point.

    Raises:
        UnreadableError: they are of channels, or QKeras cannot compute with them.
    """
    values = np.unique(np.asarray(q.integer))
    if values.size > 1:
        raise UnreadableError("has a step for each channel; one for all is lowered")
    return int(values[0])


def _alpha(q: Any) -> float:
    """The factor of a quantizer's values.

    Raises:
        UnreadableError: there is none that is fixed, or no single one above 0.
    """
    if isinstance(q.alpha, str):
        raise UnreadableError(
            f"fits its scale to each batch (alpha={q.alpha!r}), so that an image's answer depends "
            "on the others; give it alpha=1"
        )
    alpha = np.unique(np.asarray(1.0 if q.alpha is None else q.alpha, np.float64))
    if alpha.size > 1 or not alpha[0] > 0:
        raise UnreadableError("has scales of channels, or none above 0; one for all is lowered")
    return float(alpha[0])

"""How quantizers are called in messages, and what makes one answer otherwise than it rounds."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.methods.qkeras.door import qkeras
from keras_quant.tf import tf


def name_of(quantizer: Any) -> str:
    """A quantizer with its bits, and what else is not the default: "quantized_bits(4, integer=1)".

    QKeras' own text fails for some: an alpha that is an array, any quantized_hswish.
    """
    if not isinstance(quantizer, qkeras.quantizers.BaseQuantizer):
        return str(getattr(quantizer, "__name__", type(quantizer).__name__))
    arguments = []
    for name, parameter in inspect.signature(type(quantizer)).parameters.items():
        value = getattr(quantizer, name, parameter.default)
        if name == "bits" or _differs(value, parameter.default):
            arguments.append(_text(value) if name == "bits" else f"{name}={_text(value)}")
    return f"{type(quantizer).__name__}({', '.join(arguments)})"


def _differs(value: Any, default: Any) -> bool:
    return isinstance(value, (np.ndarray, tf.Tensor, tf.Variable)) or value != default


def _text(value: Any) -> str:
    if isinstance(value, (np.ndarray, tf.Tensor, tf.Variable)):
        array = np.asarray(value)
        return f"{array.item():g}" if array.size == 1 else f"<{array.size} values>"
    return repr(value)


def check_noise(quantizer: Any, where: str) -> None:
    """Checks that a quantizer's output is all quantized.

    Raises:
        LoweringError: a part of it is the float value.
    """
    factor = float(np.asarray(getattr(quantizer, "qnoise_factor", 1.0)))
    if factor != 1.0:
        raise LoweringError(
            f"{where}: {name_of(quantizer)} gives {factor:g} parts of quantized and {1 - factor:g} "
            "parts of float values, as its qnoise_factor says, which no codes hold. Set it to 1 "
            "(update_qnoise_factor(1.0)), evaluate the model, and save it again"
        )

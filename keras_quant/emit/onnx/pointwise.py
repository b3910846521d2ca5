"""Writes the functions of graph.pointwise as ONNX operators of float32, in opset 13 or newer."""

from __future__ import annotations

import math
from collections.abc import Callable

from keras_quant.emit.onnx.file import OnnxFile
from keras_quant.graph.pointwise import HALTED


def write_function(file: OnnxFile, function: str, real: str, name: str) -> str:
    """Emits a function of float32 values.

    Args:
        function: a name of graph.pointwise.
        real: the file's value of arguments.
        name: what the names of operators begin with.
    Returns: the file's value of results.
    """
    count = 0

    def operator(op: str, *inputs: str | float) -> str:
        nonlocal count
        count += 1
        names = [item if isinstance(item, str) else file.scalar(item) for item in inputs]
        return file.operator(op, names, f"{name}/{function}_{count}")

    return _FUNCTIONS[function](operator, real)


_Operator = Callable[..., str]


def _swish(op: _Operator, x: str) -> str:
    return op("Mul", x, op("Sigmoid", x))


def _hard_swish(op: _Operator, x: str) -> str:
    return op("Div", op("Mul", x, op("Clip", op("Add", x, 3.0), 0.0, 6.0)), 6.0)


def _gelu(op: _Operator, x: str) -> str:
    return op("Mul", op("Mul", x, 0.5), op("Add", op("Erf", op("Mul", x, math.sqrt(0.5))), 1.0))


def _gelu_tanh(op: _Operator, x: str) -> str:
    cube = op("Mul", op("Mul", x, op("Mul", x, x)), 0.044715)
    inner = op("Mul", op("Add", x, cube), math.sqrt(2 / math.pi))
    return op("Mul", op("Mul", x, 0.5), op("Add", op("Tanh", inner), 1.0))


def _ramp(op: _Operator, x: str, slope: float) -> str:
    return op("Clip", op("Add", op("Mul", x, slope), 0.5), 0.0, 1.0)


def _is_below(op: _Operator, x: str) -> str:
    return op("Less", x, HALTED)


def _halted_share(op: _Operator, x: str) -> str:
    return op("Where", _is_below(op, x), op("Relu", x), 1.0)


_FUNCTIONS: dict[str, Callable[[_Operator, str], str]] = {
    "sigmoid": lambda op, x: op("Sigmoid", x),
    "tanh": lambda op, x: op("Tanh", x),
    "swish": _swish,
    "hard_sigmoid": lambda op, x: _ramp(op, x, 0.2),
    "hard_sigmoid_keras3": lambda op, x: _ramp(op, x, 1 / 6),
    "hard_swish": _hard_swish,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "elu": lambda op, x: op("Elu", x),
    "is_on": lambda op, x: op("Where", _is_below(op, x), 1.0, 0.0),
    "halted_share": _halted_share,
    "less_halted_share": lambda op, x: op("Neg", _halted_share(op, x)),
    "share_left": lambda op, x: op("Sub", 1.0, _halted_share(op, x)),
}

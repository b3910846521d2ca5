"""Quantization methods: how a layer is fake-quantized in training, and what it is frozen to.

A method is one module and one line of METHODS. `grid` needs no TensorFlow; the methods do.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Protocol, cast

from keras_quant.errors import UsageError, close_names
from keras_quant.methods.grid import FrozenKernel
from keras_quant.qparams import QParams
from keras_quant.schemes.scheme import QuantSpec

METHODS = {"qkeras": "keras_quant.methods.qkeras"}


class Method(Protocol):
    """What a module named in METHODS offers.

    The contract that every method keeps: the codes and scale of `freeze_kernel` dequantize to
    exactly the kernel that the wrapped layer computes with in inference, and the QParams of
    `freeze_activation` name exactly the values that its layer puts out.
    """

    def wrap(self, layer: Any, weight: QuantSpec) -> Any:
        """Makes the quantized twin of a convolution or a Dense layer."""

    def activation(self, name: str, grid: QParams) -> Any:
        """Makes the layer that puts a tensor on a grid."""

    def freeze_kernel(self, layer: Any) -> FrozenKernel | None:
        """Reads a fitted layer's kernel as codes; None where it is in float."""

    def freeze_activation(self, layer: Any) -> QParams | None:
        """Reads what a layer rounds to; None where the layer is no quantizer."""


def load_method(name: str) -> Method:
    """Gives a method by its name in METHODS.

    Raises:
        UsageError: there is no such method.
    """
    if name not in METHODS:
        raise UsageError(
            f"method {name!r} is not known{close_names(name, METHODS)}; "
            f"methods are {', '.join(METHODS)}"
        )
    module: ModuleType = importlib.import_module(METHODS[name])
    return cast(Method, module)

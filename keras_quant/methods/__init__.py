"""Quantization methods: how a layer is fake-quantized in training, and what it is lowered to.

A method is one module and one line of METHODS. This module loads neither TensorFlow nor numpy; the
methods do, and so do `readers`, which ask all of them what a layer computes with.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from keras_quant.errors import UsageError, close_names

if TYPE_CHECKING:
    from keras_quant.methods.method import Method

METHODS = {
    "qkeras": "keras_quant.methods.qkeras:METHOD",
    "tfmot": "keras_quant.methods.tfmot:METHOD",
    "lsq": "keras_quant.methods.lsq:METHOD",
    "pact": "keras_quant.methods.pact:METHOD",
    "dorefa": "keras_quant.methods.dorefa:METHOD",
    "bnn": "keras_quant.methods.bnn:METHOD",
    "nested": "keras_quant.methods.nested:METHOD",
}
"""By the name of each method the module that makes it, and what it is called there."""

DEFAULT_METHOD = "qkeras"

NESTED_METHOD = "nested"
"""What `kq train --nested` takes where nobody says another: it cuts kernels from 8-bit ones."""

DEFAULT_BITS = {"tfmot": "8"}
"""What `kq train` gives a method where nobody says bits; others get 4."""

WITH_ZERO_POINTS = frozenset({"tfmot"})
"""Methods whose activations have zero points, and any scales, unless a scheme file says not."""


def load_method(name: str) -> Method:
    """Gives a method by its name in METHODS.

    Raises:
        UsageError: there is no such method.
        MissingDependencyError: a package that it needs is not installed.
    """
    if name not in METHODS:
        raise UsageError(
            f"method {name!r} is not known{close_names(name, METHODS)}; "
            f"methods are {', '.join(METHODS)}"
        )
    module, _, attribute = METHODS[name].partition(":")
    method: Method = getattr(importlib.import_module(module), attribute)
    return method

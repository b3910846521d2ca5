"""Functions of one value that targets compute in floats, by name.

Each keeps the dtype of its argument: float32 for the reference, float64 for comparing tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

_erf = np.vectorize(math.erf, otypes=[float])


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    power = np.exp(-np.abs(x))
    shares: Array = np.where(x >= 0, 1, power) / (1 + power)
    return shares


def swish(x: Array) -> Array:
    """x * sigmoid(x), also called SiLU."""
    return x * sigmoid(x)


def hard_sigmoid(x: Array) -> Array:
    """0.2 x + 0.5, cut at 0 and 1: what Keras 2 calls hard_sigmoid."""
    line: Array = x.dtype.type(0.2) * x + x.dtype.type(0.5)
    return np.clip(line, 0, 1)


def hard_sigmoid_keras3(x: Array) -> Array:
    """x / 6 + 0.5, cut at 0 and 1: what Keras 3 calls hard_sigmoid."""
    line: Array = x.dtype.type(1 / 6) * x + x.dtype.type(0.5)
    return np.clip(line, 0, 1)


def hard_swish(x: Array) -> Array:
    """x * relu6(x + 3) / 6: Howard et al., "Searching for MobileNetV3" (2019), section 5.2."""
    return x * np.clip(x + 3, 0, 6) / 6


def gelu(x: Array) -> Array:
    """x * Phi(x): Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016)."""
    product: Array = 0.5 * x * (1 + _erf(x / math.sqrt(2)))
    return product.astype(x.dtype)


def gelu_tanh(x: Array) -> Array:
    """Their approximation of it by tanh."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    product: Array = 0.5 * x * (1 + np.tanh(inner))
    return product.astype(x.dtype)


def elu(x: Array) -> Array:
    """exp(x) - 1 below 0, else x."""
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


POINTWISE: dict[str, Callable[[Array], Array]] = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "swish": swish,
    "hard_sigmoid": hard_sigmoid,
    "hard_sigmoid_keras3": hard_sigmoid_keras3,
    "hard_swish": hard_swish,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "elu": elu,
}

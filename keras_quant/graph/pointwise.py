"""Functions of one value: all that the graph, its passes and its costs know of each, by name.

A new function is a record here, how each format writes it (`emit.onnx.pointwise` and
`emit.tflite.pointwise`), and where it stands among the ways in which a format tries to compute a
table (`lookup` of each format).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

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


HALTED = 0.99
"""Sum of halting scores from which on a position has halted, see `zoo.halting`."""


def is_on(x: Array) -> Array:
    """1 below HALTED, else 0."""
    return np.asarray(x < x.dtype.type(HALTED)).astype(x.dtype)


def halted_share(x: Array) -> Array:
    """The sum below HALTED, from there on 1; of negative sums, which there are none of, 0."""
    share: Array = np.where(x < x.dtype.type(HALTED), np.maximum(x, 0), x.dtype.type(1))
    return share


class Exactness(Enum):
    """How near runtimes' float32 kernels come to a function."""

    ERRS = "with an error of float32's last places"
    HALVES = "likewise, but halves of a code come without error, and go to even"
    EXACT = "bit for bit what the formula gives in float32"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pointwise:
    """A function of one value.

    Attributes:
        formula: gives its values in the dtype of its argument: float32 for the reference, float64
            for comparing tables.
        bounds: its least and its greatest value, rounded outwards. A function that grows without
            end stays below the identity where it is positive.
        exactness: of kernels.
        jumps: whether it has a step at which the least error makes another value of it.
        exponentials, multiplications, additions: what computes one value, besides what is within
            the exponentials. Quotients count as multiplications, comparisons as additions.
    """

    formula: Callable[[Array], Array]
    bounds: tuple[float, float]
    exactness: Exactness
    jumps: bool = False
    exponentials: int = 0
    multiplications: int = 0
    additions: int = 0


ACTIVATIONS: Mapping[str, Pointwise] = {
    "none": Pointwise(formula=lambda x: x, bounds=(-math.inf, math.inf), exactness=Exactness.EXACT),
    "relu": Pointwise(
        formula=lambda x: np.maximum(x, 0),
        bounds=(0.0, math.inf),
        exactness=Exactness.EXACT,
        additions=1,
    ),
    "relu6": Pointwise(
        formula=lambda x: np.clip(x, 0, 6),
        bounds=(0.0, 6.0),
        exactness=Exactness.EXACT,
        additions=2,
    ),
}
"""What a node may do to its sums by itself."""

POINTWISE: Mapping[str, Pointwise] = {
    "sigmoid": Pointwise(
        formula=sigmoid,
        bounds=(0.0, 1.0),
        exactness=Exactness.ERRS,
        exponentials=1,
        multiplications=1,
        additions=1,
    ),
    # (e - 1) / (e + 1) with e = exp(2 x)
    "tanh": Pointwise(
        formula=np.tanh,
        bounds=(-1.0, 1.0),
        exactness=Exactness.ERRS,
        exponentials=1,
        multiplications=2,
        additions=2,
    ),
    "swish": Pointwise(
        formula=swish,
        bounds=(-0.2785, math.inf),
        exactness=Exactness.ERRS,
        exponentials=1,
        multiplications=2,
        additions=1,
    ),
    "hard_sigmoid": Pointwise(
        formula=hard_sigmoid,
        bounds=(0.0, 1.0),
        exactness=Exactness.EXACT,
        multiplications=1,
        additions=3,
    ),
    "hard_sigmoid_keras3": Pointwise(
        formula=hard_sigmoid_keras3,
        bounds=(0.0, 1.0),
        exactness=Exactness.EXACT,
        multiplications=1,
        additions=3,
    ),
    # On grids of powers of two, where x * (x + 3) / 6 is a half of a code, 3 divides the code of
    # x. Then x / 6 is a float32 number, and so is all that follows from it. A product with
    # float32(1 / 6), which is off by a third of its last place, is rounded to it too. So all
    # formulas that kernels use give that half without error.
    "hard_swish": Pointwise(
        formula=hard_swish,
        bounds=(-0.375, math.inf),
        exactness=Exactness.HALVES,
        multiplications=2,
        additions=3,
    ),
    # erf is that of Abramowitz and Stegun, 7.1.26, with 6 multiply-adds, a quotient, and an
    # exponential of a square, times a polynomial.
    "gelu": Pointwise(
        formula=gelu,
        bounds=(-0.17, math.inf),
        exactness=Exactness.ERRS,
        exponentials=1,
        multiplications=12,
        additions=8,
    ),
    "gelu_tanh": Pointwise(
        formula=gelu_tanh,
        bounds=(-0.1701, math.inf),
        exactness=Exactness.ERRS,
        exponentials=1,
        multiplications=8,
        additions=4,
    ),
    # Halves only come of positive reals, which pass unchanged.
    "elu": Pointwise(
        formula=elu,
        bounds=(-1.0, math.inf),
        exactness=Exactness.HALVES,
        exponentials=1,
        additions=2,
    ),
    "is_on": Pointwise(
        formula=is_on, bounds=(0.0, 1.0), exactness=Exactness.EXACT, jumps=True, additions=1
    ),
    "halted_share": Pointwise(
        formula=halted_share, bounds=(0.0, 1.0), exactness=Exactness.EXACT, jumps=True, additions=2
    ),
    "less_halted_share": Pointwise(
        formula=lambda x: -halted_share(x),
        bounds=(-1.0, 0.0),
        exactness=Exactness.EXACT,
        jumps=True,
        additions=3,
    ),
    "share_left": Pointwise(
        formula=lambda x: 1 - halted_share(x),
        bounds=(0.0, 1.0),
        exactness=Exactness.EXACT,
        jumps=True,
        additions=3,
    ),
}
"""What targets compute in floats, as an operation of its own."""

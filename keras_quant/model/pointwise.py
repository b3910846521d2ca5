"""Functions of one value at a time: sigmoid, hard-swish, leaky ReLU, or a user's own.

On codes, such a function is a table with one entry for each code. The entries are computed by
the very function that Keras calls, in float32, so that nothing has to be known about it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_quant.graph.pointwise import POINTWISE
from keras_quant.tf import keras, tf

Function = Callable[[Any], Any]

POINTWISE_LAYERS = ("LeakyReLU", "PReLU", "ELU", "ThresholdedReLU")

# Reals far and near, of both signs, on which functions are tried.
_PROBES = np.array([*np.linspace(-1000, 1000, 401), *np.linspace(-8, 8, 641)], np.float32)
# How far two formulas of one function may be apart in float32; other functions are further.
FLOAT32_ROUNDING = 1e-5


def hard_sigmoid_keras3(x: tf.Tensor) -> tf.Tensor:
    """relu6(x + 3) / 6, which Keras 3 calls hard_sigmoid; that of Keras 2 is 0.2 x + 0.5, cut."""
    return tf.nn.relu6(x + 3.0) / 6.0


def hard_swish(x: tf.Tensor) -> tf.Tensor:
    """x * relu6(x + 3) / 6: Howard et al., "Searching for MobileNetV3" (2019), section 5.2."""
    return x * hard_sigmoid_keras3(x)


@functools.cache
def register_functions() -> None:
    """Lets Keras save and load models with the functions of this module by their names."""
    for function in (hard_sigmoid_keras3, hard_swish):
        keras.utils.register_keras_serializable("keras_quant")(function)


def is_pointwise(function: Function) -> bool:
    """Whether each value that a function gives depends on the value at its own place alone.

    Args:
        function: takes and gives float32 tensors; it is tried on some reals.
    """
    half = len(_PROBES) // 2
    try:
        whole = np.asarray(function(tf.constant(_PROBES)))
        parts = [np.asarray(function(tf.constant(x))) for x in (_PROBES[:half], _PROBES[half:])]
    except Exception:  # whatever a function raises on a vector, it is none of one value
        return False
    joined = np.concatenate(parts)
    return whole.shape == joined.shape and np.allclose(whole, joined, equal_nan=True)


def find_named(function: Function) -> str | None:
    """The name in graph.pointwise of what a function computes; None where it has none there."""
    if isinstance(function, keras.layers.PReLU):
        return None
    found = np.asarray(function(tf.constant(_PROBES)))
    for name, known in POINTWISE.items():
        if np.allclose(found, known.formula(_PROBES), rtol=FLOAT32_ROUNDING, atol=FLOAT32_ROUNDING):
            return name
    return None


def is_nonnegative(function: Function) -> bool:
    """Whether a function of one value gives no negative one; a PReLU is taken to give some."""
    if isinstance(function, keras.layers.PReLU):
        return False
    return bool(np.asarray(function(tf.constant(_PROBES))).min() >= 0)


def tabulate(function: Function, reals: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
    """Computes a function of one value, or a PReLU.

    Args:
        function: as for is_pointwise, or a keras.layers.PReLU.
        reals: float32 (values,).
        shape: of the layer's input, without the batch axis.
    Returns: float32 (values,), or for a PReLU (channels, values), or (elements, values) if it
        varies by position.
    """
    if not isinstance(function, keras.layers.PReLU):
        return np.asarray(function(tf.constant(reals)), np.float32)
    told_apart = shape if varies_by_position(function) else (*[1] * (len(shape) - 1), shape[-1])
    given = np.broadcast_to(reals.reshape(-1, *[1] * len(shape)), (len(reals), *told_apart))
    values: np.ndarray = np.asarray(function(tf.constant(given)), np.float32)
    return np.transpose(values.reshape(len(reals), -1))


def varies_by_position(function: Function) -> bool:
    """Whether a function of one value is a PReLU with slopes for more than each channel."""
    return isinstance(function, keras.layers.PReLU) and any(
        size != 1 for size in function.alpha.shape[:-1]
    )

"""Batch norms that only multiply and add."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_quant.model.topology import Shape
from keras_quant.tf import keras

# With this variance and epsilon, both exact in float32, a batch norm multiplies by gamma alone.
# TensorFlow raises smaller epsilons to 1.001e-5.
_EPSILON = 2.0**-10


def affine(
    input_shape: Shape, *, gain: Any, shift: Any, name: str
) -> tuple[keras.layers.Layer, list[np.ndarray]]:
    """x * gain + shift, both scalars or (channels,), as a BatchNormalization that is not trained.

    Returns: the layer, which is to be called first, and then given the weights.
    """
    channels = (input_shape[-1],)
    norm = keras.layers.BatchNormalization(epsilon=_EPSILON, trainable=False, name=name)
    gamma, beta = (np.broadcast_to(np.asarray(v, np.float32), channels) for v in (gain, shift))
    variance = np.full(channels, 1 - _EPSILON, np.float32)
    return norm, [gamma, beta, np.zeros_like(variance), variance]


def affine_layer(
    input_shape: Shape, *, gain: Any, shift: Any, name: str
) -> keras.layers.BatchNormalization:
    """The same, built, with its weights."""
    norm, weights = affine(input_shape, gain=gain, shift=shift, name=name)
    norm.build((None, *input_shape))
    norm.set_weights(weights)
    return norm

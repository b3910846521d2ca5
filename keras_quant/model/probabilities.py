"""Models that end in a softmax: which outputs are probabilities, and the logits they stand for."""

from __future__ import annotations

from typing import Any

from keras_quant.tf import keras, tf

SMALLEST_SHARE = 1e-30  # a softmax may round to 0, which has no logarithm


def are_probabilities(model: keras.Model) -> tuple[bool, ...]:
    """Says of each output of a functional or sequential model whether a softmax puts it out."""
    return tuple(_is_softmax(output) for output in model.outputs)


def as_logits(probabilities: tf.Tensor) -> tf.Tensor:
    """The logarithms of probabilities, (..., classes): logits that have the same softmax."""
    return tf.math.log(tf.maximum(probabilities, SMALLEST_SHARE))


def _is_softmax(output: Any) -> bool:
    history = output._keras_history
    layer = history.layer
    if isinstance(layer, keras.Model):
        return _is_softmax(layer.outputs[history.tensor_index])
    softmax = (keras.activations.softmax, tf.nn.softmax)
    return isinstance(layer, keras.layers.Softmax) or getattr(layer, "activation", None) in softmax

"""Class-activation maps: which places of an image a score comes from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_quant.model.topology import Call, list_calls
from keras_quant.tf import keras, tf

SMALLEST_SIDE = 4
"""Of the values whose map is shown, where there are such: maps of 2x2 places say little."""


def mapped_call(model: keras.Model) -> Call | None:
    """The last call that has places, of the most places if none has SMALLEST_SIDE of them a side.

    Returns: None where no call has a height and width.
    """
    calls = list_calls(model)
    # What lies in front of all kernels is the image itself, rounded or scaled.
    first = next((n for n, call in enumerate(calls) if call.layer.trainable_weights), len(calls))
    placed = [c for c in calls[first:] if len(c.shape) == 3 and min(c.shape[:2]) > 1]
    wide = [call for call in placed if min(call.shape[:2]) >= SMALLEST_SIDE]
    if wide:
        return wide[-1]
    return max(placed, key=lambda call: math.prod(call.shape[:2]), default=None)


def class_activation_maps(
    model: keras.Model, call: Call, images: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """Grad-CAM (Selvaraju et al., ICCV 2017, eq. 1 and 2) without its ReLU, as large as images.

    Behind a global average and one dense layer it is the class-activation map of Zhou et al. (CVPR
    2016), but for a factor. The ReLU is left out, since few bits may shift all places of a map
    below 0 (codes of 2 bits are -2 to 1), and where most speaks for the class is known all the
    same.

    Args:
        model: functional; its first output has a score a class. A softmax at its end is left out,
            as the paper does, since gradients of what is nearly 1 are nearly 0.
        call: of `mapped_call`; its values are weighted by the mean of their gradients.
        images: float32 (images, height, width, channels), as the model takes them.
        classes: int (images,), whose score is meant.
    Returns: float32 (images, height, width), the least of each 0 and the largest 1; all 0 where
        all places are the same.
    """
    values = call.layer.get_output_at(0)
    score = _before_softmax(model.outputs[0])
    parts = keras.Model(model.inputs, [values, score])
    with tf.GradientTape() as tape:
        activations, scores = parts(images, training=False)
        chosen = tf.gather(scores, classes, batch_dims=1)
    gradients = tape.gradient(chosen, activations)
    weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
    maps = tf.reduce_sum(weights * activations, axis=-1, keepdims=True)
    resized = tf.image.resize(maps, images.shape[1:3])[..., 0]
    least = tf.reduce_min(resized, axis=(1, 2), keepdims=True)
    span = tf.reduce_max(resized, axis=(1, 2), keepdims=True) - least
    return np.asarray(tf.math.divide_no_nan(resized - least, span), np.float32)


def _before_softmax(output: Any) -> Any:
    """What a softmax layer at a model's end reads; else the output itself."""
    node = output.node
    return node.keras_inputs[0] if isinstance(node.layer, keras.layers.Softmax) else output

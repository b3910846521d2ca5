"""Nets of QKeras' own layers, and whether the integer graph has their very codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_quant.graph.reference import run_reference
from keras_quant.lower import lower_exactly
from keras_quant.methods.qkeras.door import qkeras
from keras_quant.tf import keras
from tests.lower.codes import count_differences

L = keras.layers
IMAGES = 64
Body = Callable[[Any], Any]


def act(quantizer: object) -> keras.layers.Layer:
    return qkeras.QActivation(quantizer)


def net(body: Body, shape: tuple[int, ...], *, spread: float = 0.0) -> keras.Model:
    """A model of codes in front of a body, with random weights.

    Args:
        spread: standard deviation of the logarithm of their sizes.
    """
    inputs = keras.Input(shape, name="image")
    model = keras.Model(inputs, body(act("quantized_bits(8,1,1,alpha=1)")(inputs)))
    rng = np.random.default_rng(0)
    norms = [w for w in model.non_trainable_weights if "/moving_" in w.name]
    for weight in (*model.trainable_weights, *norms):
        value = rng.normal(0, 0.4, weight.shape) * np.exp(spread * rng.normal(0, 1, weight.shape))
        if "variance" in weight.name or "gamma" in weight.name:
            value = rng.uniform(0.3, 2, weight.shape)
        weight.assign(value.astype(np.float32))
    return model


def share_different(model: keras.Model) -> float:
    """Share of the model's codes that are not the graph's; its biases are moved first.

    Counted are the codes of each QActivation, and the values that the model puts out.
    """
    graph = lower_exactly(model).graph
    images = np.random.default_rng(1).uniform(-2, 2, (IMAGES, *model.input_shape[1:]))
    images = images.astype(np.float32)
    answers = np.asarray(model(images, training=False))
    found = run_reference(graph, {graph.inputs[0]: images})[graph.outputs[0]]
    different, compared = count_differences(model, graph, images)
    assert np.ptp(answers) > 0
    different += int(np.count_nonzero(found.reshape(answers.shape) != answers))
    return different / (compared + answers.size)

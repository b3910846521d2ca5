"""Nets that TF-MOT quantized, and whether the integer graph has their codes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keras_quant.graph.reference import run_reference
from keras_quant.jobs.export import stored_limits
from keras_quant.lower import lower_exactly
from keras_quant.methods.tfmot.door import quantizers, tfmot
from keras_quant.proof.formats import FORMATS
from keras_quant.proof.parity import prove
from keras_quant.tf import keras

L = keras.layers
Q = tfmot.quantization.keras
Body = Callable[[Any], Any]
IMAGES = 64


def float_net(body: Body, shape: tuple[int, ...]) -> keras.Model:
    """A model with random weights."""
    inputs = keras.Input(shape, name="image")
    model = keras.Model(inputs, body(inputs))
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        value = rng.normal(0, 0.4, weight.shape)
        if "gamma" in weight.name:
            value = rng.uniform(-1.5, 1.5, weight.shape)
        weight.assign(value.astype(np.float32))
    return model


def net(body: Body, shape: tuple[int, ...], quantize: Any = Q.quantize_model) -> keras.Model:
    """A quantized model with random weights, and ranges of one batch."""
    return with_ranges(quantize(float_net(body, shape)))


def with_ranges(model: keras.Model) -> keras.Model:
    """Gives a model the ranges, and batch norms the statistics, of one batch."""
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        if isinstance(inner, L.BatchNormalization):
            inner.momentum = 0.0
    at_once = functools.partial(_at_once, quantizers.quant_ops.MovingAvgQuantize)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantizers.quant_ops, "MovingAvgQuantize", at_once)
        for _ in range(3):  # what follows a batch norm sees other values after the first
            model(images_for(model), training=True)
    return model


def _at_once(original: Callable[..., Any], *args: Any, ema_decay: float, **kwargs: Any) -> Any:
    return original(*args, ema_decay=0.0, **kwargs)


def images_for(model: keras.Model, *, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1.3, 2, (IMAGES, *model.input_shape[1:])).astype(np.float32)


def share_different(model: keras.Model) -> float:
    """Share of the model's codes that are not the graph's; its biases are moved first.

    Counted are the codes of each layer that the graph has a tensor of.
    """
    graph = lower_exactly(model).graph
    images = images_for(model, seed=2)
    grids = {name: t.qparams for name, t in graph.tensors.items() if t.qparams is not None}
    layers = [layer for layer in model.layers if layer.name in grids]
    # TF-MOT calls layers that it does not wrap a second time.
    outputs = [layer.get_output_at(-1) for layer in layers]
    answers = keras.Model(model.inputs, outputs)(images, training=False)
    answers = answers if len(layers) > 1 else [answers]
    found = run_reference(graph, {graph.inputs[0]: images}, keep=[layer.name for layer in layers])
    different = compared = 0
    for layer, answer in zip(layers, answers, strict=True):
        grid = grids[layer.name]
        codes = np.rint(np.asarray(answer, np.float64) / grid.scale) + grid.zero_point
        different += np.count_nonzero(codes != found[layer.name].reshape(codes.shape))
        compared += codes.size
    return different / compared


def codes_wrong(model: keras.Model, format_name: str) -> int:
    """How many codes of a file of the model are not the graph's."""
    form = FORMATS[format_name]
    snap = lower_exactly(model, limits=stored_limits([form]))
    images = {snap.graph.inputs[0]: images_for(model, seed=2)}
    content = form.definition.emit(snap.graph)
    parity = prove(snap.graph, form, content, images)
    assert parity.passed and parity.codes_compared > 0
    return parity.codes_different

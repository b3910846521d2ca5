"""Measuring the statistics of batch norms again, of the weights that training ended with.

Moving averages lag behind weights that moved, the more so where a few bits jump: Wu & Johnson,
"Rethinking 'Batch' in BatchNorm" (2021), average over batches of one fixed model.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_quant.methods.layers import held_ranges
from keras_quant.model.topology import layers_by_name
from keras_quant.tf import keras, tf


def reestimate_norms(model: keras.Model, batches: Iterable[np.ndarray]) -> int:
    """Gives batch norms the mean of the statistics of some batches; of several calls, of them all.

    Args:
        model: quantized; the moving means and variances of its batch norms change, and nothing
            else. What draws at random in training, such as Dropout, does so here too.
        batches: float32 images as the model takes them, of equal numbers.
    Returns: how many batch norms there are.
    """
    norms = [
        layer
        for layer in layers_by_name(model).values()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if norms:
        with _averaging_calls(norms), held_ranges():
            for batch in batches:
                model(tf.constant(batch), training=True)
    return len(norms)


@contextlib.contextmanager
def _averaging_calls(norms: Sequence[keras.layers.Layer]) -> Iterator[None]:
    """Lets norms keep the means of what all calls within see; a shared one has several a batch."""
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.call = _counted(norm)
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            del norm.call
            norm.momentum = momentum


def _counted(norm: Any) -> Callable[..., Any]:
    call, numbers = norm.call, itertools.count(1)

    def counted(*given: Any, **named: Any) -> Any:
        norm.momentum = 1 - 1 / next(numbers)  # so that the average is that of all so far
        return call(*given, **named)

    return counted

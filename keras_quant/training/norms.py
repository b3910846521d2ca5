"""Measuring the statistics of batch norms again, of the weights that training ended with.

Moving averages lag behind weights that moved, the more so where a few bits jump: Wu & Johnson,
"Rethinking 'Batch' in BatchNorm" (2021), average over batches of one fixed model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from keras_quant.methods.layers import held_ranges
from keras_quant.model.topology import layers_by_name
from keras_quant.tf import keras, tf


def reestimate_norms(model: keras.Model, batches: Iterable[np.ndarray]) -> int:
    """Gives batch norms the mean of the statistics of some batches.

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
        with _momenta_kept(norms), held_ranges():
            for count, batch in enumerate(batches, 1):
                for norm in norms:
                    norm.momentum = 1 - 1 / count  # so that the average is that of all so far
                model(tf.constant(batch), training=True)
    return len(norms)


@contextlib.contextmanager
def _momenta_kept(norms: Sequence[keras.layers.Layer]) -> Iterator[None]:
    before = [norm.momentum for norm in norms]
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum

"""Traces of a loss's Hessian, layer by layer, without the Hessian."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_quant.search.record import Trace
from keras_quant.tf import keras, tf

Loss = Callable[[Any, Any], Any]
"""Of a batch of inputs and of targets: a scalar tensor."""


def traces(
    kernels: Mapping[str, Any],
    loss: Loss,
    batches: Sequence[tuple[np.ndarray, Any]],
    *,
    probes: int,
    seed: int = 0,
    on_probe: Callable[[int], None] = lambda done: None,
) -> dict[str, Trace]:
    """Estimates the trace of the Hessian of a loss for each kernel.

    Hutchinson's: E[v' H v] is the trace of H for v of independent +1 and -1 (Avron and Toledo 2011;
    HAWQ-V2, Dong et al. 2020). One product H v serves all kernels: of the whole vector
    v, a kernel's part times its part of H v has the trace of its block for an expectation, as signs
    of other kernels average out. H v is the gradient of v' times the gradient, so that a product
    costs about two backward passes, and no second derivative is held.

    Args:
        kernels: variables by name.
        loss: of the model whose they are, in inference.
        batches: inputs and targets, maybe in a tuple; probe i takes batch i modulo their number.
        probes: how many random vectors, 2 or more.
        on_probe: told how many are done.
    Returns: by name; the error is the standard error over the probes, which are taken for
        independent.
    """
    variables = list(kernels.values())

    @tf.function(reduce_retracing=True)
    def products(x: Any, targets: Any, signs: Any) -> Any:
        zero = tf.UnconnectedGradients.ZERO
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                value = loss(x, targets)
            gradients = inner.gradient(value, variables, unconnected_gradients=zero)
            dot = tf.add_n([tf.reduce_sum(g * v) for g, v in zip(gradients, signs, strict=True)])
        rows = outer.gradient(dot, variables, unconnected_gradients=zero)
        return tf.stack([tf.reduce_sum(v * r) for v, r in zip(signs, rows, strict=True)])

    rng = np.random.default_rng(seed)
    samples = []
    for probe in range(probes):
        x, targets = batches[probe % len(batches)]
        signs = [
            tf.constant(2.0 * rng.integers(0, 2, variable.shape) - 1.0, tf.float32)
            for variable in variables
        ]
        given = tf.nest.map_structure(tf.constant, (x, targets))
        samples.append(products(*given, signs).numpy())
        on_probe(probe + 1)
    values = np.asarray(samples, np.float64)
    errors = values.std(axis=0, ddof=1) / math.sqrt(probes)
    return {
        name: Trace(
            value=float(mean), error=float(error), parameters=int(np.prod(kernels[name].shape))
        )
        for name, mean, error in zip(kernels, values.mean(axis=0), errors, strict=True)
    }


def loss_of(model: keras.Model, losses: Sequence[Callable[[Any, Any, Any], Any]]) -> Loss:
    """The mean loss of a model over a batch, of several outputs the sum.

    Args:
        model: that puts out logits, or images.
        losses: by output, of inputs, targets and the output, (batch,) each.
    """

    def value(x: Any, targets: Any) -> Any:
        outputs = tf.nest.flatten(model(x, training=False))
        found = [
            tf.reduce_mean(loss(x, targets, output))
            for loss, output in zip(losses, outputs, strict=True)
        ]
        return tf.add_n(found)

    return value

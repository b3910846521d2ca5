"""Gradient boosting: a net learns what the sum of the nets before it leaves of the labels.

With F the sum of the members so far, each times a shrinkage, the next one is fitted by least
squares to the pseudo-residuals, the negative gradient of the cross entropy by the logits F:
one-hot labels less softmax(F) (Friedman, "Greedy function approximation: a gradient boosting
machine", 2001, algorithm 1 and section 4.6). Where that paper seeks the best step for each member
(line 5), a step is the shrinkage here, as in the peer, Ensemble-PyTorch.

Soft gradient boosting trains all members at once, each on the residuals that those before it leave
as they are now (Feng et al., "Soft gradient boosting machine", 2020, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_quant.tf import keras, tf
from keras_quant.training.exits import Losses
from keras_quant.training.objectives import TensorFunction

Answer = Callable[[np.ndarray], tuple[np.ndarray, ...]]
"""From float32 images to the outputs, each (images, classes)."""


def residuals(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Gives one-hot labels less the softmax of logits.

    Args:
        labels: (batch,) or (batch, 1) class numbers, of any dtype.
        logits: float (batch, classes).
    Returns: float32 (batch, classes), from -1 to 1.
    """
    shares = tf.nn.softmax(tf.cast(logits, tf.float32))
    numbers = tf.cast(tf.reshape(labels, (-1,)), tf.int32)
    return tf.one_hot(numbers, tf.shape(shares)[1]) - shares


def residual_loss(targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """The squared distance from the pseudo-residuals.

    Args:
        targets: float32 (batch, 1 + classes), the label and F, as `distill.with_answers` gives.
        outputs: (batch, classes).
    Returns: (batch,), summed over classes.
    """
    wanted = residuals(targets[:, 0], targets[:, 1:])
    return tf.reduce_sum(tf.square(wanted - tf.cast(outputs, tf.float32)), axis=1)


def accuracy(shrinkage: float) -> TensorFunction:
    """Of which images the sum with the new member is right; for targets as above."""

    def right(targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        total = targets[:, 1:] + shrinkage * tf.cast(outputs, tf.float32)
        return keras.metrics.sparse_categorical_accuracy(targets[:, 0], total)

    return right


def summed(own: Answer, before: Callable[..., Any], shrinkage: float) -> Answer:
    """What a new member and those before it come to: F + shrinkage * its last output."""

    def answer(reals: np.ndarray) -> tuple[np.ndarray, ...]:
        *_, last = own(reals)
        return (before(reals, training=False).numpy() + shrinkage * last,)

    return answer


def none_before(classes: int) -> Callable[..., Any]:
    """F of the first member: 0."""

    def zeros(x: Any, training: bool = False) -> tf.Tensor:
        return tf.zeros((tf.shape(x)[0], classes))

    return zeros


def soft_boosted(shrinkage: float) -> Losses:
    """Losses of members that are trained at once; no gradient goes into what they are to fit.

    Args:
        shrinkage: of each member in the sum.
    Returns: a function of targets and outputs: of each member, and last of their sum, which costs
        nothing itself.
    """

    def each(targets: Sequence[tf.Tensor], outputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        *members, _ = (tf.cast(output, tf.float32) for output in outputs)
        total, losses = tf.zeros_like(members[0]), []
        for labels, member in zip(targets[:-1], members, strict=True):
            wanted = tf.stop_gradient(residuals(labels, total))
            losses.append(tf.reduce_mean(tf.reduce_sum(tf.square(wanted - member), axis=1)))
            total += shrinkage * member
        return losses

    return each

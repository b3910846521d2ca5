"""What training makes small, by task: a loss and a score for each output of a model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from keras_quant.model.metrics import (
    Metric,
    cross_entropy,
    mean_divergence,
    pixel_surprise,
    squared_error,
    top1,
    variance_divergence,
)
from keras_quant.model.probabilities import are_probabilities, as_logits
from keras_quant.model.tasks import (
    CLASSIFICATION,
    LIKELIHOOD,
    POSTERIOR_MEAN,
    POSTERIOR_VARIANCE,
    RECONSTRUCTION,
)
from keras_quant.tf import keras, tf

TensorFunction = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """How outputs of one task are trained, and judged after each epoch.

    Targets are int32 (batch,) labels, or float32 (batch, ...) images as the model sees them.

    Attributes:
        loss: of targets and outputs; gives (batch,) losses.
        score: what an epoch is judged by, the higher the better; its name in history.csv.
        part: of targets and outputs; gives the (batch,) numbers whose mean is a score's.
        to_score: from that mean to the score.
        measure: of numpy targets and outputs; gives the means of loss and part.
    """

    loss: TensorFunction
    score: str
    part: TensorFunction
    to_score: Callable[[float], float]
    measure: Callable[[np.ndarray, np.ndarray], tuple[float, float]]


def _cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    # In float32 even where the model computes in bfloat16.
    return keras.losses.sparse_categorical_crossentropy(
        labels, tf.cast(logits, tf.float32), from_logits=True
    )


def _measure_classes(labels: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    return float(cross_entropy(logits, labels).mean()), float(top1(logits, labels).mean())


def _squared_error(images: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    difference = tf.cast(outputs, tf.float32) - tf.reshape(images, tf.shape(outputs))
    return tf.reduce_mean(tf.square(difference), axis=list(range(1, len(outputs.shape))))


def _measure_images(images: np.ndarray, outputs: np.ndarray) -> tuple[float, float]:
    error = float(squared_error(outputs, images).mean())
    return error, error


def _decibels(squared_error: float, *, span: float) -> float:
    """The peak signal-to-noise ratio of values of a span; no more than float32 resolves."""
    share = squared_error / span**2 if span else math.inf
    return -10 * math.log10(max(share, float(np.finfo(np.float32).eps) ** 2))


def _pixel_surprise(images: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    logits = tf.cast(logits, tf.float32)
    probabilities = tf.reshape(images, tf.shape(logits))
    each = tf.nn.sigmoid_cross_entropy_with_logits(labels=probabilities, logits=logits)
    return tf.reduce_sum(each, axis=list(range(1, len(logits.shape))))


def _mean_divergence(images: tf.Tensor, means: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.square(tf.cast(means, tf.float32)), axis=1) / 2


def _variance_divergence(images: tf.Tensor, logarithms: tf.Tensor) -> tf.Tensor:
    reals = tf.cast(logarithms, tf.float32)
    return tf.reduce_sum(tf.math.expm1(reals) - reals, axis=1) / 2


def _of_nats(loss: TensorFunction, metric: Metric) -> Objective:
    """An objective that is a part of the negative ELBO; what is to rise is its opposite."""

    def measure(images: np.ndarray, outputs: np.ndarray) -> tuple[float, float]:
        mean = float(metric(outputs, images).mean())
        return mean, mean

    return Objective(
        loss=loss, score="elbo", part=loss, to_score=lambda nats: -nats, measure=measure
    )


OBJECTIVES: Mapping[str, Objective] = {
    CLASSIFICATION: Objective(
        loss=_cross_entropy,
        score="accuracy",
        part=keras.metrics.sparse_categorical_accuracy,
        to_score=lambda share: share,
        measure=_measure_classes,
    ),
    RECONSTRUCTION: Objective(
        loss=_squared_error,
        score="psnr_db",
        part=_squared_error,
        to_score=partial(_decibels, span=1.0),
        measure=_measure_images,
    ),
    POSTERIOR_MEAN: _of_nats(_mean_divergence, mean_divergence),
    POSTERIOR_VARIANCE: _of_nats(_variance_divergence, variance_divergence),
    LIKELIHOOD: _of_nats(_pixel_surprise, pixel_surprise),
}


def _of_probabilities(objective: Objective) -> Objective:
    """An objective of logits, for an output that is their softmax."""

    def loss(labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        return objective.loss(labels, as_logits(tf.cast(probabilities, tf.float32)))

    return dataclasses.replace(objective, loss=loss)


def _objective(task: str, *, probabilities: bool, span: float) -> Objective:
    known = OBJECTIVES[task]
    if task == CLASSIFICATION and probabilities:
        return _of_probabilities(known)
    if task == RECONSTRUCTION:
        return dataclasses.replace(known, to_score=partial(_decibels, span=span))
    return known


def objectives_of(
    model: keras.Model, tasks: Sequence[str], *, span: float = 1.0
) -> tuple[Objective, ...]:
    """The objective of each output of a model.

    Args:
        tasks: what each output is for, see `model.tasks`. Classes are told apart by logits, or
            by probabilities where the model ends in a softmax.
        span: distance of the least and the greatest value of an image, as the model takes it.
    """
    return tuple(
        _objective(task, probabilities=probabilities, span=span)
        for task, probabilities in zip(tasks, are_probabilities(model), strict=True)
    )

"""Running a Keras model over images, and what its logits are worth."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from keras_quant.pixels import normalize
from keras_quant.preprocessing import Preprocessing
from keras_quant.tf import keras, tf

BATCH_SIZE = 250


class LogitFunction:
    """A Keras model as a function of images, traced once; follows the model's weights.

    It answers as `model(x)` does, operation by operation, and where `model.predict(x)` differs, as
    it may for QKeras' quantizers (`sums_as_written`), not as that does.

    Args:
        preprocessing: what pixels become; None will do where images are floats.
    """

    def __init__(self, model: keras.Model, preprocessing: Preprocessing | None) -> None:
        self._preprocessing = preprocessing
        self._run = tf.function(
            lambda x: model(x, training=False),
            input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)],
        )

    def with_preprocessing(self, preprocessing: Preprocessing | None) -> LogitFunction:
        """The same model, traced no second time, where pixels become something else."""
        other = copy.copy(self)
        other._preprocessing = preprocessing
        return other

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Gives the outputs for all images.

        Args:
            x: uint8 pixels or float32 values, (images, height, width, channels).
        Returns: float32 (images, classes).
        """
        starts = range(0, len(x), BATCH_SIZE)
        with sums_as_written():
            return np.concatenate(
                [
                    self._run(normalize(x[start : start + BATCH_SIZE], self._preprocessing)).numpy()
                    for start in starts
                ]
            )


@contextmanager
def sums_as_written() -> Iterator[None]:
    """Keeps TensorFlow from adding in another order than a model says.

    QKeras writes a quantizer as x + (q(x) - x), which is q(x) exactly. With an addition behind it,
    TensorFlow's graph optimizer makes one sum of all that (arithmetic_optimizer.cc,
    AddOpsRewriteStage), which is off by float32's rounding, and a half is then rounded either way.
    """
    name, options = "arithmetic_optimization", tf.config.optimizer
    before = options.get_experimental_options().get(name)
    options.set_experimental_options({name: False})
    try:
        yield
    finally:
        options.set_experimental_options({name: before})  # None is TensorFlow's default


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose largest logit is that of their label."""
    return float(np.mean(np.argmax(logits, axis=-1) == labels))


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross entropy of softmax(logits) and labels, in nats."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(shifted.astype(np.float64)).sum(axis=-1))
    return float(np.mean(log_sum - shifted[np.arange(len(labels)), labels]))

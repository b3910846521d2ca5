"""Running a Keras model over images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from keras_quant.tf import keras, tf


class AnswerFunction:
    """A Keras model as a function of reals, traced once; follows the model's weights.

    It answers as `model(x)` does, operation by operation, and where `model.predict(x)` differs, as
    it may for QKeras' quantizers (`sums_as_written`), not as that does.
    """

    def __init__(self, model: keras.Model) -> None:
        """Takes a functional model of one input."""
        self._run = tf.function(
            lambda x: tf.nest.flatten(model(x, training=False)),
            input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)],
        )

    def __call__(self, reals: np.ndarray) -> tuple[np.ndarray, ...]:
        """Gives the answers to some images.

        Args:
            reals: float32 (images, height, width, channels), as the model takes them.
        Returns: by output, in the model's order, float32 (images, *shape).
        """
        with sums_as_written():
            return tuple(answers.numpy() for answers in self._run(reals))


class GivenAnswers:
    """What a model whose weights were moved answered before.

    Args:
        model: as it is now.
        answers: of the model.
        before: its weights as they were, as `model.get_weights` gave them.
    """

    def __init__(
        self, model: keras.Model, answers: AnswerFunction, before: Sequence[np.ndarray]
    ) -> None:
        self._answers = answers
        self._moved = [
            (variable, old, now)
            for variable, old, now in zip(model.weights, before, model.get_weights(), strict=True)
            if not np.array_equal(old, now)
        ]

    def __call__(self, reals: np.ndarray) -> tuple[np.ndarray, ...]:
        """Gives the answers to some images; afterwards the model is as it was."""
        try:
            for variable, old, _ in self._moved:
                variable.assign(old)
            return self._answers(reals)
        finally:
            for variable, _, now in self._moved:
                variable.assign(now)


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

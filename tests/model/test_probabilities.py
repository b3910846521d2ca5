"""Which outputs are probabilities, and the losses of what ends in a softmax."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.model.probabilities import are_probabilities, as_logits  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402
from keras_quant.training.distill import distilled_loss  # noqa: E402
from keras_quant.training.objectives import objectives_of  # noqa: E402

LOGITS = np.float32([[1, -2, 0.5], [0, 3, 1]])
LABELS = np.int32([0, 2])


def with_outputs() -> keras.Model:
    x = keras.Input((4,))
    inner_x = keras.Input((4,))
    inner = keras.Model(inner_x, keras.layers.Dense(3, activation="softmax")(inner_x))
    outputs = [
        keras.layers.Dense(3)(x),
        keras.layers.Dense(3, activation="softmax")(x),
        keras.layers.Softmax()(keras.layers.Dense(3)(x)),
        keras.layers.Activation("softmax")(keras.layers.Dense(3)(x)),
        inner(x),
        keras.layers.Dense(3, activation="sigmoid")(x),
    ]
    return keras.Model(x, outputs)


def test_softmax_is_found_however_it_was_written() -> None:
    assert are_probabilities(with_outputs()) == (False, True, True, True, True, False)


def test_logarithms_have_the_same_softmax_and_0_stays_finite() -> None:
    shares = tf.nn.softmax(LOGITS)
    np.testing.assert_allclose(tf.nn.softmax(as_logits(shares)), shares, rtol=1e-6)
    assert np.isfinite(as_logits(tf.constant([0.0, 1.0]))).all()


def test_loss_of_probabilities_is_that_of_the_logits_with_its_gradient() -> None:
    logits, shares, *_ = objectives_of(with_outputs(), ["classification"] * 6)
    with tf.GradientTape(persistent=True) as tape:
        x = tf.constant(LOGITS)
        tape.watch(x)
        expected = logits.loss(LABELS, x)
        found = shares.loss(LABELS, tf.nn.softmax(x))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(found, x), tape.gradient(expected, x), atol=1e-6)


def test_distillation_takes_a_student_that_ends_in_a_softmax() -> None:
    targets = np.concatenate([LABELS[:, None].astype(np.float32), LOGITS[::-1]], axis=1)
    expected = distilled_loss(0.7)(targets, LOGITS)
    found = distilled_loss(0.7, probabilities=True)(targets, tf.nn.softmax(LOGITS))
    np.testing.assert_allclose(found, expected, rtol=1e-5)

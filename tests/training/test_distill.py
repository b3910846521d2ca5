"""The loss of distillation against hand-computed values, and training with a teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keras_quant.errors import UsageError
from keras_quant.jobs.train_settings import TrainSettings, check
from keras_quant.schemes.bits import scheme_from_bits

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.tf import keras, tf  # noqa: E402
from keras_quant.training.distill import (  # noqa: E402
    TEMPERATURE,
    accuracy,
    distilled_loss,
    with_answers,
)

TARGETS = np.array([[1, 2.0, -1.0, 0.5], [0, 0.0, 3.0, 1.0]], np.float32)
LOGITS = np.array([[0.5, 1.5, -1.0], [0.2, 0.1, 2.0]], np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_without_a_share_it_is_the_cross_entropy_with_the_labels() -> None:
    expected = -np.log(softmax(LOGITS)[[0, 1], [1, 0]])
    np.testing.assert_allclose(distilled_loss(0.0)(TARGETS, LOGITS), expected, rtol=1e-6)


def test_all_of_it_is_the_divergence_of_the_softened_answers() -> None:
    teacher, student = (softmax(z / TEMPERATURE) for z in (TARGETS[:, 1:], LOGITS))
    expected = TEMPERATURE**2 * (teacher * np.log(teacher / student)).sum(axis=-1)
    np.testing.assert_allclose(distilled_loss(1.0)(TARGETS, LOGITS), expected, rtol=1e-5)


def test_the_teachers_own_answers_cost_nothing() -> None:
    loss = distilled_loss(1.0)(TARGETS, TARGETS[:, 1:])
    np.testing.assert_allclose(loss, 0, atol=1e-6)


def test_accuracy_is_that_of_the_labels() -> None:
    np.testing.assert_array_equal(accuracy(TARGETS, LOGITS), [1, 0])


def test_targets_are_labels_beside_what_the_teacher_answers() -> None:
    teacher = keras.Sequential([keras.layers.Dense(3, input_shape=(2,)), keras.layers.Dropout(0.5)])
    x = np.random.default_rng(0).random((4, 2), np.float32)
    batches = tf.data.Dataset.from_tensor_slices((x, np.array([2, 0, 1, 2], np.int32))).batch(4)
    ((images, targets),) = with_answers(batches, teacher)
    np.testing.assert_array_equal(images, x)
    np.testing.assert_array_equal(targets[:, 0], [2, 0, 1, 2])
    np.testing.assert_allclose(targets[:, 1:], teacher(x, training=False), rtol=1e-6)


def test_of_several_answers_of_a_teacher_the_last_is_learned() -> None:
    inputs = keras.Input((2,))
    dense = [keras.layers.Dense(3) for _ in range(2)]
    teacher = keras.Model(inputs, [layer(inputs) for layer in dense])
    x = np.random.default_rng(0).random((4, 2), np.float32)
    batches = tf.data.Dataset.from_tensor_slices((x, np.zeros(4, np.int32))).batch(4)
    ((_, targets),) = with_answers(batches, teacher)
    np.testing.assert_allclose(targets[:, 1:], dense[1](x), rtol=1e-6)


@pytest.mark.parametrize(
    ("bits", "parent", "share", "message"),
    [
        ("4", None, 0.5, "--distill needs a parent"),
        ("float", Path("float"), 0.5, "a scheme with bits"),
        ("4", Path("float"), 1.5, "--distill is 1.5; 0"),
    ],
)
def test_what_cannot_be_distilled_is_told(bits, parent, share, message) -> None:
    settings = TrainSettings(scheme=scheme_from_bits(bits), parent=parent, distill=share)
    with pytest.raises(UsageError, match=message):
        check(settings)


def test_a_teacher_that_is_named_may_teach_a_float_net() -> None:
    check(TrainSettings(scheme=scheme_from_bits("float"), teachers=(Path("e"),), distill=0.5))

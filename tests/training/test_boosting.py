"""Pseudo-residuals and their losses against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.tf import tf  # noqa: E402
from keras_quant.training.boosting import (  # noqa: E402
    accuracy,
    none_before,
    residual_loss,
    residuals,
    soft_boosted,
    summed,
)

FLOAT32_ROUNDING = 1e-5
LABELS = np.array([2, 0], np.int32)
BEFORE = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], np.float32)
OUTPUTS = np.array([[0.1, -0.3, 0.4], [0.5, 0.0, -0.6]], np.float32)
TARGETS = np.concatenate([LABELS[:, None], BEFORE], axis=1).astype(np.float32)


def left(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64))
    return np.eye(logits.shape[1])[labels] - powers / powers.sum(axis=1, keepdims=True)


def test_residuals_are_the_negative_gradient_of_the_cross_entropy() -> None:
    logits = tf.Variable(BEFORE)
    with tf.GradientTape() as tape:
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=LABELS, logits=logits)
    wanted = -tape.gradient(loss, logits).numpy()
    np.testing.assert_allclose(residuals(LABELS, BEFORE), wanted, atol=FLOAT32_ROUNDING)
    np.testing.assert_allclose(
        residuals(LABELS[:, None].astype(np.float32), BEFORE), wanted, atol=FLOAT32_ROUNDING
    )


def test_a_member_is_fitted_by_least_squares() -> None:
    wanted = np.square(left(LABELS, BEFORE) - OUTPUTS).sum(axis=1)
    found = residual_loss(tf.constant(TARGETS), tf.constant(OUTPUTS))
    np.testing.assert_allclose(found, wanted, rtol=FLOAT32_ROUNDING)


def test_right_is_what_the_sum_answers_rightly() -> None:
    # The second image: F says 2; 7 times the output turns that to 0, once it does not.
    for shrinkage, wanted in ((1.0, [0, 0]), (7.0, [1, 1])):
        found = accuracy(shrinkage)(tf.constant(TARGETS), tf.constant(OUTPUTS))
        np.testing.assert_array_equal(found, wanted)


def test_a_sum_is_validated_and_nothing_is_before_the_first() -> None:
    images = np.zeros((2, 4, 4, 1), np.float32)
    before = lambda x, training: tf.constant(BEFORE)  # noqa: E731
    (found,) = summed(lambda reals: (OUTPUTS,), before, 0.5)(images)
    np.testing.assert_allclose(found, BEFORE + 0.5 * OUTPUTS)
    assert none_before(3)(images).numpy().tolist() == [[0, 0, 0]] * 2


def test_soft_members_each_fit_what_those_before_leave() -> None:
    members = [OUTPUTS, 2 * OUTPUTS, -OUTPUTS]
    outputs = [tf.Variable(one) for one in (*members, sum(members))]
    with tf.GradientTape(persistent=True) as tape:
        losses = soft_boosted(0.5)([LABELS] * 4, outputs)
    before = np.zeros_like(OUTPUTS)
    for place, (member, loss) in enumerate(zip(members, losses, strict=True)):
        wanted = left(LABELS, before)
        assert float(loss) == pytest.approx(np.square(wanted - member).sum(axis=1).mean(), rel=1e-5)
        # Of the least squares alone: no gradient goes into what is to be fitted.
        gradients = [tape.gradient(loss, output) for output in outputs]
        assert [one is not None for one in gradients] == [n == place for n in range(4)]
        np.testing.assert_allclose(gradients[place], member - wanted, atol=FLOAT32_ROUNDING)
        before = before + 0.5 * member

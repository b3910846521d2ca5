"""Gradients of several outputs kept apart as the formula says, and answers that exits learn."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.tf import keras, tf  # noqa: E402
from keras_quant.training.distill import TEMPERATURE  # noqa: E402
from keras_quant.training.exits import (  # noqa: E402
    joint_steps,
    orthogonalized,
    self_distilled,
    weighted,
)
from keras_quant.training.objectives import OBJECTIVES  # noqa: E402

FLOAT32_ROUNDING = 1e-5
RATE = 0.5
LOSS = OBJECTIVES["classification"].loss


def two_exits(*, softmax: bool = False, l2: float = 0.0) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((4,))
    decay = keras.regularizers.L2(l2) if l2 else None
    hidden = keras.layers.Dense(3, activation="tanh", kernel_regularizer=decay, name="hidden")(x)
    early = keras.layers.Dense(3, name="early")(hidden)
    late = keras.layers.Dense(3, activation="softmax" if softmax else None, name="late")(hidden)
    return keras.Model(x, [early, late])


def batch() -> tuple[tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(0)
    return tf.constant(rng.normal(size=(8, 4)), tf.float32), tf.constant(rng.integers(0, 3, 8))


def flat(gradients: list[tf.Tensor | None], model: keras.Model) -> np.ndarray:
    pairs = zip(gradients, model.trainable_variables, strict=True)
    return np.concatenate(
        [np.ravel(np.zeros(v.shape) if one is None else one.numpy()) for one, v in pairs]
    )


def projected(gradients: list[np.ndarray]) -> np.ndarray:
    """The formula, by way of an orthonormal basis in float64."""
    total, basis = np.zeros_like(gradients[0], np.float64), []
    for gradient in gradients:
        left = gradient.astype(np.float64)
        for direction in basis:
            left = left - (left @ direction) * direction
        total += left
        if np.linalg.norm(left) > 0:
            basis.append(left / np.linalg.norm(left))
    return total


def test_later_gradients_lose_what_lies_along_earlier_ones() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(3, 6)).astype(np.float32)
    parts = [[tf.constant(row[:2]), tf.constant(row[2:].reshape(2, 2))] for row in drawn]
    found = np.concatenate([np.ravel(one.numpy()) for one in orthogonalized(parts)])
    np.testing.assert_allclose(found, projected(list(drawn)), atol=FLOAT32_ROUNDING)
    left = found - drawn[0]
    assert abs(left @ drawn[0]) < FLOAT32_ROUNDING * drawn[0] @ drawn[0]


def test_variables_of_one_output_alone_have_gradients_of_it_alone() -> None:
    one, two = tf.constant([1.0, 0.0]), tf.constant([1.0, 1.0])
    first, second, neither = orthogonalized([[one, None, None], [two, tf.constant([2.0]), None]])
    assert neither is None
    # The second's share along the first is 1.
    np.testing.assert_allclose(first, [1.0, 1.0])
    np.testing.assert_allclose(second, [2.0])
    # And a first gradient of 0 takes nothing away.
    (same,) = orthogonalized([[tf.zeros(2)], [two]])
    np.testing.assert_allclose(same, two)


def step(model: keras.Model, losses: object, *, orthogonal: bool) -> np.ndarray:
    """What a step of plain SGD moved, over the rate, less its sign: the gradient it took."""
    x, y = batch()
    model.compile(keras.optimizers.SGD(RATE), loss=[LOSS, LOSS])
    before = [variable.numpy() for variable in model.trainable_variables]
    with joint_steps(model, losses, orthogonal=orthogonal):
        model.fit(tf.data.Dataset.from_tensors((x, (y, y))), verbose=0)
    pairs = zip(before, model.trainable_variables, strict=True)
    return np.concatenate([np.ravel((old - new.numpy()) / RATE) for old, new in pairs])


@pytest.mark.thinned(2)
@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("orthogonal", [False, True])
def test_a_step_takes_the_gradient_of_the_formula(orthogonal: bool, l2: float) -> None:
    model, (x, y) = two_exits(l2=l2), batch()
    each = []
    for number, weight in enumerate((0.5, 2.0)):
        with tf.GradientTape() as tape:
            loss = weight * tf.reduce_mean(LOSS(y, model(x)[number]))
        each.append(flat(tape.gradient(loss, model.trainable_variables), model))
    wanted = projected(each) if orthogonal else each[0] + each[1]
    kernel = np.ravel(model.get_layer("hidden").kernel)
    wanted[: kernel.size] += 2 * l2 * kernel  # of no output, and projected onto none
    found = step(model, weighted([LOSS, LOSS], (0.5, 2.0)), orthogonal=orthogonal)
    np.testing.assert_allclose(found, wanted, atol=FLOAT32_ROUNDING)


def test_a_model_steps_as_before_afterwards() -> None:
    model = two_exits()
    step(model, weighted([LOSS, LOSS], (1.0, 1.0)), orthogonal=True)
    assert "train_step" not in vars(model) and model.train_function is None


@pytest.mark.parametrize("softmax", [False, True])
def test_exits_learn_the_last_answers_which_learn_nothing_of_them(softmax: bool) -> None:
    model, (x, y) = two_exits(softmax=softmax), batch()
    last = LOSS if not softmax else lambda labels, shares: LOSS(labels, tf.math.log(shares))
    losses = self_distilled(0.25, model, last, (1.0, 1.0))
    with tf.GradientTape(persistent=True) as tape:
        early, late = model(x)
        first, second = losses([y, y], [early, late])
    logits = late.numpy() if not softmax else np.log(late.numpy())
    taught = tf.nn.softmax(logits / TEMPERATURE).numpy()
    learning = tf.nn.softmax(early / TEMPERATURE).numpy()
    divergence = (taught * np.log(taught / learning)).sum(axis=1)
    wanted = 0.75 * LOSS(y, early).numpy() + 0.25 * TEMPERATURE**2 * divergence
    assert float(first) == pytest.approx(wanted.mean(), abs=FLOAT32_ROUNDING)
    assert float(second) == pytest.approx(float(tf.reduce_mean(last(y, late))))
    assert tape.gradient(first, model.get_layer("late").kernel) is None

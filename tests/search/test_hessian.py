"""Traces by random vectors, where they are known exactly."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.search.hessian import loss_of, traces  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402

FLOAT32_ROUNDING = 1e-4


def test_a_diagonal_hessian_is_exact_with_any_signs() -> None:
    """Of sum(c w^2) it is 2 c on the diagonal: v' H v is 2 sum(c) for all v of +1 and -1."""
    a, b = tf.Variable([1.0, 2.0, 3.0]), tf.Variable([[4.0], [5.0]])
    c = np.float32([0.5, -1.0, 3.0])

    def loss(x, targets):
        return tf.reduce_sum(c * a * a) + 10.0 * tf.reduce_sum(b * b)

    found = traces({"a": a, "b": b}, loss, [(np.zeros(1, np.float32), np.zeros(1))], probes=3)
    assert found["a"].value == pytest.approx(2 * c.sum(), rel=FLOAT32_ROUNDING)
    assert found["b"].value == pytest.approx(40.0, rel=FLOAT32_ROUNDING)
    assert found["a"].error == pytest.approx(0, abs=1e-5) and found["b"].parameters == 2


def test_a_kernel_that_the_loss_does_not_know_has_no_trace() -> None:
    used, unused = tf.Variable([1.0]), tf.Variable([1.0, 1.0])
    batches = [(np.zeros(1, np.float32), np.zeros(1))]
    kernels = {"used": used, "unused": unused}
    found = traces(kernels, lambda x, t: tf.reduce_sum(used**2), batches, probes=2)
    assert found["unused"].value == 0.0 and found["used"].value == pytest.approx(2.0)


@pytest.mark.slow
def test_estimates_of_a_net_are_as_near_the_full_hessian_as_their_errors_say() -> None:
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((6,))
    x = keras.layers.Dense(5, activation="tanh", name="hidden")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))
    rng = np.random.default_rng(0)
    images = rng.normal(size=(20, 6)).astype(np.float32)
    labels = rng.integers(0, 3, 20)

    def of_classes(x, labels, output):
        return keras.losses.sparse_categorical_crossentropy(labels, output, from_logits=True)

    loss = loss_of(model, [of_classes])
    kernels = {name: model.get_layer(name).kernel for name in ("hidden", "logits")}
    found = traces(kernels, loss, [(images, labels)], probes=200)
    for name, kernel in kernels.items():
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                value = loss(tf.constant(images), tf.constant(labels))
            gradient = inner.gradient(value, kernel)
        size = int(np.prod(kernel.shape))
        hessian = outer.jacobian(gradient, kernel).numpy().reshape(size, size)
        exact = np.trace(hessian)
        assert found[name].error < 0.15 * abs(exact)
        assert found[name].value == pytest.approx(exact, abs=4 * found[name].error), name

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods.tfmot import moving  # noqa: E402
from keras_quant.methods.tfmot import twin as tfmot  # noqa: E402
from keras_quant.qparams import signed  # noqa: E402
from keras_quant.schemes.scheme import QuantSpec  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from keras_quant.training.norms import reestimate_norms  # noqa: E402

FLOAT32 = 1e-5
L = keras.layers


def test_statistics_become_the_means_over_all_batches_and_nothing_else_moves() -> None:
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((4, 4, 2))
    x = L.BatchNormalization(name="bn", momentum=0.9)(x)
    model = keras.Model(inputs, L.Dense(3)(L.Flatten()(x)))
    before = {v.name: v.numpy() for v in model.weights}
    batches = np.random.default_rng(0).normal(3, 2, (5, 8, 4, 4, 2)).astype(np.float32)
    assert reestimate_norms(model, iter(batches)) == 1
    norm = model.get_layer("bn")
    np.testing.assert_allclose(norm.moving_mean, batches.mean((0, 1, 2, 3)), rtol=FLOAT32)
    # TensorFlow's fused kernel divides by one less than there are values.
    variance = np.mean([batch.var((0, 1, 2), ddof=1) for batch in batches], axis=0)
    np.testing.assert_allclose(norm.moving_variance, variance, rtol=1e-4)
    assert norm.momentum == 0.9
    for variable in model.trainable_weights:
        np.testing.assert_array_equal(variable, before[variable.name])


def test_statistics_of_a_shared_norm_are_the_means_over_all_its_calls() -> None:
    norm, inputs = L.BatchNormalization(momentum=0.9), keras.Input((2,))
    model = keras.Model(inputs, [norm(inputs), norm(L.Rescaling(3.0, 5.0)(inputs))])
    batches = np.random.default_rng(0).normal(1, 2, (3, 8, 2)).astype(np.float32)
    assert reestimate_norms(model, batches) == 1
    calls = np.stack([batches, 3 * batches + 5])
    np.testing.assert_allclose(norm.moving_mean, calls.mean((0, 1, 2)), rtol=FLOAT32)
    np.testing.assert_allclose(norm.moving_variance, calls.var(2).mean((0, 1)), rtol=FLOAT32)
    assert norm.momentum == 0.9
    norm(batches[0], training=True)
    wanted = 0.9 * calls.mean((0, 1, 2)) + 0.1 * batches[0].mean(0)
    np.testing.assert_allclose(norm.moving_mean, wanted, rtol=FLOAT32)


def test_ranges_that_follow_values_in_training_stay() -> None:
    """Of a net whose values reach far beyond what its ranges were calibrated to."""
    keras.utils.set_random_seed(0)
    dense = L.Dense(3)
    x = inputs = keras.Input((4,))
    dense.build((None, 4))
    twin = tfmot.wrap(dense, QuantSpec(bits=4), tfmot.TfmotOptions())
    grid, options = signed(8, 1 / 128, narrow_range=False), tfmot.TfmotOptions(ema=0.5)
    act = moving.activation("act", grid, moving.step("step", grid, options), options)
    model = keras.Model(inputs, L.BatchNormalization()(act(twin(x))))
    twin.raw_kernel.assign(twin.raw_kernel * 0.9)  # as an update of training leaves it
    before = {v.name: v.numpy() for v in model.weights if "moving" not in v.name}
    assert reestimate_norms(model, [np.full((8, 4), 100, np.float32)]) == 1
    for variable in model.weights:
        if "moving" not in variable.name:
            np.testing.assert_array_equal(variable, before[variable.name], err_msg=variable.name)


def test_a_model_without_batch_norm_stays_as_it_is() -> None:
    model = keras.Sequential([L.Dense(2, input_shape=(3,))])
    assert reestimate_norms(model, [np.ones((2, 3), np.float32)]) == 0

"""Pruned weights stay 0 through training, whatever the method, and in the codes."""

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.errors import UsageError
from keras_quant.methods import METHODS, load_method
from keras_quant.schemes.scheme import BINARY, QuantSpec
from keras_quant.training.optimizer_settings import OptimizerSettings

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods.readers import read_kernel  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402
from keras_quant.training.optimizers import make_optimizer  # noqa: E402
from keras_quant.training.sparsity import (  # noqa: E402
    check_zeros,
    keep_zeros,
    pruned_kernels,
    trained_kernels,
)

KERNEL = np.float32([[0.5, 0.0], [-0.7, 0.3], [0.0, 0.0]])


def model_of(method: str | None, spec: QuantSpec | None = None) -> keras.Model:
    dense = keras.layers.Dense(2, name="dense")
    dense.build((None, 3))
    dense.set_weights([KERNEL, np.zeros(2, np.float32)])
    layer = dense
    if method is not None:
        maker = load_method(method).maker
        layer = maker.wrap(dense, spec or QuantSpec(bits=4), maker.options())
    x = keras.Input((3,))
    model = keras.Model(x, layer(x))
    if method is not None:
        from keras_quant.model.topology import copy_variables

        copy_variables(dense, layer)
    return model


@pytest.mark.parametrize("method", [None, *(name for name in METHODS if name != "bnn")])
def test_weights_that_begin_as_0_are_0_after_updates_and_have_code_0(method: str | None) -> None:
    model = model_of(method)
    pruned = pruned_kernels(model)
    check_zeros(model, pruned)
    optimizer = make_optimizer(
        OptimizerSettings(name="adam", learning_rate=0.1, weight_decay=0.01),
        model.trainable_variables,
        steps_per_epoch=5,
        epochs=1,
        extend=lambda it: keep_zeros(it, pruned),
    )
    for _ in range(4):
        gradients = [tf.ones_like(variable) for variable in model.trainable_variables]
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    (each,) = pruned
    now = each.variable.numpy()
    np.testing.assert_array_equal(now == 0, KERNEL == 0)
    assert np.all(now[KERNEL != 0] < KERNEL[KERNEL != 0])
    if method is not None:
        weight = read_kernel(model.layers[-1])
        assert weight is not None
        assert not weight.values[KERNEL == 0].any()


@pytest.mark.parametrize("method", ["bnn", "qkeras"])
def test_codes_without_a_0_are_refused_by_the_layers_name(method: str) -> None:
    model = model_of(method, BINARY)
    with pytest.raises(UsageError, match="the codes of dense have no 0"):
        check_zeros(model, pruned_kernels(model))


def test_a_model_without_zeros_is_refused_and_biases_do_not_count() -> None:
    model = model_of(None)
    model.layers[-1].set_weights([KERNEL + 1, np.zeros(2, np.float32)])
    with pytest.raises(UsageError, match="no kernel has a weight that is 0; give a pruned model"):
        check_zeros(model, pruned_kernels(model))


def test_slopes_and_steps_are_no_kernels() -> None:
    image = keras.Input((4, 4, 1))
    slopes = keras.layers.PReLU(shared_axes=(1, 2), name="slopes")  # begin as 0
    model = keras.Model(image, slopes(keras.layers.Conv2D(2, 3, name="conv")(image)))
    assert [name for name, _ in trained_kernels(model)] == ["conv"]
    assert pruned_kernels(model) == []
    quantized = model_of("lsq")
    assert {v.shape.rank for v in quantized.trainable_variables} == {1, 2}
    assert [name for name, _ in trained_kernels(quantized)] == ["dense"]
    assert sum(v.shape.rank == 2 for v in quantized.trainable_variables) == 2  # the steps, too

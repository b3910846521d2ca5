from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods import load_method  # noqa: E402
from keras_quant.methods.readers import read_kernel  # noqa: E402
from keras_quant.methods.twins import kernel_variable  # noqa: E402
from keras_quant.model.topology import layers_by_name  # noqa: E402
from keras_quant.prepare import plan, with_grids, wrap  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.search.kernels import (  # noqa: E402
    entropy,
    kernel_layers,
    plan_all,
    rebuilt,
    replaced,
    round_kernel,
    shifted,
)
from keras_quant.tf import keras  # noqa: E402

L = keras.layers


def net() -> keras.Model:
    """All kinds of kernels, one of them in a layer that stands for two."""
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(4, 3, use_bias=False, name="conv")(x)
    x = L.ReLU(name="relu")(L.BatchNormalization(name="norm")(x))
    x = L.DepthwiseConv2D(3, name="depthwise")(x)
    x = L.SeparableConv2D(4, 3, name="separable")(x)
    x = L.Dense(5, name="logits")(L.Flatten(name="flat")(x))
    return keras.Model(inputs, x)


def test_entropy_is_that_of_codes_by_hand() -> None:
    assert entropy(np.array([3, 3, 3])) == 0.0
    assert entropy(np.array([-1, 1, -1, 1])) == 1.0
    assert entropy(np.array([0, 0, 1, 2])) == 1.5  # 1/2 log 2 + 2 * 1/4 log 4
    assert entropy(np.arange(256)) == 8.0


@pytest.mark.parametrize("bits", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_kernels_are_rounded_as_those_of_a_quantized_model(bits: int) -> None:
    source = net()
    planned = plan(source, scheme_from_bits(f"w{bits}af", ends="same"))
    made = wrap(with_grids(planned, {}), source, load_method("qkeras"), None, post_training=True)
    quantized, layers = layers_by_name(made), layers_by_name(rebuilt(planned, source))
    operations = kernel_layers(plan_all(source))
    assert len(operations) == 5
    for name, operation in operations.items():
        weight = read_kernel(quantized[name])
        found = round_kernel(layers[name], operation, bits)
        assert np.array_equal(found.values, np.float32(weight.values * weight.scale)), name
        assert found.entropy == entropy(weight.values) <= bits
        off = found.values.astype(np.float64) - kernel_variable(layers[name]).numpy()
        assert found.squared_error == pytest.approx(np.square(off).sum(), rel=1e-4)


def test_a_kernel_and_what_is_added_behind_it_come_back_however_a_block_ends() -> None:
    source = net()
    planned = plan_all(source)
    model = rebuilt(planned, source)
    layers, before = layers_by_name(model), model.get_weights()
    x = np.random.default_rng(0).random((3, 8, 8, 3)).astype(np.float32)
    answer = model(x).numpy()
    for name, operation in kernel_layers(planned).items():
        values = np.zeros(kernel_variable(layers[name]).shape, np.float32)
        channels = layers[name].compute_output_shape((None, *operation.input_shapes[0]))[-1]
        with (
            pytest.raises(KeyboardInterrupt),
            replaced(layers[name], values),
            shifted(planned, layers, operation, np.ones(channels)),
        ):
            assert not np.array_equal(model(x).numpy(), answer), name
            raise KeyboardInterrupt
        for old, new in zip(before, model.get_weights(), strict=True):
            assert np.array_equal(old, new)

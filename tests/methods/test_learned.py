"""Kernels of dorefa and bnn as their papers have them, and where all methods begin."""

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.errors import SchemeError
from keras_quant.schemes.scheme import BINARY, QuantSpec

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.calibration.collect import collect  # noqa: E402
from keras_quant.calibration.quantize import quantize  # noqa: E402
from keras_quant.emit.tflite.packing import stored_limits  # noqa: E402
from keras_quant.lower import lower_exactly  # noqa: E402
from keras_quant.methods import bnn, dorefa, load_method  # noqa: E402
from keras_quant.methods.twins import least_squares_scale  # noqa: E402
from keras_quant.prepare import plan, wrap  # noqa: E402
from keras_quant.qparams import unsigned  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402
from tests.prepare.nets import residual  # noqa: E402

FLOAT32 = 1e-5
L = keras.layers


def dense(kernel: np.ndarray) -> keras.layers.Layer:
    layer = L.Dense(kernel.shape[1], use_bias=False, name="dense")
    layer.build((None, kernel.shape[0]))
    layer.set_weights([kernel])
    return layer


def made(method, kernel: np.ndarray, spec: QuantSpec) -> keras.layers.Layer:
    twin = method.maker.wrap(dense(kernel), spec, method.maker.options())
    twin.build((None, kernel.shape[0]))
    twin.raw_kernel.assign(kernel)
    return twin


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.7, shape).astype(np.float32)


def test_dorefa_squeezes_kernels_by_tanh_over_the_largest() -> None:
    kernel = normal(50, 3)
    twin = made(dorefa.METHOD, kernel, QuantSpec(bits=4, per_channel=False))
    squeezed = np.tanh(kernel) / (2 * np.abs(np.tanh(kernel)).max()) + 0.5
    # Of 2 * share - 1, rounded to sevenths, as the scheme's codes are -7 .. 7.
    expected = np.rint(7 * (2 * squeezed.astype(np.float64) - 1))
    found = dorefa.METHOD.reader.kernel(twin)
    np.testing.assert_array_equal(found.values, expected)
    fitted = (kernel * expected).sum() / (expected * expected).sum()
    np.testing.assert_allclose(found.scale, fitted, rtol=FLOAT32)


def test_gradient_goes_on_through_tanh_and_the_largest_value() -> None:
    kernel = normal(50, 3)
    twin = made(dorefa.METHOD, kernel, QuantSpec(bits=4, per_channel=False))
    upstream = normal(50, 3)
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(twin.kernel * upstream)
    found = np.asarray(tape.gradient(y, twin.raw_kernel))
    t = np.tanh(kernel.astype(np.float64))
    top = np.unravel_index(np.abs(t).argmax(), t.shape)
    most, scale = np.abs(t[top]), 7 * float(np.asarray(twin.kernel_scale).squeeze())
    of_share = upstream * scale / most
    of_share[top] -= np.sign(t[top]) * (upstream * scale * t).sum() / most**2
    np.testing.assert_allclose(found, of_share * (1 - t**2), rtol=1e-3, atol=1e-5)


def test_one_bit_of_dorefa_is_the_sign_times_the_mean_size() -> None:
    kernel = normal(50, 3)
    twin = made(dorefa.METHOD, kernel, QuantSpec(bits=1, per_channel=False))
    expected = np.where(kernel >= 0, 1, -1) * np.abs(kernel.astype(np.float64)).mean()
    np.testing.assert_allclose(twin.kernel, expected, rtol=1e-6)
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(twin.kernel * normal(50, 3))
    np.testing.assert_array_equal(tape.gradient(y, twin.raw_kernel), normal(50, 3))


def test_kernels_of_bnn_are_clipped_to_1_after_each_update() -> None:
    twin = made(bnn.METHOD, normal(50, 3), BINARY)
    before = np.sign(twin.kernel)
    twin.raw_kernel.assign(twin.raw_kernel.constraint(3 * twin.raw_kernel))
    assert np.abs(twin.raw_kernel).max() == 1
    np.testing.assert_array_equal(np.sign(twin.kernel), before)


@pytest.mark.parametrize("codes", [(-1, 1), (-2, 1), (-7, 7), (-128, 127)])
def test_least_squares_find_the_scale_that_a_fine_search_finds(codes: tuple[int, int]) -> None:
    kernel = normal(400, 3).astype(np.float64)
    found = least_squares_scale(kernel, codes, (0,))

    def error(scale: np.ndarray) -> np.ndarray:
        return np.square(np.clip(np.rint(kernel / scale), *codes) * scale - kernel).mean(0)

    reach = np.abs(kernel).max(0) / codes[1]
    fine = np.min([error(reach * share) for share in np.linspace(0.05, 1.2, 2000)], axis=0)
    assert (error(found) <= (1.15 if codes[1] > 7 else 1.02) * fine).all()


def test_all_kernels_that_a_method_cannot_have_are_told_with_the_methods_that_can() -> None:
    source = residual()
    planned = plan(source, scheme_from_bits("w1a4"))
    with pytest.raises(SchemeError) as caught:
        wrap(planned, source, load_method("lsq"), unsigned(8, 1 / 255))
    assert str(caught.value).count("weights of 1 bit") == sum(
        spec.bits == 1 for spec in planned.weights.values()
    )
    for text in ("layer conv1: ", "2 to 8", "methods that have it: qkeras, pact, dorefa, bnn"):
        assert text in str(caught.value)


@pytest.mark.parametrize("bits", [1, 17, 31])
def test_widths_of_gradients_that_dorefa_does_not_know_are_refused(bits: int) -> None:
    with pytest.raises(SchemeError, match=f"gradient_bits is {bits}; 2 to 16 are allowed, or 32"):
        dorefa.DorefaOptions(gradient_bits=bits)


def test_gradients_of_a_layer_are_rounded_in_training_with_noise_of_its_generator() -> None:
    kernel = normal(8, 4)
    twin = dorefa.wrap(dense(kernel), QuantSpec(bits=4), dorefa.DorefaOptions(gradient_bits=2))
    twin.build((None, 8))

    def gradient() -> np.ndarray:
        twin._random_generator._generator.reset_from_seed(7)
        x = tf.constant(normal(6, 8))
        with tf.GradientTape() as tape:
            y = twin(x)
            loss = tf.reduce_sum(y * y)
        return np.asarray(tape.gradient(loss, twin.raw_kernel))

    np.testing.assert_array_equal(gradient(), gradient())
    first = gradient()
    twin.gradient_bits = 32
    assert not np.allclose(gradient(), first)


@pytest.mark.slow
def test_dense_signs_in_front_of_a_sign_lower_though_they_fit_2_bits() -> None:
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8,), name="x")
    for name in ("first", "second"):
        x = L.BatchNormalization()(L.Dense(16, use_bias=False, name=name)(x))
    source = keras.Model(inputs, L.Dense(3, name="logits")(x))
    images = np.random.default_rng(0).random((64, 8)).astype(np.float32)
    scheme = scheme_from_bits("w1a1")
    model = quantize(source, scheme, collect(plan(source, scheme), source, images), "bnn")
    graph = lower_exactly(model, limits=stored_limits).graph
    assert {node.name for node in graph.nodes} >= {"first", "second"}


@pytest.mark.slow
def test_the_sign_of_a_function_of_codes_is_a_table() -> None:
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8,), name="x")
    x = L.Activation("tanh", name="tanh")(L.Dense(16, name="dense")(x))
    source = keras.Model(inputs, L.Dense(3, name="logits")(x))
    images = np.random.default_rng(0).random((64, 8)).astype(np.float32)
    scheme = scheme_from_bits("w1a1")
    model = quantize(source, scheme, collect(plan(source, scheme), source, images), "bnn")
    graph = lower_exactly(model).graph
    (table,) = [node.table for node in graph.nodes if node.op == "lookup" and "tanh" in node.name]
    assert set(np.unique(table)) == {-1, 1}

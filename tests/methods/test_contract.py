"""What every method promises: what is read of a layer is what it computes with."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keras_quant.errors import UsageError
from keras_quant.methods import load_method
from keras_quant.methods.method import Method
from keras_quant.qparams import QParams, dequantize, quantize, signed, unsigned
from keras_quant.schemes.scheme import BINARY, QuantSpec

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods import layers  # noqa: E402
from keras_quant.methods.readers import read_activation  # noqa: E402
from keras_quant.model.files import load_model, save_model  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402
from tests.methods.twins import (  # noqa: E402
    CHANNELS,
    EVERY_METHOD,
    LAYERS,
    SHAPES,
    WEIGHTS,
    activation,
    computed_kernel,
    first_channel,
    wrap,
    wrapped,
)

GRIDS = [
    *(unsigned(bits, 2.0**-3) for bits in range(1, 9)),
    *(
        signed(bits, 4.0, narrow_range=narrow_range)
        for bits in range(2, 9)
        for narrow_range in (False, True)
    ),
    *(
        QParams(scale=0.25, zero_point=z, qmin=0, qmax=2**b - 1, bits=b)
        for b, z in ((4, 5), (8, 128))
    ),
]
SIX = unsigned(8, float(np.float32(6 / 255)))

every_method = pytest.mark.parametrize("method", EVERY_METHOD.values(), ids=EVERY_METHOD)
# Each layer, and each width: of a kernel with channels last and of a depthwise one.
EVERY_KERNEL = dict.fromkeys(
    [(kind, bits) for bits in ("4", "binary") for kind in LAYERS]
    + [("conv2d", bits) for bits in WEIGHTS]
    + [("multiplied", bits) for bits in ("2", "8", "4 full range", "4 per tensor")]
)
every_kernel = pytest.mark.parametrize(
    ("kind", "weight"),
    [(kind, WEIGHTS[bits]) for kind, bits in EVERY_KERNEL],
    ids=["-".join(names) for names in EVERY_KERNEL],
)


@pytest.mark.thinned(8)
@every_method
@every_kernel
def test_codes_are_the_kernel_that_computes(method: Method, kind: str, weight: QuantSpec) -> None:
    layer = wrapped(method, kind, weight)
    read = method.reader.kernel(layer)
    assert read.bits == weight.bits
    reals = (read.values * read.scale).astype(np.float32)
    np.testing.assert_array_equal(reals, computed_kernel(layer, kind))


@pytest.mark.thinned(8)
@every_method
@every_kernel
def test_codes_are_in_range_and_use_it(method: Method, kind: str, weight: QuantSpec) -> None:
    codes = method.reader.kernel(wrapped(method, kind, weight)).values
    qmax = max(1, 2 ** (weight.bits - 1) - 1)
    qmin = -qmax if weight.narrow_range else -qmax - 1
    assert qmin <= codes.min() < 0 < codes.max() <= qmax
    if weight.bits == 1:
        assert set(np.unique(codes)) == {-1, 1}


@pytest.mark.thinned(8)
@every_method
@every_kernel
def test_each_channel_has_its_scale(method: Method, kind: str, weight: QuantSpec) -> None:
    read = method.reader.kernel(wrapped(method, kind, weight))
    axes = CHANNELS.get(kind, (-1,))
    channels = tuple(read.values.shape[axis] if weight.per_channel else 1 for axis in axes)
    assert read.scale.size == np.prod(channels)
    assert tuple(read.scale.shape[axis] for axis in axes) == channels
    assert (read.scale > 0).all()


@pytest.mark.thinned(8)
@every_method
@every_kernel
def test_channel_of_zeros_stays_next_to_zero(method: Method, kind: str, weight: QuantSpec) -> None:
    kernel = computed_kernel(wrapped(method, kind, weight), kind)
    first = first_channel(kernel, kind)
    most = np.abs(kernel).max() if weight == BINARY and not weight.per_channel else 1e-6
    assert np.abs(first).max() <= most


@pytest.mark.thinned(8)
@every_method
@every_kernel
def test_gradients_reach_kernel_and_scales(method: Method, kind: str, weight: QuantSpec) -> None:
    layer = wrapped(method, kind, weight)
    with tf.GradientTape() as tape:
        y = layer(np.ones((1, *SHAPES[kind]), np.float32)) ** 2
    found = tape.gradient(y, layer.trainable_variables)
    for variable, gradient in zip(layer.trainable_variables, found, strict=True):
        assert np.isfinite(gradient).all(), variable.name
        assert np.any(gradient), variable.name


@pytest.mark.thinned(9)
@every_method
@every_kernel
def test_kernel_quantizes_in_bfloat16(method: Method, kind: str, weight: QuantSpec) -> None:
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        layer = wrapped(method, kind, weight)
    finally:
        keras.mixed_precision.set_global_policy(before)
    y = layer(np.ones((1, *SHAPES[kind]), np.float32))
    assert y.dtype == tf.bfloat16
    assert np.isfinite(y.numpy().astype(np.float32)).all()


@every_method
@pytest.mark.parametrize("kind", LAYERS)
def test_quantized_layer_keeps_name_and_settings(method: Method, kind: str) -> None:
    layer, twin = LAYERS[kind](), wrapped(method, kind, WEIGHTS["4"])
    assert twin.name == layer.name
    assert twin.use_bias == layer.use_bias
    for setting in ("strides", "padding", "kernel_size", "units", "filters", "dilation_rate"):
        if hasattr(layer, setting):
            assert getattr(twin, setting) == getattr(layer, setting), setting


@every_method
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_grid_names_the_values_that_the_layer_puts_out(method: Method, grid: QParams) -> None:
    layer = activation(method, "act", grid)
    read = read_activation(layer, "act")
    assert dataclasses.astuple(read.qparams) == dataclasses.astuple(grid)
    span = grid.scale * (grid.qmax - grid.qmin + 2)
    # Eighths of a step: all codes, all midpoints and both ends are among them.
    x = np.arange(-span, span + grid.scale / 8, grid.scale / 8, dtype=np.float32)
    if read.function is None:
        expected = dequantize(quantize(x, grid), grid)
    else:  # a sign: of -1, 0 and 1 it gives two
        assert read.dead_band == 0 and (grid.qmin, grid.qmax) == (-1, 1)
        expected = np.where(x >= 0, grid.scale, -grid.scale)
    np.testing.assert_array_equal(layer(x).numpy(), expected)


@every_method
def test_step_of_a_bound_gives_it_the_highest_code(method: Method) -> None:
    layer = activation(method, "act", SIX)
    assert dataclasses.astuple(read_activation(layer, "act").qparams) == dataclasses.astuple(SIX)
    # Odd sixteenths of a step: no midpoint, where float32 may round either way.
    codes = np.arange(-64, 8 * 260) / 8 + 1 / 16
    expected = np.clip(np.rint(codes), 0, 255).astype(np.float32) * np.float32(SIX.scale)
    np.testing.assert_array_equal(layer((codes * SIX.scale).astype(np.float32)), expected)
    assert expected.max() == 6.0


@every_method
@pytest.mark.parametrize("grid", [*GRIDS[3:12:4], *GRIDS[-2:], SIX], ids=str)
def test_activation_gradient_is_one_within_the_range_and_zero_outside(
    method: Method, grid: QParams
) -> None:
    layer = activation(method, "act", grid)
    low, high = grid.qmin - grid.zero_point, grid.qmax - grid.zero_point
    x = tf.constant(grid.scale * np.array([low - 0.7, low + 0.3, high - 0.3, high + 0.7]))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    np.testing.assert_array_equal(tape.gradient(y, x), [0, 1, 1, 0])


@every_method
def test_other_layers_are_no_quantizers(method: Method) -> None:
    assert method.reader.activation(keras.layers.ReLU(), "relu") is None
    assert method.reader.kernel(keras.layers.Dense(2)) is None


@pytest.mark.thinned(5)
@every_method
@pytest.mark.parametrize(
    "weight", [WEIGHTS[bits] for bits in ("binary", "2", "4 per tensor")], ids=str
)
def test_quantized_model_survives_a_file_that_is_not_trusted(
    method: Method, weight: QuantSpec, tmp_path
) -> None:
    x = inputs = keras.Input((6, 6, 2))
    for layer in (
        keras.layers.Conv2DTranspose(4, 2),
        keras.layers.DepthwiseConv2D(2, depth_multiplier=2),
        keras.layers.Conv2D(3, 3),
    ):
        layer.build(x.shape)
        x = wrap(method, layer, weight, x.shape)(x)
    x = activation(method, "act", unsigned(4, 0.25))(x)
    x = activation(method, "six", SIX)(x)
    x = activation(method, "sym", signed(3, 1.0, narrow_range=True))(x)
    model = keras.Model(inputs, x)
    save_model(model, tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    images = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype(np.float32)
    np.testing.assert_array_equal(again(images), model(images))


@every_method
def test_names_of_files_are_those_of_its_layers(method: Method) -> None:
    made = {type(wrapped(method, kind, WEIGHTS["4"])).__name__ for kind in LAYERS}
    made.add(type(activation(method, "act", GRIDS[0])).__name__)
    assert made <= method.files.classes | layers.CLASSES
    assert set(method.reader.stands_for) <= method.files.classes
    assert method.files.classes.isdisjoint({"Lambda", "TFOpLambda", "SlicingOpLambda"})


def test_unknown_method_is_told_with_close_names() -> None:
    with pytest.raises(UsageError, match=r"'qkera' is not known; close names: qkeras; methods"):
        load_method("qkera")

"""What every method promises: a layer frozen is the layer that was trained."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keras_quant.errors import UsageError
from keras_quant.methods import METHODS, load_method
from keras_quant.methods.method import Method
from keras_quant.qparams import QParams, dequantize, quantize, signed, unsigned
from keras_quant.schemes.scheme import BINARY, TERNARY, QuantSpec

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods.readers import read_grid  # noqa: E402
from keras_quant.tf import keras, qkeras, tf  # noqa: E402

LAYERS = {
    "conv2d": lambda: keras.layers.Conv2D(5, (3, 2), name="layer"),
    "conv1d": lambda: keras.layers.Conv1D(5, 3, name="layer"),
    "groups": lambda: keras.layers.Conv2D(6, (3, 2), groups=2, name="layer"),
    "transpose": lambda: keras.layers.Conv2DTranspose(5, (3, 2), name="layer"),
    "depthwise": lambda: keras.layers.DepthwiseConv2D((3, 2), name="layer"),
    "multiplied": lambda: keras.layers.DepthwiseConv2D((3, 2), depth_multiplier=2, name="layer"),
    "dense": lambda: keras.layers.Dense(5, use_bias=False, name="layer"),
}
SHAPES = {
    "conv2d": (6, 6, 3),
    "conv1d": (6, 3),
    "groups": (6, 6, 4),
    "transpose": (6, 6, 3),
    "depthwise": (6, 6, 4),
    "multiplied": (6, 6, 4),
    "dense": (7,),
}
# Axes of the kernel that count output channels, where they are not the last one.
CHANNELS = {"depthwise": (2, 3), "multiplied": (2, 3), "transpose": (2,)}
WEIGHTS = {
    "binary": BINARY,
    "ternary": TERNARY,
    "2": QuantSpec(bits=2, narrow_range=False),
    **{str(bits): QuantSpec(bits=bits) for bits in range(3, 9)},
    "4 full range": QuantSpec(bits=4, narrow_range=False),
    "4 per tensor": QuantSpec(bits=4, per_channel=False),
}
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

every_method = pytest.mark.parametrize("method", [load_method(m) for m in METHODS], ids=METHODS)
every_layer = pytest.mark.parametrize("kind", LAYERS)
every_weight = pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)


def wrap(method: Method, layer: keras.layers.Layer, weight: QuantSpec) -> keras.layers.Layer:
    return method.maker.wrap(layer, weight, method.maker.options())


def activation(method: Method, name: str, grid: QParams) -> keras.layers.Layer:
    options = method.maker.options()
    step = method.maker.step(f"{name}_step", grid, options)
    return method.maker.activation(name, grid, step, options)


def wrapped(method: Method, kind: str, weight: QuantSpec) -> keras.layers.Layer:
    """A quantized layer with random weights; its first channel is zero."""
    layer = wrap(method, LAYERS[kind](), weight)
    layer.build((None, *SHAPES[kind]))
    rng = np.random.default_rng(0)
    kernel, *others = layer.get_weights()
    kernel = rng.normal(0, 0.2, kernel.shape).astype(np.float32)
    _first_channel(kernel, kind)[:] = 0
    layer.set_weights([kernel, *others])
    return layer


def _first_channel(kernel: np.ndarray, kind: str) -> np.ndarray:
    return kernel[:, :, 0] if kind in CHANNELS else kernel[..., 0]


def computed_kernel(layer: keras.layers.Layer, kind: str) -> np.ndarray:
    """The kernel that a layer computes with, found by feeding it one-hot inputs.

    Each product has one term that is not zero, so that the sums are exact.
    """
    shape = layer.get_weights()[0].shape
    if kind == "transpose":
        pixels = np.eye(shape[3], dtype=np.float32)[:, None, None]
        return np.moveaxis(layer(pixels).numpy(), 0, -1)
    seen = (*shape[:2], 1) if kind in CHANNELS else shape[:-1]
    one_hot = np.eye(int(np.prod(seen)), dtype=np.float32).reshape(-1, *seen)
    # Groups of channels see the same values, each with a kernel of its own.
    one_hot = np.tile(one_hot, SHAPES[kind][-1] // seen[-1])
    return layer(one_hot).numpy().reshape(shape)


@every_method
@every_layer
@every_weight
def test_frozen_codes_are_the_kernel_that_computes(
    method: Method, kind: str, weight: QuantSpec
) -> None:
    layer = wrapped(method, kind, weight)
    frozen = method.reader.kernel(layer)
    assert frozen.bits == weight.bits
    reals = (frozen.values * frozen.scale).astype(np.float32)
    np.testing.assert_array_equal(reals, computed_kernel(layer, kind))


@every_method
@every_layer
@every_weight
def test_codes_are_in_range_and_use_it(method: Method, kind: str, weight: QuantSpec) -> None:
    codes = method.reader.kernel(wrapped(method, kind, weight)).values
    qmax = max(1, 2 ** (weight.bits - 1) - 1)
    qmin = -qmax if weight.narrow_range else -qmax - 1
    assert qmin <= codes.min() < 0 < codes.max() <= qmax
    if weight.bits == 1:
        assert set(np.unique(codes)) == {-1, 1}


@every_method
@every_layer
@every_weight
def test_each_channel_has_its_scale(method: Method, kind: str, weight: QuantSpec) -> None:
    frozen = method.reader.kernel(wrapped(method, kind, weight))
    axes = CHANNELS.get(kind, (-1,))
    channels = tuple(frozen.values.shape[axis] if weight.per_channel else 1 for axis in axes)
    assert frozen.scale.size == np.prod(channels)
    assert tuple(frozen.scale.shape[axis] for axis in axes) == channels
    assert (frozen.scale > 0).all()


@every_method
@every_layer
@every_weight
def test_channel_of_zeros_stays_next_to_zero(method: Method, kind: str, weight: QuantSpec) -> None:
    kernel = computed_kernel(wrapped(method, kind, weight), kind)
    first = _first_channel(kernel, kind)
    limit = np.abs(kernel).max() if weight == BINARY and not weight.per_channel else 1e-6
    assert np.abs(first).max() <= limit


@every_method
@every_layer
@every_weight
def test_gradient_passes_straight_through(method: Method, kind: str, weight: QuantSpec) -> None:
    layer = wrapped(method, kind, weight)
    x = np.ones((1, *SHAPES[kind]), np.float32)
    with tf.GradientTape() as tape:
        y = layer(x)
    gradient = tape.gradient(y, layer.trainable_variables[0]).numpy()
    # As without a quantizer: each weight meets a 1 at each position.
    positions = (x if kind == "transpose" else y).shape[1:-1]
    np.testing.assert_array_equal(gradient, np.full_like(gradient, np.prod(positions)))


@every_method
@every_layer
@every_weight
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
    layer = LAYERS[kind]()
    twin = wrap(method, layer, WEIGHTS["4"])
    assert twin.name == layer.name
    assert twin.use_bias == layer.use_bias
    for setting in ("strides", "padding", "kernel_size", "units", "filters", "dilation_rate"):
        if hasattr(layer, setting):
            assert getattr(twin, setting) == getattr(layer, setting), setting


@every_method
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_frozen_activation_names_the_values_that_the_layer_puts_out(
    method: Method, grid: QParams
) -> None:
    layer = activation(method, "act", grid)
    frozen = read_grid(layer)
    assert dataclasses.astuple(frozen) == dataclasses.astuple(grid)
    span = grid.scale * (grid.qmax - grid.qmin + 2)
    # Eighths of a step: all codes, all midpoints and both ends are among them.
    x = np.arange(-span, span + grid.scale / 8, grid.scale / 8, dtype=np.float32)
    expected = dequantize(quantize(x, grid), grid)
    np.testing.assert_array_equal(layer(x).numpy(), expected)


@every_method
def test_step_of_a_bound_gives_it_the_highest_code(method: Method) -> None:
    layer = activation(method, "act", SIX)
    assert dataclasses.astuple(read_grid(layer)) == dataclasses.astuple(SIX)
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
    assert method.reader.grid(keras.layers.ReLU(), "relu") is None
    assert method.reader.kernel(keras.layers.Dense(2)) is None


@every_method
@every_weight
def test_quantized_model_survives_a_file(method: Method, weight: QuantSpec, tmp_path) -> None:
    inputs = keras.Input((6, 6, 2))
    x = inputs
    for layer in (
        keras.layers.Conv2DTranspose(4, 2),
        keras.layers.DepthwiseConv2D(2, depth_multiplier=2),
        keras.layers.Conv2D(3, 3),
    ):
        x = wrap(method, layer, weight)(x)
    x = activation(method, "act", unsigned(4, 0.25))(x)
    x = activation(method, "six", SIX)(x)
    x = activation(method, "sym", signed(3, 1.0, narrow_range=True))(x)
    model = keras.Model(inputs, x)
    model.save(tmp_path / "m.keras")
    objects: dict = {}
    qkeras.utils._add_supported_quantized_objects(objects)
    again = keras.models.load_model(tmp_path / "m.keras", custom_objects=objects)
    images = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype(np.float32)
    np.testing.assert_array_equal(again(images), model(images))


def test_unknown_method_is_told_with_close_names() -> None:
    with pytest.raises(UsageError, match=r"'qkera' is not known; close names: qkeras; methods"):
        load_method("qkera")

"""Ops with a kernel against loops over single pixels, in each form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.errors import GraphError
from keras_quant.graph.ir import Node, Shape, Tensor, Weight
from keras_quant.graph.ops import OPS
from keras_quant.graph.pointwise import ACTIVATIONS
from keras_quant.graph.rounding import code_dtype
from keras_quant.graph.windows import output_size, padding_of, window_of
from keras_quant.qparams import QParams, signed, unsigned

FLOAT32_ROUNDING = 1e-6
FLOAT32_SUM = 1e-5  # TensorFlow adds the products of normal values in another order
INPUT_SHAPES = {
    "conv2d": (6, 5, 4),
    "depthwise_conv2d": (6, 5, 3),
    "conv2d_transpose": (4, 3, 3),
    "dense": (7,),
}

INPUT_QPARAMS = [
    unsigned(8, 1 / 255),
    unsigned(1, 0.5),
    signed(4, 0.07, narrow_range=True),
    QParams(scale=0.1, zero_point=-3, qmin=-128, qmax=127, bits=8),
]
OUTPUT_QPARAMS = [
    unsigned(8, 0.9),
    unsigned(2, 3.0),
    signed(3, 1.7, narrow_range=False),
    QParams(scale=0.4, zero_point=100, qmin=100, qmax=227, bits=8),
]


@st.composite
def linear_nodes(draw: st.DrawFn, op: str) -> Node:
    """A node of one kind in its ideal form, with a random window."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 2, 4])) if op == "conv2d" else 1
    kernel_shape = {
        "conv2d": (height, width, 4 // groups, 8),
        "conv2d_transpose": (height, width, 3, 4),
        "depthwise_conv2d": (height, width, 3),
        "dense": (7, 4),
    }[op]
    channels = kernel_shape[-1]
    attrs = {
        "strides": (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        "padding": draw(st.sampled_from(["same", "valid"])),
    }
    if op != "conv2d_transpose":
        attrs["dilation"] = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    if groups > 1:
        attrs["groups"] = groups
    return Node(
        name="node",
        op=op,
        inputs=("x",),
        output="y",
        attrs={} if op == "dense" else attrs,
        weight=Weight(
            values=rng.integers(-127, 128, kernel_shape).astype(np.int8),
            scale=rng.uniform(0.01, 0.1, channels),
            bits=8,
        ),
        bias=draw(st.sampled_from([rng.normal(0, 5, channels), None])),
    )


def naive_accumulators(node: Node, levels: np.ndarray) -> np.ndarray:
    """Sums of level * weight for each output, one output at a time."""
    kernel = node.weight.values.astype(levels.dtype)
    if node.op == "dense":
        return np.stack([(image[:, None] * kernel).sum(axis=0) for image in levels])
    if node.op == "conv2d_transpose":
        return naive_transpose(node, levels)
    window, groups = window_of(node), node.attrs.get("groups", 1)
    if groups > 1:  # zeros where a group does not look
        whole = np.zeros((*window.size, levels.shape[-1], kernel.shape[-1]), kernel.dtype)
        taken, given_ = kernel.shape[2], kernel.shape[3] // groups
        for group in range(groups):
            outputs = np.s_[group * given_ : (group + 1) * given_]
            whole[:, :, group * taken : (group + 1) * taken, outputs] = kernel[..., outputs]
        kernel = whole
    margins = padding_of(window, levels.shape[1:3])
    padded = np.pad(levels, ((0, 0), *margins, (0, 0)))
    size = output_size(window, levels.shape[1:3])
    result = np.zeros((len(levels), *size, kernel.shape[-1]), levels.dtype)
    for row, column, tap_row, tap_column in np.ndindex(*size, *window.size):
        pixels = padded[
            :,
            row * window.strides[0] + tap_row * window.dilation[0],
            column * window.strides[1] + tap_column * window.dilation[1],
        ]
        weights = kernel[tap_row, tap_column]
        terms = pixels @ weights if node.op == "conv2d" else pixels * weights
        result[:, row, column] += terms
    return result


def naive_transpose(node: Node, levels: np.ndarray) -> np.ndarray:
    """Each pixel laid down with the kernel, and what lies in the margins cut off."""
    kernel, strides = node.weight.values.astype(levels.dtype), node.attrs["strides"]
    sizes = zip(levels.shape[1:3], strides, kernel.shape[:2], strict=True)
    whole = [size * stride + max(taps - stride, 0) for size, stride, taps in sizes]
    result = np.zeros((len(levels), *whole, kernel.shape[-1]), levels.dtype)
    for row, column, *tap in np.ndindex(*levels.shape[1:3], *kernel.shape[:2]):
        y, x = row * strides[0] + tap[0], column * strides[1] + tap[1]
        result[:, y, x] += levels[:, row, column] @ kernel[tap[0], tap[1]]
    if node.attrs["padding"] == "valid":
        return result
    height, width = (n * stride for n, stride in zip(levels.shape[1:3], strides, strict=True))
    top, left = (whole[0] - height) // 2, (whole[1] - width) // 2
    return result[:, top : top + height, left : left + width]


def run(node: Node, x: np.ndarray, source: QParams | None, target: QParams | None) -> np.ndarray:
    """Runs one node alone; its output has the shape that the table says."""
    shape: Shape = OPS[node.op].shape(node, [x.shape[1:]])
    given_tensor = Tensor(name="x", shape=x.shape[1:], qparams=source)
    result_tensor = Tensor(name="y", shape=shape, qparams=target)
    assert OPS[node.op].qparams(node, [given_tensor], result_tensor) == []
    result = OPS[node.op].bind(node, [given_tensor], result_tensor)(x)
    assert result.shape[1:] == shape
    return result


def random_codes(shape: Shape, qparams: QParams) -> np.ndarray:
    codes = np.random.default_rng(5).integers(qparams.qmin, qparams.qmax + 1, (2, *shape))
    return codes.astype(code_dtype(qparams))


def saturate(rounded: np.ndarray, qparams: QParams) -> np.ndarray:
    return np.clip(rounded + qparams.zero_point, qparams.qmin, qparams.qmax)


@pytest.mark.parametrize("op", sorted(INPUT_SHAPES))
@given(
    data=st.data(),
    source=st.sampled_from(INPUT_QPARAMS),
    target=st.sampled_from(OUTPUT_QPARAMS),
)
def test_ideal_codes_equal_the_formula(op, data, source: QParams, target: QParams):
    node = data.draw(linear_nodes(op))
    codes = random_codes(INPUT_SHAPES[op], source)
    n = naive_accumulators(node, codes.astype(np.int64) - source.zero_point)
    bias = 0.0 if node.bias is None else node.bias
    real = (n * (source.scale * node.weight.scale) + bias) / target.scale
    found = run(node, codes, source, target)
    assert found.dtype == code_dtype(target)
    np.testing.assert_array_equal(found, saturate(np.rint(real), target))


@pytest.mark.parametrize("op", sorted(INPUT_SHAPES))
@given(
    data=st.data(),
    source=st.sampled_from(INPUT_QPARAMS),
    target=st.sampled_from(OUTPUT_QPARAMS),
    largest_bias=st.sampled_from([1000, 2**30]),
)
def test_realized_codes_equal_the_formula(op, data, source, target, largest_bias):
    node = data.draw(linear_nodes(op))
    channels = node.weight.values.shape[-1]
    bias = np.random.default_rng(1).integers(-largest_bias, largest_bias, channels)
    scale = node.weight.scale.astype(np.float32)
    node = replace(node, weight=replace(node.weight, scale=scale), bias=bias.astype(np.int32))
    codes = random_codes(INPUT_SHAPES[op], source)
    n = naive_accumulators(node, codes.astype(np.int64) - source.zero_point)
    multiplier = np.float32(np.float32(source.scale) * scale) / np.float32(target.scale)
    scaled = (n + bias).astype(np.float32) * multiplier
    assert scaled.dtype == np.float32
    expected = saturate(np.rint(scaled).astype(np.float64), target)
    np.testing.assert_array_equal(run(node, codes, source, target), expected)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("op", sorted(INPUT_SHAPES))
@given(data=st.data(), source=st.sampled_from(INPUT_QPARAMS))
def test_head_gives_reals_of_integer_sums(op, activation, data, source: QParams):
    node = data.draw(linear_nodes(op))
    node = replace(node, attrs={**node.attrs, "activation": activation})
    codes = random_codes(INPUT_SHAPES[op], source)
    n = naive_accumulators(node, codes.astype(np.int64) - source.zero_point)
    bias = 0.0 if node.bias is None else node.bias
    real = (n * (source.scale * node.weight.scale) + bias).astype(np.float32)
    if activation != "none":
        real = np.clip(real, 0, 6 if activation == "relu6" else None)
    found = run(node, codes, source, None)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, real)


@pytest.mark.parametrize("weight_only", [True, False])
@pytest.mark.parametrize("op", sorted(INPUT_SHAPES))
@given(data=st.data())
def test_reals_agree_with_float64_sums(op, weight_only, data):
    node = data.draw(linear_nodes(op))
    values = node.weight.values * node.weight.scale
    real_node = replace(node, weight=Weight(values=values.astype(np.float32)))
    x = np.random.default_rng(2).normal(size=(2, *INPUT_SHAPES[op])).astype(np.float32)
    expected = naive_accumulators(real_node, x.astype(np.float64))
    expected = expected + (0.0 if node.bias is None else node.bias)
    found = run(node if weight_only else real_node, x, None, None)
    assert found.dtype == np.float32
    largest = np.abs(expected).max() + 1
    np.testing.assert_allclose(found, expected, rtol=0, atol=FLOAT32_ROUNDING * largest)


def test_halves_round_to_even():
    node = Node(
        name="node",
        op="dense",
        inputs=("x",),
        output="y",
        weight=Weight(values=np.array([[1]], np.int8), scale=np.array([0.5]), bits=2),
    )
    codes = np.array([[1], [3], [5], [7]], np.int8)
    found = run(node, codes, unsigned(3, 1.0), unsigned(3, 1.0))
    assert found.ravel().tolist() == [0, 2, 2, 4]


@pytest.mark.parametrize(
    ("source", "weight_scale", "target", "bias", "code", "expected"),
    [
        # 5 * 0.03 * 0.23 / 0.023 is a half that goes to 2; the product in float32 is 1.4999999
        (0.03, 0.23, 0.023, 0, 5, 1),
        # 1 + 16777217 is exact in integers; float32 would make 16777216 * 2**-25 of it, a half
        (1.0, 2.0**-25, 1.0, 2**24 + 1, 1, 1),
    ],
)
def test_realized_codes_are_rounded_as_int8_kernels_round(
    source, weight_scale, target, bias, code, expected
):
    weight = Weight(
        values=np.array([[1]], np.int8), scale=np.array([weight_scale], np.float32), bits=2
    )
    bias = np.array([bias], np.int32)
    node = Node(name="node", op="dense", inputs=("x",), output="y", weight=weight, bias=bias)
    found = run(node, np.array([[code]], np.int8), unsigned(3, source), unsigned(3, target))
    assert found.item() == expected


@pytest.mark.tensorflow
@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_windows_lie_where_tensorflow_puts_them(op, padding, stride, dilation):
    from keras_quant.tf import tf

    rng = np.random.default_rng(3)
    values = rng.normal(size=(3, 2, 3, 4) if op == "conv2d" else (3, 2, 3)).astype(np.float32)
    x = rng.normal(size=(2, 6, 5, 3)).astype(np.float32)
    node = Node(
        name="node",
        op=op,
        inputs=("x",),
        output="y",
        attrs={"strides": (stride,) * 2, "dilation": (dilation,) * 2, "padding": padding},
        weight=Weight(values=values),
    )
    if op == "conv2d":
        options = {"strides": stride, "padding": padding.upper(), "dilations": dilation}
        expected = tf.nn.conv2d(x, values, **options)
    else:
        options = {"strides": [1, stride, stride, 1], "padding": padding.upper()}
        expected = tf.nn.depthwise_conv2d(x, values[..., None], dilations=[dilation] * 2, **options)
    np.testing.assert_allclose(run(node, x, None, None), expected, rtol=0, atol=FLOAT32_SUM)


def assert_transposed_as_keras(size: tuple[int, int], attrs: dict) -> None:
    """Compares conv2d_transpose with the layer of the same settings."""
    from keras_quant.tf import keras

    layer = keras.layers.Conv2DTranspose(4, size, use_bias=False, **attrs)
    x = np.random.default_rng(3).normal(size=(2, 6, 5, 3)).astype(np.float32)
    expected = layer(x)
    node = Node(
        name="node",
        op="conv2d_transpose",
        inputs=("x",),
        output="y",
        attrs=attrs,
        weight=Weight(values=layer.kernel.numpy().transpose(0, 1, 3, 2)),
    )
    np.testing.assert_allclose(run(node, x, None, None), expected, rtol=0, atol=FLOAT32_SUM)


@pytest.mark.tensorflow
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size", [(3, 2), (1, 4), (2, 2)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 2)])
def test_transposed_windows_lie_where_keras_puts_them(padding, size, strides):
    assert_transposed_as_keras(size, {"strides": strides, "padding": padding})


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("size", "more"), [((3, 3), (0, 1)), ((4, 2), (1, 1)), ((5, 3), (1, 0)), ((3, 2), (1, 1))]
)
def test_output_padding_makes_the_image_that_keras_makes(size, more):
    attrs = {"strides": (2, 2), "padding": "same", "output_padding": more}
    assert_transposed_as_keras(size, attrs)


@pytest.mark.parametrize(
    "attrs", [{"padding": "valid"}, {"strides": (4, 2)}, {"output_padding": (2, 0)}]
)
def test_output_padding_that_the_kernel_does_not_cover_is_told(attrs):
    attrs = {"strides": (2, 2), "padding": "same", "output_padding": (1, 0)} | attrs
    weight = Weight(values=np.ones((3, 3, 2, 4), np.float32))
    node = Node(
        name="n", op="conv2d_transpose", inputs=("x",), output="y", attrs=attrs, weight=weight
    )
    with pytest.raises(GraphError, match=r"it goes with padding 'same', a kernel at least as"):
        OPS["conv2d_transpose"].shape(node, [(6, 5, 2)])


def test_groups_that_do_not_divide_the_channels_are_told():
    weight = Weight(values=np.ones((1, 1, 2, 5), np.float32))
    attrs = {"groups": 2}
    node = Node(name="n", op="conv2d", inputs=("x",), output="y", attrs=attrs, weight=weight)
    with pytest.raises(GraphError, match="5 output channels do not divide into 2 groups"):
        OPS["conv2d"].shape(node, [(3, 3, 4)])
    four = replace(node, weight=Weight(values=np.ones((1, 1, 2, 4), np.float32)))
    with pytest.raises(GraphError, match="input has 3 channels; the kernel takes 4"):
        OPS["conv2d"].shape(four, [(3, 3, 3)])

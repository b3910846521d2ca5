"""Each op without weights on codes worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.graph.ir import Node, Tensor
from keras_quant.graph.ops import OPS
from keras_quant.graph.rounding import code_dtype
from keras_quant.qparams import QParams, signed, unsigned

# tests/graph/test_linear.py has these
WITH_WEIGHTS = {"conv2d", "depthwise_conv2d", "conv2d_transpose", "dense"}
WITH_TABLES = {"lookup"}  # tests/graph/test_lookup.py has it

HALF = unsigned(3, 0.5)
UNIT = unsigned(3, 1.0)
SIGNED = signed(4, 0.5, narrow_range=False)
SHIFTED = QParams(scale=0.5, zero_point=10, qmin=8, qmax=15, bits=3)
BYTE = unsigned(8, 1.0)
BOTH = signed(8, 1.0, narrow_range=False)
WIDE = QParams(scale=1.0, qmin=-128, qmax=255, bits=9)
SQUARE = [[[1], [2]], [[3], [4]]]
ROW = {"pool_size": (1, 2), "strides": (1, 2), "padding": "valid"}
MARGINS = {"padding": ((0, 0), (1, 1))}

# op, attributes, QParams of inputs and output, input values of one image, output values
CASES: list[tuple[str, dict[str, Any], list[QParams | None], list[Any], Any]] = [
    ("quantize", {}, [None, HALF], [[-1.0, 0.25, 0.75, 1.2, 9.0]], [0, 0, 2, 2, 7]),
    ("quantize", {}, [None, SIGNED], [[-9.0, -0.75, 0.26, 9.0]], [-8, -2, 1, 7]),
    ("quantize", {}, [None, SHIFTED], [[-9.0, -0.75, 0.0, 0.6, 9.0]], [8, 8, 10, 11, 15]),
    ("dequantize", {}, [HALF, None], [[0, 3, 7]], [0.0, 1.5, 3.5]),
    ("dequantize", {}, [SHIFTED, None], [[8, 10, 15]], [-1.0, 0.0, 2.5]),
    ("requantize", {}, [HALF, UNIT], [[0, 1, 2, 3, 5, 7]], [0, 0, 1, 2, 2, 4]),
    ("requantize", {}, [UNIT, HALF], [[0, 1, 3, 4]], [0, 2, 6, 7]),
    ("requantize", {}, [SHIFTED, SIGNED], [[8, 10, 15]], [-2, 0, 5]),
    ("add", {}, [HALF, UNIT, UNIT], [[1, 3, 7], [0, 1, 7]], [0, 2, 7]),
    ("add", {}, [SIGNED, SHIFTED, SIGNED], [[-8, 1, 7], [8, 9, 15]], [-8, 0, 7]),
    ("add", {}, [UNIT, UNIT, SHIFTED], [[0, 1], [0, 1]], [10, 14]),
    ("add", {"activation": "relu"}, [None] * 3, [[-3.0, 1.0], [1.0, 1.0]], [0.0, 2.0]),
    ("add", {}, [UNIT, UNIT, UNIT], [[[[1, 2]], [[3, 1]]], [2, 3]], [[[3, 5]], [[5, 4]]]),
    ("add", {}, [None] * 3, [[1.0], [[[1.0], [2.0]]]], [[[2.0], [3.0]]]),
    ("multiply", {}, [HALF, UNIT, UNIT], [[1, 3, 5, 7], [1, 1, 1, 7]], [0, 2, 2, 7]),
    ("multiply", {}, [SIGNED, SHIFTED, SIGNED], [[-8, 1, 7], [9, 8, 15]], [4, -1, 7]),
    ("multiply", {}, [UNIT, UNIT, SHIFTED], [[0, 1], [3, 2]], [10, 14]),
    ("multiply", {}, [UNIT, UNIT, UNIT], [[[[1, 2]], [[3, 1]]], [2, 3]], [[[2, 6]], [[6, 3]]]),
    ("multiply", {}, [UNIT, UNIT, UNIT], [[2, 3], [[[1, 2]], [[3, 1]]]], [[[2, 6]], [[6, 3]]]),
    ("multiply", {"activation": "relu"}, [None] * 3, [[-3.0, 1.0], [1.0, 2.0]], [0.0, 2.0]),
    ("max_pool", ROW, [SIGNED, SIGNED], [[[[-3], [-2], [5], [1]]]], [[[-2], [5]]]),
    (
        "max_pool",
        {"pool_size": (2, 2), "strides": (1, 1), "padding": "same"},
        [SIGNED, SIGNED],
        [[[[-4], [-3]], [[-2], [-1]]]],
        [[[-1], [-1]], [[-1], [-1]]],
    ),
    (
        "max_pool",
        {"pool_size": (1, 2), "strides": (1, 1), "padding": "same"},
        [None, None],
        [[[[-4.0], [-3.0]]]],
        [[[-3.0], [-3.0]]],
    ),
    ("avg_pool", ROW, [UNIT, UNIT], [[[[0], [1], [1], [2]]]], [[[0], [2]]]),
    ("avg_pool", ROW, [UNIT, HALF], [[[[0], [1], [1], [2]]]], [[[1], [3]]]),
    ("avg_pool", ROW, [SHIFTED, SIGNED], [[[[8], [8], [15], [15]]]], [[[-2], [5]]]),
    ("avg_pool", ROW, [None, None], [[[[0.0], [1.0], [1.0], [2.0]]]], [[[0.5], [1.5]]]),
    ("avg_pool", ROW | MARGINS, [None, None], [[[[4.0], [2.0]]]], [[[2.0], [1.0]]]),
    ("avg_pool", ROW | MARGINS, [SHIFTED, SHIFTED], [[[[14], [8]]]], [[[12], [9]]]),
    ("max_pool", ROW | MARGINS, [SIGNED, SIGNED], [[[[-4], [-2]]]], [[[-4], [-2]]]),
    (
        "avg_pool",
        {"pool_size": (1, 2), "strides": (1, 1), "padding": "same"},
        [None, None],
        [[[[4.0], [2.0], [6.0]]]],
        [[[3.0], [4.0], [6.0]]],
    ),
    (
        "avg_pool",
        {"pool_size": (3, 1), "strides": (1, 1), "padding": "same"},
        [SHIFTED, HALF],
        [[[[14]], [[12]], [[10]], [[15]]]],
        [[[3]], [[2]], [[2]], [[2]]],
    ),
    ("mean", {}, [UNIT, UNIT], [SQUARE], [2]),
    ("mean", {}, [UNIT, HALF], [SQUARE], [5]),
    ("mean", {}, [UNIT, SHIFTED], [SQUARE], [15]),
    # 9 / 10 / 0.6 is a half that goes to 2, but float32's M makes 1.4999999 of it
    ("mean", {}, [UNIT, unsigned(3, 0.6)], [[[[1]] * 5, [[1]] * 4 + [[0]]]], [1]),
    ("mean", {}, [None, None], [SQUARE], [2.5]),
    ("pad", {"padding": ((1, 0), (0, 1))}, [HALF, HALF], [[[[5]]]], [[[0], [0]], [[5], [0]]]),
    ("pad", {"padding": ((0, 0), (1, 0))}, [SHIFTED, SHIFTED], [[[[15]]]], [[[10], [15]]]),
    ("pad", {"padding": ((0, 0), (1, 0))}, [None, None], [[[[2.0]]]], [[[0.0], [2.0]]]),
    ("pad", {"padding": ((-1, 0), (0, -1))}, [HALF, HALF], [SQUARE], [[[3]]]),
    ("pad", {"padding": ((0, 0), (-1, -1))}, [None, None], [[[[1.0], [2.0], [3.0]]]], [[[2.0]]]),
    ("reshape", {}, [HALF, HALF], [SQUARE], [1, 2, 3, 4]),
    ("transpose", {"perm": (1, 0, 2)}, [HALF, HALF], [SQUARE], [[[1], [3]], [[2], [4]]]),
    ("transpose", {"perm": (2, 1, 0)}, [None, None], [[[[1.0, 2.0]]]], [[[1.0]], [[2.0]]]),
    ("reshape", {"shape": (4, 1)}, [HALF, HALF], [SQUARE], [[1], [2], [3], [4]]),
    (
        "upsample",
        {"size": (1, 2)},
        [HALF, HALF],
        [SQUARE],
        [[[1], [1], [2], [2]], [[3], [3], [4], [4]]],
    ),
    (
        "upsample",
        {"size": (2, 1)},
        [None, None],
        [[[[1.5], [2.5]]]],
        [[[1.5], [2.5]], [[1.5], [2.5]]],
    ),
    ("concat", {"axis": 1}, [UNIT, UNIT, UNIT], [[[1], [2]], [[3], [4]]], [[1, 3], [2, 4]]),
    ("concat", {"axis": 0}, [BOTH, BYTE, WIDE], [[-5], [200]], [-5, 200]),
    ("concat", {"axis": 0}, [None, None, None], [[0.5], [1.5]], [0.5, 1.5]),
    ("relu", {}, [None, None], [[-1.0, 2.0, 9.0]], [0.0, 2.0, 9.0]),
    ("relu", {"max_value": 6.0}, [None, None], [[-1.0, 2.0, 9.0]], [0.0, 2.0, 6.0]),
    ("clip", {"minimum": -0.5}, [None, None], [[-1.0, 2.0, 9.0]], [-0.5, 2.0, 9.0]),
    ("clip", {"maximum": 6.0}, [None, None], [[-1.0, 2.0, 9.0]], [-1.0, 2.0, 6.0]),
    ("clip", {"minimum": 0.0, "maximum": 6.0}, [None, None], [[-1.0, 2.0, 9.0]], [0.0, 2.0, 6.0]),
    ("pointwise", {"function": "hard_swish"}, [None, None], [[-3.0, 1.5, 9.0]], [0.0, 1.125, 9.0]),
    ("softmax", {}, [None, None], [[1000.0, 1000.0]], [0.5, 0.5]),
]


def dtype_of(qparams: QParams | None) -> type[np.generic]:
    return np.float32 if qparams is None else code_dtype(qparams)


@pytest.mark.parametrize(
    ("op", "attrs", "qparams", "values", "expected"),
    CASES,
    ids=[f"{case[0]}-{index}" for index, case in enumerate(CASES)],
)
def test_op_gives_the_values_worked_out_by_hand(op, attrs, qparams, values, expected):
    arrays = [
        np.asarray([value], dtype_of(given)) for value, given in zip(values, qparams, strict=False)
    ]
    names = [f"x{index}" for index in range(len(arrays))]
    node = Node(name="node", op=op, inputs=tuple(names), output="y", attrs=attrs)
    inputs = [
        Tensor(name=name, shape=array.shape[1:], qparams=given)
        for name, array, given in zip(names, arrays, qparams, strict=False)
    ]
    shape = OPS[op].shape(node, [tensor.shape for tensor in inputs])
    output = Tensor(name="y", shape=shape, qparams=qparams[-1])
    assert OPS[op].qparams(node, inputs, output) == []
    before = [array.copy() for array in arrays]
    found = OPS[op].bind(node, inputs, output)(*arrays)
    assert (found.dtype, found.shape[1:]) == (dtype_of(qparams[-1]), shape)
    assert found[0].tolist() == expected
    for array, kept in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, kept, "a kernel must not write to its inputs")


def test_every_op_has_a_case():
    assert {case[0] for case in CASES} | WITH_WEIGHTS | WITH_TABLES == set(OPS)


@pytest.mark.parametrize(
    ("qmin", "qmax", "zero_point", "dtype"),
    [
        (-128, 127, 0, np.int8),
        (0, 255, 0, np.int16),
        (0, 127, 128, np.int16),
        (0, 2**16 - 1, 0, np.int32),
    ],
)
def test_codes_are_as_narrow_as_they_can_be(qmin, qmax, zero_point, dtype):
    qparams = QParams(scale=1.0, zero_point=zero_point, qmin=qmin, qmax=qmax, bits=16)
    assert code_dtype(qparams) is dtype


@given(
    st.integers(0, 2**32 - 1),
    st.floats(1e-3, 10),
    st.floats(1e-3, 10),
    st.sampled_from([(7, 7), (2, 2), (3, 5)]),
)
def test_mean_is_what_a_depthwise_convolution_of_ones_computes(seed, scale, target_scale, size):
    codes = np.random.default_rng(seed).integers(0, 256, (2, *size, 3)).astype(np.int16)
    source, target = unsigned(8, scale), unsigned(8, target_scale)
    node = Node(name="node", op="mean", inputs=("x",), output="y")
    given_tensor = Tensor(name="x", shape=(*size, 3), qparams=source)
    result = Tensor(name="y", shape=(3,), qparams=target)
    found = OPS["mean"].bind(node, [given_tensor], result)(codes)
    share = np.float32(1 / np.float32(size[0] * size[1]))
    multiplier = np.float32(np.float32(np.float32(scale) * share) / np.float32(target_scale))
    for image, channel in np.ndindex(2, 3):
        total = np.float32(int(codes[image, :, :, channel].astype(np.int64).sum()))
        expected = min(max(int(np.rint(total * multiplier)), 0), 255)
        assert found[image, channel] == expected


@given(
    st.lists(st.sampled_from([1.0, 0.5, 0.25, 0.1, 0.3, 1 / 3, 0.7]), min_size=3, max_size=3),
    st.lists(st.integers(-128, 127), min_size=3, max_size=3),
)
def test_every_sum_of_two_codes_is_that_of_float64(scales: list[float], points: list[int]) -> None:
    grids = [
        QParams(scale=scale, zero_point=point, qmin=-128, qmax=127, bits=8)
        for scale, point in zip(scales, points, strict=True)
    ]
    tensors = [Tensor(name="x", shape=(256,), qparams=qparams) for qparams in grids]
    node = Node(name="add", op="add", inputs=("x", "x"), output="x")
    codes = np.arange(-128, 128)
    a, b = np.broadcast_to(codes[:, np.newaxis], (256, 256)), np.broadcast_to(codes, (256, 256))
    found = OPS["add"].bind(node, tensors[:2], tensors[2])(a.astype(np.int8), b.astype(np.int8))
    reals = (a - float(points[0])) * scales[0] + (b - float(points[1])) * scales[1]
    wanted = np.clip(np.rint(reals / scales[2]) + points[2], -128, 127)
    np.testing.assert_array_equal(found, wanted)

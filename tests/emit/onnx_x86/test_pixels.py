"""Convolutions of joined pixels: every code is that of the convolution as it was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.emit.onnx_x86.emission import stored_shift
from keras_quant.emit.onnx_x86.emit import emit_onnx_x86
from keras_quant.emit.onnx_x86.pixels import join_pixels
from keras_quant.graph.ir import Graph
from keras_quant.graph.reference import run_reference
from keras_quant.graph.verify import verify
from keras_quant.qparams import unsigned
from keras_quant.runners.onnxruntime import OnnxRuntimeRunner
from tests.emit.random_graphs import GraphBuilder

SEEDS = st.integers(0, 2**32 - 1)
SAME = {"padding": "same"}


def first_layer(
    shape: tuple[int, int, int], kernel: tuple[int, ...], attrs: dict, *, seed: int = 0
) -> GraphBuilder:
    builder = GraphBuilder(np.random.default_rng(seed), shape, power_of_two=False)
    builder.add_linear("conv2d", (*kernel[:2], shape[2], kernel[2]), attrs=attrs)
    return builder


def is_joined(graph: Graph, **options) -> bool:
    return len(join_pixels(graph, **options).nodes) > len(graph.nodes)


@given(
    seed=SEEDS,
    channels=st.integers(1, 6),
    size=st.tuples(st.integers(1, 5), st.integers(1, 7)),
    strides=st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 4])),
    left=st.integers(0, 6),
    rows=st.tuples(st.integers(0, 1), st.integers(0, 1)),
)
def test_joined_pixels_give_the_same_codes(seed, channels, size, strides, left, rows) -> None:
    right = size[1] - strides[1] - left  # for an output for each pixel, over the stride
    fits = 0 <= right < size[1] > left and max(rows) < size[0]
    attrs = {"strides": strides, "padding": (rows, (left, right)) if fits else "same"}
    builder = first_layer((6, 8, channels), (*size, 16), attrs, seed=seed)
    graph, images = builder.graph(), builder.images(2)
    joined = join_pixels(graph)
    verify(joined)
    name = graph.outputs[0]
    wanted, found = (run_reference(g, images)[name] for g in (graph, joined))
    np.testing.assert_array_equal(found, wanted)
    runner = OnnxRuntimeRunner(emit_onnx_x86(graph))
    np.testing.assert_array_equal(
        runner.run(images)[name].astype(int) - stored_shift(graph.tensors[name].qparams), wanted
    )


@pytest.mark.parametrize(
    ("shape", "kernel", "attrs", "joined"),
    [
        pytest.param((8, 8, 3), (3, 3, 16), SAME, (8, 2, 12), id="colours"),
        pytest.param((8, 8, 1), (5, 5, 16), SAME, (8, 2, 4), id="grey"),
        pytest.param((8, 8, 6), (3, 3, 16), SAME, (8, 4, 12), id="six"),
        pytest.param((8, 8, 3), (3, 3, 8), SAME | {"strides": (2, 2)}, (8, 2, 12), id="strides"),
        pytest.param((8, 8, 4), (3, 3, 16), SAME, None, id="by fours already"),
        pytest.param((8, 8, 7), (3, 3, 16), SAME, None, id="too many channels"),
        pytest.param((8, 6, 3), (3, 3, 16), SAME, None, id="pixels left over"),
        pytest.param((9, 9, 3), (3, 3, 16), SAME | {"strides": (3, 3)}, None, id="other strides"),
        pytest.param((8, 8, 3), (3, 3, 16), {}, None, id="fewer outputs than pixels"),
        pytest.param((8, 8, 3), (3, 3, 3), SAME, None, id="outputs not by eights"),
        pytest.param((8, 8, 3), (3, 3, 2), SAME | {"strides": (2, 2)}, None, id="few outputs"),
        pytest.param((8, 8, 3), (3, 3, 16), SAME | {"dilation": (1, 2)}, None, id="dilated"),
    ],
)
def test_pixels_are_joined_where_a_faster_kernel_takes_them(shape, kernel, attrs, joined) -> None:
    graph = first_layer(shape, kernel, attrs).graph()
    assert is_joined(graph) == (joined is not None)
    if joined:
        assert join_pixels(graph).tensors["conv2d_1/joined"].shape == joined


def test_weights_of_uint8_stay_as_they_are() -> None:
    graph = first_layer((8, 8, 3), (3, 3, 16), SAME).graph()
    assert not is_joined(graph, unsigned={"conv2d_1"})


def test_joining_moves_nothing() -> None:
    builder = first_layer((8, 8, 3), (3, 3, 16), SAME)
    builder.add_linear("conv2d", (3, 3, 16, 16), qparams=unsigned(8, 0.5), attrs=SAME)
    operators = OnnxRuntimeRunner(emit_onnx_x86(builder.graph())).operators
    assert operators["com.microsoft:QLinearConv"] == 2
    assert operators["Reshape"] == 2
    assert not {"DequantizeLinear", "Conv", "Transpose"} & operators.keys()

"""Transposed convolutions as convolutions: every code is the reference's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.emit.onnx_tensorrt.emit import emit_onnx_tensorrt
from keras_quant.emit.onnx_x86.emit import emit_onnx_x86
from keras_quant.emit.shared.subpixel import subpixel
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.reference import run_reference
from keras_quant.qparams import unsigned
from keras_quant.runners.onnxruntime import OnnxRuntimeRunner
from keras_quant.targets.builder import INT8, build, builder_is_installed
from tests.emit.random_graphs import GraphBuilder

SEEDS = st.integers(0, 2**32 - 1)
FLOAT32_ROUNDING = 1e-5


def decoder(kernel: int, bits: int) -> GraphBuilder:
    """A transposed convolution of strides 2 between two convolutions."""
    builder = GraphBuilder(np.random.default_rng(0), (6, 5, 8), power_of_two=True)
    same, size = {"padding": "same"}, (kernel, kernel, 8, 8)
    builder.add_linear("conv2d", (3, 3, 8, 8), qparams=unsigned(bits, 0.5), attrs=same)
    strided = {**same, "strides": (2, 2)}
    builder.add_linear("conv2d_transpose", size, qparams=unsigned(bits, 0.5), attrs=strided)
    builder.add_linear("conv2d", (3, 3, 8, 8), qparams=unsigned(bits, 0.5), attrs=same)
    return builder


def as_convolution(graph: Graph) -> Graph:
    """The last node, a conv2d_transpose, as the convolution of its subpixel form."""
    node = graph.nodes[-1]
    source, output = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    parts = subpixel(node, source.shape[:2])
    conv = replace(parts.convolution, output="blocks")
    channels = conv.weight.values.shape[-1]
    blocks = replace(output, name="blocks", shape=(*parts.size, channels))
    return replace(
        graph,
        nodes=(*graph.nodes[:-1], conv),
        tensors={**graph.tensors, blocks.name: blocks},
        outputs=("blocks",),
    )


@given(seed=SEEDS)
def test_interleaved_channels_are_the_transposed_convolution(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (*rng.integers(1, 6, 2), 2))
    builder = GraphBuilder(rng, shape, power_of_two=False)
    builder.add_random("conv2d_transpose")
    graph, images = builder.graph(), builder.images(2)
    wanted = run_reference(graph, images)[graph.outputs[0]]
    parts = subpixel(graph.nodes[-1], shape[:2])
    blocks = run_reference(as_convolution(graph), images)["blocks"]
    (rows, columns), (high, wide) = parts.size, parts.strides
    pixels = blocks.reshape(2, rows, columns, high, wide, -1).transpose(0, 1, 3, 2, 4, 5)
    image = pixels.reshape(2, rows * high, columns * wide, -1)
    (top, bottom), (left, right) = parts.kept
    np.testing.assert_array_equal(image[:, top:bottom, left:right], wanted)
    assert parts.is_cut == (image.shape != wanted.shape)


@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_a_phase_has_no_more_taps_than_it_needs(kernel: int) -> None:
    node = decoder(kernel, 4).graph().nodes[2]
    taps = subpixel(node, (6, 5)).convolution.weight.values.shape[:2]
    assert taps == (-(-kernel // 2), -(-kernel // 2))


@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_onnx_runtime_computes_it_with_an_integer_kernel(kernel: int) -> None:
    operators = OnnxRuntimeRunner(emit_onnx_x86(decoder(kernel, 8).graph())).operators
    assert operators["com.microsoft:QLinearConv"] == 3
    assert operators["Transpose"] == 1  # the pixels of a rectangle; no image changes its layout
    assert not {"ConvTranspose", "Conv", "DequantizeLinear"} & operators.keys()


@pytest.mark.skipif(not builder_is_installed(), reason="needs the extra tensorrt")
@pytest.mark.parametrize("bits", [4, 8])
def test_nvidias_builder_runs_it_in_int8(bits: int) -> None:
    content = emit_onnx_tensorrt(decoder(4, bits).graph())
    report = build(onnx.ModelProto.FromString(content))
    assert report.rejected == ()
    assert [layer.precision for layer in report.layers] == [INT8] * 3


@pytest.mark.parametrize("emit", [emit_onnx_x86, emit_onnx_tensorrt])
@pytest.mark.parametrize("weight_only", [False, True])
@pytest.mark.parametrize("attrs", [{"padding": "same", "strides": (3, 2)}, {"strides": (1, 2)}])
def test_floats_are_the_references(emit, weight_only: bool, attrs: dict) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(-8, 8, (2, 4, 3, 5)).astype(np.int8)
    scale = rng.uniform(0.01, 0.1, 5)
    weight = Weight(values=values, scale=scale, bits=4)
    if not weight_only:
        weight = Weight(values=(values * scale).astype(np.float32))
    node = Node(
        name="up",
        op="conv2d_transpose",
        inputs=("image",),
        output="real",
        attrs={**attrs, "activation": "relu"},
        weight=weight,
        bias=rng.normal(size=5).astype(np.float32),
    )
    size = {"same": (12, 8), None: (5, 10)}[attrs.get("padding")]
    tensors = {
        "image": Tensor(name="image", shape=(4, 4, 3)),
        "real": Tensor(name="real", shape=(*size, 5)),
    }
    graph = Graph(name="g", inputs=("image",), outputs=("real",), tensors=tensors, nodes=(node,))
    images = {"image": rng.normal(size=(2, 4, 4, 3)).astype(np.float32)}
    found = OnnxRuntimeRunner(emit(graph)).run(images)["real"]
    wanted = run_reference(graph, images)["real"]
    np.testing.assert_allclose(found, wanted, atol=FLOAT32_ROUNDING)

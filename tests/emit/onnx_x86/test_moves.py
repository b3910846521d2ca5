"""Nodes that move values, in both ONNX files: nothing changes, and all around stays integer."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from keras_quant.emit.onnx_tensorrt.emission import stored_shift as tensorrt_shift
from keras_quant.emit.onnx_tensorrt.emit import emit_onnx_tensorrt
from keras_quant.emit.onnx_x86.emission import stored_shift as x86_shift
from keras_quant.emit.onnx_x86.emit import emit_onnx_x86
from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.graph.ops import OPS
from keras_quant.graph.reference import run_reference
from keras_quant.graph.verify import verify
from keras_quant.qparams import QParams, unsigned
from keras_quant.runners.onnxruntime import OnnxRuntimeRunner
from keras_quant.targets.builder import INT8, build, builder_is_installed
from tests.emit.random_graphs import GraphBuilder

SAME = {"padding": "same"}
MOVES = [
    ("pad", {"padding": ((1, 0), (0, 2))}),
    ("pad", {"padding": ((-1, 0), (0, -2))}),
    ("upsample", {"size": (1, 1)}),
    ("upsample", {"size": (3, 2)}),
    ("concat", {"axis": 0}),
    ("concat", {"axis": 1}),
    ("concat", {"axis": 2}),
    ("reshape", {"shape": (2, 10, 3)}),
    ("reshape", {"shape": (20, 3)}),
    ("reshape", {}),
]
both_formats = pytest.mark.parametrize(
    ("emit", "shift"),
    [(emit_onnx_x86, x86_shift), (emit_onnx_tensorrt, tensorrt_shift)],
    ids=["onnx", "tensorrt"],
)


def moved(op: str, attrs: dict, qparams: QParams | None) -> Graph:
    """An image, as codes or as floats, that a node moves and a reshape moves on."""
    shape = (4, 5, 3)
    tensors = [Tensor(name="image", shape=shape), Tensor(name="in", shape=shape, qparams=qparams)]
    first = Node(
        name="in", op="relu" if qparams is None else "quantize", inputs=("image",), output="in"
    )
    inputs = ("in", "in") if op == "concat" else ("in",)
    move = Node(name="move", op=op, inputs=inputs, output="moved", attrs=attrs)
    size = OPS[op].shape(move, [shape] * len(inputs))
    back = Node(
        name="back",
        op="reshape",
        inputs=("moved",),
        output="out",
        attrs={"shape": (int(np.prod(size)) // 3, 1, 3)},
    )
    tensors.append(Tensor(name="moved", shape=size, qparams=qparams))
    tensors.append(Tensor(name="out", shape=back.attrs["shape"], qparams=qparams))
    graph = Graph(
        name="g",
        inputs=("image",),
        outputs=("moved", "out"),
        tensors={tensor.name: tensor for tensor in tensors},
        nodes=(first, move, back),
    )
    verify(graph)
    return graph


@both_formats
@pytest.mark.parametrize(("op", "attrs"), MOVES)
@pytest.mark.parametrize(
    "qparams",
    [None, unsigned(3, 0.5), QParams(scale=0.3, zero_point=3, qmin=0, qmax=255, bits=8)],
    ids=["floats", "3 bits", "odd zero point"],
)
def test_values_come_out_where_the_reference_has_them(
    emit, shift, op: str, attrs: dict, qparams: QParams | None
) -> None:
    graph = moved(op, attrs, qparams)
    images = {"image": np.random.default_rng(0).normal(0, 20, (2, 4, 5, 3)).astype(np.float32)}
    found, wanted = OnnxRuntimeRunner(emit(graph)).run(images), run_reference(graph, images)
    for name in graph.outputs:
        stored = found[name] if qparams is None else found[name].astype(int) - shift(qparams)
        np.testing.assert_array_equal(stored, wanted[name])


def with_skip(bits: int, *, below: int) -> Graph:
    """A convolution, one at half the size, both side by side, and one of the inner pixels."""
    builder = GraphBuilder(np.random.default_rng(0), (8, 8, 8), power_of_two=True)
    builder.add_linear("conv2d", (3, 3, 8, 8), qparams=unsigned(bits, 0.5), attrs=SAME)
    skip = builder.last
    pool = {"pool_size": (2, 2), "strides": (2, 2)}
    builder.add_node("max_pool", qparams=builder.qparams(), attrs=pool)
    builder.add_linear("conv2d", (3, 3, 8, 8), qparams=unsigned(below, 0.5), attrs=SAME)
    builder.add_node("upsample", qparams=builder.qparams(), attrs={"size": (2, 2)})
    inputs = (skip, builder.last)
    builder.add_node("concat", qparams=unsigned(bits, 0.5), inputs=inputs, attrs={"axis": 2})
    builder.add_node("pad", qparams=builder.qparams(), attrs={"padding": ((-2, -2), (-1, -1))})
    builder.add_linear("conv2d", (3, 3, 16, 8), qparams=unsigned(bits, 0.5), attrs=SAME)
    return builder.graph()


@pytest.mark.parametrize(("bits", "below"), [(8, 8), (8, 7), (4, 3)])
def test_onnx_runtime_moves_codes_channels_last(bits: int, below: int) -> None:
    operators = OnnxRuntimeRunner(emit_onnx_x86(with_skip(bits, below=below))).operators
    assert operators["com.microsoft:QLinearConv"] == 3
    assert not {"Conv", "DequantizeLinear", "Transpose", "Resize"} & operators.keys()


def test_codes_of_one_range_are_clamped_behind_a_concat() -> None:
    model = onnx.load_model_from_string(emit_onnx_x86(with_skip(4, below=4)))
    ops = [node.op_type for node in model.graph.node]
    assert "Clip" not in ops[ops.index("MaxPool") + 2 : ops.index("Slice")]


@pytest.mark.skipif(not builder_is_installed(), reason="needs the extra tensorrt")
@pytest.mark.parametrize(("bits", "below"), [(8, 7), (4, 4)])
def test_nvidias_builder_runs_what_reads_moved_codes_in_int8(bits: int, below: int) -> None:
    content = emit_onnx_tensorrt(with_skip(bits, below=below))
    report = build(onnx.ModelProto.FromString(content))
    assert report.rejected == ()
    assert [layer.precision for layer in report.layers] == [INT8] * 3


@pytest.mark.skipif(not builder_is_installed(), reason="needs the extra tensorrt")
@pytest.mark.parametrize("bits", [7, 8])
def test_nvidias_builder_runs_what_pads_itself_in_int8(bits: int) -> None:
    builder = GraphBuilder(np.random.default_rng(0), (16, 16, 8), power_of_two=True)
    attrs = {"strides": (2, 2), "padding": ((1, 1), (1, 1))}
    builder.add_linear("conv2d", (3, 3, 8, 8), qparams=unsigned(bits, 0.5), attrs=attrs)
    builder.add_node("max_pool", qparams=builder.qparams(), attrs={"pool_size": (3, 3), **attrs})
    builder.add_linear("conv2d", (3, 3, 8, 8), qparams=unsigned(bits, 0.5), attrs=attrs)
    model = onnx.load_model_from_string(emit_onnx_tensorrt(builder.graph()))
    pads = [node.op_type for node in model.graph.node].count("Pad")
    assert pads == (bits == 8)  # of codes that are stored with a shift
    report = build(model)
    assert report.rejected == ()
    assert [layer.precision for layer in report.layers] == [INT8] * 2

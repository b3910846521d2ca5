"""Plain kinds: what the weights become, how large files are, and how near they answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema

from keras_quant.diagnose import in_onnx, in_tflite
from keras_quant.diagnose.contents import FileContents, OperatorContents
from keras_quant.emit.onnx_x86.emit import emit_onnx_x86
from keras_quant.emit.plain import onnx as plain_onnx
from keras_quant.emit.plain import tflite as plain_tflite
from keras_quant.emit.plain.kinds import PlainFile, fits_half, int8_channels
from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.errors import EmitError
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.verify import verify
from keras_quant.runners.litert import LiteRTRunner
from keras_quant.runners.onnxruntime import OnnxRuntimeRunner

# The largest error of a net of three layers with weights: float16 rounds each to 2**-12 of itself,
# int8 to half of 1/127 of a channel's largest.
HALF, EIGHT_BITS = 3 * 2.0**-12, 3 * 0.5 / 127
LARGEST = 20.0  # of any value of the net below

MAKERS: dict[str, tuple[Callable[[Graph], bytes], Callable[..., PlainFile], Callable]] = {
    "tflite": (emit_tflite, plain_tflite.make_plain, LiteRTRunner),
    "onnx": (emit_onnx_x86, plain_onnx.make_plain, OnnxRuntimeRunner),
}


def net() -> Graph:
    """A convolution, a depthwise one and a dense layer, all in float, each with many weights."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> Weight:
        return Weight(values=rng.normal(0, 0.2, shape).astype(np.float32))

    bias = rng.normal(size=32).astype(np.float32)
    same = {"padding": "same", "activation": "relu"}
    nodes = (
        Node(name="conv", op="conv2d", inputs=("image",), output="conv", attrs=same,
             weight=weight(3, 3, 8, 32), bias=bias),
        Node(name="depth", op="depthwise_conv2d", inputs=("conv",), output="depth", attrs=same,
             weight=weight(3, 3, 32), bias=bias),
        Node(name="mean", op="mean", inputs=("depth",), output="mean"),
        Node(name="head", op="dense", inputs=("mean",), output="head", weight=weight(32, 40)),
    )  # fmt: skip
    shapes = {"image": (6, 6, 8), "conv": (6, 6, 32), "depth": (6, 6, 32), "mean": (32,)}
    tensors = {n: Tensor(name=n, shape=s) for n, s in {**shapes, "head": (40,)}.items()}
    graph = Graph(name="net", inputs=("image",), outputs=("head",), tensors=tensors, nodes=nodes)
    verify(graph)
    return graph


def images() -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(1).random((4, 6, 6, 8), np.float32)}


def made(target: str, kind: str) -> tuple[bytes, PlainFile]:
    emit, make, _ = MAKERS[target]
    content = emit(net())
    more = {"ranges": dict.fromkeys(net().tensors, LARGEST)} if kind == "w8a16" else {}
    return content, make(content, kind, **more)


def distance(target: str, kind: str) -> float:
    content, plain = made(target, kind)
    runner = MAKERS[target][2]
    wanted, found = (runner(one).run(images())["head"] for one in (content, plain.content))
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize(
    ("target", "kind", "bound"),
    [
        ("tflite", "fp16", HALF),
        ("onnx", "fp16", HALF),
        ("tflite", "dynamic", EIGHT_BITS),
        ("onnx", "dynamic", EIGHT_BITS),
        ("tflite", "w8a16", EIGHT_BITS),
    ],
)
def test_answers_are_as_near_as_the_weights(target: str, kind: str, bound: float) -> None:
    found = distance(target, kind)
    assert 0 < found < bound


@pytest.mark.parametrize("target", MAKERS)
def test_half_as_large_or_a_quarter(target: str) -> None:
    """What a file has besides weights may grow by 1,200 bytes."""
    content, half = made(target, "fp16")
    _, dynamic = made(target, "dynamic")
    sizes = {n.name: n.weight.values.size for n in net().nodes if n.weight is not None}
    structure = len(content) - 4 * sum(sizes.values())
    assert len(half.content) - structure < 2 * sum(sizes.values()) + 1200
    # A byte a weight, but for the depthwise layer's, and 12 for a scale and its zero point.
    few = sizes["conv"] + sizes["head"] + 4 * sizes["depth"]
    assert len(dynamic.content) - structure < few + 12 * 72 + 1200


def operator(contents: FileContents, op: str) -> OperatorContents:
    return next(one for one in contents.operators if one.op == op)


def test_dynamic_tflite_is_hybrid_on_xnnpack_but_for_depthwise(tmp_path: Path) -> None:
    _, plain = made("tflite", "dynamic")
    (tmp_path / "m.tflite").write_bytes(plain.content)
    contents = in_tflite.describe(tmp_path / "m.tflite")
    for op, channels in (("CONV_2D", 32), ("FULLY_CONNECTED", 40)):
        one = operator(contents, op)
        assert (one.computes, one.library) == ("hybrid", "XNNPACK")
        assert one.kernel is not None
        assert (one.kernel.dtype, one.kernel.scales) == ("int8", channels)
    assert operator(contents, "DEPTHWISE_CONV_2D").computes == "float"
    codes = schema.ModelT.InitFromPackedBuf(plain.content, 0).operatorCodes
    versions = {code.builtinCode: code.version for code in codes}
    # op_version.cc: 5 and 9 are the first that take a scale a channel beside float inputs.
    assert versions[schema.BuiltinOperator.CONV_2D] == 5
    assert versions[schema.BuiltinOperator.FULLY_CONNECTED] == 9
    assert plain.changed == ("conv", "head")
    assert list(plain.kept) == ["depth"] and "slow builtin kernel" in plain.kept["depth"]


def test_w8a16_tflite_computes_in_int16(tmp_path: Path) -> None:
    _, plain = made("tflite", "w8a16")
    (tmp_path / "m.tflite").write_bytes(plain.content)
    contents = in_tflite.describe(tmp_path / "m.tflite")
    for op in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        one = operator(contents, op)
        assert one.computes == "integer"
        assert contents.tensors[one.inputs[0]].dtype == "int16"
    # The depthwise layer reads the convolution's codes as they are: one QUANTIZE for both.
    assert [one.op for one in contents.operators].count("QUANTIZE") == 2
    assert (plain.changed, plain.kept) == (("conv", "depth", "head"), {})


def test_w8a16_of_a_range_that_is_not_known_stays_in_float() -> None:
    content = emit_tflite(net())
    plain = plain_tflite.make_plain(content, "w8a16", ranges={"image": 1.0, "conv": LARGEST})
    assert plain.changed == ("conv",)
    assert set(plain.kept) == {"depth", "head"}
    LiteRTRunner(plain.content).run(images())


def test_dynamic_onnx_is_of_integers_but_for_grouped_convolutions(tmp_path: Path) -> None:
    _, plain = made("onnx", "dynamic")
    (tmp_path / "m.onnx").write_bytes(plain.content)
    computed = [one.op for one in in_onnx.describe(tmp_path / "m.onnx").operators]
    assert "ConvInteger" in computed
    assert {"DynamicQuantizeMatMul", "MatMulInteger"} & set(computed)
    assert plain.changed == ("conv/sum", "head/sum")
    assert list(plain.kept) == ["depth/sum"]


def test_onnx_refuses_int16_by_name() -> None:
    with pytest.raises(EmitError, match=r"onnx cannot be written as w8a16.*--kind dynamic or fp16"):
        plain_onnx.make_plain(emit_onnx_x86(net()), "w8a16")


def test_weights_beyond_float16_stay_and_are_told() -> None:
    graph = net()
    graph.nodes[0].kernel.values[0, 0, 0, 0] = 70000
    tflite = plain_tflite.make_plain(emit_tflite(graph), "fp16")
    assert tflite.changed == ("depth", "head")
    assert tflite.kept == {"conv": "its weights are beyond float16's range"}
    onnx_file = plain_onnx.make_plain(emit_onnx_x86(graph), "fp16")
    assert list(onnx_file.kept) == ["conv/sum"]
    assert fits_half(np.array([65504.0])) and not fits_half(np.array([65505.0]))


def test_no_float_weights_are_left_beside_halves() -> None:
    _, plain = made("onnx", "fp16")
    stored = onnx.load_model_from_string(plain.content).graph.initializer
    floats = [one.name for one in stored if one.data_type == onnx.TensorProto.FLOAT]
    assert floats == []


def test_codes_reach_127_in_each_channel_and_a_channel_of_zeros_has_scale_1() -> None:
    values = np.array([[1.0, -2.0, 0.0], [0.5, 4.0, 0.0]], np.float32)
    codes, scales = int8_channels(values, 1)
    assert codes.tolist() == [[127, -64, 0], [64, 127, 0]]
    np.testing.assert_array_equal(scales, np.float32([1 / 127, 4 / 127, 1]))


def test_the_smallest_numbers_have_a_scale_that_is_not_0() -> None:
    codes, scales = int8_channels(np.full((2, 1), 1e-45, np.float32), 1)
    assert codes.tolist() == [[0], [0]]
    assert scales.tolist() == [1]

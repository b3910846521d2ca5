"""ONNX files: ours come to the same layers as their graph, and those of others to known counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from keras_quant.bench.estimate.fusion import FusedLayer, fuse
from keras_quant.bench.estimate.onnx_layers import read_layers
from keras_quant.emit.onnx_tensorrt.emit import emit_onnx_tensorrt
from keras_quant.errors import ModelError, UsageError
from keras_quant.graph.ir import Graph
from tests.emit.random_graphs import GraphBuilder

# Real nets without weights, which come with onnx: multiply-accumulates in 10^9, kernels.
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
KNOWN = {"resnet50": (4.09, 57), "vgg19": (19.63, 25), "squeezenet": (0.35, 31)}
KNOWN |= {"densenet121": (2.83, 188)}


def shapes(layers: Sequence[FusedLayer]) -> list[tuple[object, ...]]:
    """What decides over the time of the layers that multiply."""
    return [
        (one.kind, one.rows, one.columns, one.depth, one.taps, one.groups, one.macs, one.integer)
        for one in layers
        if one.macs
    ]


def a_net() -> Graph:
    net = GraphBuilder(np.random.default_rng(0), (8, 8, 4), power_of_two=True)
    net.add_linear("conv2d", (3, 3, 4, 8))
    net.add_linear("depthwise_conv2d", (3, 3, 8))
    net.add_linear("conv2d", (1, 1, 8, 16))
    return net.graph()


def test_our_own_file_has_the_layers_of_its_graph(tmp_path: Path) -> None:
    graph = a_net()
    path = tmp_path / "model.onnx"
    path.write_bytes(emit_onnx_tensorrt(graph))
    read, counted = read_layers(path).layers, fuse(graph)
    assert shapes(read) == shapes(counted)
    assert all(one.integer for one in read if one.macs)


@pytest.mark.parametrize("name", KNOWN)
def test_nets_of_others_have_the_counts_that_are_published(name: str) -> None:
    path = LIGHT / f"light_{name}.onnx"
    if not path.is_file():
        pytest.skip("onnx came without its test data")
    layers = read_layers(path).layers
    macs, kernels = KNOWN[name]
    assert round(sum(one.macs for one in layers) / 1e9, 2) == macs
    assert len(layers) == kernels
    assert all(one.integer is None for one in layers)


def save(
    path: Path, nodes: Sequence[onnx.NodeProto], sizes: Sequence[int | str], **kernels: list[Any]
) -> Path:
    """A file of one input x and one output y, whose sizes are left to be found."""
    answer = kernels.pop("y", ["n", "c", "h", "w"])
    weights = [
        helper.make_tensor(name, TensorProto.FLOAT, dims, np.ones(int(np.prod(dims))).tolist())
        for name, dims in kernels.items()
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, answer)],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)
    return path


def test_a_batch_may_be_open_and_biases_and_batch_norms_are_taken_in(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1], name="conv"),
        helper.make_node("BatchNormalization", ["a", "n", "n", "n", "n"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "n", "n", "n", "n"], ["d"], name="alone"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["g"], name="dense"),
        helper.make_node("Add", ["g", "u"], ["y"]),
    ]
    kernels = {"w": [4, 3, 3, 3], "n": [4], "v": [4, 5], "u": [5], "y": ["n", "c"]}
    path = save(tmp_path / "net.onnx", nodes, ["n", 3, 8, 8], **kernels)
    conv, norm, pool, dense = read_layers(path).layers
    assert (conv.rows, conv.columns, conv.depth, conv.macs) == (64, 4, 27, 64 * 4 * 27)
    assert len(conv.nodes) == 3 and (norm.name, norm.kind) == ("alone", "values")
    assert pool.read == 4 * 64 and (dense.macs, len(dense.nodes)) == (20, 2)


def test_a_gemm_may_have_its_kernel_turned(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)]
    path = save(tmp_path / "net.onnx", nodes, ["n", 4], w=[5, 4], y=["n", "c"])
    (layer,) = read_layers(path).layers
    assert (layer.columns, layer.depth) == (5, 4)


def test_all_that_is_not_known_is_told_at_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="conv"),
        helper.make_node("NonZero", ["a"], ["b"], name="where"),
        helper.make_node("MatMul", ["a", "a"], ["y"], name="attention"),
    ]
    path = save(tmp_path / "net.onnx", nodes, [1, 3, 8, 8], w=[3, 3, 1, 1])
    with pytest.raises(ModelError, match="(?s)where: NonZero is not estimated.*attention: MatMul"):
        read_layers(path)


def test_an_open_size_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    path = save(tmp_path / "net.onnx", nodes, [1, 3, "height", 8], w=[3, 3, 1, 1])
    with pytest.raises(ModelError, match=r"'x' has the shape \(1, 3, any, 8\).*fixed sizes"):
        read_layers(path)


def test_an_open_size_can_be_given(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    path = save(tmp_path / "net.onnx", nodes, ["n", 3, "height", 8], w=[5, 3, 1, 1])
    (layer,) = read_layers(path, {"x": (1, 3, 4, 8)}).layers
    assert layer.macs == 4 * 8 * 5 * 3
    for wrong in ({"x": (1, 3, 4, 9)}, {"x": (1, 3, 4)}, {"image": (1, 3, 4, 8)}):
        with pytest.raises(UsageError, match=r"fits no input; it has x \[None, 3, None, 8\]"):
            read_layers(path, wrong)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ModelError, match="net.onnx: not an ONNX file"):
        read_layers(path)

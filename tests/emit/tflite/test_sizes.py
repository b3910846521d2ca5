"""Bytes of a file shared out among layers counted by hand."""

from __future__ import annotations

import gzip

import numpy as np

from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.emit.tflite.file import TFLiteFile
from keras_quant.emit.tflite.sizes import measure_tflite
from tests.emit.random_graphs import GraphBuilder, random_graph

SCALE_BYTES, ZERO_POINT_BYTES = 4, 8  # float32, int64


def file_of(constants: dict[str, np.ndarray], *, scale: np.ndarray | None = None) -> bytes:
    file = TFLiteFile("m")
    for name, values in constants.items():
        file.constant(name, values, scale=scale)
    x = file.activation("x", (1,))
    return file.pack(inputs={"x": x}, outputs={"x": x})


def test_a_layer_has_the_constants_under_its_name():
    content = file_of(
        {"a/weight": np.arange(5, dtype=np.int8), "a/b/weight": np.arange(7, dtype=np.int32)}
    )
    found = measure_tflite(content, ["a", "a/b", "c"])
    assert found.layers == {"a": 5, "a/b": 28, "c": 0}
    assert found.total == len(content) == found.structure + 33
    assert found.gzip == len(gzip.compress(content))


def test_scales_and_zero_points_of_constants_count():
    content = file_of({"a/weight": np.arange(6, dtype=np.int8)}, scale=np.ones(2))
    assert measure_tflite(content, ["a"]).layers == {"a": 6 + 2 * (SCALE_BYTES + ZERO_POINT_BYTES)}


def test_scales_and_zero_points_that_are_stored_once_count_once():
    codes = {"a/weight": np.arange(6, dtype=np.int8), "b/weight": np.arange(4, dtype=np.int8)}
    found = measure_tflite(file_of(codes, scale=np.ones(2)), ["a", "b"])
    assert found.layers == {"a": 6 + 2 * (SCALE_BYTES + ZERO_POINT_BYTES), "b": 4}


def test_constants_that_are_stored_once_count_once():
    zeros = np.zeros(4, np.int32)
    content = file_of({"a/bias": zeros, "b/bias": zeros})
    assert measure_tflite(content, ["a", "b"]).layers == {"a": 16, "b": 0}


def test_emitted_convolution_counted_by_hand():
    builder = GraphBuilder(np.random.default_rng(0), (5, 5, 3), power_of_two=True)
    builder.add_random("conv2d")
    graph = builder.graph()
    conv = next(node for node in graph.nodes if node.op == "conv2d")
    channels = conv.weight.values.shape[-1]
    found = measure_tflite(emit_tflite(graph), [node.name for node in graph.nodes])
    codes_and_biases = conv.weight.values.size + 4 * channels
    # Codes and biases have scales of their own; the zeros of both are the same.
    grids = (2 * SCALE_BYTES + ZERO_POINT_BYTES) * channels
    assert found.layers[conv.name] == codes_and_biases + grids


def test_bytes_of_a_file_are_all_accounted_for():
    graph = random_graph(3).graph()
    content = emit_tflite(graph)
    found = measure_tflite(content, [node.name for node in graph.nodes])
    assert found.total == len(content) == found.structure + sum(found.layers.values())
    assert 0 < found.structure < found.total

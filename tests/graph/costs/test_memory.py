"""Live bytes against graphs counted by hand."""

from __future__ import annotations

from dataclasses import replace

from keras_quant.graph.costs.memory import live_bytes, logical_bytes, stored_bytes
from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.qparams import unsigned


def residual() -> Graph:
    """x -> a -> b -> sum of x and b, tensors of 100 codes of 4 bits."""
    tensors = {name: Tensor(name=name, shape=(100,), qparams=unsigned(4, 1.0)) for name in "xabs"}
    steps = [("a", "relu", ("x",)), ("b", "relu", ("a",)), ("s", "add", ("x", "b"))]
    nodes = tuple(Node(name=name, op=op, inputs=reads, output=name) for name, op, reads in steps)
    return Graph(name="residual", inputs=("x",), outputs=("s",), tensors=tensors, nodes=nodes)


def test_small_graph_counted_by_hand(graph: Graph):
    # image 6x6x2 float32, pixels 8 bits, features and sums 3x3x4 4 bits, means 4 bits, logits
    assert live_bytes(graph, stored_bytes) == (288 + 72, 72 + 36, 36 + 36, 36 + 4, 4 + 12)
    assert live_bytes(graph, logical_bytes) == (288 + 72, 72 + 18, 18 + 18, 18 + 2, 2 + 12)


def test_a_skipped_tensor_lives_until_the_addition():
    assert live_bytes(residual(), stored_bytes) == (200, 300, 300)


def test_an_output_lives_to_the_end():
    assert live_bytes(replace(residual(), outputs=("a", "s")), stored_bytes) == (200, 300, 400)


def test_an_unread_tensor_lives_while_it_is_written():
    graph = residual()
    unread = replace(graph, nodes=(graph.nodes[0], replace(graph.nodes[1], inputs=("x",))))
    assert live_bytes(replace(unread, outputs=("b",)), stored_bytes) == (200, 200)


def test_logical_bytes_are_packed_and_whole():
    codes = Tensor(name="x", shape=(3, 3), qparams=unsigned(3, 1.0))
    assert (logical_bytes(codes), stored_bytes(codes)) == (4, 9)  # 27 bits
    real = Tensor(name="x", shape=(3, 3))
    assert (logical_bytes(real), stored_bytes(real)) == (36, 36)

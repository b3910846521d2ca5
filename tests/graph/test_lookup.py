"""Tables of codes: what they give, what a graph asks of them, and that they are saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras_quant.errors import GraphError
from keras_quant.graph.costs.cost import cost
from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.graph.reference import run_reference
from keras_quant.graph.store import load_graph, pack_graph
from keras_quant.graph.text import describe_nodes
from keras_quant.graph.verify import verify
from keras_quant.qparams import QParams, signed, unsigned
from tests.emit.lookup_graphs import graph_of

SOURCE = signed(2, 0.5, narrow_range=False)  # -2, -1, 0, 1
TARGET = unsigned(3, 1.0)
IMAGE = {"image": np.array([[[[-1.0, -1.0], [-0.5, -0.5]], [[0.0, 0.0], [0.5, 9.0]]]])}
ROW = np.array([7, 5, 3, 0], np.int32)


def lookup(table: np.ndarray, target: QParams | None = TARGET) -> Graph:
    """A lookup of the codes -2 to 1 of (2, 2, 2) images."""
    return graph_of(table, SOURCE, target, (2, 2, 2))


def test_each_code_becomes_its_entry() -> None:
    found = run_reference(lookup(ROW), IMAGE)["out"]
    np.testing.assert_array_equal(found, [[[[7, 7], [5, 5]], [[3, 3], [0, 0]]]])


def test_channels_have_rows_of_their_own() -> None:
    found = run_reference(lookup(np.stack([ROW, ROW[::-1]])), IMAGE)["out"]
    np.testing.assert_array_equal(found, [[[[7, 0], [5, 3]], [[3, 5], [0, 7]]]])


def test_entries_may_be_reals() -> None:
    graph = lookup((ROW / 4).astype(np.float32), None)
    verify(graph)
    found = run_reference(graph, IMAGE)["out"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0, :, :, 0], [[1.75, 1.25], [0.75, 0.0]])


def test_a_table_is_saved_with_its_graph(tmp_path: Path) -> None:
    (tmp_path / "g.zip").write_bytes(pack_graph(lookup(ROW)))
    node = load_graph(tmp_path / "g.zip").nodes[1]
    assert node.table is not None and node.table.dtype == np.int32
    np.testing.assert_array_equal(node.table, ROW)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (ROW[:3], r"table is int32 \(3,\); int32 \(4,\) or \(2, 4\) is needed"),
        (np.stack([ROW] * 3), r"table is int32 \(3, 4\)"),
        (ROW.astype(np.float32), r"table is float32 \(4,\); int32"),
        (ROW + np.int32(1), "table holds codes from 1 to 8; out takes 0 to 7"),
        (None, "lookup needs a table"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table: np.ndarray | None, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        verify(lookup(table))


def test_reals_that_are_not_finite_are_refused() -> None:
    with pytest.raises(GraphError, match="NaN or infinity"):
        verify(lookup(np.float32([0, 1, np.nan, 2]), None))


def test_a_table_at_another_operation_is_refused() -> None:
    graph = lookup(ROW)
    nodes = (replace(graph.nodes[0], table=ROW), graph.nodes[1])
    with pytest.raises(GraphError, match="quantize takes no table"):
        verify(replace(graph, nodes=nodes))


def test_tables_count_as_weights_at_the_bits_of_their_entries() -> None:
    assert [node.weight_bytes for node in cost(lookup(ROW)).nodes] == [0, 2]  # 12 bits
    reals = lookup((ROW / 4).astype(np.float32), None)
    assert [node.weight_bytes for node in cost(reals).nodes] == [0, 16]


def test_tables_are_shown_by_their_shapes() -> None:
    graph = lookup(np.stack([ROW, ROW[::-1]]))
    assert [text.kernel for text in describe_nodes(graph)] == ["", "table of 2x4"]


def test_shapes_that_cannot_be_multiplied_are_refused() -> None:
    graph = lookup(ROW)
    wide = Tensor(name="wide", shape=(2, 2, 3), qparams=SOURCE)
    node = Node(name="m", op="multiply", inputs=("codes", "wide"), output="out")
    tensors = {**graph.tensors, "wide": wide}
    with pytest.raises(GraphError, match=r"input shapes are \(2, 2, 2\), \(2, 2, 3\); each"):
        verify(replace(graph, tensors=tensors, nodes=(graph.nodes[0], node)))

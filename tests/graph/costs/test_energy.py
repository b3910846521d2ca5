"""Energies against the source's table and nodes counted by hand, in pJ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keras_quant.graph.costs.energy import (
    _ARITHMETIC,
    MEMORIES,
    access_pj,
    add_pj,
    arithmetic_pj,
    memory_for,
    multiply_pj,
)
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.ops import OPS
from keras_quant.graph.pointwise import POINTWISE
from keras_quant.qparams import QParams, unsigned

ADD_32, FLOAT_ADD, FLOAT_MULTIPLY = 0.1, 0.9, 3.7  # Horowitz 2014, figure 1.1.9
CODES = unsigned(4, 0.5)


def energy_of(
    op: str, *shapes: tuple[int, ...], qparams: QParams | None = CODES, **attrs: object
) -> float:
    """Energy of one node without a kernel; the last shape is its output's."""
    names = [f"t{index}" for index in range(len(shapes))]
    tensors = {
        name: Tensor(name=name, shape=shape, qparams=qparams)
        for name, shape in zip(names, shapes, strict=True)
    }
    node = Node(name="n", op=op, inputs=tuple(names[:-1]), output=names[-1], attrs=attrs)
    graph = Graph(
        name="g", inputs=node.inputs, outputs=(node.output,), tensors=tensors, nodes=(node,)
    )
    return arithmetic_pj(graph, node, macs=0)


def test_every_operation_has_an_energy():
    assert [op for op, rule in OPS.items() if not rule.weight_rank and op not in _ARITHMETIC] == []


def test_every_function_of_one_value_costs_an_operation_or_more():
    assert all(energy_of("pointwise", (1,), (1,), qparams=None, function=f) > 0 for f in POINTWISE)


def test_widths_of_the_table_have_the_energies_of_the_table():
    assert [add_pj(8), add_pj(32)] == pytest.approx([0.03, 0.1])
    assert [multiply_pj(8, 8), multiply_pj(32, 32)] == pytest.approx([0.2, 3.1])


def test_energy_grows_with_each_width():
    adders = [add_pj(bits) for bits in range(1, 33)]
    assert adders[0] > 0 and adders == sorted(adders)
    assert 0 < multiply_pj(1, 8) < multiply_pj(4, 8) < multiply_pj(8, 8)
    assert multiply_pj(2, 8) == multiply_pj(8, 2)


def test_a_multiplier_is_an_array_of_cells_between_two_edges():
    # c2 * 8 * 8 + c1 * 8 = 0.2 and c2 * 32 * 32 + c1 * 32 = 3.1 give c2 = 2.3 / 768.
    cell, wire = 2.3 / 768, 0.2 / 8 - 8 * 2.3 / 768
    assert multiply_pj(4, 8) == pytest.approx(32 * cell + 6 * wire)


@pytest.mark.parametrize(
    ("size_bytes", "picojoules"),
    [(0, 10), (8192, 10), (8193, 20), (32768, 20), (2**20, 100), (2**20 + 1, 1950)],
)
def test_memory_is_the_smallest_that_holds_it(size_bytes: int, picojoules: float):
    assert memory_for(size_bytes).access_pj == picojoules
    assert access_pj(24, memory_for(size_bytes)) == pytest.approx(3 * picojoules)


def test_memories_are_in_order_of_size():
    sizes = [memory.size_bytes for memory in MEMORIES]
    assert sizes == sorted(sizes)


def test_integer_kernel_multiplies_at_its_widths_and_scales_once_an_output(graph: Graph):
    conv = graph.nodes[1]  # 4-bit weights, 8-bit pixels, 36 outputs
    expected = 648 * (multiply_pj(4, 8) + ADD_32) + 36 * (ADD_32 + FLOAT_MULTIPLY)
    assert arithmetic_pj(graph, conv, macs=648) == pytest.approx(expected)


def test_float_kernel_multiplies_in_float32(graph: Graph):
    conv = graph.nodes[1]
    real = replace(
        conv, inputs=("image",), weight=Weight(values=conv.weight.values.astype(np.float32))
    )
    expected = 648 * (FLOAT_MULTIPLY + FLOAT_ADD) + 36 * FLOAT_ADD
    assert arithmetic_pj(graph, real, macs=648) == pytest.approx(expected)


def test_codes_of_weights_on_reals_are_scaled_after_the_sum(graph: Graph):
    mixed = replace(graph.nodes[1], inputs=("image",))
    expected = (648 + 36) * (FLOAT_MULTIPLY + FLOAT_ADD)
    assert arithmetic_pj(graph, mixed, macs=648) == pytest.approx(expected)


def test_codes_on_one_grid_are_added_at_their_width():
    assert energy_of("add", (5,), (5,), (5,)) == pytest.approx(5 * add_pj(4))
    assert energy_of("add", (5,), (5,), (5,), qparams=None) == pytest.approx(5 * FLOAT_ADD)


def test_codes_on_other_grids_are_scaled_to_be_added(graph: Graph):
    expected = 36 * (2 * FLOAT_MULTIPLY + FLOAT_ADD)
    assert arithmetic_pj(graph, graph.nodes[2], macs=0) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            energy_of("max_pool", (4, 4, 2), (2, 2, 2), pool_size=(2, 2), strides=(2, 2)),
            8 * 3 * add_pj(4),
        ),
        (
            energy_of("avg_pool", (4, 4, 2), (2, 2, 2), pool_size=(2, 2), strides=(2, 2)),
            8 * (3 * ADD_32 + FLOAT_MULTIPLY),
        ),
        (energy_of("mean", (4, 4, 2), (2,)), 2 * (15 * ADD_32 + FLOAT_MULTIPLY)),
        (energy_of("mean", (4, 4, 2), (2,), qparams=None), 2 * (15 * FLOAT_ADD + FLOAT_MULTIPLY)),
        (energy_of("requantize", (7,), (7,)), 7 * (FLOAT_MULTIPLY + FLOAT_ADD)),
        (energy_of("relu", (7,), (7,), qparams=None), 7 * FLOAT_ADD),
        (energy_of("relu", (7,), (7,), qparams=None, max_value=6.0), 14 * FLOAT_ADD),
        (energy_of("softmax", (3,), (3,), qparams=None), 3 * (8 * FLOAT_MULTIPLY + 10 * FLOAT_ADD)),
        (energy_of("reshape", (2, 2, 2), (8,)), 0),
        (
            energy_of("multiply", (2, 3), (3,), (2, 3)),
            6 * (multiply_pj(4, 4) + FLOAT_MULTIPLY),
        ),
        (energy_of("multiply", (3,), (3,), (3,), qparams=None), 3 * FLOAT_MULTIPLY),
        (
            energy_of("pointwise", (3,), (3,), qparams=None, function="hard_swish"),
            3 * (2 * FLOAT_MULTIPLY + 3 * FLOAT_ADD),
        ),
    ],
)
def test_nodes_without_a_kernel_counted_by_hand(found: float, expected: float):
    assert found == pytest.approx(expected)

"""Realized graphs against ideal ones, and the reports about them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.errors import GraphError
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.passes.realize import ChannelReport, realize
from keras_quant.graph.passes.realize.room import MAX_GAIN_MOVE
from keras_quant.graph.reference import run_reference
from keras_quant.graph.verify import verify
from keras_quant.qparams import QParams, unsigned

TAPS = 12
MOST_ROOM = 0.25  # see room.needed_room


def dense_graph(
    values: np.ndarray,
    *,
    scale: np.ndarray,
    bias: np.ndarray | None,
    source: QParams,
    output: QParams,
) -> Graph:
    """quantize, then one dense node from codes to codes."""
    taps, channels = values.shape
    tensors = [
        Tensor(name="x", shape=(taps,)),
        Tensor(name="codes", shape=(taps,), qparams=source),
        Tensor(name="y", shape=(channels,), qparams=output),
    ]
    dense = Node(
        name="dense",
        op="dense",
        inputs=("codes",),
        output="y",
        weight=Weight(values=values.astype(np.int8), scale=scale, bits=8),
        bias=bias,
    )
    return Graph(
        name="one dense",
        inputs=("x",),
        outputs=("y",),
        tensors={tensor.name: tensor for tensor in tensors},
        nodes=(Node(name="quantize", op="quantize", inputs=("x",), output="codes"), dense),
    )


def random_graph(seed: int, *, weight_bits: int, activation_bits: int, channels: int = 8) -> Graph:
    """Gaussian weights and outputs that fill their range."""
    rng = np.random.default_rng(seed)
    largest = max(2 ** (weight_bits - 1) - 1, 1)
    values = np.clip(np.rint(rng.normal(size=(TAPS, channels)) * largest / 2), -largest, largest)
    values[0] = largest
    source = unsigned(activation_bits, rng.uniform(0.01, 0.1))
    output = unsigned(activation_bits, rng.uniform(0.01, 0.1))
    spread = source.scale * source.qmax * np.sqrt((values**2).sum(axis=0)) / 2
    return dense_graph(
        values,
        scale=output.scale * output.qmax / spread,
        bias=rng.normal(size=channels) * output.scale * output.qmax / 3,
        source=source,
        output=output,
    )


def moved_as_told(graph: Graph, report: ChannelReport) -> Graph:
    """The ideal graph with its bias and gain moved, kept in float32 as a trained model does."""
    *before, dense = graph.nodes
    bias, scale = dense.bias + report.delta, dense.weight.scale * report.gain
    bias = np.where(report.delta != 0, np.float32(bias), bias)
    weight = replace(dense.weight, scale=scale)
    return replace(graph, nodes=(*before, replace(dense, bias=bias, weight=weight)))


def answers(graph: Graph, seed: int = 0) -> np.ndarray:
    """Codes for random inputs, the extreme ones among them."""
    qparams, rng = graph.tensors["codes"].qparams, np.random.default_rng(seed)
    assert qparams is not None
    codes = rng.integers(qparams.qmin, qparams.qmax + 1, (200, *graph.tensors["x"].shape))
    codes[:50] = np.where(rng.random(codes[:50].shape) < 0.5, qparams.qmin, qparams.qmax)
    return run_reference(graph, {"x": codes * np.float32(qparams.scale)})["y"]


@pytest.mark.parametrize("activation_bits", [1, 2, 3, 4])
@pytest.mark.parametrize("weight_bits", [1, 2, 3, 4])
def test_low_bit_graphs_answer_as_the_ideal(weight_bits, activation_bits):
    graph = random_graph(0, weight_bits=weight_bits, activation_bits=activation_bits, channels=50)
    realized = realize(graph, snap=False)
    (report,) = realized.reports
    verify(realized.graph)
    assert (report.threshold, report.rounded, report.wrong_thresholds) == (50, 0, 0)
    np.testing.assert_array_equal(answers(realized.graph), answers(graph))


def test_a_padded_convolution_answers_as_the_ideal(graph: Graph):
    realized = realize(graph, snap=False)
    verify(realized.graph)
    assert [(report.node, report.threshold) for report in realized.reports] == [("conv", 4)]
    images = {"image": np.random.default_rng(0).random((20, 6, 6, 2), np.float32)}
    for name in ("features", "logits"):
        made, ideal = (run_reference(g, images, keep=[name])[name] for g in (realized.graph, graph))
        np.testing.assert_array_equal(made, ideal)


@given(seed=st.integers(0, 10**6), weight_bits=st.integers(2, 8))
def test_moved_bias_realizes_to_the_same_answers(seed, weight_bits):
    graph = random_graph(seed, weight_bits=weight_bits, activation_bits=8)
    first = realize(graph, fixed_gain=["dense"])
    (report,) = first.reports
    assert (report.gain == 1).all()
    moved = report.delta != 0
    second = realize(moved_as_told(graph, report), snap=False)
    made, again = answers(first.graph), answers(second.graph)
    np.testing.assert_array_equal(made[:, moved], again[:, moved])


@given(seed=st.integers(0, 10**6), weight_bits=st.integers(2, 8))
def test_snapped_graph_answers_as_the_moved_ideal(seed, weight_bits):
    graph = random_graph(seed, weight_bits=weight_bits, activation_bits=8)
    realized = realize(graph)
    (report,) = realized.reports
    assert report.threshold + report.snapped == report.channels == 8
    unit = graph.tensors["codes"].qparams.scale * graph.nodes[-1].weight.scale
    assert np.count_nonzero(report.delta) <= report.snapped
    # To the next interval without ties, and into it by the room that is needed at most.
    assert (np.abs(report.delta) <= (1 + MOST_ROOM) * unit).all()
    if report.wrong_thresholds == 0:
        moved = moved_as_told(graph, report)
        np.testing.assert_array_equal(answers(realized.graph), answers(moved))


def test_gains_move_where_no_bias_has_room():
    graph = random_graph(0, weight_bits=8, activation_bits=8, channels=50)
    fixed = realize(graph, fixed_gain=["dense"]).graph
    free = realize(graph)
    (report,) = free.reports
    assert 0 < np.count_nonzero(report.gain != 1) <= report.snapped
    assert (np.abs(report.gain - 1) <= MAX_GAIN_MOVE).all()
    assert (fixed.nodes[-1].bias != free.graph.nodes[-1].bias).any()
    if report.wrong_thresholds == 0:
        moved = moved_as_told(graph, report)
        np.testing.assert_array_equal(answers(free.graph), answers(moved))


def test_rounded_channels_move_no_bias_but_are_counted():
    graph = random_graph(3, weight_bits=8, activation_bits=8)
    snapped, rounded = realize(graph).reports[0], realize(graph, snap=False).reports[0]
    assert snapped.snapped == rounded.rounded > 0
    assert not rounded.delta.any()
    assert 10 * snapped.wrong_thresholds < rounded.wrong_thresholds < rounded.thresholds
    assert rounded.largest_shift_steps == 0 < snapped.largest_shift_steps
    steps = graph.tensors["y"].qparams.scale
    assert snapped.largest_shift_steps == pytest.approx(np.abs(snapped.delta).max() / steps)


def test_weights_are_multiplied_up_to_what_is_stored():
    graph = random_graph(0, weight_bits=3, activation_bits=8)
    for stored_max in (3, 7, 127):
        weight = realize(graph, stored_max=stored_max).graph.nodes[-1].weight
        assert np.abs(weight.values).max() <= stored_max
        np.testing.assert_array_equal(
            weight.values, graph.nodes[-1].weight.values * weight.multiplier
        )


def test_a_node_without_bias_gets_one():
    graph = random_graph(0, weight_bits=4, activation_bits=4)
    *before, dense = graph.nodes
    graph = replace(graph, nodes=(*before, replace(dense, bias=None)))
    realized = realize(graph).graph
    assert realized.nodes[-1].bias.dtype == np.int32
    np.testing.assert_array_equal(answers(realized), answers(graph))


def test_channels_of_zeros_and_saturated_ones_survive():
    values = np.array([[0, 1, 1, 1, -128]] * TAPS)
    graph = dense_graph(
        values,
        scale=np.array([1.0, 1e-30, 1e20, 1e-3, 0.01]),
        bias=np.array([1.26, 0.6, 0.0, 1e30, 0.1]),
        source=unsigned(4, 0.1),
        output=unsigned(3, 0.5),
    )
    realized = realize(graph)
    verify(realized.graph)
    assert realized.reports[0].threshold == 5
    np.testing.assert_array_equal(answers(realized.graph), answers(graph))


def test_a_channel_too_slow_for_int32_becomes_constant():
    # 1e-12 a step, and a level passed at n = -1: the bias would be 1.5e12 accumulator steps
    graph = dense_graph(
        np.full((TAPS, 1), -1),
        scale=np.array([1e-12]),
        bias=np.array([1.5 + 0.5e-12]),
        source=unsigned(4, 1.0),
        output=unsigned(4, 1.0),
    )
    realized = realize(graph)
    (report,) = realized.reports
    # A float32 bias cannot be moved by that little, so it stays; one threshold is not told apart.
    assert (report.snapped, report.wrong_thresholds) == (0, 1)
    assert not realized.graph.nodes[-1].weight.values.any()


def test_large_biases_take_smaller_factors():
    graph = dense_graph(
        np.ones((TAPS, 1)),
        scale=np.array([1e-6]),
        bias=np.array([1.499]),
        source=unsigned(8, 1.0),
        output=unsigned(2, 1.0),
    )
    realized = realize(graph)
    assert realized.reports[0].thresholds == 1
    assert realized.graph.nodes[-1].weight.multiplier[0] <= 2  # of 127; 2**22 / 1.5e6 is 2.8
    verify(realized.graph)


def test_large_accumulators_take_smaller_factors():
    graph = dense_graph(
        np.ones((TAPS, 1)),
        scale=np.array([1.0]),
        bias=np.array([0.0]),
        source=unsigned(22, 1.0),
        output=unsigned(2, 1e7),
    )
    verify(realize(graph).graph)  # 127 * 12 * 2**22 would be three times what int32 holds


def test_the_lowest_int8_code_is_stored_as_it_is():
    graph = dense_graph(
        np.full((TAPS, 1), -128),
        scale=np.array([1.0]),
        bias=np.array([9000.0]),
        source=unsigned(3, 1.0),
        output=unsigned(4, 600.0),
    )
    realized = realize(graph, snap=False)
    assert realized.graph.nodes[-1].weight.values.tolist() == [[-128]] * TAPS
    np.testing.assert_array_equal(answers(realized.graph), answers(graph))


def test_float_outputs_and_realized_nodes_pass_unchanged():
    graph = random_graph(1, weight_bits=4, activation_bits=4)
    head = replace(graph.nodes[-1], name="head", output="logits")
    logits = Tensor(name="logits", shape=(8,))
    graph = replace(graph, tensors={**graph.tensors, "logits": logits}, nodes=(*graph.nodes, head))
    once = realize(graph)
    assert [report.node for report in once.reports] == ["dense"]
    assert once.graph.nodes[0] is graph.nodes[0] and once.graph.nodes[2] is head
    twice = realize(once.graph)
    assert twice.reports == () and twice.graph.nodes == once.graph.nodes


def test_every_problem_is_told_with_its_node():
    graph = random_graph(1, weight_bits=4, activation_bits=4)
    wide = QParams(scale=1e-20, qmin=0, qmax=2**28, bits=29)
    bad = dense_graph(
        graph.nodes[-1].weight.values,
        scale=np.ones(8),
        bias=np.full(8, np.nan),
        source=wide,
        output=unsigned(4, 1.0),
    )
    with pytest.raises(GraphError) as caught:
        realize(bad)
    lines = str(caught.value).split("\n")
    assert len(lines) == 3 and all(line.startswith("dense: ") for line in lines)
    assert "scale of tensor 'codes' is 1e-20" in lines[0]
    assert "bias is NaN or infinite in 8 channel(s)" in lines[1]
    assert "can pass int32" in lines[2]

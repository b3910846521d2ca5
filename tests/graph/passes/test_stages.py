"""Stages together are the whole graph: each node once, each answer as it was, to the code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.errors import GraphError
from keras_quant.graph.ir import Graph
from keras_quant.graph.passes.stages import REALS, Stage, cut
from keras_quant.graph.reference import run_reference
from keras_quant.graph.verify import verify
from keras_quant.qparams import unsigned
from tests.emit.random_graphs import GraphBuilder, random_exits

SEEDS = st.integers(0, 2**32 - 1)


def run_stages(stages: Sequence[Stage], inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All that stages give, each run by the reference from what earlier ones left."""
    known = dict(inputs)
    for stage in stages:
        known |= run_reference(stage.graph, {name: known[name] for name in stage.graph.inputs})
    return known


@pytest.mark.parametrize("codes", [True, False])
@given(seed=SEEDS)
def test_stages_one_after_the_other_answer_as_the_whole_graph(seed: int, codes: bool) -> None:
    builder, graph = random_exits(seed)
    stages, images = cut(graph, codes=codes), builder.images(3)
    for stage in stages:
        verify(stage.graph)
    found, wanted = run_stages(stages, images), run_reference(graph, images)
    for name in graph.outputs:
        np.testing.assert_array_equal(found[name], wanted[name])


@given(seed=SEEDS)
def test_each_node_that_an_output_needs_is_in_one_stage(seed: int) -> None:
    _, graph = random_exits(seed)
    nodes = Counter(node.name for stage in cut(graph) for node in stage.graph.nodes)
    assert set(nodes.values()) == {1}
    assert set(nodes) == {node.name for node in graph.nodes}


def test_codes_are_handed_over_by_their_names() -> None:
    graph = two_exits()
    first, second = cut(graph)
    assert first.graph.inputs == ("image",)
    assert first.graph.outputs == (graph.outputs[0], *first.handed)
    assert second.graph.inputs == first.handed
    assert first.handed == ("conv2d_1_out",)
    assert second.graph.tensors["conv2d_1_out"].qparams is not None
    assert second.graph.outputs == graph.outputs[1:]
    assert [stage.answer for stage in (first, second)] == list(graph.outputs)


def test_codes_can_be_handed_over_as_the_floats_that_they_stand_for() -> None:
    first, second = cut(two_exits(), codes=False)
    assert first.handed == second.graph.inputs == (f"conv2d_1_out{REALS}",)
    assert second.graph.tensors[second.graph.inputs[0]].qparams is None


def test_what_only_a_late_stage_reads_goes_around_the_others() -> None:
    builder = GraphBuilder(np.random.default_rng(3), (4, 4, 3), power_of_two=True)
    builder.add_linear("conv2d", (1, 1, 3, 3), qparams=unsigned(4, 1.0))
    trunk = builder.last
    outputs = []
    for source in (trunk, trunk):
        builder.last = source
        builder.add_node("mean", qparams=unsigned(8, 1.0))
        builder.add_head(5)
        outputs.append(builder.last)
    builder.last = trunk
    builder.add_node("max_pool", qparams=builder.qparams(), attrs=POOL)
    builder.add_node("mean", qparams=unsigned(8, 1.0))
    builder.add_head(5)
    stages = cut(replace(builder.graph(), outputs=(*outputs, builder.last)))
    assert [stage.graph.inputs for stage in stages] == [("image",), (trunk,), (trunk,)]
    assert [stage.handed for stage in stages] == [(trunk,), (), ()]


def test_an_answer_that_is_read_on_goes_out_once() -> None:
    builder = GraphBuilder(np.random.default_rng(3), (4, 4, 3), power_of_two=True)
    builder.add_node("mean", qparams=unsigned(8, 1.0))
    first = builder.last
    builder.add_head(5)
    early, late = cut(replace(builder.graph(), outputs=(first, builder.last)))
    assert early.graph.outputs == (first,)
    assert late.graph.inputs == (first,)


def test_one_output_makes_no_stages() -> None:
    graph = replace(two_exits(), outputs=two_exits().outputs[1:])
    with pytest.raises(GraphError, match="has one output, .*two or more make stages.*--exits"):
        cut(graph)


def test_outputs_that_are_not_in_the_order_of_their_depth_are_named() -> None:
    builder = GraphBuilder(np.random.default_rng(3), (4, 4, 3), power_of_two=True)
    builder.add_node("mean", qparams=unsigned(8, 1.0))
    first = builder.last
    builder.add_head(5)
    graph = replace(builder.graph(), outputs=(builder.last, first))
    with pytest.raises(GraphError, match=f"output '{first}' needs nothing that earlier outputs do"):
        cut(graph)


POOL = {"pool_size": (2, 2), "strides": (2, 2)}


def two_exits() -> Graph:
    """A convolution, whose codes an exit reads, and a second one."""
    builder = GraphBuilder(np.random.default_rng(0), (6, 6, 3), power_of_two=True)
    builder.add_linear("conv2d", (3, 3, 3, 8), qparams=unsigned(4, 0.5))
    trunk = builder.last
    builder.add_node("mean", qparams=unsigned(8, 0.5))
    builder.add_head(5)
    early, builder.last = builder.last, trunk
    builder.add_linear("conv2d", (3, 3, 8, 8), qparams=unsigned(4, 0.5))
    builder.add_node("mean", qparams=unsigned(8, 0.5))
    builder.add_head(5)
    return replace(builder.graph(), outputs=(early, builder.last))

"""Passes give graphs that keep the rules, and leave the one that they get as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from keras_quant.errors import GraphError
from keras_quant.graph.ir import Graph
from keras_quant.graph.passes.integer_head import integer_head
from keras_quant.graph.passes.outputs import tell_apart
from keras_quant.graph.passes.pads import fold_pads, unfold_pads
from keras_quant.graph.passes.pixels import take_pixels
from keras_quant.graph.passes.realize import realize
from keras_quant.graph.passes.unquantize import Clamp, unquantize
from keras_quant.graph.store import pack_graph
from keras_quant.graph.verify import verify
from keras_quant.preprocessing import PREPROCESSINGS

Pass = Callable[[Graph], Graph]

REALIZED: Mapping[str, Pass] = {
    "integer_head": integer_head,
    "take_pixels": lambda graph: take_pixels(graph, PREPROCESSINGS["tf"]),
    "unquantize": lambda graph: unquantize(graph, lambda node, qparams: Clamp.ROUND),
}
"""What takes realized graphs; the others take any."""
PASSES: Mapping[str, Pass] = {
    "fold_pads": fold_pads,
    "realize": lambda graph: realize(graph).graph,
    "tell_apart": tell_apart,
    "unfold_pads": lambda graph: unfold_pads(graph, lambda node: False),
    **REALIZED,
}
VERIFYING = ("integer_head", "realize", "take_pixels", "unquantize")
"""What is used by itself; the others are parts of what verifies: lowering, and emitters' own."""


def given(name: str, graph: Graph) -> Graph:
    return realize(graph).graph if name in REALIZED else graph


@pytest.mark.parametrize("name", PASSES)
def test_what_a_pass_gives_keeps_the_rules(name: str, graph: Graph) -> None:
    verify(PASSES[name](given(name, graph)))


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_leaves_its_graph_as_it_was(name: str, graph: Graph) -> None:
    graph = given(name, graph)
    before = pack_graph(graph)
    PASSES[name](graph)
    assert pack_graph(graph) == before


@pytest.mark.parametrize("name", VERIFYING)
def test_rules_that_are_broken_are_told_behind_a_pass(name: str, graph: Graph) -> None:
    graph = given(name, graph)
    *before, mean, head = graph.nodes
    broken = replace(graph, nodes=(*before, replace(mean, attrs={"axis": 1}), head))
    with pytest.raises(GraphError, match="mean: mean has no attribute 'axis'"):
        PASSES[name](broken)

"""Placing again against placing anew."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from keras_quant.graph.ir import Graph
from keras_quant.graph.passes.realize import nodes
from keras_quant.graph.passes.realize.nodes import PlacedNode, place_nodes
from keras_quant.graph.passes.realize.place import Placement
from tests.graph.passes.realize.test_realize import random_graph

CHANNELS = 40


def shifted(graph: Graph, channels: list[int]) -> Graph:
    """The graph with the biases of some channels moved by three tenths of a step."""
    *before, dense = graph.nodes
    bias = dense.bias.copy()
    bias[channels] += 0.3 * graph.tensors["y"].qparams.scale
    return replace(graph, nodes=(*before, replace(dense, bias=bias)))


def arrays_of(placement: Placement) -> list[np.ndarray]:
    integers = placement.integers
    return [
        *(getattr(integers, field.name) for field in fields(integers)),
        *(placement.bias, placement.weight_scale, placement.wrong, placement.thresholds),
    ]


def assert_same(one: PlacedNode, other: PlacedNode) -> None:
    for a, b in zip(arrays_of(one.placement), arrays_of(other.placement), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def placed_channels(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many channels were placed, call by call."""
    counts: list[int] = []

    def counting(trained, *arguments, **settings):
        counts.append(len(trained.bias))
        return place(trained, *arguments, **settings)

    place = nodes.place
    monkeypatch.setattr(nodes, "place", counting)
    return counts


@pytest.mark.parametrize("changed", [[], [3, 17, 39]], ids=["none", "three"])
@pytest.mark.parametrize("activation_bits", [4, 8])
def test_only_channels_that_changed_are_placed_again(
    changed: list[int], activation_bits: int, placed_channels: list[int]
) -> None:
    graph = random_graph(0, weight_bits=8, activation_bits=activation_bits, channels=CHANNELS)
    known = place_nodes(graph)
    moved = shifted(graph, changed)
    again, anew = place_nodes(moved, known=known)["dense"], place_nodes(moved)["dense"]
    assert placed_channels == [CHANNELS, len(changed), CHANNELS]
    assert_same(again, anew)


@pytest.mark.parametrize(
    "settings",
    [{"stored_max": 7}, {"snap": False}, {"immovable": ["dense"]}, {"fixed_gain": ["dense"]}],
    ids=str,
)
def test_other_settings_place_anew(settings: dict) -> None:
    graph = random_graph(0, weight_bits=3, activation_bits=8, channels=CHANNELS)
    again = place_nodes(graph, known=place_nodes(graph), **settings)["dense"]
    assert_same(again, place_nodes(graph, **settings)["dense"])


@pytest.mark.parametrize("what", ["codes", "source", "output"])
def test_what_is_known_of_other_codes_and_grids_is_no_help(
    what: str, placed_channels: list[int]
) -> None:
    graph = random_graph(0, weight_bits=8, activation_bits=8, channels=CHANNELS)
    known = place_nodes(graph)
    *before, dense = graph.nodes
    if what == "codes":
        values = dense.weight.values.copy()
        values[0, 0] -= 1
        dense = replace(dense, weight=replace(dense.weight, values=values))
        other = replace(graph, nodes=(*before, dense))
    else:
        name = {"source": "codes", "output": "y"}[what]
        qparams = replace(graph.tensors[name].qparams, scale=0.03)
        tensor = replace(graph.tensors[name], qparams=qparams)
        other = replace(graph, tensors={**graph.tensors, name: tensor})
    again, anew = place_nodes(other, known=known)["dense"], place_nodes(other)["dense"]
    assert placed_channels == [CHANNELS] * 3
    assert_same(again, anew)

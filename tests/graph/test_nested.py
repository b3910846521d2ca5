"""Several widths in one file: each graph comes back as it was, and each kernel is there once."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras_quant.errors import GraphError
from keras_quant.graph.cut import cut_codes
from keras_quant.graph.ir import Graph, Weight
from keras_quant.graph.nested import load_nested, pack_nested
from keras_quant.graph.store import pack_graph

CHANNELS = 3
RANGES = {8: (-127, 127), 4: (-7, 7), 2: (-2, 1)}


@pytest.fixture
def widths(graph: Graph) -> dict[str, Graph]:
    """A graph at 8, 4 and 2 bits; channels are turned and multiplied as each likes."""
    rng = np.random.default_rng(0)
    base = {
        node.name: rng.integers(-127, 128, node.weight.values.shape)
        for node in graph.nodes
        if node.weight is not None and node.weight.scale is not None
    }
    assert base

    def of(bits: int) -> Graph:
        nodes = []
        for node in graph.nodes:
            if node.name in base:
                qmin, qmax = RANGES[bits]
                codes = cut_codes(base[node.name], bits=bits, qmin=qmin, qmax=qmax)
                channels = codes.shape[-1]
                signs = rng.choice([-1, 1], channels)
                times = np.full(channels, 127 // max(-qmin, qmax), np.int32)
                weight = Weight(
                    values=(codes * signs * times).astype(np.int8),
                    scale=rng.uniform(0.01, 0.1, channels),
                    bits=bits,
                    multiplier=times,
                )
                node = replace(node, weight=weight)
            nodes.append(node)
        return replace(graph, nodes=tuple(nodes))

    return {f"w{bits}": of(bits) for bits in RANGES}


def test_each_width_comes_back_to_the_byte(widths: dict[str, Graph], tmp_path: Path) -> None:
    file = tmp_path / "widths.kqnested"
    file.write_bytes(pack_nested(widths))
    again = load_nested(file)
    assert list(again) == list(widths)
    for name, graph in widths.items():
        assert pack_graph(again[name]) == pack_graph(graph), name
    assert pack_nested(again) == file.read_bytes()


def test_a_kernel_is_stored_once(widths: dict[str, Graph], tmp_path: Path) -> None:
    file = tmp_path / "widths.kqnested"
    file.write_bytes(pack_nested(widths))
    with zipfile.ZipFile(file) as archive:
        graphs = json.loads(archive.read("graph.json"))["graphs"]
    kernels = [
        [node["weight"]["values"] for node in nodes if node["weight"]]
        for nodes in zip(*(graph["nodes"] for graph in graphs.values()), strict=True)
    ]
    places = [each for each in kernels if each]
    assert len(places) == 2  # the convolution's and the head's
    for each in places:
        assert len({place["base"] for place in each}) == 1
        assert [place["bits"] for place in each] == [8, 4, 2]


def test_a_narrower_net_is_cut_from_the_first_channels(
    widths: dict[str, Graph], tmp_path: Path
) -> None:
    whole = widths["w4"]
    tensors = {
        name: replace(tensor, shape=(*tensor.shape[:-1], 2)) if tensor.shape[-1] == 4 else tensor
        for name, tensor in whole.tensors.items()
    }

    def part(weight: Weight) -> Weight:
        values = weight.values
        kept = values[:2] if values.ndim == 2 else values[..., :2]
        channels = kept.shape[-1]
        return replace(
            weight,
            values=kept * np.array([-1, 1, 1][:channels], np.int8),
            scale=weight.scale[:channels],
            multiplier=weight.multiplier[:channels],
        )

    nodes = tuple(
        replace(
            node, weight=part(node.weight), bias=node.bias[: part(node.weight).values.shape[-1]]
        )
        if node.weight
        else node
        for node in whole.nodes
    )
    graphs = {"x1": whole, "x0.5": replace(whole, tensors=tensors, nodes=nodes)}
    file = tmp_path / "widths.kqnested"
    file.write_bytes(pack_nested(graphs))
    for name, graph in load_nested(file).items():
        assert pack_graph(graph) == pack_graph(graphs[name])


def test_one_code_off_is_refused_with_the_layer(widths: dict[str, Graph]) -> None:
    graph = widths["w4"]
    name, weight = next((n.name, n.weight) for n in graph.nodes if n.weight and n.weight.bits == 4)
    values = weight.values.copy()
    values.flat[0] = -values.flat[0] + (values.flat[0] == 0) * weight.multiplier[0]
    odd = replace(weight, values=values)
    nodes = tuple(replace(n, weight=odd) if n.name == name else n for n in graph.nodes)
    with pytest.raises(
        GraphError, match=f"the codes of kernels of {name} are no part of those of w8"
    ):
        pack_nested({**widths, "w4": replace(graph, nodes=nodes)})


def test_broken_files_are_told(widths: dict[str, Graph], tmp_path: Path) -> None:
    file = tmp_path / "widths.kqnested"
    content = pack_nested(widths)
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(GraphError, match="not a whole graph file"):
        load_nested(file)
    with pytest.raises(GraphError, match="cannot be read"):
        load_nested(tmp_path / "nothing.kqnested")
    file.write_bytes(pack_graph(widths["w8"]))
    with pytest.raises(GraphError, match="not a whole graph file"):
        load_nested(file)

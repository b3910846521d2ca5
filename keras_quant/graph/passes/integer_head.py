"""Puts a grid of 8-bit codes on the floats that a graph gives, for runtimes without floats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from keras_quant.errors import GraphError
from keras_quant.graph.exact import accumulator_range
from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.passes.realize import StoredLimits, realize
from keras_quant.graph.pointwise import ACTIVATIONS
from keras_quant.graph.reference import run_reference
from keras_quant.qparams import QParams

Range = tuple[float, float]

QMIN, QMAX, BITS = -128, 127, 8
# What is left of a range behind an activation that was folded into its node.


def integer_head(
    graph: Graph,
    ranges: Mapping[str, Range] | None = None,
    *,
    limits: StoredLimits = lambda graph: {},
) -> Graph:
    """Gives a realized graph whose outputs are codes, 256 of them over each output's range.

    The codes are rounded: within its range, a logit differs from the float head's by up to
    half a step (`tensor.qparams.scale / 2`), and by the rounding of the bias to the
    accumulator's grid. Equal codes may hide which of two classes was ahead.

    Args:
        graph: realized, or ideal. Outputs of codes stay as they are.
        ranges: lowest and highest real of each output, as `measured_ranges` gives them; None
            means all that the accumulators can reach, which is much wider: 15 times on a
            ResNet-20.
        limits: largest stored codes by node, see `passes.realize`.
    Raises:
        GraphError: names the outputs that no integer weights give.
    """
    outputs = dict.fromkeys(graph.outputs)
    floats = [name for name in outputs if graph.tensors[name].qparams is None]
    problems = [line for n in floats for line in _problems(graph, n, graph.producer(n))]
    if problems:
        raise GraphError("\n".join(problems))
    heads = {node.output: node for node in graph.nodes}
    made, tensors = {}, dict(graph.tensors)
    for name in floats:
        head = heads[name]
        span = _reach(graph, head) if ranges is None else ranges[name]
        low, high = np.clip(span, *ACTIVATIONS[head.attrs.get("activation", "none")].bounds)
        tensors[name] = replace(tensors[name], qparams=_grid(float(low), float(high)))
        attrs = {key: value for key, value in head.attrs.items() if key != "activation"}
        bias = None if head.bias is None else head.bias.astype(np.float64)
        made[head.name] = replace(head, attrs=attrs, bias=bias)
    nodes = tuple(made.get(node.name, node) for node in graph.nodes)
    gridded = replace(graph, nodes=nodes, tensors=tensors)
    return realize(gridded, stored_max=limits(gridded), snap=False).graph


def measured_ranges(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, Range]:
    """Gives the lowest and highest real of each output of floats over some images.

    Args:
        inputs: by name, float32 (images, *shape), such as calibration images.
    """
    outputs = [name for name in graph.outputs if graph.tensors[name].qparams is None]
    found = run_reference(graph, inputs, keep=outputs) if outputs else {}
    return {name: (float(reals.min()), float(reals.max())) for name, reals in found.items()}


def _problems(graph: Graph, name: str, head: Node | None) -> Iterable[str]:
    if head is None:
        yield f"output {name!r} is an input of the graph"
    elif head.weight is None:
        yield (
            f"output {name!r}: {head.op} gives floats that no weights give. End the model with its "
            "logits: a Dense layer without softmax."
        )
    elif head.weight.scale is None or graph.tensors[head.inputs[0]].qparams is None:
        yield f"output {name!r}: layer {head.name!r} computes in floats. Quantize it."
    elif graph.consumers(name):
        readers = ", ".join(node.name for node in graph.consumers(name))
        yield f"output {name!r} is read by {readers}, which would get codes in place of floats."


def _reach(graph: Graph, head: Node) -> Range:
    """The lowest and highest real that any input can give."""
    source = graph.tensors[head.inputs[0]].grid
    bias = 0.0 if head.bias is None else head.bias
    unit = source.scale * head.kernel.code_scale
    low, high = (n * unit + bias for n in accumulator_range(head.kernel.values, source))
    return float(low.min()), float(high.max())


def _grid(low: float, high: float) -> QParams:
    """256 codes from low to high, one of which is real 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (QMAX - QMIN) or 1.0
    zero_point = int(np.rint(QMIN - low / scale))
    return QParams(scale=scale, zero_point=zero_point, qmin=QMIN, qmax=QMAX, bits=BITS)

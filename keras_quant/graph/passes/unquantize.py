"""Gives a graph of codes as one of floats, for targets that have no int8 kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

import numpy as np

from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.linear import dequantized
from keras_quant.graph.passes.functions import function_of
from keras_quant.graph.passes.outputs import tell_apart
from keras_quant.graph.passes.reach import EVERYTHING, Interval, reach
from keras_quant.graph.verify import verify
from keras_quant.qparams import QParams

# What moves values, which were clamped where they were computed.
_MOVES = ("max_pool", "pad", "reshape", "transpose", "upsample", "concat")


class Clamp(Enum):
    """What becomes of values that had codes: how much of their grid is kept."""

    ROUND = "rounded to codes, and given as the reals of these"
    CUT = "cut off at both ends of the range of codes"
    RECTIFY = "cut off at its lower end"
    OPEN = "as they are computed"


Clamps = Callable[[Node, QParams], Clamp]


def unquantize(graph: Graph, clamps: Clamps) -> Graph:
    """Gives the same network in float32: the weights of the codes, and floats between layers.

    Nothing is cut off at an end that no value can pass. A table becomes the function that it
    stands for, or, where it stands for none of graph.pointwise, stays one, between codes.

    Args:
        graph: a realized graph, or an ideal one.
        clamps: what to keep of the grid of a node that computes codes.
    Returns: a graph of the same inputs. It has codes only where values are rounded; an output
        that was only converted has the name of what it was converted from, see `tell_apart` too.
    """
    floats = _Floats(graph, clamps)
    for node in graph.nodes:
        floats.add(node)
    outputs = tuple(floats.names.get(name, name) for name in graph.outputs)
    made = replace(graph, nodes=tuple(floats.nodes), tensors=floats.tensors, outputs=outputs)
    made = tell_apart(made)
    verify(made)
    return made


class _Floats:
    """The graph of floats so far.

    Attributes:
        names: by tensor of the given graph, of the floats that stand for it under another name.
    """

    def __init__(self, graph: Graph, clamps: Clamps) -> None:
        self._graph, self._clamps = graph, clamps
        self._reached: dict[str, Interval] = dict.fromkeys(graph.inputs, EVERYTHING)
        self.tensors: dict[str, Tensor] = {name: graph.tensors[name] for name in graph.inputs}
        self.nodes: list[Node] = []
        self.names: dict[str, str] = {}

    def add(self, node: Node) -> None:
        """Adds what a node of the given graph computes."""
        inputs = tuple(self.names.get(name, name) for name in node.inputs)
        function = function_of(self._graph, node) if node.op == "lookup" else None
        if node.op == "dequantize":
            self.names[node.output] = inputs[0]
        elif node.op in ("quantize", "requantize"):
            self._clamp(node, inputs[0], node.name)
        elif node.op == "lookup" and function is None:
            self._keep_table(node, inputs[0])
        else:
            if function is not None:
                attrs = {"function": function}
                node = replace(node, op="pointwise", attrs=attrs, table=None)
            self._compute(node, inputs)

    def _compute(self, node: Node, inputs: tuple[str, ...]) -> None:
        """Adds a node in floats, and behind it what clamps its values."""
        made = replace(self._in_floats(node), inputs=inputs)
        output = self._graph.tensors[node.output]
        within = reach(made, [self._reached[name] for name in inputs])
        if node.op in _MOVES or not self._is_clamped(node, within):
            self._add(made, output, within)
            return
        computed = f"{node.output}/computed"
        self._add(replace(made, output=computed), output, within)
        self._clamp(node, computed, f"{node.name}/clamp")

    def _is_clamped(self, node: Node, within: Interval) -> bool:
        qparams = self._graph.tensors[node.output].qparams
        if qparams is None:
            return False
        clamp = self._clamps(node, qparams)
        return clamp is Clamp.ROUND or bool(_ends(clamp, qparams, within))

    def _clamp(self, node: Node, value: str, name: str) -> None:
        """Gives what is kept of a float tensor the name of a node's output."""
        output = self._graph.tensors[node.output]
        clamp, (low, high) = self._clamps(node, output.grid), self._reached[value]
        ends = _ends(clamp, output.grid, (low, high))
        made = Node(name=name, op="quantize", inputs=(value,), output=output.name)
        made = replace(made, layers=node.layers)
        if clamp is Clamp.ROUND:
            self._add_codes(made, output)
        elif ends:
            least, most = ends.get("minimum", -math.inf), ends.get("maximum", math.inf)
            # Both ends: values that all lie below 0 are 0 behind it.
            within = min(max(low, least), most), min(max(high, least), most)
            self._add(replace(made, op="clip", attrs=ends), output, within)
        else:
            self.names[output.name] = value

    def _keep_table(self, node: Node, value: str) -> None:
        """Adds a lookup between codes, which the floats that it reads are rounded to."""
        source, output = (self._graph.tensors[name] for name in (node.inputs[0], node.output))
        codes = replace(source, name=f"{node.name}/codes")
        made = Node(name=codes.name, op="quantize", inputs=(value,), output=codes.name)
        self._add(made, codes, EVERYTHING, codes=True)
        node = replace(node, inputs=(codes.name,))
        if output.qparams is None:
            self._add(node, output, EVERYTHING)
        else:
            self._add_codes(node, output)

    def _add_codes(self, node: Node, output: Tensor) -> None:
        """Adds a node that gives codes, and their reals, which stand for them from then on."""
        real = self.names[output.name] = f"{output.name}/float"
        self._add(node, output, EVERYTHING, codes=True)
        made = Node(name=real, op="dequantize", inputs=(output.name,), output=real)
        self._add(made, output, _range(output.grid))

    def _add(self, node: Node, like: Tensor, within: Interval, *, codes: bool = False) -> None:
        """Adds a node whose output has the shape of a tensor, and its codes or none."""
        qparams = like.qparams if codes else None
        self.nodes.append(node)
        self.tensors[node.output] = replace(like, name=node.output, qparams=qparams)
        self._reached[node.output] = within

    def _in_floats(self, node: Node) -> Node:
        if node.weight is None:
            return node
        source = self._graph.tensors[node.inputs[0]]
        weight = Weight(values=dequantized(node.weight))
        return replace(node, weight=weight, bias=_real_bias(node, source))


def _ends(clamp: Clamp, qparams: QParams, within: Interval) -> dict[str, float]:
    """What a clip needs to hold values within given bounds in a range of codes; {} for nothing."""
    low, high = _range(qparams)
    if clamp is Clamp.CUT and within[1] > high:
        return {"minimum": low, "maximum": high}
    if clamp in (Clamp.CUT, Clamp.RECTIFY) and within[0] < low:
        return {"minimum": low}
    return {}


def _range(qparams: QParams) -> Interval:
    """The reals of the lowest and of the highest code."""
    low, high = (code - qparams.zero_point for code in (qparams.qmin, qparams.qmax))
    return low * qparams.scale, high * qparams.scale


def _real_bias(node: Node, source: Tensor) -> np.ndarray | None:
    """The bias in float32; an integer one counts in units, input scale times weight scale."""
    if node.bias is None or node.bias.dtype != np.int32:
        return None if node.bias is None else node.bias.astype(np.float32)
    unit = source.grid.scale * node.kernel.code_scale.astype(np.float64)
    real: np.ndarray = (node.bias * unit).astype(np.float32)
    return real

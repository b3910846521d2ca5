"""A graph as the layers that TensorRT runs: what is fused, and what each reads, computes, writes.

As its builder fuses (developer guide, "Types of Fusions"): a convolution takes in the batch norm,
the bias, the ReLU, and the addition of a shortcut with the ReLU behind it; padding belongs to
what reads it; a concatenation along channels and a reshape are no work, as what is written goes to
its place at once. Counted from the graph as it stands; the builder may choose otherwise.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from dataclasses import dataclass

from keras_quant.errors import ModelError
from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.windows import window_of

_FREE = ("reshape", "concat", "pad", "dequantize")
# A kernel's epilogue: computed on sums while they are in registers.
_EPILOGUES = ("relu", "clip", "quantize", "requantize")
_MAX_INT8_BITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedLayer:
    """One kernel of an engine, for one image.

    Attributes:
        name: of the graph's node that it begins with.
        nodes: names of all nodes that are in it.
        kind: "matrix", a convolution or dense layer that is a product of matrices; "depthwise"; or
            "values", all else: pooling, sums, functions of one value, copies.
        rows: positions of the output; of the input where a kernel is spread (transposed).
        columns: output channels of one group.
        taps: positions of the kernel's window, or of a pooling's.
        depth: products of one sum: taps times the input channels of one group.
        unit_stride: whether the window moves by one pixel.
        groups: of channels.
        macs: multiply-accumulates; 0 of "values".
        weights: values of kernel and bias.
        read, written: activation values.
        integer: whether it multiplies codes of up to 8 bits by codes; None in a graph without.
    """

    name: str
    nodes: tuple[str, ...]
    kind: str
    rows: int
    columns: int
    taps: int
    depth: int
    unit_stride: bool
    groups: int
    macs: int
    weights: int
    read: int
    written: int
    integer: bool | None = None


def fuse(graph: Graph) -> tuple[FusedLayer, ...]:
    """Gives the layers of an engine, in the graph's order.

    Args:
        graph: ideal or realized, or of floats.
    Raises:
        ModelError: the graph computes nothing.
    """
    layers = _Fusing(graph).run()
    if not layers:
        raise ModelError(f"{graph.name}: has no layer that takes time")
    return layers


class _Fusing:
    """What was fused so far: layers by the tensor that each writes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.layers: dict[str, FusedLayer] = {}
        self.owners: dict[str, str] = {}
        self.readers = Counter(name for node in graph.nodes for name in node.inputs)
        self.readers.update(graph.outputs)
        self.has_codes = any(
            node.weight is not None and node.weight.scale is not None for node in graph.nodes
        )

    def run(self) -> tuple[FusedLayer, ...]:
        for node in self.graph.nodes:
            if node.weight is None and node.op in _FREE:
                self._pass_on(node)
            elif node.weight is None and self._absorb(node):
                continue
            else:
                self.layers[node.name] = self._layer(node)
                self.owners[node.output] = node.name
        return tuple(self.layers.values())

    def _pass_on(self, node: Node) -> None:
        """A node without work: what it gives was written by the layer that wrote its input."""
        source = node.inputs[0]
        once = node.op != "concat" and self.readers[source] == 1
        if once and source in self.owners:
            self.owners[node.output] = self.owners[source]
            self._add(self.owners[source], node)

    def _absorb(self, node: Node) -> bool:
        """Puts a node into the layer that computes what it reads; False where none can take it."""
        if node.op not in (*_EPILOGUES, "add"):
            return False
        # The last written input: the other one of an addition is there already, and is read.
        candidates = [name for name in node.inputs if self._takes_epilogue(name)]
        if not candidates or (node.op == "add" and not self._same_shape(node)):
            return False
        order = list(self.layers)
        source = max(candidates, key=lambda name: order.index(self.owners[name]))
        owner = self.owners[source]
        other = sum(self._size(name) for name in node.inputs if name != source)
        layer = self.layers[owner]
        self.layers[owner] = dataclasses.replace(layer, read=layer.read + other)
        self._add(owner, node)
        self.owners[node.output] = owner
        return True

    def _takes_epilogue(self, tensor: str) -> bool:
        owner = self.owners.get(tensor)
        return owner is not None and self.readers[tensor] == 1

    def _same_shape(self, node: Node) -> bool:
        return len({self.graph.tensors[name].shape for name in node.inputs}) == 1

    def _add(self, owner: str, node: Node) -> None:
        layer = self.layers[owner]
        self.layers[owner] = dataclasses.replace(layer, nodes=(*layer.nodes, node.name))

    def _size(self, tensor: str) -> int:
        return math.prod(self.graph.tensors[tensor].shape)

    def _layer(self, node: Node) -> FusedLayer:
        read = sum(self._size(name) for name in node.inputs)
        written = self._size(node.output)
        if node.weight is None:
            return FusedLayer(
                name=node.name,
                nodes=(node.name,),
                kind="values",
                rows=written,
                columns=1,
                taps=_taps(node),
                depth=_taps(node),
                unit_stride=True,
                groups=1,
                macs=0,
                weights=0,
                read=read,
                written=written,
                integer=self._in_codes(node) if self.has_codes else None,
            )
        kernel = node.weight.values.shape
        spread = node.op == "conv2d_transpose"
        positions = self.graph.tensors[node.inputs[0] if spread else node.output].shape[:-1]
        rows = math.prod(positions)
        groups = kernel[-1] if node.op == "depthwise_conv2d" else node.attrs.get("groups", 1)
        depth = math.prod(kernel[:-1])
        scales = node.op == "depthwise_conv2d" and depth == 1  # a batch norm that stands alone
        taps = math.prod(kernel[:-1] if node.op == "depthwise_conv2d" else kernel[:-2])
        single = groups > 1 and depth == taps  # each group reads one channel
        biases = 0 if node.bias is None else node.bias.size
        return FusedLayer(
            name=node.name,
            nodes=(node.name,),
            kind="values" if scales else "depthwise" if single else "matrix",
            rows=rows,
            columns=kernel[-1] // groups,
            taps=taps,
            depth=depth,
            unit_stride=max(node.attrs.get("strides", (1, 1))) == 1,
            groups=groups,
            macs=0 if scales else rows * math.prod(kernel),
            weights=node.weight.values.size + biases,
            read=read,
            written=written,
            integer=self._in_codes(node) if self.has_codes else None,
        )

    def _in_codes(self, node: Node) -> bool:
        """Whether TensorRT would compute it in int8: codes of up to 8 bits, times codes."""
        grids = [self.graph.tensors[name].qparams for name in node.inputs]
        small = all(grid is not None and grid.bits <= _MAX_INT8_BITS for grid in grids)
        if node.weight is None:
            return small
        return small and node.weight.scale is not None and node.weight.bits <= _MAX_INT8_BITS


def _taps(node: Node) -> int:
    return math.prod(window_of(node).size) if "pool_size" in node.attrs else 1

"""Averages of codes that reach over an image's edge, as averages that do not.

With padding "same" an average is that of the pixels within the image. So it has another divisor at
each edge, and kernels of codes have one. Windows that meet equally many pixels are taken together:
those inside, and each row and column of them at the edges. Their part of the image is averaged by
itself, and the outputs are put together. Each code is computed once, as the reference does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from keras_quant.emit.shared.legal import Legal, apply_rules
from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.graph.ops import OPS
from keras_quant.graph.windows import output_size, padding_of, window_of


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Windows beside each other along an axis.

    Attributes:
        begin: the first pixel that they meet.
        end: the one behind the last.
        taps: how many pixels each of them meets.
    """

    begin: int
    end: int
    taps: int


def split_at_edges(graph: Graph) -> Graph:
    """Gives a graph of the same tensors and codes, with some tensors more."""
    return apply_rules(graph, {"avg_pool": _split})


def _split(graph: Graph, node: Node) -> Legal:
    output, window = graph.tensors[node.output], window_of(node)
    height, width, _ = graph.tensors[node.inputs[0]].shape
    margins = padding_of(window, (height, width))
    if output.qparams is None or window.padding != "same" or margins == ((0, 0), (0, 0)):
        return [node], []
    sizes = zip((height, width), output_size(window, (height, width)), strict=True)
    rows, columns = (
        list(_parts(length, count, window.size[axis], window.strides[axis], margins[axis][0]))
        for axis, (length, count) in enumerate(sizes)
    )
    pieces = _Pieces(graph, node)
    bands = [
        pieces.join([pieces.average(row, column) for column in columns], axis=1) for row in rows
    ]
    last = pieces.join(bands, axis=0)
    nodes = [replace(n, output=node.output) if n.output == last.name else n for n in pieces.nodes]
    return nodes, [tensor for tensor in pieces.tensors if tensor.name != last.name]


def _parts(length: int, count: int, taps: int, stride: int, before: int) -> Iterator[_Part]:
    """Windows along an axis of so many pixels, in runs that meet equally many."""
    starts = [place * stride - before for place in range(count)]
    spans = [(max(start, 0), min(start + taps, length)) for start in starts]
    for met, run in groupby(spans, key=lambda span: span[1] - span[0]):
        spans_of_run = list(run)
        if met == taps:
            yield _Part(begin=spans_of_run[0][0], end=spans_of_run[-1][1], taps=met)
        else:
            yield from (_Part(begin=begin, end=end, taps=met) for begin, end in spans_of_run)


class _Pieces:
    """The nodes that compute an average part by part, and what they give."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self.nodes: list[Node] = []
        self.tensors: list[Tensor] = []
        self._node = node
        self._source = graph.tensors[node.inputs[0]]
        self._output = graph.tensors[node.output]

    def average(self, rows: _Part, columns: _Part) -> Tensor:
        """The averages of a part of the image."""
        height, width, _ = self._source.shape
        margins = (-rows.begin, rows.end - height), (-columns.begin, columns.end - width)
        part = self._source
        if margins != ((0, 0), (0, 0)):
            part = self._add("pad", [part], part, {"padding": margins})
        size = {"pool_size": (rows.taps, columns.taps), "padding": "valid"}
        return self._add("avg_pool", [part], self._output, {**self._node.attrs, **size})

    def join(self, parts: Sequence[Tensor], *, axis: int) -> Tensor:
        """Outputs side by side; an only one is all."""
        if len(parts) == 1:
            return parts[0]
        return self._add("concat", parts, self._output, {"axis": axis})

    def _add(
        self, op: str, inputs: Sequence[Tensor], like: Tensor, attrs: Mapping[str, Any]
    ) -> Tensor:
        name = f"{self._node.name}/part{len(self.nodes)}"
        names = tuple(tensor.name for tensor in inputs)
        made = Node(name=name, op=op, inputs=names, output=name, attrs=attrs)
        shape = OPS[op].shape(made, [tensor.shape for tensor in inputs])
        self.nodes.append(made)
        self.tensors.append(replace(like, name=name, shape=shape))
        return self.tensors[-1]

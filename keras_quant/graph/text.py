"""A graph as text, one node a line: what it reads, its kernel, its settings, what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.qparams import QParams

_GAP = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeText:
    """One node in words; "" where there is nothing to say.

    Attributes:
        inputs: names of tensors with their grids, see `grid_text`.
        kernel: shape (channels last), logical bits, the range of its stored codes, how many
            times the logical ones they are in each channel, and the bias' dtype; or the shape
            of a table.
        settings: the node's attributes.
        output: name and grid of the tensor, and its shape without the batch axis.
    """

    node: str
    op: str
    inputs: str
    kernel: str
    settings: str
    output: str


def describe_nodes(graph: Graph) -> tuple[NodeText, ...]:
    """Puts each node of a graph into words, in order."""
    return tuple(
        NodeText(
            node=node.name,
            op=node.op,
            inputs=", ".join(_tensor_text(graph.tensors[name]) for name in node.inputs),
            kernel=_kernel_text(node),
            settings=", ".join(f"{name} {_plain(v)}" for name, v in node.attrs.items()),
            output=_output_text(graph.tensors[node.output]),
        )
        for node in graph.nodes
    )


def format_graph(graph: Graph) -> str:
    """Prints a graph: its inputs and outputs, and a table of its nodes in aligned columns.

    Returns: lines without a newline at the end.
    """
    headings = [field.name for field in fields(NodeText)]
    rows = [[getattr(line, name) for name in headings] for line in describe_nodes(graph)]
    given, answers = (
        ", ".join(_output_text(graph.tensors[name]) for name in names)
        for names in (graph.inputs, graph.outputs)
    )
    return "\n".join([f"graph {graph.name}: {given} -> {answers}", *_aligned([headings, *rows])])


def grid_text(qparams: QParams | None) -> str:
    """What a tensor's values are: "0..15 * 2^-2", "0..255 - 128 * 0.02" or "float32".

    The parts are lowest and highest code, the zero point where it is not 0, and the scale.
    """
    if qparams is None:
        return "float32"
    point = f" - {qparams.zero_point}" if qparams.zero_point else ""
    return f"{qparams.qmin}..{qparams.qmax}{point} * {_scale_text(qparams.scale)}"


def _scale_text(scale: float) -> str:
    """A power of two as such, anything else in the fewest digits that give its float32."""
    mantissa, exponent = np.frexp(scale)
    return f"2^{exponent - 1}" if mantissa == 0.5 else str(np.float32(scale))


def _tensor_text(tensor: Tensor) -> str:
    return f"{tensor.name} [{grid_text(tensor.qparams)}]"


def _output_text(tensor: Tensor) -> str:
    return f"{_tensor_text(tensor)} {_by(tensor.shape) or 'scalar'}"


def _kernel_text(node: Node) -> str:
    weight = node.weight
    if node.table is not None:
        return f"table of {_by(node.table.shape)}"
    if weight is None:
        return ""
    parts = [_by(weight.values.shape)]
    if weight.scale is None:
        parts.append("float32")
    else:
        parts += [f"{weight.bits} bits", f"codes {_range_text(weight.values)}"]
    if weight.multiplier is not None:
        parts.append(f"multiplier {_range_text(weight.multiplier)}")
    return ", ".join([*parts, "no bias" if node.bias is None else f"{node.bias.dtype} bias"])


def _range_text(values: np.ndarray) -> str:
    low, high = values.min(), values.max()
    return str(low) if low == high else f"{low}..{high}"


def _plain(value: Any) -> str:
    """A pair as "2x2", the four margins of a padding as "1x1 1x1"."""
    if not isinstance(value, tuple):
        return str(value)
    if any(isinstance(item, tuple) for item in value):
        return " ".join(map(_plain, value))
    return _by(value)


def _by(sizes: Sequence[object]) -> str:
    return "x".join(map(str, sizes))


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines whose columns start at one place."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]

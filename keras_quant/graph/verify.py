"""Checks a graph against the rules of its operations, and lists everything that is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from keras_quant.errors import GraphError, close_names
from keras_quant.graph.exact import accumulator_range
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.ops import OPS

_INT32 = np.iinfo(np.int32)
_FLOAT32 = np.finfo(np.float32)


def verify(graph: Graph) -> None:
    """Checks that every node can be computed and every code be stored.

    Raises:
        GraphError: names each problem on a line of its own: undefined or unordered tensors,
            duplicate names, unknown ops and attributes, shapes, mixtures of codes and reals,
            weights and biases of wrong types, scales that are not positive, accumulators that
            can pass int32.
    """
    problems = [*_name_problems(graph), *_order_problems(graph), *_scale_problems(graph)]
    for node in graph.nodes:
        problems += [f"{node.name}: {problem}" for problem in _node_problems(graph, node)]
    if problems:
        lines = "\n  ".join(problems)
        raise GraphError(f"graph {graph.name!r} breaks {len(problems)} rule(s):\n  {lines}")


def _name_problems(graph: Graph) -> Iterator[str]:
    """Names that stand for two things, or for none."""
    for name, count in Counter(node.name for node in graph.nodes).items():
        if count > 1:
            yield f"{count} nodes are called {name!r}; each needs a name of its own"
    for key, tensor in graph.tensors.items():
        if key != tensor.name:
            yield f"tensor {tensor.name!r} is listed as {key!r}"
    for kind, names in (("input", graph.inputs), ("output", graph.outputs)):
        if not names:
            yield f"there is no {kind}"
        for name in names:
            if name not in graph.tensors:
                yield f"{kind} {name!r} is not a tensor{close_names(name, graph.tensors)}"
    for name, count in Counter((*graph.inputs, *graph.outputs)).items():
        if count > 1:
            yield f"{name!r} is {count} of the inputs and outputs; put a reshape node in between"


def _order_problems(graph: Graph) -> Iterator[str]:
    """Tensors that are read before they are written, written twice, or never."""
    written = set(graph.inputs)
    for node in graph.nodes:
        for name in node.inputs:
            if name not in written:
                yield f"{node.name}: reads {name!r}, which no earlier node writes"
        if node.output in written:
            yield f"{node.name}: writes {node.output!r}, which is written already"
        written.add(node.output)
    for name in graph.tensors:
        if name not in written:
            yield f"tensor {name!r} is neither an input nor written by a node"


def _scale_problems(graph: Graph) -> Iterator[str]:
    """Tensors whose scale no kernel can use."""
    for name, tensor in graph.tensors.items():
        qparams = tensor.qparams
        if qparams is None:
            continue
        if not _FLOAT32.tiny <= qparams.scale <= _FLOAT32.max:
            yield (
                f"tensor {name!r}: scale is {qparams.scale}; normal float32 numbers from "
                f"{_FLOAT32.tiny} to {_FLOAT32.max} are allowed"
            )


def _node_problems(graph: Graph, node: Node) -> Iterator[str]:
    """What is wrong with one node; the deeper rules only where the basic ones hold."""
    if node.op not in OPS:
        yield f"op {node.op!r} is unknown{close_names(node.op, OPS)}"
        return
    problems = [*_attr_problems(node), *_arity_problems(node), *_weight_problems(node)]
    for name in (*node.inputs, node.output):
        if name not in graph.tensors:
            problems.append(f"tensor {name!r} is not defined{close_names(name, graph.tensors)}")
    yield from problems
    if problems:
        return
    inputs = [graph.tensors[name] for name in node.inputs]
    output = graph.tensors[node.output]
    yield from _shape_problems(node, inputs, output)
    yield from OPS[node.op].qparams(node, inputs, output)
    yield from _overflow_problems(node, inputs[0])


def _attr_problems(node: Node) -> Iterator[str]:
    known = OPS[node.op].attrs
    for name in node.attrs:
        if name not in known:
            yield f"{node.op} has no attribute {name!r}{close_names(name, known)}"
    for name, attr in known.items():
        if name not in node.attrs:
            if attr.required:
                yield f"attribute {name!r} is missing; allowed is {attr.allowed}"
        elif not attr.accepts(node.attrs[name]):
            yield f"{name} is {node.attrs[name]!r}; allowed is {attr.allowed}"


def _arity_problems(node: Node) -> Iterator[str]:
    arity = OPS[node.op].arity
    if arity is None and not node.inputs:
        yield f"{node.op} reads one tensor or more; none is given"
    if arity is not None and len(node.inputs) != arity:
        yield f"{node.op} reads {arity} tensor(s); {len(node.inputs)} are given"


def _weight_problems(node: Node) -> Iterator[str]:
    """Kernel, bias and table: present where they must be, of the right types and sizes."""
    if OPS[node.op].has_table != (node.table is not None):
        yield f"{node.op} {'needs a' if OPS[node.op].has_table else 'takes no'} table"
    rank, weight, bias = OPS[node.op].weight_rank, node.weight, node.bias
    if rank == 0:
        if weight is not None or bias is not None:
            yield f"{node.op} takes no weight and no bias"
        return
    if weight is None:
        yield f"{node.op} needs a weight"
        return
    if weight.values.ndim != rank or weight.values.size == 0:
        yield f"weight is {weight.values.shape}; {node.op} takes {rank} axes, none of them empty"
        return
    yield from _value_problems(weight)
    channels = weight.values.shape[-1:]
    if bias is None:
        return
    if bias.shape != channels:
        yield f"bias is {bias.shape}; {channels} is needed"
    if bias.dtype not in (np.float64, np.float32, np.int32):
        yield f"bias is {bias.dtype}; float64, float32 or int32 are allowed"
    elif not np.isfinite(bias).all():
        yield "bias holds NaN or infinity"


def _value_problems(weight: Weight) -> Iterator[str]:
    """Codes, scales and multipliers of a kernel."""
    values, scale, multiplier = weight.values, weight.scale, weight.multiplier
    channels = values.shape[-1:]
    if scale is None:
        if values.dtype != np.float32 or not np.isfinite(values).all():
            yield f"weight without scale is {values.dtype}; finite float32 is needed"
        if weight.bits != 32:
            yield f"weight.bits is {weight.bits} for float values; 32 is needed"
        return
    if values.dtype != np.int8:
        yield f"weight codes are {values.dtype}; int8 is needed"
    if not 1 <= weight.bits <= 8:
        yield f"weight.bits is {weight.bits}; int8 codes have 1 to 8"
    if scale.shape != channels or scale.dtype not in (np.float64, np.float32):
        yield (
            f"weight.scale is {scale.dtype} {scale.shape}; float64 or float32 {channels} is needed"
        )
    elif not (np.isfinite(scale) & (scale > 0)).all():
        yield "weight.scale must be finite and > 0 for every channel"
    if multiplier is not None:
        if multiplier.shape != channels or multiplier.dtype != np.int32 or (multiplier < 1).any():
            yield f"weight.multiplier must be int32 {channels}, each at least 1"
        elif (values % multiplier).any():
            yield "weight codes are not multiples of weight.multiplier"


def _shape_problems(node: Node, inputs: list[Tensor], output: Tensor) -> Iterator[str]:
    try:
        shape = OPS[node.op].shape(node, [tensor.shape for tensor in inputs])
    except GraphError as error:
        yield str(error)
        return
    if shape != output.shape:
        yield f"gives {shape}; its output {output.name!r} is declared as {output.shape}"


def _overflow_problems(node: Node, source: Tensor) -> Iterator[str]:
    """int32 accumulators, as all targets have them, must hold the worst input."""
    if node.weight is None or node.weight.scale is None or source.qparams is None:
        return
    low, high = accumulator_range(node.weight.values, source.qparams)
    if node.bias is not None and node.bias.dtype == np.int32:
        low, high = low + node.bias, high + node.bias
    over = np.flatnonzero((low < _INT32.min) | (high > _INT32.max))
    if over.size:
        channel = over[0]
        yield (
            f"accumulators of {over.size} channel(s) can pass int32: channel {channel} reaches "
            f"{low[channel]} to {high[channel]}. Use fewer bits or a smaller bias."
        )

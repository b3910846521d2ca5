"""The reference interpreter: what a graph's codes must be, computed with numpy alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from keras_quant.errors import GraphError, close_names
from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.graph.linear import lays_out_rows
from keras_quant.graph.ops import OPS
from keras_quant.graph.rounding import Kernel, code_dtype

Arrays = dict[str, np.ndarray]

# The largest array of a batch has about this many elements: 20 images of a ResNet-20 (32x32).
# With one thread of BLAS more gain nothing, as they leave the caches.
_ELEMENTS_AT_ONCE = 2**20


def run_reference(
    graph: Graph, inputs: Mapping[str, np.ndarray], *, keep: Iterable[str] | None = None
) -> Arrays:
    """Computes tensors of a graph for any number of images.

    Args:
        graph: a graph that `graph.verify.verify` accepts.
        inputs: by name, (images, *shape) each, made float32, or codes where they have qparams.
        keep: names of the tensors wanted; None means the graph's outputs.
    Returns: by name, (images, *shape): codes in the narrowest of int8, int16 and int32 that
        holds them and the zero point, reals in float32.
    Raises:
        GraphError: an input is missing or of another shape, or a wanted tensor is unknown.
    """
    batches = list(iterate_reference(graph, inputs, keep=keep))
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def iterate_reference(
    graph: Graph,
    inputs: Mapping[str, np.ndarray],
    *,
    keep: Iterable[str] | None = None,
    batch_size: int | None = None,
) -> Iterator[Arrays]:
    """Computes as `run_reference` does, one batch of images after the other.

    Args:
        graph: as for run_reference.
        inputs: as for run_reference.
        keep: as for run_reference.
        batch_size: images in each result but the last; None means as many as run fast.
    Yields: what run_reference returns, for the next images; at least one batch.
    Raises:
        GraphError: as run_reference, at the call of the first batch.
    """
    images = _count_images(graph, inputs)
    compute = bind_reference(graph, keep=keep)
    count = batch_size or images_at_once(graph)
    for start in range(0, max(images, 1), count):
        yield compute({name: inputs[name][start : start + count] for name in graph.inputs})


def bind_reference(
    graph: Graph, *, keep: Iterable[str] | None = None
) -> Callable[[Mapping[str, np.ndarray]], Arrays]:
    """Prepares a graph for many batches.

    Args:
        graph: as for run_reference.
        keep: as for run_reference.
    Returns: a function of inputs, as run_reference takes and computes them, all at a time; threads
        may share it.
    Raises:
        GraphError: a wanted tensor is unknown; and the function, as run_reference.
    """
    wanted = graph.outputs if keep is None else tuple(dict.fromkeys(keep))
    _check_known(graph, wanted)
    program = [(node, _bind(graph, node)) for node in _needed_nodes(graph, wanted)]

    def compute(inputs: Mapping[str, np.ndarray]) -> Arrays:
        _count_images(graph, inputs)
        values = {name: _given(graph.tensors[name], inputs[name]) for name in graph.inputs}
        return _run(program, values, wanted)

    return compute


def _run(program: list[tuple[Node, Kernel]], values: Arrays, wanted: tuple[str, ...]) -> Arrays:
    """Runs bound nodes in order; each array is dropped after its last use."""
    last_use = {name: index for index, (node, _) in enumerate(program) for name in node.inputs}
    for index, (node, kernel) in enumerate(program):
        values[node.output] = kernel(*(values[name] for name in node.inputs))
        for name in set(node.inputs):
            if last_use[name] == index and name not in wanted:
                del values[name]
    return {name: values[name] for name in wanted}


def _given(tensor: Tensor, values: np.ndarray) -> np.ndarray:
    return np.asarray(values, code_dtype(tensor.qparams) if tensor.qparams else np.float32)


def _bind(graph: Graph, node: Node) -> Kernel:
    inputs = [graph.tensors[name] for name in node.inputs]
    return OPS[node.op].bind(node, inputs, graph.tensors[node.output])


def _needed_nodes(graph: Graph, wanted: tuple[str, ...]) -> list[Node]:
    """The nodes that the wanted tensors depend on, in order."""
    needed, nodes = set(wanted), []
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
            nodes.append(node)
    return nodes[::-1]


def images_at_once(graph: Graph) -> int:
    """Images whose largest array, windows laid out for a matrix product included, is small."""
    largest = max(int(np.prod(tensor.shape)) for tensor in graph.tensors.values())
    for node in graph.nodes:
        if node.op == "conv2d":
            positions = np.prod(graph.tensors[node.output].shape[:2])
            high, wide = node.kernel.values.shape[:2]
            taps = wide if lays_out_rows(node) else high * wide
            largest = max(largest, int(positions * taps) * graph.tensors[node.inputs[0]].shape[2])
        if node.op == "conv2d_transpose":
            positions = np.prod(graph.tensors[node.inputs[0]].shape[:2])
            height, width, _, channels = node.kernel.values.shape
            largest = max(largest, int(positions * height * width * channels))
    return max(1, _ELEMENTS_AT_ONCE // largest)


def _check_known(graph: Graph, wanted: tuple[str, ...]) -> None:
    problems = [
        f"tensor {name!r} is not in the graph{close_names(name, graph.tensors)}"
        for name in wanted
        if name not in graph.tensors
    ]
    if problems:
        raise GraphError(f"graph {graph.name!r}: " + "; ".join(problems))


def _count_images(graph: Graph, inputs: Mapping[str, np.ndarray]) -> int:
    """Checks what the caller gave, and counts the images."""
    problems = []
    for name in graph.inputs:
        shape = graph.tensors[name].shape
        if name not in inputs:
            problems.append(f"input {name!r} is missing; given are {', '.join(inputs) or 'none'}")
        elif np.shape(inputs[name])[1:] != shape:
            needed = ", ".join(["images", *map(str, shape)])
            problems.append(f"input {name!r} is {np.shape(inputs[name])}; ({needed}) is needed")
    counts = {name: len(inputs[name]) for name in graph.inputs if name in inputs}
    if len(set(counts.values())) > 1:
        problems.append(f"inputs hold different numbers of images: {counts}")
    if problems:
        raise GraphError(f"graph {graph.name!r}: " + "; ".join(problems))
    return next(iter(counts.values()))

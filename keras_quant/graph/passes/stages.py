"""A graph of several outputs, cut into stages: each gives one answer, from what the last left.

Stage k holds the nodes that output k needs and that no earlier stage computes, so that all stages
together compute each node once. A tensor that a later stage reads is handed over: it goes out of
the stage that computes it, and into each that reads it, by its name in the whole graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from keras_quant.errors import GraphError
from keras_quant.graph.ir import Graph, Node, Tensor

REALS = "/reals"
"""What the names of tensors end with that are handed over in floats."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stage:
    """One part of a graph.

    Attributes:
        graph: its inputs are the whole graph's, or outputs of earlier stages; its outputs the
            answer, and what it hands over.
        answer: the whole graph's output that it gives.
    """

    graph: Graph
    answer: str

    @property
    def handed(self) -> tuple[str, ...]:
        """The outputs that later stages read; the answer may be one of them."""
        return tuple(name for name in self.graph.outputs if name != self.answer)


def cut(graph: Graph, *, codes: bool = True) -> tuple[Stage, ...]:
    """Cuts a graph into one stage an output, in the order of its outputs.

    Args:
        graph: its outputs in the order of their depth.
        codes: hand over codes as they are; else as the floats that they stand for, which the
            next stage rounds to the same codes. Floats are floats either way.
    Raises:
        GraphError: there is one output only, or one needs nothing that earlier ones do not.
    """
    if len(graph.outputs) < 2:
        raise GraphError(
            f"graph {graph.name!r} has one output, {', '.join(graph.outputs)}; two or more make "
            "stages. Train it with --exits LAYER,LAYER"
        )
    parts = list(_parts(graph))
    stages = []
    for number, (answer, nodes) in enumerate(zip(graph.outputs, parts, strict=True)):
        if not nodes:
            raise GraphError(
                f"graph {graph.name!r}: output {answer!r} needs nothing that earlier outputs do "
                "not. Put the outputs in the order of their depth, the last at the end"
            )
        later = {name for part in parts[number + 1 :] for node in part for name in node.inputs}
        handed = [n.output for n in nodes if n.output in later and n.output != answer]
        stage = _stage(graph, number, answer, nodes, handed)
        stages.append(Stage(graph=stage, answer=answer))
    return tuple(stages) if codes else tuple(_in_reals(graph, stage) for stage in stages)


def _parts(graph: Graph) -> Iterator[tuple[Node, ...]]:
    """The nodes of each stage, in order."""
    done: set[str] = set()
    for answer in graph.outputs:
        needed, nodes = {answer}, []
        for node in reversed(graph.nodes):
            if node.output in needed and node.name not in done:
                needed.update(node.inputs)
                nodes.append(node)
        done.update(node.name for node in nodes)
        yield tuple(nodes[::-1])


def _stage(
    graph: Graph, number: int, answer: str, nodes: tuple[Node, ...], handed: list[str]
) -> Graph:
    made = {node.output for node in nodes}
    read = dict.fromkeys(name for node in nodes for name in node.inputs if name not in made)
    names = [*read, *(node.output for node in nodes)]
    return Graph(
        name=f"{graph.name}_stage{number + 1}",
        inputs=tuple(read),
        outputs=(answer, *handed),
        tensors={name: graph.tensors[name] for name in names},
        nodes=nodes,
    )


def _in_reals(whole: Graph, stage: Stage) -> Stage:
    """A stage that takes and hands over floats in place of codes."""
    graph = stage.graph
    taken = [name for name in graph.inputs if name not in whole.inputs]
    inner = [name for name in taken if graph.tensors[name].qparams is not None]
    outer = [name for name in stage.handed if graph.tensors[name].qparams is not None]
    reals = {name: _real(graph.tensors[name]) for name in (*inner, *outer)}
    before = [_between("quantize", reals[name].name, name) for name in inner]
    after = [_between("dequantize", name, reals[name].name) for name in outer]
    made = replace(
        graph,
        inputs=_renamed(graph.inputs, reals),
        outputs=(stage.answer, *_renamed(stage.handed, reals)),
        tensors={**graph.tensors, **{tensor.name: tensor for tensor in reals.values()}},
        nodes=(*before, *graph.nodes, *after),
    )
    return Stage(graph=made, answer=stage.answer)


def _real(tensor: Tensor) -> Tensor:
    return Tensor(name=f"{tensor.name}{REALS}", shape=tensor.shape)


def _between(op: str, source: str, output: str) -> Node:
    return Node(name=f"{output}/{op}", op=op, inputs=(source,), output=output, layers=(output,))


def _renamed(names: tuple[str, ...], reals: Mapping[str, Tensor]) -> tuple[str, ...]:
    return tuple(reals[name].name if name in reals else name for name in names)

"""Outputs that no two are the same tensor, and none an input: most formats cannot say otherwise."""

from __future__ import annotations

from dataclasses import replace

from keras_quant.graph.ir import Graph, Node


def tell_apart(graph: Graph) -> Graph:
    """Gives the graph with a twin, by a reshape that changes nothing, of what goes out twice.

    Returns: the graph itself where nothing does; else one whose tensor that is output number N
        is called NAME/output_N.
    """
    apart: list[str] = []
    twins: list[Node] = []
    tensors = dict(graph.tensors)
    for place, name in enumerate(graph.outputs):
        twin = f"{name}/output_{place}"
        if name not in (*graph.inputs, *apart):
            apart.append(name)
            continue
        tensors[twin] = replace(tensors[name], name=twin)
        attrs = {"shape": tensors[name].shape}
        node = Node(name=twin, op="reshape", inputs=(name,), output=twin, attrs=attrs)
        twins.append(replace(node, layers=(twin,)))
        apart.append(twin)
    if not twins:
        return graph
    return replace(graph, outputs=tuple(apart), nodes=(*graph.nodes, *twins), tensors=tensors)

"""Small graphs of floats, and of codes, made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_quant.graph.ir import Graph, Node, Shape, Tensor, Weight
from keras_quant.qparams import QParams, unsigned


class Builder:
    """Adds nodes one by one; each writes a tensor of its own name.

    Graphs of floats are whole; those of codes have no node that rounds the input.
    """

    def __init__(self, shape: Shape, *, bits: int | None = None) -> None:
        self.grid: QParams | None = None if bits is None else unsigned(bits, 0.1)
        self.tensors = {"image": Tensor(name="image", shape=shape, qparams=self.grid)}
        self.nodes: list[Node] = []

    def node(
        self,
        name: str,
        op: str,
        inputs: tuple[str, ...],
        shape: Shape,
        *,
        kernel: Shape | None = None,
        floats: bool = False,
        **attrs: Any,
    ) -> Builder:
        grid = None if floats else self.grid
        self.tensors[name] = Tensor(name=name, shape=shape, qparams=grid)
        weight = bias = None
        if kernel is not None:
            codes = grid is not None
            weight = Weight(
                values=np.ones(kernel, np.int8 if codes else np.float32),
                scale=np.ones(kernel[-1]) if codes else None,
                bits=4 if codes else 32,
            )
            bias = np.zeros(kernel[-1], np.float64 if codes else np.float32)
        self.nodes.append(
            Node(
                name=name,
                op=op,
                inputs=inputs,
                output=name,
                attrs=attrs,
                weight=weight,
                bias=bias,
            )
        )
        return self

    def graph(self, *outputs: str) -> Graph:
        return Graph(
            name="net",
            inputs=("image",),
            outputs=outputs or (self.nodes[-1].output,),
            tensors=self.tensors,
            nodes=tuple(self.nodes),
        )


def residual(bits: int | None = None) -> Graph:
    """A convolution whose output goes two ways, one of them through another, and is added."""
    return (
        Builder((8, 8, 3), bits=bits)
        .node("conv1", "conv2d", ("image",), (8, 8, 16), kernel=(3, 3, 3, 16), padding="same")
        .node("conv2", "conv2d", ("conv1",), (8, 8, 16), kernel=(3, 3, 16, 16), padding="same")
        .node("add", "add", ("conv2", "conv1"), (8, 8, 16), activation="relu")
        .node("mean", "mean", ("add",), (16,))
        .node("logits", "dense", ("mean",), (10,), kernel=(16, 10))
        .graph()
    )

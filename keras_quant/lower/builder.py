"""The graph while a model is lowered: nodes that are finished, and twins of tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from keras_quant.graph.ir import Graph, Node, Shape, Tensor
from keras_quant.graph.windows import Pair
from keras_quant.model.operations import Operation


class GraphBuilder:
    """The graph so far.

    Attributes:
        tensors: by name.
        nodes: in order.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self._origins: dict[str, str] = {}  # what each tensor was reshaped from

    def finish(self, name: str, *, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
        """Gives the graph without the nodes whose output nothing reads; its inputs stay."""
        wanted, nodes = {*inputs, *outputs}, []
        for node in reversed(self.nodes):
            if node.output in wanted:
                wanted.update(node.inputs)
                nodes.append(node)
        return Graph(
            name=name,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            tensors={name: tensor for name, tensor in self.tensors.items() if name in wanted},
            nodes=tuple(reversed(nodes)),
        )

    def reshaped(self, name: str, shape: Shape, *, output: str = "", layer: str = "") -> str:
        """Gives a tensor in another shape: what it was reshaped from, or a twin, made once.

        Args:
            output: what to call the twin, unless that is the name of what it is made from.
            layer: that asks for it; none does where an op takes another layout.
        """
        origin = self._origins.get(name, name)
        for known in (name, origin):
            if self.tensors[known].shape == shape:
                return known
        twin = output if output not in ("", origin) else f"{origin}/{'x'.join(map(str, shape))}"
        if twin not in self.tensors:
            tensor = dataclasses.replace(self.tensors[origin], name=twin, shape=shape)
            self.emit(twin, "reshape", (origin,), tensor, {"shape": shape}, layer)
            self._origins[twin] = origin
        return twin

    def padded(self, operation: Operation, name: str, margins: tuple[Pair, Pair]) -> str:
        """Gives an image with what is padded in front of an operation's op."""
        rows, columns = margins
        height, width, channels = self.tensors[name].shape
        shape = (height + sum(rows), width + sum(columns), channels)
        tensor = dataclasses.replace(self.tensors[name], name=f"{operation.name}/pad", shape=shape)
        return self.emit(tensor.name, "pad", (name,), tensor, {"padding": margins})

    def as_float(self, name: str) -> str:
        """Gives the float twin of a tensor of codes, made once."""
        tensor = self.tensors[name]
        if tensor.qparams is None:
            return name
        twin = f"{name}/float"
        if twin not in self.tensors:
            self.emit(twin, "dequantize", (name,), Tensor(name=twin, shape=tensor.shape))
        return twin

    def emit_float(
        self, operation: Operation, op: str, source: str, attrs: Mapping[str, Any] | None = None
    ) -> str:
        """Emits an op that keeps the shape of the floats that it reads."""
        source = self.as_float(source)
        tensor = Tensor(name=operation.name, shape=self.tensors[source].shape)
        return self.emit(operation.name, op, (source,), tensor, attrs, operation.layer_name)

    def emit(
        self,
        name: str,
        op: str,
        inputs: tuple[str, ...],
        output: Tensor,
        attrs: Mapping[str, Any] | None = None,
        layer: str = "",
    ) -> str:
        """Adds a node without weights; layer: the one that it computes, if not its namesake.

        Returns: the output's name.
        """
        node = Node(
            name=name,
            op=op,
            inputs=inputs,
            output=output.name,
            attrs=attrs or {},
            layers=(layer or name,),
        )
        self.nodes.append(node)
        self.tensors[output.name] = output
        return output.name

"""An ONNX model, indexed for questions about its values."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_TRANSPARENT = ("QuantizeLinear", "Identity", "Transpose", "Reshape", "Cast")


class OnnxModel:
    """Answers by a value's name; nodes stay as they are."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.nodes: tuple[onnx.NodeProto, ...] = tuple(graph.node)
        self.opset: int = next(
            (item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0
        )
        self._producers = {output: node for node in graph.node for output in node.output}
        self._consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for value in dict.fromkeys(node.input):
                self._consumers.setdefault(value, []).append(node)
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self._tensors[node.output[0]] = node.attribute[0].t

    def producer(self, value: str) -> onnx.NodeProto | None:
        """The node that computes a value; None for inputs and constants."""
        return None if value in self._tensors else self._producers.get(value)

    def consumers(self, value: str) -> tuple[onnx.NodeProto, ...]:
        """The nodes that read a value."""
        return tuple(self._consumers.get(value, ()))

    def constant(self, value: str) -> np.ndarray | None:
        """A constant's array; None for what is computed."""
        tensor = self._tensors.get(value)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def is_weight(self, value: str) -> bool:
        """Whether a value is a constant, or computed of one constant alone."""
        producer = self.producer(value)
        while producer is not None and producer.op_type in _TRANSPARENT:
            value = producer.input[0]
            producer = self.producer(value)
        return value in self._tensors

    def shape(self, value: str) -> tuple[int, ...] | None:
        """The shape of a constant, also behind Q and DQ; None where it is not one."""
        producer = self.producer(value)
        while producer is not None and producer.op_type in ("QuantizeLinear", "DequantizeLinear"):
            value = producer.input[0]
            producer = self.producer(value)
        tensor = self._tensors.get(value)
        return None if tensor is None else tuple(tensor.dims)

    def element_type(self, node: onnx.NodeProto) -> int:
        """The TensorProto type of the codes that a Q gives, or a DQ takes."""
        if len(node.input) > 2 and node.input[2] in self._tensors:
            return int(self._tensors[node.input[2]].data_type)
        if node.op_type == "DequantizeLinear":
            producer = self.producer(node.input[0])
            if node.input[0] in self._tensors:
                return int(self._tensors[node.input[0]].data_type)
            if producer is not None and producer.op_type == "QuantizeLinear":
                return self.element_type(producer)
        # Without a zero point a QuantizeLinear gives uint8, unless it says otherwise.
        return int(self.attribute(node, "output_dtype", 0)) or TensorProto.UINT8

    @staticmethod
    def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
        """An attribute's value, or default where it is not given."""
        found = next((item for item in node.attribute if item.name == name), None)
        return default if found is None else helper.get_attribute_value(found)

"""Writes ONNX models node by node. Knows the file format and nothing of quantization schemes.

Format: https://github.com/onnx/onnx/blob/main/docs/IR.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

# ONNX Runtime reads both from 1.12 (June 2022) on; nothing that is newer is needed.
OPSET, IR_VERSION = 17, 8
BATCH = "batch"


class OnnxFile:
    """A model that grows constant by constant and node by node, any batch in front."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._scalars: dict[tuple[str, bytes], str] = {}

    def constant(self, name: str, values: np.ndarray) -> str:
        """Adds a constant tensor.

        Not even equal ones are stored once: the session option of `onnx_x86_weights` fails
        where two nodes share a weight or its zero points.

        Args:
            name: what its name begins with.
        Returns: its name.
        """
        unique = f"{name}_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(values, unique))
        return unique

    def scalar(self, name: str, value: np.generic) -> str:
        """Adds a constant of rank 0; equal ones are stored once.

        Returns: its name.
        """
        key = (value.dtype.name, value.tobytes())
        if key not in self._scalars:
            self._scalars[key] = self.constant(name, np.array(value))
        return self._scalars[key]

    def node(self, op: str, inputs: Sequence[str], output: str, **attrs: Any) -> str:
        """Adds a node of one output, which is also the node's name.

        Args:
            op: an operator of the default domain.
            inputs: names, in the operator's order.
            attrs: the operator's attributes.
        Returns: output.
        """
        self._nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attrs))
        return output

    def pack(
        self,
        inputs: Mapping[str, Sequence[int]],
        outputs: Mapping[str, tuple[str, Sequence[int]]],
        *,
        metadata: Mapping[str, str],
    ) -> bytes:
        """Gives the file's bytes, with the nodes that no output needs left out.

        Args:
            inputs: float32 inputs, name to shape without the batch.
            outputs: name to (dtype, shape without the batch).
            metadata: written as metadata_props.
        Raises:
            onnx.checker.ValidationError: our own mistake.
        """
        nodes, needed = self._needed(set(outputs))
        graph = helper.make_graph(
            nodes,
            self._name,
            [_value(name, "float32", shape) for name, shape in inputs.items()],
            [_value(name, dtype, shape) for name, (dtype, shape) in outputs.items()],
            [constant for constant in self._constants if constant.name in needed],
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        model.producer_name = "keras_quant"
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())

    def _needed(self, wanted: set[str]) -> tuple[list[onnx.NodeProto], set[str]]:
        """The nodes that the wanted values depend on, in order, and all values these touch."""
        needed, nodes = set(wanted), []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                nodes.append(node)
        return nodes[::-1], needed


def _value(name: str, dtype: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, element, [BATCH, *shape])

"""Writes ONNX models node by node. Knows the file format and nothing of quantization schemes.

Format: https://github.com/onnx/onnx/blob/main/docs/IR.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

BATCH = "batch"


class OnnxFile:
    """A model that grows constant by constant and operator by operator, any batch in front.

    A value is known by its name.
    """

    def __init__(self, name: str, *, opset: int, ir_version: int) -> None:
        self._name = name
        self._opset = opset
        self._ir_version = ir_version
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, values: np.ndarray) -> str:
        """Stores an array.

        Not even equal ones are stored once: ONNX Runtime's session option of
        `emit.onnx_x86.weights` fails where two nodes share a weight or its zero points.

        Returns: its name: the given one, or one that begins so where that is taken.
        """
        if name in self._constants:
            name = f"{name}_{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def scalar(self, value: float | np.number, dtype: type = np.float32) -> str:
        """Stores a rank-0 constant once, however often it is asked for.

        Returns: its name, which says the value.
        """
        array: np.ndarray = np.asarray(value, dtype)
        name = f"{array.dtype}:{array}"
        return name if name in self._constants else self.constant(name, array)

    def operator(
        self, op: str, inputs: Sequence[str], output: str, *, name: str = "", **attrs: Any
    ) -> str:
        """Adds an operator behind what it reads.

        Args:
            op: of the default domain.
            name: what runtimes call it; "" means as its output.
        Returns: output.
        """
        self._nodes.append(helper.make_node(op, inputs, [output], name=name or output, **attrs))
        return output

    def sources(self) -> dict[str, tuple[str, str]]:
        """What each value is computed from: its operator, and the first value that reads."""
        return {node.output[0]: (node.op_type, node.input[0]) for node in self._nodes}

    def pack(
        self,
        *,
        inputs: Mapping[str, tuple[type, Sequence[int]]],
        outputs: Mapping[str, tuple[type, Sequence[int]]],
        metadata: Mapping[str, str],
    ) -> bytes:
        """Gives the file's bytes, with all left out that no output needs.

        Args:
            inputs, outputs: name to dtype, and to shape without the batch axis.
            metadata: what the file says of itself, written as metadata_props.
        Raises:
            onnx.checker.ValidationError: our own mistake.
        """
        nodes, needed = self._needed(set(outputs))
        graph = helper.make_graph(
            nodes,
            self._name,
            [_value(name, dtype, shape) for name, (dtype, shape) in inputs.items()],
            [_value(name, dtype, shape) for name, (dtype, shape) in outputs.items()],
            initializer=[tensor for name, tensor in self._constants.items() if name in needed],
        )
        model = helper.make_model(
            graph,
            producer_name="keras_quant",
            ir_version=self._ir_version,
            opset_imports=[helper.make_opsetid("", self._opset)],
        )
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model)
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    def _needed(self, wanted: set[str]) -> tuple[list[onnx.NodeProto], set[str]]:
        """The nodes that the wanted values depend on, in order, and all values these touch."""
        needed, nodes = set(wanted), []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                nodes.append(node)
        return nodes[::-1], needed


def _value(name: str, dtype: type, shape: Sequence[int]) -> onnx.ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, element, [BATCH, *shape])

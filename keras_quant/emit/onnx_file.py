"""An ONNX file in the making: constants, operators, inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BATCH = "batch"


class OnnxFile:
    """Collects the parts of one model; a value is known by its name."""

    def __init__(self, name: str, *, opset: int, ir_version: int) -> None:
        self._name = name
        self._opset = opset
        self._ir_version = ir_version
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, values: np.ndarray) -> str:
        """Stores an array; a second one of the same name must be equal to the first.

        Returns: name.
        """
        tensor = numpy_helper.from_array(np.asarray(values, order="C"), name)
        assert self._constants.setdefault(name, tensor) == tensor, name
        return name

    def scalar(self, value: float | np.number, dtype: type = np.float32) -> str:
        """Stores a rank-0 constant once, however often it is asked for.

        Returns: its name, which tells the value.
        """
        array: np.ndarray = np.asarray(value, dtype)
        return self.constant(f"{array.dtype}:{array}", array)

    def operator(
        self, op: str, inputs: Sequence[str], output: str, *, name: str = "", **attrs: Any
    ) -> str:
        """Adds an operator behind what it reads.

        Args:
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
        inputs: Mapping[str, Sequence[int]],
        outputs: Mapping[str, tuple[type, Sequence[int]]],
        metadata: Mapping[str, str],
    ) -> bytes:
        """Gives the file's bytes.

        Args:
            inputs: name to shape without the batch axis, all float32.
            outputs: name to dtype, and to shape without the batch axis.
            metadata: what the file says of itself.
        """
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [_value(name, np.float32, shape) for name, shape in inputs.items()],
            [_value(name, dtype, shape) for name, (dtype, shape) in outputs.items()],
            initializer=list(self._constants.values()),
        )
        model = helper.make_model(
            graph,
            producer_name="keras_quant",
            ir_version=self._ir_version,
            opset_imports=[helper.make_opsetid("", self._opset)],
        )
        helper.set_model_props(model, dict(metadata))
        content: bytes = model.SerializeToString(deterministic=True)
        return content


_ELEMENTS: dict[type, int] = {np.float32: TensorProto.FLOAT, np.int8: TensorProto.INT8}


def _value(name: str, dtype: type, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _ELEMENTS[dtype], [BATCH, *shape])

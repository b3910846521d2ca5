"""What the emission of every TFLite operator shares: tensors of codes and their clamps.

A tensor of codes qmin..qmax is stored as int8 code + 127 - qmax, so that int8 saturation
clamps the top of its range at no cost. The bottom is clamped by saturation too where the
range has 256 codes, by a fused activation where the lowest code stands for real 0 or -1, and
else by writing first to a tensor whose int8 range begins at qmin and copying that to the
final one (QUANTIZE between equal scales only adds a shift and saturates).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_quant.emit.tflite.file import TFLiteFile
from keras_quant.emit.tflite.options import TFLiteOptions
from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.qparams import INT8_CODES, QParams

INT8_MAX = 127
RELU: int = schema.ActivationFunctionType.RELU
RELU_N1_TO_1: int = schema.ActivationFunctionType.RELU_N1_TO_1


def stored_shift(qparams: QParams) -> int:
    """What a TFLite file adds to each code of a tensor before it stores it as int8."""
    return INT8_MAX - qparams.qmax


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Emission:
    """A graph on its way into a file.

    Attributes:
        index: the file's tensor for each tensor of the graph that was emitted.
    """

    graph: Graph
    file: TFLiteFile
    options: TFLiteOptions = field(default_factory=TFLiteOptions)
    index: dict[str, int] = field(default_factory=dict)

    def output(self, node: Node) -> Tensor:
        """The graph's tensor that a node writes."""
        return self.graph.tensors[node.output]

    def source(self, node: Node) -> Tensor:
        """The graph's tensor that a node reads first."""
        return self.graph.tensors[node.inputs[0]]

    def inputs(self, node: Node) -> list[int]:
        """The file's tensors that a node reads."""
        return [self.index[name] for name in node.inputs]

    def define(self, tensor: Tensor) -> int:
        """Adds a tensor to the file: int8 where it has qparams, else float32."""
        if tensor.qparams is None:
            return self.file.activation(tensor.name, tensor.shape)
        return self.file.activation(
            tensor.name,
            tensor.shape,
            scale=tensor.qparams.scale,
            zero_point=tensor.qparams.zero_point + stored_shift(tensor.qparams),
        )

    def write(
        self,
        output: Tensor,
        op: str,
        inputs: Sequence[int],
        *,
        options: Any = None,
        version: int = 1,
    ) -> int:
        """Emits an operator whose results lie within the output's range by nature.

        Returns: the file's tensor for output.
        """
        index = self.define(output)
        self.file.operator(op, inputs, index, options=options, version=version)
        return index

    def write_clamped(
        self,
        output: Tensor,
        op: str,
        inputs: Sequence[int],
        *,
        options: Any = None,
        version: int = 1,
    ) -> int:
        """Emits an operator whose codes are clamped to the output's qmin..qmax.

        Args:
            options: where they have a fusedActivationFunction, it may be set here.
        Returns: the file's tensor for output.
        """
        qparams = output.grid
        if qparams.qmax - qparams.qmin == INT8_CODES - 1:
            return self.write(output, op, inputs, options=options, version=version)
        activation = _clamp_from_below(qparams)
        if activation is not None and hasattr(options, "fusedActivationFunction"):
            options.fusedActivationFunction = activation
            return self.write(output, op, inputs, options=options, version=version)
        bottom = replace(qparams, qmax=qparams.qmin + INT8_CODES - 1, bits=8)
        unclamped = replace(output, name=f"{output.name}/unclamped", qparams=bottom)
        index = self.write(unclamped, op, inputs, options=options, version=version)
        return self.write(output, "QUANTIZE", [index], version=2)


def _clamp_from_below(qparams: QParams) -> int | None:
    """The activation that clamps to qmin, and not below qmax; None where there is none."""
    if not qparams.signed:
        return RELU
    depth, height = qparams.zero_point - qparams.qmin, qparams.qmax - qparams.zero_point
    if height <= depth and np.isclose(depth * qparams.scale, 1, rtol=1e-6):  # -1 rounds to qmin
        return RELU_N1_TO_1
    return None

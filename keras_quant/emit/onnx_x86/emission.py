"""What the emission of every ONNX operator shares: codes, their clamps, and the layout.

A tensor of codes is stored as uint8, which is what ONNX Runtime's x86 kernels are fast at:
unsigned codes as they are with zero point 0, others shifted so that the lowest code is 0 (or 1,
where that makes the zero point even). uint8 saturation clamps a range of 256 codes; a shorter
one is clamped by a Clip of the uint8 codes, which comes between the QuantizeLinear and the
DequantizeLinear of its readers and so leaves both to be fused with what they belong to.

Images are (batch, channels, height, width) within the file.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto

from keras_quant.emit.onnx.file import OnnxFile
from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.qparams import QParams

UINT8_MAX = 255
FLOAT = TensorProto.FLOAT
TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def stored_shift(qparams: QParams) -> int:
    """What an ONNX file adds to each code of a tensor before it stores it as uint8.

    QLinearAdd rounds halves to even after it has added the zero point (MLAS, qladd.cpp), so
    an even one is chosen where there is room.
    """
    if not qparams.signed:
        return -qparams.qmin
    odd = (qparams.zero_point - qparams.qmin) % 2
    return -qparams.qmin + (odd if qparams.qmax - qparams.qmin < UINT8_MAX else 0)


def stored_range(qparams: QParams) -> tuple[int, int, int]:
    """Lowest code, highest code and zero point, as stored."""
    shift = stored_shift(qparams)
    return qparams.qmin + shift, qparams.qmax + shift, qparams.zero_point + shift


def saturates(qparams: QParams) -> bool:
    """Whether saturation to uint8 clamps codes to their range."""
    return stored_range(qparams)[:2] == (0, UINT8_MAX)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Emission:
    """A graph on its way into a file.

    Attributes:
        unsigned_weights: names of the nodes whose weights are stored as uint8.
        values: the file's value for each tensor of the graph that was emitted: float32, or
            uint8 as stored.
        unclamped: tensors whose value still has to be clamped to their range. It is when it is
            needed: behind a max pool are fewer codes than in front of it.
    """

    graph: Graph
    file: OnnxFile
    unsigned_weights: Collection[str] = ()
    values: dict[str, str] = field(default_factory=dict)
    unclamped: set[str] = field(default_factory=set)

    def output(self, node: Node) -> Tensor:
        """The graph's tensor that a node writes."""
        return self.graph.tensors[node.output]

    def source(self, node: Node) -> Tensor:
        """The graph's tensor that a node reads first."""
        return self.graph.tensors[node.inputs[0]]

    def take(self, name: str) -> None:
        """Makes a tensor an input of the file, in the graph's layout."""
        tensor = self.graph.tensors[name]
        self.values[name] = name
        if len(tensor.shape) == 3:
            self.write(tensor, "Transpose", [name], perm=TO_NCHW)

    def give(self, name: str) -> None:
        """Makes a tensor an output of the file, in the graph's layout."""
        value = self.value(name)
        if len(self.graph.tensors[name].shape) == 3:
            self.file.operator("Transpose", [value], name, perm=TO_NHWC)
        elif value != name:
            self.file.operator("Identity", [value], name)

    def value(self, name: str) -> str:
        """The value of a tensor, codes clamped to their range."""
        if name in self.unclamped:
            self.unclamped.remove(name)
            tensor = self.graph.tensors[name]
            bounds = stored_range(tensor.grid)[:2]
            ends = [self.file.scalar(bound, np.uint8) for bound in bounds]
            self.write(tensor, "Clip", [self.values[name], *ends])
        return self.values[name]

    def real(self, node: Node, index: int = 0, scale: float | None = None) -> str:
        """What a node reads as its input index, in float32; codes through a DequantizeLinear.

        Args:
            scale: of the codes; None means the tensor's own.
        """
        name = node.inputs[index]
        qparams = self.graph.tensors[name].qparams
        if qparams is None:
            return self.value(name)
        grid = self.grid(qparams.scale if scale is None else scale, stored_range(qparams)[2])
        inputs = [self.value(name), *grid]
        return self.file.operator("DequantizeLinear", inputs, f"{node.name}/input_{index}")

    def converted(self, node: Node, index: int = 0) -> str:
        """The same reals as `real` gives, by operators that are never fused."""
        tensor = self.graph.tensors[node.inputs[index]]
        qparams, name, file = tensor.grid, f"{node.name}/float_{index}", self.file
        zero_point = stored_range(qparams)[2]
        value = file.operator("Cast", [self.value(tensor.name)], f"{name}/cast", to=FLOAT)
        if zero_point:
            point = file.scalar(zero_point)
            value = file.operator("Sub", [value, point], f"{name}/level")
        scale = file.scalar(qparams.scale)
        return file.operator("Mul", [value, scale], name)

    def write(self, output: Tensor, op: str, inputs: Sequence[str], **attrs: Any) -> None:
        """Emits an operator that gives an output's value: floats, or codes in their range."""
        self.values[output.name] = self.file.operator(op, inputs, _name(output), **attrs)

    def write_activated(self, node: Node, value: str, activation: str) -> None:
        """Makes a float value, after an activation of `graph.rounding`, a node's output."""
        if activation == "none":
            self.values[node.output] = value
        elif activation == "relu":
            self.write(self.output(node), "Relu", [value])
        else:
            bounds = [self.file.scalar(bound) for bound in (0, 6)]
            self.write(self.output(node), "Clip", [value, *bounds])

    def write_unclamped(self, output: Tensor, op: str, inputs: Sequence[str], **attrs: Any) -> None:
        """Emits an operator that gives an output's codes, saturated to uint8 only."""
        if saturates(output.grid):
            self.write(output, op, inputs, **attrs)
            return
        self.unclamped.add(output.name)
        name = f"{_name(output)}/unclamped"
        self.values[output.name] = self.file.operator(op, inputs, name, **attrs)

    def quantize(
        self, output: Tensor, real: str, scale: float | None = None, *, in_range: bool = False
    ) -> None:
        """Emits what turns a float32 value into an output's codes.

        Args:
            scale: of the codes; None means the output's own.
            in_range: whether no value lies beyond the range of the codes.
        """
        qparams = output.grid
        grid = self.grid(qparams.scale if scale is None else scale, stored_range(qparams)[2])
        write = self.write if in_range else self.write_unclamped
        write(output, "QuantizeLinear", [real, *grid])

    def pass_on(
        self,
        node: Node,
        op: str,
        more: Sequence[str] = (),
        *,
        value: str | None = None,
        **attrs: Any,
    ) -> None:
        """Emits an operator that picks among its sources' values, whether clamped or not yet.

        Args:
            more: what the operator reads behind its first input.
            value: its first input; None means the source as it is.
        """
        write = self.write_unclamped if self.unclamped.intersection(node.inputs) else self.write
        given = self.values[node.inputs[0]] if value is None else value
        write(self.output(node), op, [given, *more], **attrs)

    def grid(self, scale: float, zero_point: int) -> list[str]:
        """Scale and zero point, of rank 0: with others, kernels are not fused."""
        return [
            self.file.scalar(scale),
            self.file.scalar(zero_point, np.uint8),
        ]


def _name(tensor: Tensor) -> str:
    """Of a tensor's value. Images have another name in the graph's layout (`Emission.give`)."""
    return f"{tensor.name}/nchw" if len(tensor.shape) == 3 else tensor.name

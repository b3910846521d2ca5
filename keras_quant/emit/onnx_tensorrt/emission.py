"""What the emission of every operator for TensorRT shares: how codes are stored and clamped.

TensorRT knows one kind of 8-bit number: int8 with zero point 0. Codes that fit it, counted from
their zero point, are stored as they are. The others (unsigned codes of 8 bits: 0 to 255) are
stored less a shift, so that the top of their range meets int8's: what the file computes
with is then less than the real value by a constant, the tensor's `shift`. Each operator carries
it along: a layer with weights takes it into its float bias, which costs nothing. Only an even
shift leaves ties where they are, as halves round to even.

Tensors of images are (batch, channels, height, width) inside the file, as TensorRT's
convolutions want them, and channels-last where the file meets its user, as in Keras.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from keras_quant.emit.onnx.file import OnnxFile
from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.qparams import QParams

INT8_MIN, INT8_MAX = -128, 127


def stored_zero(qparams: QParams) -> int:
    """The code that is stored as 0: the zero point, where all codes then fit int8."""
    point = qparams.zero_point
    if qparams.qmin - point >= INT8_MIN and qparams.qmax - point <= INT8_MAX:
        return point
    zero = qparams.qmax - INT8_MAX
    can_be_more = qparams.qmin - zero > INT8_MIN
    return zero + 1 if (zero - point) % 2 and can_be_more else zero


def stored_shift(qparams: QParams) -> int:
    """What a file for TensorRT adds to each code of a tensor before it stores it as int8."""
    return -stored_zero(qparams)


def shift_codes(qparams: QParams | None) -> int:
    """How many codes lie between the real zero and the stored one; 0 for floats."""
    return 0 if qparams is None else stored_zero(qparams) - qparams.zero_point


def is_odd(qparams: QParams | None) -> bool:
    """Whether the shift of stored codes turns ties: 256 codes around an odd zero point."""
    return shift_codes(qparams) % 2 == 1


def shift(qparams: QParams | None) -> float:
    """How much less than the real value a file's value is."""
    return 0.0 if qparams is None else shift_codes(qparams) * qparams.scale


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Emission:
    """A graph on its way into a file.

    Attributes:
        int8_weights: whether weights are stored as int8, or as floats that the file quantizes.
        codes: the file's int8 value for each tensor of codes that was emitted.
        reals: the file's float32 value for each tensor of floats that was emitted.
    """

    graph: Graph
    file: OnnxFile
    int8_weights: bool
    codes: dict[str, str] = field(default_factory=dict)
    reals: dict[str, str] = field(default_factory=dict)

    def output(self, node: Node) -> Tensor:
        """The graph's tensor that a node writes."""
        return self.graph.tensors[node.output]

    def source(self, node: Node) -> Tensor:
        """The graph's tensor that a node reads first."""
        return self.graph.tensors[node.inputs[0]]

    def read(self, node: Node, index: int = 0) -> str:
        """The real values of what a node reads, less the tensor's shift, by a DQ of its own."""
        tensor = self.graph.tensors[node.inputs[index]]
        if tensor.qparams is None:
            return self.reals[tensor.name]
        return self._dequantize(tensor, f"{node.name}/dq{index}", tensor.qparams.scale)

    def read_stored(self, node: Node, index: int = 0) -> str:
        """The codes that a node reads, as they are stored, as floats."""
        tensor = self.graph.tensors[node.inputs[index]]
        return self._dequantize(tensor, f"{node.name}/codes{index}", 1.0)

    def stored(self, tensor: str, name: str) -> str:
        """The codes of a tensor, as they are stored, as floats of that name."""
        return self._dequantize(self.graph.tensors[tensor], name, 1.0)

    def read_counted(self, node: Node, index: int = 0) -> str:
        """The codes that a node reads less their zero point, as floats."""
        tensor = self.graph.tensors[node.inputs[index]]
        stored = self.read_stored(node, index)
        return self.add(stored, shift_codes(tensor.qparams), f"{node.name}/counted{index}")

    def read_reals(self, node: Node, index: int = 0) -> str:
        """What the codes that a node reads stand for, rounded once, as `rounding.reals_of`."""
        qparams = self.graph.tensors[node.inputs[index]].grid
        if not shift_codes(qparams):
            return self.read(node, index)
        inputs = [self.read_counted(node, index), self.file.scalar(qparams.scale)]
        return self.file.operator("Mul", inputs, f"{node.name}/reals{index}")

    def write(self, node: Node, value: str, carried: float = 0.0, *, clamped: bool = True) -> None:
        """Takes what a node computed: as it is for floats, else clamped and quantized.

        Args:
            value: float32 value of the file.
            carried: how much less than the real value it is.
            clamped: whether it may leave the range of the output's codes.
        """
        output = self.output(node)
        if output.qparams is None:
            self.reals[output.name] = self.add(value, carried, f"{output.name}/real")
            return
        scale = output.qparams.scale
        if is_odd(output.qparams):
            real = self.add(value, carried, f"{output.name}/real")
            inverse = self.file.scalar(np.float32(1) / np.float32(scale))
            self.write_steps(node, self.file.operator("Mul", [real, inverse], f"{real}/steps"))
            return
        value = self.add(value, carried - shift(output.qparams), f"{output.name}/shifted")
        if clamped:
            value = self._clamp(output.name, value, output.qparams, scale)
        self._quantize(output, value, scale)

    def write_steps(self, node: Node, steps: str) -> None:
        """Rounds what a node computed, counted in steps of its output, from the real zero."""
        output = self.output(node)
        qparams = output.grid
        if shift_codes(qparams):
            # Before anything is subtracted: a float32 near a tie would fall on it.
            steps = self.file.operator("Round", [steps], f"{output.name}/rounded")
        steps = self.add(steps, -shift_codes(qparams), f"{output.name}/shifted")
        self._quantize(output, self._clamp(output.name, steps, qparams, 1.0), 1.0)

    def add(self, value: str, constant: float, name: str) -> str:
        """Adds a constant, unless it is 0."""
        if constant == 0:
            return value
        return self.file.operator("Add", [value, self.file.scalar(constant)], name)

    def activate(self, value: str, activation: str) -> str:
        """Applies an activation of `graph.rounding` to floats."""
        if activation == "none":
            return value
        if activation == "relu":
            return self.file.operator("Relu", [value], f"{value}/relu")
        ends = [self.file.scalar(end) for end in (0.0, 6.0)]
        return self.file.operator("Clip", [value, *ends], f"{value}/relu6")

    def scales(self, scale: float) -> list[str]:
        """The second and third input of a quantizing operator; TensorRT 8 wants both given."""
        return [self.file.scalar(scale), self.file.scalar(0, np.int8)]

    def _dequantize(self, tensor: Tensor, name: str, scale: float) -> str:
        inputs = [self.codes[tensor.name], *self.scales(scale)]
        return self.file.operator("DequantizeLinear", inputs, name)

    def _quantize(self, output: Tensor, value: str, scale: float) -> None:
        inputs = [value, *self.scales(scale)]
        self.codes[output.name] = self.file.operator("QuantizeLinear", inputs, f"{output.name}/q")

    def _clamp(self, name: str, value: str, qparams: QParams, scale: float) -> str:
        """Clamps to the range of codes what saturation to int8 does not."""
        low, high = (code - stored_zero(qparams) for code in (qparams.qmin, qparams.qmax))
        if (low, high) == (INT8_MIN, INT8_MAX):
            return value
        if (low, high) == (0, INT8_MAX):
            return self.file.operator("Relu", [value], f"{name}/relu")
        ends = [self.file.scalar(code * scale) for code in (low, high)]
        return self.file.operator("Clip", [value, *ends], f"{name}/clip")

"""Files for boards without int8, and for a DLA: floats, and what these keep of the codes.

A GPU without int8 computes in float16. Where some activations have at most HALF_BITS bits, all are
rounded to their codes, as they were in training. That is Mul, Round, Clip and Mul, one kernel more
behind each layer (seen in the engines of TensorRT for RTX 1.7.1, which fuse a Clip alone with the
layer). In float32 the codes are then the model's own; float16 moves some. With more bits it moves
so many that rounding gains nothing, and only the ends of the ranges are kept.

Simulated, with weights, and what each layer gives, rounded to float16 (359 digits): difference of
logits from the model's, root mean square, rounded and cut off: cnn w2a2 0.19 and 0.37, w4a4 0.13
and 0.16, w4a5 0.077 and 0.082, w4a6 0.043 both; resnet8 w2a2 0.18 and 0.50, w4a4 0.15 and 0.22,
w5a5 0.13 and 0.15, w6a6 0.072 both. Top-1 agreement at w2a2: cnn 99.7 and 98.1 %, resnet8 98.6 and
96.9 %.

A DLA rounds and saturates to int8 itself, by the scales of its calibration cache, and takes no
Clip but from 0 to at most 127. So only the top of unsigned codes of fewer than 7 bits is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from keras_quant.emit.onnx_tensorrt.bias import with_room
from keras_quant.emit.onnx_tensorrt.emission import INT8_MAX, Emission, shift_codes, stored_zero
from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.graph.passes.unquantize import Clamp, unquantize
from keras_quant.qparams import QParams

HALF_BITS = 4

# CLIP where alpha is 0 and beta at most 127, as in all versions of
# https://docs.nvidia.com/deeplearning/tensorrt/archives/tensorrt-861/operators/docs/Activation.html
MAX_DLA_CLIP = 127.0


def for_half(graph: Graph) -> Graph:
    """Gives a realized graph in floats, for a GPU that computes in float16."""
    grids = [tensor.qparams for tensor in graph.tensors.values()]
    narrowest = min((qparams.bits for qparams in grids if qparams is not None), default=8)
    if narrowest > HALF_BITS:
        return unquantize(graph, lambda node, qparams: Clamp.CUT)
    roomy = replace(graph, nodes=tuple(with_room(graph, node) for node in graph.nodes))
    return unquantize(roomy, lambda node, qparams: Clamp.ROUND)


def for_dla(graph: Graph) -> Graph:
    """Gives a realized graph in floats, for a DLA that quantizes them by its calibration cache."""
    return unquantize(graph, _dla_clamp)


def is_clipped_on_dla(qparams: QParams) -> bool:
    """Whether a DLA can cut off values where codes end, and int8 does not end there itself."""
    codes = qparams.qmax - qparams.zero_point
    return not qparams.signed and codes < INT8_MAX and codes * qparams.scale <= MAX_DLA_CLIP


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FloatEmission(Emission):
    """Holds codes as whole float32 numbers, as many as int8 would hold, and writes no Q/DQ."""

    def write_steps(self, node: Node, steps: str) -> None:
        """Rounds what a node computed, counted in steps of its output, from the real zero."""
        output = self.output(node)
        qparams = output.grid
        value = self.file.operator("Round", [steps], f"{output.name}/rounded")
        value = self.add(value, -shift_codes(qparams), f"{output.name}/shifted")
        ends = [
            self.file.scalar(code - stored_zero(qparams)) for code in (qparams.qmin, qparams.qmax)
        ]
        inputs = [value, *ends]
        self.codes[output.name] = self.file.operator("Clip", inputs, f"{output.name}/codes")

    def _dequantize(self, tensor: Tensor, name: str, scale: float) -> str:
        codes = self.codes[tensor.name]
        if scale == 1:
            return codes
        return self.file.operator("Mul", [codes, self.file.scalar(scale)], name)


def _dla_clamp(node: Node, qparams: QParams) -> Clamp:
    if is_clipped_on_dla(qparams):
        return Clamp.CUT
    return Clamp.OPEN if qparams.signed or node.op == "quantize" else Clamp.RECTIFY

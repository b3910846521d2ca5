"""What a graph would take in energy on 45 nm hardware: a model for comparing, no measurement.

Every number comes from one table: M. Horowitz, "Computing's energy problem (and what we can do
about it)", ISSCC 2014, figure 1.1.9 (45 nm, 0.9 V). What the table does not hold is modelled:

* Adders of other widths lie on the line through the table's 8 and 32 bits. A multiplier of a by
  b bits has a * b cells and a + b wires, so its energy is c2 * a * b + c1 * (a + b) / 2, with c1
  and c2 such that the table's 8 and 32 bits are met.
* Codes are multiplied at their logical bits and summed in 32 bits; comparing costs an addition.
* Each node reads its inputs and its weights once and writes its output once, packed at logical
  bits, in accesses of 64 bits: every value that is read is reused as often as it can be, so
  this is a lower bound. The memory is the table's smallest that holds all weights, and for
  activations the peak of those that live at a time.

Left out: instructions and control (70 pJ an instruction on a processor, in the same figure),
leakage, and what a runtime does besides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from keras_quant.graph.costs.memory import tensor_bits
from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.pointwise import ACTIVATIONS, POINTWISE
from keras_quant.graph.windows import window_of

INT_ADD_PJ = {8: 0.03, 32: 0.1}
INT_MULTIPLY_PJ = {8: 0.2, 32: 3.1}
FLOAT32_ADD_PJ = 0.9
FLOAT32_MULTIPLY_PJ = 3.7
# Multiply-adds: two reduce the range and five are a polynomial, as in XNNPACK's
# f32-raddstoreexpminusmax with rr1-p5.
EXPONENTIAL_TERMS = 7
ACCESS_BITS = 64
ACCUMULATOR_BITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A memory of the table.

    Attributes:
        size_bytes: what it holds.
        access_pj: of reading or writing 64 bits.
    """

    name: str
    size_bytes: float
    access_pj: float


MEMORIES = (
    Memory(name="8 kB cache", size_bytes=8 * 2**10, access_pj=10.0),
    Memory(name="32 kB cache", size_bytes=32 * 2**10, access_pj=20.0),
    Memory(name="1 MB cache", size_bytes=2**20, access_pj=100.0),
    # The table gives 1.3 to 2.6 nJ; this is the middle.
    Memory(name="DRAM", size_bytes=math.inf, access_pj=1950.0),
)


def memory_for(size_bytes: float) -> Memory:
    """The smallest memory that holds so many bytes."""
    return next(memory for memory in MEMORIES if size_bytes <= memory.size_bytes)


def add_pj(bits: int) -> float:
    """Energy of an integer addition or comparison of that width."""
    slope = (INT_ADD_PJ[32] - INT_ADD_PJ[8]) / (32 - 8)
    return INT_ADD_PJ[8] + slope * (bits - 8)


def multiply_pj(bits: int, other_bits: int) -> float:
    """Energy of an integer multiplication of two widths."""
    cell = (INT_MULTIPLY_PJ[32] / 32 - INT_MULTIPLY_PJ[8] / 8) / (32 - 8)
    wire = INT_MULTIPLY_PJ[8] / 8 - cell * 8
    return cell * bits * other_bits + wire * (bits + other_bits) / 2


def access_pj(size_bytes: float, memory: Memory) -> float:
    """Energy of reading or writing so many bytes."""
    return size_bytes * 8 / ACCESS_BITS * memory.access_pj


def arithmetic_pj(graph: Graph, node: Node, *, macs: int) -> float:
    """Energy of what a node computes for one image; 0 where it only moves values.

    Args:
        macs: multiply-accumulates of its kernel.
    """
    if node.weight is not None:
        return _linear(graph, node, macs)
    values = math.prod(graph.tensors[node.output].shape)
    return values * _ARITHMETIC[node.op](graph, node)


def _linear(graph: Graph, node: Node, macs: int) -> float:
    """Multiply-accumulates, and one bias and one scale for each output value.

    Codes times codes are integer work also where the output is float, as a classifier's.
    """
    source, weight = graph.tensors[node.inputs[0]], node.kernel
    outputs = math.prod(graph.tensors[node.output].shape)
    if source.qparams is None:
        scaling = 0.0 if weight.scale is None else FLOAT32_MULTIPLY_PJ
        return macs * (FLOAT32_MULTIPLY_PJ + FLOAT32_ADD_PJ) + outputs * (FLOAT32_ADD_PJ + scaling)
    product = multiply_pj(weight.bits, source.qparams.bits)
    accumulate = add_pj(ACCUMULATOR_BITS)
    return macs * (product + accumulate) + outputs * (accumulate + FLOAT32_MULTIPLY_PJ)


def _add(graph: Graph, node: Node) -> float:
    """Codes on one grid are added as they are; others are scaled, and added in float32."""
    tensors = [graph.tensors[name] for name in (*node.inputs, node.output)]
    scales = {None if t.qparams is None else t.qparams.scale for t in tensors}
    additions = len(node.inputs) - 1
    if len(scales) == 1:
        return additions * _value_add(graph, node)
    return len(node.inputs) * FLOAT32_MULTIPLY_PJ + additions * FLOAT32_ADD_PJ


def _multiply(graph: Graph, node: Node) -> float:
    """A product at the inputs' widths that is scaled in float32, or one of float32."""
    first, second = (graph.tensors[name] for name in node.inputs)
    if first.qparams is None or second.qparams is None:
        return FLOAT32_MULTIPLY_PJ
    return multiply_pj(first.qparams.bits, second.qparams.bits) + FLOAT32_MULTIPLY_PJ


def _pointwise(graph: Graph, node: Node) -> float:
    function = POINTWISE[node.attrs["function"]]
    terms = EXPONENTIAL_TERMS * function.exponentials
    multiplications, additions = function.multiplications + terms, function.additions + terms
    return multiplications * FLOAT32_MULTIPLY_PJ + additions * FLOAT32_ADD_PJ


def _value_add(graph: Graph, node: Node) -> float:
    """One addition, or comparison, of values like the output's."""
    output = graph.tensors[node.output]
    return FLOAT32_ADD_PJ if output.qparams is None else add_pj(tensor_bits(output))


def _max_pool(graph: Graph, node: Node) -> float:
    return (math.prod(window_of(node).size) - 1) * _value_add(graph, node)


def _avg_pool(graph: Graph, node: Node) -> float:
    return _average(graph, node, math.prod(window_of(node).size))


def _mean(graph: Graph, node: Node) -> float:
    height, width = graph.tensors[node.inputs[0]].shape[:2]
    return _average(graph, node, height * width)


def _average(graph: Graph, node: Node, count: int) -> float:
    """A sum, and one multiplication that divides and scales."""
    in_codes = graph.tensors[node.inputs[0]].qparams is not None
    addition = add_pj(ACCUMULATOR_BITS) if in_codes else FLOAT32_ADD_PJ
    return (count - 1) * addition + FLOAT32_MULTIPLY_PJ


def _scale_and_shift(graph: Graph, node: Node) -> float:
    """Between codes and reals, or grids: a scale and a zero point."""
    return FLOAT32_MULTIPLY_PJ + FLOAT32_ADD_PJ


def _relu(graph: Graph, node: Node) -> float:
    """One comparison, two where the top is cut too."""
    name = "relu" if node.attrs.get("max_value") is None else "relu6"
    return FLOAT32_ADD_PJ * ACTIVATIONS[name].additions


def _clip(graph: Graph, node: Node) -> float:
    """One comparison for each end."""
    return FLOAT32_ADD_PJ * len(node.attrs)


def _softmax(graph: Graph, node: Node) -> float:
    """Maximum, difference, sum, quotient, and an exponential."""
    multiply_add = FLOAT32_MULTIPLY_PJ + FLOAT32_ADD_PJ
    return EXPONENTIAL_TERMS * multiply_add + 3 * FLOAT32_ADD_PJ + FLOAT32_MULTIPLY_PJ


def _nothing(graph: Graph, node: Node) -> float:
    return 0.0


# pJ for each output value; nodes with a weight are in `_linear`.
_ARITHMETIC: dict[str, Callable[[Graph, Node], float]] = {
    "add": _add,
    "avg_pool": _avg_pool,
    "clip": _clip,
    "concat": _nothing,
    "dequantize": _scale_and_shift,
    "max_pool": _max_pool,
    "lookup": _nothing,
    "mean": _mean,
    "multiply": _multiply,
    "pad": _nothing,
    "pointwise": _pointwise,
    "quantize": _scale_and_shift,
    "relu": _relu,
    "requantize": _scale_and_shift,
    "reshape": _nothing,
    "softmax": _softmax,
    "transpose": _nothing,
    "upsample": _nothing,
}

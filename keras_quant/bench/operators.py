"""A file operator by operator: how long each takes, in which types it computes, and why it is slow.

A profile is taken in a run of its own: measuring each operator slows the whole down.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

PRODUCTS = {
    *("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "ConvTranspose"),
    *("QLinearConv", "QGemm", "QLinearMatMul", "ConvInteger", "MatMulInteger", "MatMulNBits"),
    *("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"),
}
"""Types of operators that sum products, in ONNX Runtime's domains and in TFLite."""

_CONVERSIONS = {"QuantizeLinear", "DequantizeLinear", "QUANTIZE", "DEQUANTIZE"}
_ONE_PASS = {"Clip", "Relu", "RELU", "RELU6", "Transpose", "TRANSPOSE", "Mul", "Add", "Round"}
_FLOATS = {"float", "float16", "double", "float32", "float64"}
_SHORT = {"float": "float32", "double": "float64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator of a file as its runtime runs it.

    Attributes:
        name: of the node, or of the tensor that it gives.
        op: its type.
        types: of what it reads, constants too, each once, and of what it gives: "uint8, int8 ->
            uint8".
        time_us: median over the runs; None where the runtime does not tell it.
        share: of the sum of all operators' times; None without them.
        why: what costs time that another file of the same net would not; "" for nothing known.
    """

    name: str
    op: str
    types: str
    time_us: float | None = None
    share: float | None = None
    why: str = ""


def from_events(events: Iterable[Mapping[str, Any]], *, skip: int) -> tuple[Operator, ...]:
    """Reads the events of ONNX Runtime's profile.

    Args:
        events: as its JSON file holds them; durations are whole microseconds.
        skip: runs at the beginning that do not count.
    """
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            found.setdefault(key, []).append(event)
    timed = {
        key: float(statistics.median(event["dur"] for event in of_node[skip:] or of_node))
        for key, of_node in found.items()
    }
    total = sum(timed.values())
    operators = [
        Operator(
            name=name,
            op=op,
            types=described(
                _names(of_node[0]["args"]["input_type_shape"]),
                _names(of_node[0]["args"]["output_type_shape"]),
            ),
            time_us=timed[name, op],
            share=timed[name, op] / total if total else None,
        )
        for (name, op), of_node in found.items()
    ]
    return explained(operators)


def described(reads: Sequence[str], gives: Sequence[str]) -> str:
    """Types of what an operator reads and gives, each once."""
    sides = (", ".join(dict.fromkeys(_SHORT.get(t, t) for t in side)) for side in (reads, gives))
    return " -> ".join(sides)


def explained(operators: Sequence[Operator]) -> tuple[Operator, ...]:
    """Says of each operator why it costs time, as far as its type and neighbours tell."""
    has_codes = any(
        one.op in _CONVERSIONS or (one.op in PRODUCTS and not _multiplies_floats(one))
        for one in operators
    )
    first = next((n for n, one in enumerate(operators) if one.op in PRODUCTS), 0)
    last = len(operators) - 1
    return tuple(
        replace(one, why=one.why or _why(one, has_codes, at_end=_at_end(one, place, first, last)))
        for place, one in enumerate(operators)
    )


def _at_end(one: Operator, place: int, first: int, last: int) -> bool:
    """Whether a conversion is that of the input or the output, which is needed."""
    return place == last or (place < first and one.op in ("QuantizeLinear", "QUANTIZE"))


def _why(one: Operator, has_codes: bool, *, at_end: bool) -> str:
    if one.op in PRODUCTS and _multiplies_floats(one):
        return "float island: it multiplies floats in a file of codes" if has_codes else ""
    if one.op in _CONVERSIONS:
        return "" if at_end else "conversion: it was fused with no neighbour"
    if one.op in _ONE_PASS:
        return "not fused: a pass over all values of its own"
    return ""


def _multiplies_floats(one: Operator) -> bool:
    """Whether no codes are among what is multiplied; scales are floats beside codes."""
    reads = one.types.partition(" -> ")[0].split(", ")
    return all(name in _FLOATS for name in reads)


def _names(types: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of types, of {"uint8": [1, 8, 8, 32]} each."""
    return [name for entry in types for name in entry]

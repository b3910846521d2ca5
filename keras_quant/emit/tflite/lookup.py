"""Writes a table of codes with the fastest operators that give exactly its entries.

The ways to compute one (see `tables`), in the order in which they are tried, with the time
measured on x86 with AVX512 in ns an element of a 56x56x64 tensor:

| operators | ns | exact because |
|---|---|---|
| LOGISTIC, TANH, ELU on int8 | 0.04 | XNNPACK makes them tables itself; no entry is near a half |
| DEQUANTIZE, LEAKY_RELU or PRELU, QUANTIZE | 0.05 | one product, rounded as IEEE 754 says |
| DEQUANTIZE, HARD_SWISH, QUANTIZE | 0.05 | no entry is near a half, or halves have no error |
| DEQUANTIZE, MUL, ADD, RELU, QUANTIZE | 0.1 | rounded as IEEE 754 says |
| DEQUANTIZE, ELU or GELU, QUANTIZE | 0.2 | as HARD_SWISH |
| DEQUANTIZE, LOGISTIC, MUL, QUANTIZE | 0.3 | no entry is near a half |
| CAST, ADD, GATHER | 2.3 | copies the entries; the builtin kernels do it one by one |

Not used, as they round otherwise: LEAKY_RELU on int8 (0 to 19 % of codes differ; fixed point),
HARD_SWISH on int8 (up to 8 %; not XNNPACK's, and 3.0 ns), and the int8 tables where an entry is
a half, which go to even codes only where the stored zero point is even.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_quant.emit.shared.tables import Table, find_function, leaky_slopes, read_table
from keras_quant.emit.tflite.emission import Emission, stored_shift
from keras_quant.emit.tflite.pointwise import write_function
from keras_quant.graph.ir import Node, Tensor
from keras_quant.graph.pointwise import POINTWISE

Array = np.ndarray

# Error of adding a zero point of up to 128 to a float32, in codes: half a unit in the last place.
ZERO_POINT_ERROR = 2.0**-18

_INT8_FUNCTIONS = {"LOGISTIC": "sigmoid", "TANH": "tanh", "ELU": "elu"}
# Of float32, the fastest first.
_FLOAT_FUNCTIONS = (
    *("hard_swish", "hard_sigmoid", "hard_sigmoid_keras3"),
    *("elu", "gelu", "gelu_tanh", "swish"),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Lookup:
    """A lookup from codes to codes on its way into a file."""

    emission: Emission
    node: Node
    table: Table

    def write(self, op: str, inputs: list[int], *, lowest: float = -np.inf) -> int:
        """Emits the operator that gives the output's codes.

        Args:
            lowest: what it gives at least; less than the lowest code stands for is cut off.
        """
        target = self.table.target
        floor = (target.qmin - target.zero_point) * target.scale
        write = self.emission.write if lowest >= floor else self.emission.write_clamped
        return write(self.emission.output(self.node), op, inputs)

    def dequantized(self) -> int:
        """Emits what makes reals of the input's codes."""
        return self.emission.write(
            self._real("in"), "DEQUANTIZE", self.emission.inputs(self.node), version=2
        )

    def real(self, op: str, inputs: list[int], options: Any = None) -> int:
        """Emits an operator of float32 tensors."""
        return self.emission.write(self._real(op.lower()), op, inputs, options=options)

    def constant(self, name: str, values: Array) -> int:
        return self.emission.file.constant(f"{self.node.name}/{name}", values)

    def _real(self, suffix: str) -> Tensor:
        output = self.emission.output(self.node)
        return replace(output, name=f"{self.node.name}/{suffix}", qparams=None)


def emit_lookup(emission: Emission, node: Node) -> int:
    """Codes to codes in the fastest exact way; codes to floats by GATHER."""
    if emission.output(node).qparams is not None:
        table = read_table(emission.graph, node)
        lookup = _Lookup(emission=emission, node=node, table=table)
        for attempt in _WAYS:
            index = attempt(lookup)
            if index is not None:
                return index
    return _gather(emission, node)


def _int8_function(lookup: _Lookup) -> int | None:
    """An operator that XNNPACK computes by a table of its own, on grids of any scale."""
    for op, function in _INT8_FUNCTIONS.items():
        if lookup.table.approximates(function, more_error=ZERO_POINT_ERROR):
            lowest = float(POINTWISE[function].formula(lookup.table.reals).min())
            return lookup.write(op, lookup.emission.inputs(lookup.node), lowest=lowest)
    return None


def _leaky_relu(lookup: _Lookup) -> int | None:
    """x where it is not negative, else x times a slope, the channel's own where they differ."""
    slopes = leaky_slopes(lookup.table)
    if slopes is None:
        return None
    real = lookup.dequantized()
    if not slopes.any():  # XNNPACK's LEAKY_RELU takes no slope of 0
        return lookup.write("QUANTIZE", [lookup.real("RELU", [real])], lowest=0.0)
    if len(slopes) == 1:
        options = schema.LeakyReluOptionsT(alpha=float(slopes[0]))
        return lookup.write("QUANTIZE", [lookup.real("LEAKY_RELU", [real], options)])
    shape = (*[1] * (len(lookup.emission.output(lookup.node).shape) - 1), len(slopes))
    slope = lookup.constant("slope", slopes.reshape(shape))
    return lookup.write("QUANTIZE", [lookup.real("PRELU", [real, slope])])


def _named_function(lookup: _Lookup) -> int | None:
    """A function of float32."""
    function = find_function(lookup.table, _FLOAT_FUNCTIONS)
    if function is None:
        return None
    output = replace(
        lookup.emission.output(lookup.node), name=f"{lookup.node.name}/real", qparams=None
    )
    real = write_function(lookup.emission, function, lookup.dequantized(), output)
    lowest = float(POINTWISE[function].formula(lookup.table.reals).min())
    return lookup.write("QUANTIZE", [real], lowest=lowest)


_WAYS: tuple[Callable[[_Lookup], int | None], ...] = (_int8_function, _leaky_relu, _named_function)


def _gather(emission: Emission, node: Node) -> int:
    """Any table: copies entries to where their codes are, by the builtin kernels."""
    source, output, table = emission.source(node), emission.output(node), node.entries
    file = emission.file
    cast, position = (
        file.activation(f"{node.name}/{suffix}", source.shape, element_type="int32")
        for suffix in ("code", "position")
    )
    types = schema.TensorType
    options = schema.CastOptionsT(inDataType=types.INT8, outDataType=types.INT32)
    file.operator("CAST", emission.inputs(node), cast, options=options)
    begins = np.arange(table.size // table.shape[-1]) * table.shape[-1]  # of each channel
    start = begins - stored_shift(source.grid) - source.grid.qmin
    inputs = [cast, file.constant(f"{node.name}/start", start.astype(np.int32))]
    file.operator("ADD", inputs, position, options=schema.AddOptionsT())
    entries = table.ravel()
    if output.qparams is not None:
        entries = (entries + stored_shift(output.qparams)).astype(np.int8)
    inputs = [file.constant(f"{node.name}/table", entries), position]
    return emission.write(output, "GATHER", inputs, options=schema.GatherOptionsT(), version=2)

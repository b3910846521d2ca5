"""Writes a table of codes with the fastest operators that give exactly its entries.

A table says nothing of the function that it came from, and need not: each way below to compute
one is tried on all codes, and taken where every entry comes out. In the order in which they are
tried, with the time measured on x86 with AVX512 in ns an element of a 56x56x64 tensor:

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

from keras_quant.emit.tflite_emission import Emission, stored_offset
from keras_quant.emit.tflite_pointwise import write_function
from keras_quant.graph.ir import Node, Tensor
from keras_quant.graph.pointwise import POINTWISE
from keras_quant.graph.rounding import reals_of, to_codes
from keras_quant.qparams import QParams

Array = np.ndarray

# Errors of XNNPACK's float32 functions f(x), and of scaling what they give, as a share of the
# larger of |x| and |f(x)|: eight times half a unit in the last place. Measured are 2**-22.
FUNCTION_ERROR = 2.0**-21
# Error of adding a zero point of up to 128 to a float32, in codes: half a unit in the last place.
ZERO_POINT_ERROR = 2.0**-18

_INT8_FUNCTIONS = {"LOGISTIC": "sigmoid", "TANH": "tanh", "ELU": "elu"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Lookup:
    """A lookup from codes to codes on its way into a file.

    Attributes:
        table: int32 (channels, codes); one channel where all are alike.
        reals: float32 (codes,), what the input's codes stand for.
        target: the output's grid.
    """

    emission: Emission
    node: Node
    table: Array
    reals: Array
    target: QParams

    def computes(self, values: Array) -> bool:
        """Whether rounding float32 values, known exactly, gives the table."""
        steps = values * (np.float32(1) / np.float32(self.target.scale))
        return np.array_equal(np.atleast_2d(to_codes(steps, self.target)), self.table)

    def computes_function(self, function: str) -> bool:
        """As `computes`, of what a function of graph.pointwise gives."""
        return self.computes(POINTWISE[function](self.reals))

    def approximates(self, function: str) -> bool:
        """Whether rounding a function with an error of FUNCTION_ERROR gives the table."""
        return self._approximates(function)

    def approximates_with_halves(self, function: str) -> bool:
        """As `approximates`, where exact halves come without error, and go to even."""
        return self._approximates(function, halves=True)

    def tabulates(self, function: str) -> bool:
        """As `approximates`, where the stored zero point is added before rounding."""
        return self._approximates(function, more_error=ZERO_POINT_ERROR)

    def _approximates(
        self, function: str, *, halves: bool = False, more_error: float = 0.0
    ) -> bool:
        x = self.reals.astype(np.float64)
        values = POINTWISE[function](x)
        steps = values / self.target.scale
        error = FUNCTION_ERROR * np.maximum(np.abs(values), np.abs(x)) / self.target.scale
        error += more_error
        from_half = np.abs(steps - np.floor(steps) - 0.5)
        clear = (from_half > error) | (halves & (from_half == 0))
        return bool(clear.all()) and np.array_equal(to_codes(steps, self.target)[None], self.table)

    def write(self, op: str, inputs: list[int], *, lowest: float = -np.inf) -> int:
        """Emits the operator that gives the output's codes.

        Args:
            lowest: what it gives at least; less than the lowest code stands for is cut off.
        """
        floor = (self.target.qmin - self.target.zero_point) * self.target.scale
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
    source, target, table = emission.source(node).qparams, emission.output(node).qparams, node.table
    assert source is not None and table is not None, node.name
    if target is not None:
        rows = np.atleast_2d(table)
        lookup = _Lookup(
            emission=emission,
            node=node,
            table=rows[:1] if (rows == rows[0]).all() else rows,
            reals=reals_of(source),
            target=target,
        )
        for attempt in _WAYS:
            index = attempt(lookup)
            if index is not None:
                return index
    return _gather(emission, node)


def _int8_function(lookup: _Lookup) -> int | None:
    """An operator that XNNPACK computes by a table of its own, on grids of any scale."""
    for op, function in _INT8_FUNCTIONS.items():
        if lookup.tabulates(function):
            lowest = POINTWISE[function](lookup.reals).min()
            return lookup.write(op, lookup.emission.inputs(lookup.node), lowest=lowest)
    return None


def _leaky_relu(lookup: _Lookup) -> int | None:
    """x where it is not negative, else x times a slope, the channel's own where they differ."""
    slopes, x = _slopes(lookup), lookup.reals
    if not lookup.computes(np.where(x < 0, x * slopes[:, None], x)):
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


def _slopes(lookup: _Lookup) -> Array:
    """The middle of the slopes that give a row's entries for negative reals.

    Returns: float32 (channels,); a useless one where none does.
    """
    negative, target = lookup.reals < 0, lookup.target
    if not negative.any():
        return np.ones(len(lookup.table), np.float32)
    x, codes = lookup.reals[negative].astype(np.float64), lookup.table[:, negative]
    # A saturated entry tells nothing of how far beyond it the value lies.
    above = np.where(codes == target.qmax, np.inf, codes - target.zero_point + 0.5)
    below = np.where(codes == target.qmin, -np.inf, codes - target.zero_point - 0.5)
    low, high = (above * target.scale / x).max(axis=1), (below * target.scale / x).min(axis=1)
    # Bounded on one side only: as far from there as moves the farthest entry by two codes.
    two_codes = 2 * target.scale / np.abs(x).max()
    low, high = (
        np.where(np.isinf(low), high - two_codes, low),
        np.where(np.isinf(high), low + two_codes, high),
    )
    return ((low + high) / 2).astype(np.float32)


def _named_function(lookup: _Lookup) -> int | None:
    """A function of float32."""
    for function, is_exact in _FLOAT_FUNCTIONS.items():
        if is_exact(lookup, function):
            output = replace(
                lookup.emission.output(lookup.node), name=f"{lookup.node.name}/real", qparams=None
            )
            real = write_function(lookup.emission, function, lookup.dequantized(), output)
            lowest = POINTWISE[function](lookup.reals).min()
            return lookup.write("QUANTIZE", [real], lowest=lowest)
    return None


_FLOAT_FUNCTIONS: dict[str, Callable[[_Lookup, str], bool]] = {
    # On grids of powers of two, where x * (x + 3) / 6 is a half of a code, 3 divides the code of
    # x. Then x / 6 is a float32 number, and so is all that follows from it. A product with
    # float32(1 / 6), which is off by a third of its last place, is rounded to it too. So all
    # formulas that kernels use give that half without error.
    "hard_swish": _Lookup.approximates_with_halves,
    "hard_sigmoid": _Lookup.computes_function,
    "hard_sigmoid_keras3": _Lookup.computes_function,
    # Halves only come of positive reals, which pass unchanged.
    "elu": _Lookup.approximates_with_halves,
    "gelu": _Lookup.approximates,
    "gelu_tanh": _Lookup.approximates,
    "swish": _Lookup.approximates,
}
_WAYS: tuple[Callable[[_Lookup], int | None], ...] = (_int8_function, _leaky_relu, _named_function)


def _gather(emission: Emission, node: Node) -> int:
    """Any table: copies entries to where their codes are, by the builtin kernels."""
    source, output, table = emission.source(node), emission.output(node), node.table
    assert source.qparams is not None and table is not None, node.name
    file = emission.file
    cast, position = (
        file.activation(f"{node.name}/{suffix}", source.shape, element_type="int32")
        for suffix in ("code", "position")
    )
    types = schema.TensorType
    options = schema.CastOptionsT(inDataType=types.INT8, outDataType=types.INT32)
    file.operator("CAST", emission.inputs(node), cast, options=options)
    begins = np.arange(table.size // table.shape[-1]) * table.shape[-1]  # of each channel
    start = begins - stored_offset(source.qparams) - source.qparams.qmin
    inputs = [cast, file.constant(f"{node.name}/start", start.astype(np.int32))]
    file.operator("ADD", inputs, position, options=schema.AddOptionsT())
    entries = table.ravel()
    if output.qparams is not None:
        entries = (entries + stored_offset(output.qparams)).astype(np.int8)
    inputs = [file.constant(f"{node.name}/table", entries), position]
    return emission.write(output, "GATHER", inputs, options=schema.GatherOptionsT(), version=2)

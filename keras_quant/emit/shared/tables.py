"""What operators of floats give exactly the entries of a table of codes.

A table says nothing of the function that it came from, and need not: each way to compute one is
tried on all codes, and may be taken where every entry comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.pointwise import POINTWISE, Exactness
from keras_quant.graph.rounding import reals_of, to_codes
from keras_quant.qparams import QParams

Array = np.ndarray

# Errors of runtimes' float32 functions f(x), and of scaling what they give, as a share of the
# larger of |x| and |f(x)|: eight times half a unit in the last place. Measured are 2**-22 of
# XNNPACK's.
FUNCTION_ERROR = 2.0**-21


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """The codes that a lookup gives for codes.

    Attributes:
        rows: int32 (channels, codes); one channel where all are alike.
        reals: float32 (codes,), what the input's codes stand for.
        target: the output's grid.
        divides: whether the runtime quantizes by dividing by the scale, or by multiplying with
            its inverse.
    """

    rows: Array
    reals: Array
    target: QParams
    divides: bool = False

    def steps(self, values: Array) -> Array:
        """Float32 values in steps of the output, as the runtime counts them before it rounds."""
        scale = np.float32(self.target.scale)
        steps: Array = values / scale if self.divides else values * (np.float32(1) / scale)
        return steps

    def computes(self, values: Array) -> bool:
        """Whether rounding float32 values, known exactly, gives the table."""
        return np.array_equal(np.atleast_2d(to_codes(self.steps(values), self.target)), self.rows)

    def computes_function(self, function: str) -> bool:
        """As `computes`, of what a function of graph.pointwise gives."""
        return self.computes(POINTWISE[function].formula(self.reals))

    def approximates(self, function: str, *, halves: bool = False, more_error: float = 0.0) -> bool:
        """Whether rounding a function with an error of FUNCTION_ERROR gives the table.

        Args:
            halves: whether exact halves come without error, and go to even.
            more_error: what the runtime errs besides, in steps.
        """
        x = self.reals.astype(np.float64)
        values = POINTWISE[function].formula(x)
        steps = values / self.target.scale
        error = FUNCTION_ERROR * np.maximum(np.abs(values), np.abs(x)) / self.target.scale
        error += more_error
        from_half = np.abs(steps - np.floor(steps) - 0.5)
        clear = (from_half > error) | (halves & (from_half == 0))
        return bool(clear.all()) and np.array_equal(to_codes(steps, self.target)[None], self.rows)

    def approximates_with_halves(self, function: str) -> bool:
        """As `approximates`, where exact halves come without error."""
        return self.approximates(function, halves=True)


def read_table(graph: Graph, node: Node, *, divides: bool = False) -> Table:
    """The table of a lookup from codes to codes."""
    source, target = graph.tensors[node.inputs[0]].grid, graph.tensors[node.output].grid
    rows = np.atleast_2d(node.entries)
    return Table(
        rows=rows[:1] if (rows == rows[0]).all() else rows,
        reals=reals_of(source),
        target=target,
        divides=divides,
    )


def leaky_slopes(table: Table) -> Array | None:
    """Slopes for negative reals with which x, where it is not negative, gives a table.

    Returns: float32, of the channel or of each of them; None where there are none.
    """
    slopes, x = _middle_slopes(table), table.reals
    return slopes if table.computes(np.where(x < 0, x * slopes[:, None], x)) else None


def find_function(table: Table, functions: Iterable[str]) -> str | None:
    """The first of some functions of graph.pointwise that gives a table when it is rounded."""
    tried = ((name, _GIVES[POINTWISE[name].exactness]) for name in functions)
    return next((name for name, gives in tried if gives(table, name)), None)


_GIVES: Mapping[Exactness, Callable[[Table, str], bool]] = {
    Exactness.ERRS: Table.approximates,
    Exactness.HALVES: Table.approximates_with_halves,
    Exactness.EXACT: Table.computes_function,
}


def _middle_slopes(table: Table) -> Array:
    """The middle of the slopes that give a row's entries for negative reals.

    Returns: float32 (channels,); a useless one where none does.
    """
    negative, target = table.reals < 0, table.target
    if not negative.any():
        return np.ones(len(table.rows), np.float32)
    x, codes = table.reals[negative].astype(np.float64), table.rows[:, negative]
    # A saturated entry says nothing of how far beyond it the value lies.
    above = np.where(codes == target.qmax, np.inf, codes - target.zero_point + 0.5)
    below = np.where(codes == target.qmin, -np.inf, codes - target.zero_point - 0.5)
    low, high = (above * target.scale / x).max(axis=1), (below * target.scale / x).min(axis=1)
    # Bounded on one side only: as far from there as moves the farthest entry by two codes.
    two_codes = 2 * target.scale / np.abs(x).max()
    low, high = (
        np.where(np.isinf(low), high - two_codes, low),
        np.where(np.isinf(high), low + two_codes, high),
    )
    return np.asarray((low + high) / 2, np.float32)

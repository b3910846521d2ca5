"""Which function of graph.pointwise a table of codes stands for."""

from __future__ import annotations

import numpy as np

from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.pointwise import POINTWISE
from keras_quant.graph.rounding import reals_of

# How far the formulas of one function may be apart in float32, as a share of the larger of 1 and
# the value, and in output steps where the table was rounded: 256 codes of 16 bits of precision.
SAME_REAL = 1e-5
SAME_STEP = 2.0**-8


def function_of(graph: Graph, node: Node) -> str | None:
    """The first function that gives each entry of a lookup's table, as far as rounding shows.

    A table of few codes may stand for several functions; they are then within half a step of each
    other, and of the one that the table was made from. Where a function is flat, or gives a half,
    the table has to be what that is rounded to: all may be half a step from two codes there.

    Returns: its name; None where there is none, or where channels differ.
    """
    source, target = graph.tensors[node.inputs[0]].grid, graph.tensors[node.output].qparams
    rows = np.atleast_2d(node.entries)
    if (rows != rows[0]).any():
        return None
    reals = reals_of(source).astype(np.float64)
    for name, function in POINTWISE.items():
        values = function.formula(reals)
        if target is None:
            agrees = np.allclose(values, rows[0], rtol=SAME_REAL, atol=SAME_REAL)
        else:
            codes = np.clip(values / target.scale + target.zero_point, target.qmin, target.qmax)
            agrees = _agree(codes, rows[0])
        if agrees:
            return name
    return None


def _agree(codes: np.ndarray, entries: np.ndarray) -> bool:
    """Whether entries are what codes, with fractions, are rounded to."""
    near = np.abs(np.diff(codes)) <= SAME_STEP
    told = np.append(near, False) | np.append(False, near) | (codes % 1 == 0.5)
    errors = np.abs(codes - entries)
    return bool(errors.max() <= 0.5 + SAME_STEP and (np.rint(codes) == entries)[told].all())

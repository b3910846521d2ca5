"""Functions of one value: as tables of codes, or by name where they stay in float."""

from __future__ import annotations

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.graph.pointwise import POINTWISE
from keras_quant.graph.rounding import reals_of, to_codes
from keras_quant.model.operations import Lookup
from keras_quant.model.pointwise import find_named, tabulate
from keras_quant.qparams import QParams


def tabulate_codes(operation: Lookup, source: QParams) -> np.ndarray:
    """Computes what an operation gives for each code that it may read.

    Args:
        source: the codes.
    Returns: float32 reals, (codes,) or (channels, codes), from code qmin on; a PReLU that varies
        by position has the elements of its input for channels.
    Raises:
        LoweringError: its function gives NaN or infinity.
    """
    reals = reals_of(source)
    values = tabulate(operation.function, reals, shape=operation.shape)
    if not np.isfinite(values).all():
        raise LoweringError(
            f"{operation.name} ({type(operation.layer).__name__}: not finite between {reals[0]:g} "
            f"and {reals[-1]:g})"
        )
    return values


def rounded_table(reals: np.ndarray, target: QParams) -> np.ndarray:
    """The int32 codes that reals of `tabulate_codes` are rounded to, of their shape."""
    return to_codes(reals / np.float32(target.scale), target).astype(np.int32)


def name_function(operation: Lookup) -> str:
    """The name in graph.pointwise of the function of an operation that reads floats.

    Raises:
        LoweringError: the function has none.
    """
    name = find_named(operation.function)
    if name is None:
        raise LoweringError(
            f"{operation.name} ({type(operation.layer).__name__}: reads float values; in float "
            f"only {', '.join(POINTWISE)} are lowered: quantize the layer in front of it)"
        )
    return name

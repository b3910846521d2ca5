"""Functions of one value: as tables of codes, or by name where they stay in float."""

from __future__ import annotations

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.graph.ir import Tensor
from keras_quant.graph.pointwise import POINTWISE
from keras_quant.graph.rounding import reals_of, to_codes
from keras_quant.model.pointwise import find_named, tabulate
from keras_quant.model.steps import Step
from keras_quant.qparams import QParams


def read_table(step: Step, source: Tensor, target: QParams | None) -> np.ndarray:
    """Computes what a step gives for each code that it may read.

    Args:
        step: of kind "lookup".
        source: what it reads, in codes.
        target: the grid that its values are rounded to; None leaves them real.
    Returns: int32 codes or float32 reals, (codes,) or (channels, codes), from code qmin on; a
        PReLU that varies by position has the elements of its input for channels.
    Raises:
        LoweringError: its function gives NaN or infinity.
    """
    assert step.function is not None and source.qparams is not None, step
    reals = reals_of(source.qparams)
    values = tabulate(step.function, reals, shape=step.shape)
    if not np.isfinite(values).all():
        raise LoweringError(
            f"{step.name} ({type(step.layer).__name__}: not finite between {reals[0]:g} and "
            f"{reals[-1]:g})"
        )
    if target is None:
        return values
    return to_codes(values / np.float32(target.scale), target).astype(np.int32)


def name_function(step: Step) -> str:
    """The name in graph.pointwise of the function of a step that reads floats.

    Raises:
        LoweringError: the function has none.
    """
    assert step.function is not None, step
    name = find_named(step.function)
    if name is None:
        raise LoweringError(
            f"{step.name} ({type(step.layer).__name__}: reads float values; in float only "
            f"{', '.join(POINTWISE)} are lowered: quantize the layer in front of it)"
        )
    return name

"""The grid on which values of several grids can be joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from keras_quant.errors import LoweringError
from keras_quant.model.operations import Operation
from keras_quant.qparams import INT8_CODES, QParams, fits_int8, hull


def common_grid(operation: Operation, found: Sequence[QParams]) -> QParams:
    """Gives the grid that holds the codes of several, where the finest one does.

    Raises:
        LoweringError: the steps are no multiples of the finest one, or it would need more than
            256 codes for the reals of the others.
    """
    finest = min(found, key=lambda qparams: qparams.scale)
    ratios = [round(qparams.scale / finest.scale) for qparams in found]
    fine = all(
        ratio * finest.scale == q.scale and q.zero_point == 0 and ratio < INT8_CODES
        for ratio, q in zip(ratios, found, strict=True)
    )
    if fine:
        ranges = zip(ratios, found, strict=True)
        stretched = [
            replace(finest, qmin=r * q.qmin, qmax=r * q.qmax, bits=_bits(r, q)) for r, q in ranges
        ]
        if fits_int8(hull(stretched)):
            return hull(stretched)
    grids = ", ".join(f"{q.qmin}..{q.qmax} times {q.scale:g}" for q in found)
    raise LoweringError(
        f"{operation.layer_name} (Concatenate of codes {grids}: no grid of {INT8_CODES} codes "
        "holds them all; put one quantizer behind it, or give its inputs one step)"
    )


def _bits(ratio: int, qparams: QParams) -> int:
    return (ratio * (qparams.qmax - qparams.qmin)).bit_length()

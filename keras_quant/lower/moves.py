"""Layers that only move values, and the grid on which values of several grids can be joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.functional import Step
from keras_quant.graph.ir import Shape
from keras_quant.qparams import INT8_CODES, QParams, fits_int8, hull
from keras_quant.tf import keras


def move_of(step: Step) -> tuple[str, Shape, dict[str, Any]]:
    """Gives the operation, output shape and attributes of a step that only moves values.

    The shape is the step's own, but for a pooling over the whole image: (1, 1, channels).
    """
    layer = step.layer
    if step.kind == "global_max_pool":
        size = step.input_shapes[0][:2]
        attrs = {"pool_size": size, "strides": size, "padding": "valid"}
        return "max_pool", (1, 1, step.shape[-1]), attrs
    attrs = {
        "max_pool": lambda: pool_attrs(layer),
        "reshape": lambda: {"shape": step.shape},
        "pad": lambda: {"padding": _margins(step)},
        "upsample": lambda: {"size": _growth(step)},
        "concat": lambda: {"axis": layer.axis % (len(step.shape) + 1) - 1},
    }[step.kind]()
    return step.kind, step.shape, attrs


def pool_attrs(layer: keras.layers.Layer) -> dict[str, Any]:
    """The window of a pooling layer under the graph's names."""
    return {
        "pool_size": tuple(layer.pool_size),
        "strides": tuple(layer.strides),
        "padding": layer.padding.lower(),
    }


def _margins(step: Step) -> tuple[tuple[int, int], ...]:
    """What a padding adds on either side of each axis, or a cropping takes, below 0."""
    if hasattr(step.layer, "cropping"):
        sign, margins = -1, step.layer.cropping
    else:
        sign, margins = 1, step.layer.padding
    pairs = [margins] if np.ndim(margins) == 1 else margins  # of one axis, or of two
    return tuple((sign * before, sign * after) for before, after in pairs)


def _growth(step: Step) -> tuple[int, int]:
    (height, width, _), (above, wider, _) = step.input_shapes[0], step.shape
    return above // height, wider // width


def common_grid(step: Step, found: Sequence[QParams]) -> QParams:
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
        f"{step.layer_name} (Concatenate of codes {grids}: no grid of {INT8_CODES} codes holds "
        "them all; put one quantizer behind it, or give its inputs one step)"
    )


def _bits(ratio: int, qparams: QParams) -> int:
    return (ratio * (qparams.qmax - qparams.qmin)).bit_length()

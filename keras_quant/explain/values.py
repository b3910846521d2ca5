"""Histograms of what a quantized model rounds: kernels and activations, before and after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_quant.explain.record import Histogram, Tensor
from keras_quant.methods.readers import is_quantized, read_activation, read_kernel
from keras_quant.model.topology import Call, layers_by_name, list_calls, variables_by_name
from keras_quant.qparams import QParams
from keras_quant.tf import keras

BINS = 96
BEYOND = 0.25  # of the grid's span, on either side, that a histogram shows
_KERNELS = ("kernel", "depthwise_kernel")


def kernel_histograms(model: keras.Model) -> list[tuple[Tensor, Histogram]]:
    """Of each quantized layer: its trained kernel over its channels' scales, and its codes."""
    found = []
    for name, layer in layers_by_name(model).items():
        weight = read_kernel(layer) if is_quantized(layer) else None
        if weight is None or weight.scale is None:
            continue
        variables = variables_by_name(layer)
        kernel = next((variables[key] for key in _KERNELS if key in variables), None)
        if kernel is None:
            continue
        codes = np.asarray(weight.values, np.int64)
        levels = np.arange(codes.min(), codes.max() + 1)
        edges = _edges(float(levels[0]), float(levels[-1]))
        ratios = np.asarray(kernel, np.float64) / weight.scale
        after = np.bincount((codes - levels[0]).reshape(-1), minlength=len(levels))
        histogram = Histogram(
            edges=edges,
            before=_counted(ratios, edges),
            levels=levels.astype(np.float64),
            after=after.astype(np.int64),
        )
        found.append(
            (Tensor(name=name, kind="weights", bits=weight.bits, unit="scales"), histogram)
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Point:
    """A layer that rounds activations, and what it was seen to do so far."""

    call: Call
    qparams: QParams
    histogram: Histogram


def activation_histograms(
    model: keras.Model, batches: Iterable[np.ndarray]
) -> list[tuple[Tensor, Histogram]]:
    """Of each layer that rounds activations to a grid: what it was given, and the grid's values.

    Args:
        batches: float32 (images, ...), as the model takes them.
    """
    points = _points(model)
    if not points:
        return []
    ends = [(p.call.layer.get_input_at(0), p.call.layer.get_output_at(0)) for p in points]
    parts = keras.Model(model.inputs, [tensor for pair in ends for tensor in pair])
    for x in batches:
        values = [np.asarray(value, np.float64) for value in parts(x, training=False)]
        for place, point in enumerate(points):
            given, made = values[2 * place : 2 * place + 2]
            histogram = point.histogram
            histogram.before[:] += _counted(given, histogram.edges)
            histogram.after[:] += _levels_counted(made, point.qparams)
    return [
        (
            Tensor(name=point.call.name, kind="activations", bits=point.qparams.bits, unit="reals"),
            point.histogram,
        )
        for point in points
    ]


def _points(model: keras.Model) -> list[_Point]:
    found = []
    for call in list_calls(model):
        activation = read_activation(call.layer, call.name) if call.inputs else None
        if activation is None or activation.qparams is None or call.name != call.layer_name:
            continue
        grid = activation.qparams
        levels = (np.arange(grid.qmin, grid.qmax + 1) - grid.zero_point) * grid.scale
        histogram = Histogram(
            edges=_edges(float(levels[0]), float(levels[-1])),
            before=np.zeros(BINS, np.int64),
            levels=levels,
            after=np.zeros(len(levels), np.int64),
        )
        found.append(_Point(call=call, qparams=grid, histogram=histogram))
    return found


def _edges(low: float, high: float) -> NDArray[np.float64]:
    """Of bins that reach beyond a grid on either side."""
    room = BEYOND * (high - low) or 1.0
    return np.linspace(low - room, high + room, BINS + 1)


def _counted(values: np.ndarray, edges: np.ndarray) -> NDArray[np.int64]:
    """Values by bin; the outer bins get what lies beyond them."""
    inside = np.clip(values.reshape(-1), edges[0], edges[-1])
    return np.histogram(inside, edges)[0].astype(np.int64)


def _levels_counted(values: np.ndarray, grid: QParams) -> NDArray[np.int64]:
    codes = np.rint(values.reshape(-1) / grid.scale).astype(np.int64) + grid.zero_point - grid.qmin
    count = grid.qmax - grid.qmin + 1
    return np.bincount(np.clip(codes, 0, count - 1), minlength=count).astype(np.int64)

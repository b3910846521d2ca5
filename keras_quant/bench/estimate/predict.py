"""Fused layers, a board and parameters become an estimate with an interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_quant.bench.estimate.fusion import FusedLayer
from keras_quant.bench.estimate.latency import (
    Setting,
    Times,
    describe_work,
    layer_times,
    precision_of,
)
from keras_quant.bench.estimate.parameters import Fitted
from keras_quant.bench.estimate.records import Estimate, LayerEstimate
from keras_quant.targets.jetson import Board, PowerMode

_BOUNDS = ("arithmetic", "memory", "launch")
_MOST_LAUNCHES = 0.75  # the most of a net of the fit: 73 %, SqueezeNet 1.1 on an AGX Xavier


def estimate(
    name: str,
    layers: Sequence[FusedLayer],
    *,
    board: Board,
    mode: PowerMode,
    precisions: Sequence[str],
    batch: int,
    fitted: Fitted,
) -> tuple[Estimate, ...]:
    """Estimates a net in some precisions.

    Args:
        name: of the net, for the table.
        layers: at least one.
        precisions: that the board has.
        batch: images a call.
    """
    settings = {
        one: Setting(board=board, mode=mode, precision=one, batch=batch)
        for one in dict.fromkeys((*precisions, "fp32"))
    }
    times = {
        one: layer_times(describe_work([(layers, setting)]), fitted.values)
        for one, setting in settings.items()
    }
    slowest = float(times["fp32"].total.sum())
    return tuple(
        _estimate(name, layers, settings[one], times[one], fitted, slowest_us=slowest)
        for one in precisions
    )


def _estimate(
    name: str,
    layers: Sequence[FusedLayer],
    setting: Setting,
    times: Times,
    fitted: Fitted,
    *,
    slowest_us: float,
) -> Estimate:
    total_us = float(times.total.sum())
    milliseconds, factor = total_us / 1e3, fitted.spread.factor
    return Estimate(
        name=name,
        precision=setting.precision,
        batch=setting.batch,
        estimate_ms=milliseconds,
        low_ms=milliseconds / factor,
        high_ms=milliseconds * factor,
        speed_up=slowest_us / total_us,
        macs=sum(layer.macs for layer in layers),
        layers=_layers(layers, setting, times),
        notes=tuple(_notes(layers, setting, launches=float(times.launch.sum()) / total_us)),
    )


def _layers(
    layers: Sequence[FusedLayer], setting: Setting, times: Times
) -> tuple[LayerEstimate, ...]:
    parts = np.stack([times.arithmetic, times.memory, times.launch], axis=1)
    return tuple(
        LayerEstimate(
            name=layer.name,
            nodes=layer.nodes,
            precision=precision_of(layer, setting),
            time_us=total,
            arithmetic_us=part[0],
            memory_us=part[1],
            launch_us=part[2],
            bound=_BOUNDS[part.index(max(part))],
        )
        for layer, total, part in zip(layers, times.total.tolist(), parts.tolist(), strict=True)
    )


def _notes(layers: Sequence[FusedLayer], setting: Setting, *, launches: float) -> list[str]:
    """What is not as a reader would expect it.

    Args:
        launches: their share of the time.
    """
    notes = []
    if launches > _MOST_LAUNCHES:
        notes.append(
            "most of the time is that of launching kernels: nets as small as this were not among "
            "those that were fitted, so that even the interval is uncertain"
        )
    if setting.precision == "int8":
        floats = [layer.name for layer in layers if layer.integer is False and layer.macs]
        if all(layer.integer is None for layer in layers):
            notes.append("the model is of floats: int8 is what it would take quantized throughout")
        elif floats:
            notes.append(f"in fp16, as they read or multiply floats: {', '.join(floats)}")
    if setting.precision == "fp32" and "tf32" in setting.board.generation.tensor:
        notes.append("fp32 multiplies in TF32, as TensorRT does without --noTF32")
    if setting.board.gpu == "Blackwell":
        notes.append("no figure of a Blackwell GPU was at hand: the parameters are those of older")
    return notes

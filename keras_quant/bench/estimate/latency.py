"""How long fused layers take on a board: a roofline with achievable heights, and a launch.

time of a layer = max(arithmetic, memory) + launch (Williams et al., "Roofline", CACM 2009), where

* memory = bytes / (efficiency * bandwidth): each input and weight is read once, and the output
  written once, at the bytes of the precision. What stays in a cache is not modelled.
* arithmetic of a product of matrices of rows x columns x depth = multiply-adds / (efficiency *
  peak) * (1 + rounds * multiprocessors / tiles), with tiles of 128 x 64 outputs, a usual one
  of cuDNN's and TensorRT's kernels: few tiles leave multiprocessors idle. Multiply-adds are those
  of whole steps: channels of each tap padded to what a tensor core takes at once, rows and columns
  to 16.
* arithmetic of a depthwise convolution: multiply-adds / (its efficiency * peak of CUDA cores).
* all else only moves values.

Layers run one after the other; a batch multiplies rows and activations, and not the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_quant.bench.estimate.fusion import FusedLayer
from keras_quant.bench.estimate.parameters import Parameters
from keras_quant.targets.jetson import VALUE_BYTES, Board, PowerMode

TILE_ROWS, TILE_COLUMNS = 128, 64
_STEP = 16  # rows and columns of a tensor core's product, mma.m16n8k16 taken twice
# Channels that a tensor core multiplies at once; NVIDIA's NHWC layouts are padded to them
# (TensorRT developer guide, "I/O Formats": kHWC8 for fp16, kHWC16 for int8).
_CHANNELS = {"fp32": 4, "fp16": 8, "int8": 16}
_EARLY = ("Maxwell", "Pascal", "Volta")
_WINOGRAD_TAPS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What layers run on, and how.

    Attributes:
        precision: "fp32", "fp16" or "int8"; what has no codes in a graph that has some runs in
            fp16 under int8.
        batch: images a call.
    """

    board: Board
    mode: PowerMode
    precision: str
    batch: int = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """What layers ask of a board, of one or several nets; float64 (layers,).

    Attributes:
        net: index of the net that a layer belongs to; int64.
        matrix, depthwise, tensor, winograd, early: bool.
        macs: multiply-adds, padded.
        macs_per_us: peak for them.
        rounds: multiprocessors over tiles.
        bytes, bytes_per_us: moved, and the peak for them.
    """

    net: np.ndarray
    matrix: np.ndarray
    depthwise: np.ndarray
    tensor: np.ndarray
    winograd: np.ndarray
    early: np.ndarray
    macs: np.ndarray
    macs_per_us: np.ndarray
    rounds: np.ndarray
    bytes: np.ndarray
    bytes_per_us: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Times:
    """What layers take; float64 (layers,), microseconds."""

    arithmetic: np.ndarray
    memory: np.ndarray
    launch: np.ndarray

    @property
    def total(self) -> np.ndarray:
        found: np.ndarray = np.maximum(self.arithmetic, self.memory) + self.launch
        return found


def describe_work(nets: Sequence[tuple[Sequence[FusedLayer], Setting]]) -> Work:
    """Counts what nets ask of their boards; it is that from which times are computed."""
    rows = [
        (index, *_ask(layer, setting))
        for index, (layers, setting) in enumerate(nets)
        for layer in layers
    ]
    net, *columns = map(np.array, zip(*rows, strict=True))
    return Work(
        net=net,
        **dict(zip(list(Work.__slots__)[1:], columns, strict=True)),
    )


def layer_times(work: Work, parameters: Parameters) -> Times:
    """How long each layer takes."""
    efficiency = np.where(
        work.tensor,
        parameters.tensor_efficiency,
        parameters.cuda_efficiency * np.where(work.winograd, parameters.winograd_gain, 1.0),
    )
    product = work.macs / (efficiency * work.macs_per_us)
    product *= 1 + parameters.tile_rounds * work.rounds
    depthwise = work.macs / (parameters.depthwise_efficiency * work.macs_per_us)
    return Times(
        arithmetic=np.where(work.matrix, product, np.where(work.depthwise, depthwise, 0.0)),
        memory=work.bytes / (parameters.memory_efficiency * work.bytes_per_us),
        launch=np.where(work.early, parameters.early_launch_us, parameters.launch_us),
    )


def latencies_ms(work: Work, parameters: Parameters) -> np.ndarray:
    """What each net takes: float64 (nets,), milliseconds."""
    total: np.ndarray = np.bincount(work.net, layer_times(work, parameters).total) / 1e3
    return total


def precision_of(layer: FusedLayer, setting: Setting) -> str:
    """What a layer is computed in."""
    if setting.precision == "int8" and layer.integer is False:
        return "fp16"
    return setting.precision


def _ask(layer: FusedLayer, setting: Setting) -> tuple[float, ...]:
    """A row of `Work`, without the net."""
    precision = precision_of(layer, setting)
    generation, mode = setting.board.generation, setting.mode
    matrix = layer.kind == "matrix"
    cores = generation.matrix_rate(precision) if matrix else generation.value_rate(precision)
    tensor = matrix and cores != generation.value_rate(precision)
    rows = layer.rows * setting.batch
    tiles = -(-rows // TILE_ROWS) * -(-layer.columns // TILE_COLUMNS) * layer.groups
    values = layer.weights + setting.batch * (layer.read + layer.written)
    return (
        matrix,
        layer.kind == "depthwise",
        tensor,
        not tensor and layer.taps == _WINOGRAD_TAPS and layer.unit_stride and matrix,
        setting.board.gpu in _EARLY,
        _padded_macs(layer, rows, precision, tensor=tensor)
        if matrix
        else layer.macs * setting.batch,
        mode.sms * mode.gpu_mhz * cores,
        mode.sms / tiles,
        values * VALUE_BYTES[precision],
        1e3 * setting.board.bandwidth_gb_s(mode),
    )


def _padded_macs(layer: FusedLayer, rows: int, precision: str, *, tensor: bool) -> int:
    step = _CHANNELS[precision] if tensor else 1
    depth = layer.taps * _whole(layer.depth // layer.taps, step)
    return _whole(rows, _STEP) * _whole(layer.columns, _STEP) * depth * layer.groups


def _whole(count: int, step: int) -> int:
    return -(-count // step) * step

"""Tensors whose channels may be scaled: what puts them out and all that reads them can undo it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_quant.model.operations import AVERAGE, COMPUTE, Operation, Operations
from keras_quant.model.topology import variables_by_name
from keras_quant.prepare.blocks import group_blocks
from keras_quant.tf import keras

# A channel that is multiplied by a number in front of these is so behind them. Pooling and
# rectifying take the largest of values, which no positive number changes.
_HOMOGENEOUS = (
    *("max_pool", "global_max_pool", "pad", "upsample", "dropout", "linear"),
    *AVERAGE,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pair:
    """A tensor between layers, the channels of which may be scaled.

    Attributes:
        block: a layer with a kernel, or a batch norm, with the batch norms and ReLU behind it.
        readers: all that read the tensor, if only through pooling and the like: layers with
            kernels and batch norms.
    """

    block: tuple[Operation, ...]
    readers: tuple[Operation, ...]

    @property
    def tensor(self) -> str:
        """The name of the operation that puts it out."""
        return self.block[-1].name

    @property
    def channels(self) -> int:
        return self.block[-1].shape[-1]

    @property
    def bound(self) -> float | None:
        """Where a ReLU6 cuts its values off."""
        return self.block[-1].max_value


def find_pairs(operations: Operations) -> tuple[Pair, ...]:
    """Finds all tensors whose channels can be scaled without changing what a model computes.

    Layers that are called more than once, or are parts of another layer, are left alone.
    """
    calls = Counter((o.layer_name, o.kind) for o in operations)

    def is_own(operation: Operation) -> bool:
        single = operation.owner is None and calls[operation.layer_name, operation.kind] == 1
        return single and operation.kind in (*COMPUTE, "batch_norm")

    pairs = []
    for block in group_blocks(operations):
        scaled = [operation for operation in block if operation.kind != "relu"]
        if not scaled or not all(is_own(operation) for operation in scaled):
            continue
        if not any(_has_gain(operation) for operation in scaled):
            continue
        readers = tuple(dict.fromkeys(_readers(operations, block[-1])))
        takes = [is_own(reader) and _has_gain(reader) for reader in readers]
        if readers and all(takes):
            pairs.append(Pair(block=tuple(block), readers=readers))
    return tuple(pairs)


def _has_gain(operation: Operation) -> bool:
    return operation.kind in COMPUTE or bool(operation.layer.scale)


def _readers(operations: Operations, operation: Operation) -> Iterator[Operation]:
    for reader in operations.readers[operation.name]:
        flat = reader.kind == "reshape" and len(reader.shape) == 1
        if reader.kind in _HOMOGENEOUS or flat:
            yield from _readers(operations, reader)
        else:
            yield reader


def output_kernel(
    block: Sequence[Operation], layers: Mapping[str, keras.layers.Layer]
) -> NDArray[np.float64]:
    """What a block multiplies to give each channel: float64 (channels, taps)."""
    gains = [_gain(layers[o.layer_name]) for o in block if o.kind == "batch_norm"]
    gain = np.prod(gains, axis=0) if gains else np.ones(1)
    if block[0].kind == "batch_norm":
        return gain[:, np.newaxis]
    kernel = _kernel(layers[block[0].layer_name])
    if block[0].kind == "depthwise_conv2d":
        rows = kernel.reshape(-1, int(np.prod(kernel.shape[-2:]))).T
    else:
        axis = -2 if block[0].kind == "conv2d_transpose" else -1
        rows = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
    return np.asarray(rows * gain[:, np.newaxis], np.float64)


def input_kernel(layer: keras.layers.Layer, kind: str, channels: int) -> NDArray[np.float64]:
    """What a reader multiplies each channel of a tensor by.

    Args:
        kind: the operation's.
        channels: of the tensor, of which a Dense behind a Flatten has several inputs each.
    Returns: float64 (taps, groups, channels / groups, outputs / groups). A batch norm is a
        depthwise layer of one tap.
    """
    if kind == "batch_norm":
        return _gain(layer).reshape(-1, channels, 1, 1)
    kernel = _kernel(layer)
    if kind == "depthwise_conv2d":
        return kernel.reshape(-1, channels, 1, kernel.shape[-1])
    if kind == "conv2d_transpose":
        kernel = np.swapaxes(kernel, -1, -2)
    if kind == "dense":
        return kernel.reshape(-1, 1, channels, kernel.shape[-1])
    inside, outside = kernel.shape[-2:]
    groups = channels // inside
    parts = kernel.reshape(-1, inside, groups, outside // groups)
    return np.moveaxis(parts, 2, 1)


def scale_tensor(pair: Pair, layers: Mapping[str, keras.layers.Layer], scale: np.ndarray) -> None:
    """Divides a tensor's channels by a scale, and multiplies what reads them by it.

    Args:
        layers: the model's by their names; their weights are changed.
        scale: float64 (channels,), > 0.
    """
    _divide_output(pair.block, layers, scale)
    for reader in pair.readers:
        _multiply_input(layers[reader.layer_name], reader.kind, scale)


def _divide_output(
    block: Sequence[Operation], layers: Mapping[str, keras.layers.Layer], scale: np.ndarray
) -> None:
    """In the last batch norm that has a gamma, else in the kernel and all behind it."""
    scaled = [o for o in block if o.kind != "relu"]
    for operation in reversed(scaled):
        layer = layers[operation.layer_name]
        own = variables_by_name(layer)
        if operation.kind != "batch_norm":
            _set(own, _kernel_name(own), _along_outputs(operation.kind, layer, 1 / scale))
            _set(own, "bias", 1 / scale)
            return
        _set(own, "beta", 1 / scale)
        if "gamma" in own:
            _set(own, "gamma", 1 / scale)
            return
        _set(own, "moving_mean", 1 / scale)
    raise AssertionError("a batch norm that begins a block has a gamma, see find_pairs")


def _multiply_input(layer: keras.layers.Layer, kind: str, scale: np.ndarray) -> None:
    own = variables_by_name(layer)
    if kind == "batch_norm":  # (x / s - mean / s) * (gamma s) / deviation + beta
        scale = np.tile(scale, own["gamma"].shape[0] // len(scale))
        _set(own, "moving_mean", 1 / scale)
        _set(own, "gamma", scale)
        return
    _set(own, _kernel_name(own), _along_inputs(kind, layer, scale))


def _along_outputs(
    kind: str, layer: keras.layers.Layer, factor: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A factor an output channel, to broadcast to the kernel."""
    if kind == "depthwise_conv2d":
        return np.reshape(factor, layer.depthwise_kernel.shape[-2:])
    return factor[:, np.newaxis] if kind == "conv2d_transpose" else factor


def _along_inputs(kind: str, layer: keras.layers.Layer, factor: np.ndarray) -> np.ndarray:
    """A factor an input channel, to broadcast to the kernel."""
    if kind == "depthwise_conv2d":
        return factor[:, np.newaxis]
    if kind == "conv2d_transpose":
        return factor
    inside, outside = layer.kernel.shape[-2:]
    if kind == "dense":
        return np.tile(factor, inside // len(factor))[:, np.newaxis]
    groups = len(factor) // inside
    return np.repeat(factor.reshape(groups, inside).T, outside // groups, axis=1)


def _set(own: dict[str, keras.Variable], name: str, factor: np.ndarray) -> None:
    if name in own:
        values = np.asarray(own[name], np.float64) * factor
        own[name].assign(values.astype(np.float32))


def _kernel(layer: keras.layers.Layer) -> NDArray[np.float64]:
    own = variables_by_name(layer)
    return np.asarray(own[_kernel_name(own)], np.float64)


def _kernel_name(own: dict[str, keras.Variable]) -> str:
    return "depthwise_kernel" if "depthwise_kernel" in own else "kernel"


def _gain(layer: keras.layers.BatchNormalization) -> NDArray[np.float64]:
    """What a batch norm multiplies each channel by."""
    own = variables_by_name(layer)
    deviation = np.sqrt(np.asarray(own["moving_variance"], np.float64) + layer.epsilon)
    gamma = own.get("gamma")
    gain = 1.0 if gamma is None else np.asarray(gamma, np.float64)
    return np.asarray(gain / deviation, np.float64)

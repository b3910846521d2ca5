"""Taking back what rounding kernels adds to the mean of each channel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from keras_quant.methods.readers import read_kernel
from keras_quant.methods.twins import float_kernel
from keras_quant.model.operations import COMPUTE, Operation, Operations
from keras_quant.model.topology import layers_by_name
from keras_quant.prepare.plan import Plan
from keras_quant.tf import keras


def kernel_inputs(plan: Plan) -> tuple[str, ...]:
    """Names of the operations that layers with rounded kernels read, each once."""
    return tuple(dict.fromkeys(operation.inputs[0] for operation in _rounded(plan)))


def correct_biases(plan: Plan, model: keras.Model, means: Mapping[str, np.ndarray]) -> None:
    """Moves biases by what rounding the kernels in front of them does to their means.

    A kernel W that became Q(W) adds E[(Q(W) - W) x] = (sum over taps of Q(W) - W) E[x] to each
    output channel; Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
    Correction" (2019), eq. 16, with E[x] from images. Padding is taken for values like the others.
    Of a layer that is called more than once, means are averaged over its calls. A layer that adds
    no bias in the wrapped model, and has no batch norm behind it, stays as it is.

    Args:
        model: wrapped, with the weights of the plan's float model; its biases, and the moving
            means of batch norms behind layers without bias, are changed.
        means: float64 (channels,) of the values of each operation that `kernel_inputs` names.
    """
    layers = layers_by_name(model)
    calls: dict[str, list[Operation]] = defaultdict(list)
    for operation in _rounded(plan):
        calls[operation.layer_name].append(operation)
    for name, operations in calls.items():
        rounded = read_kernel(layers[name])
        if rounded is not None and rounded.scale is not None:
            rounding = rounded.values * rounded.scale - float_kernel(operations[0].layer)
            shifts = [
                through(operation, rounding, means[operation.inputs[0]]) for operation in operations
            ]
            add_bias(plan, layers, operations[0], -np.mean(shifts, axis=0))


def _rounded(plan: Plan) -> list[Operation]:
    return [
        operation
        for operation in plan.operations
        if operation.kind in COMPUTE and not plan.weights[operation.layer_name].is_float
    ]


def through(
    operation: Operation, kernel: NDArray[np.float64], mean: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What a kernel makes of inputs that are their mean everywhere.

    Args:
        operation: of COMPUTE, whose layer has a kernel of that shape.
        kernel: in the Keras layout.
        mean: (channels,) of what it reads.
    Returns: float64 (output channels,).
    """
    taps: NDArray[np.float64] = kernel.reshape(-1, *kernel.shape[-2:]).sum(axis=0)
    if operation.kind == "dense":
        return mean @ kernel
    if operation.kind == "depthwise_conv2d":
        return (taps * mean[:, np.newaxis]).reshape(-1)
    if operation.kind == "conv2d_transpose":  # (height, width, outputs, inputs), over strides
        return taps @ mean / float(np.prod(operation.layer.strides))
    groups = len(mean) // taps.shape[0]
    parts = zip(np.split(taps, groups, axis=1), np.split(mean, groups), strict=True)
    return np.concatenate([part_mean @ part for part, part_mean in parts])


def add_bias(
    plan: Plan, layers: Mapping[str, keras.layers.Layer], operation: Operation, delta: np.ndarray
) -> bool:
    """Adds to what a layer puts out: to its bias, or in the batch norm that alone reads it.

    A layer that has neither stays as it is.

    Args:
        layers: the quantized model's by their names.
        operation: the plan's.
        delta: float64 (channels,).
    Returns: whether the layer itself puts out more by that.
    """
    if layers[operation.layer_name].use_bias:
        bias = layers[operation.layer_name].bias
        bias.assign(np.asarray(bias) + delta.astype(np.float32))
        return True
    for norm in norms_behind(plan.operations, operation):
        mean = layers[norm.layer_name].moving_mean
        mean.assign(np.asarray(mean) - delta.astype(np.float32))
    return False


def norms_behind(operations: Operations, operation: Operation) -> list[Operation]:
    """The batch norms that alone read a layer's calls, each once."""
    names = {call.name for call in operations if call.layer_name == operation.layer_name}
    readers = [reader for reader in operations if names & {*reader.inputs}]
    norms = {reader.layer_name: reader for reader in readers if reader.kind == "batch_norm"}
    return list(norms.values()) if all(r.kind == "batch_norm" for r in readers) else []

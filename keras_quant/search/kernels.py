"""Kernels of a float model at few bits, put into it one at a time and taken out again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_quant.methods import DEFAULT_METHOD, load_method
from keras_quant.methods.readers import read_kernel
from keras_quant.methods.rules import options_of
from keras_quant.methods.twins import kernel_variable
from keras_quant.model.operations import COMPUTE, Operation
from keras_quant.model.topology import copy_variables
from keras_quant.prepare import Plan, plan, split_float
from keras_quant.prepare.adjust.correct_bias import add_bias
from keras_quant.schemes.bits import parse_bits, scheme_from_bits
from keras_quant.schemes.scheme import QuantSpec
from keras_quant.tf import keras


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kernel:
    """A layer's kernel at few bits.

    Attributes:
        values: float32, in the Keras layout, codes times scales.
        entropy: of the codes, in bits a weight.
        squared_error: sum of the squares of what rounding changed.
    """

    values: np.ndarray
    entropy: float
    squared_error: float


def weight_spec(bits: int) -> QuantSpec:
    """What so many bits mean for a kernel, as `--bits` says it: at 2 bits -2, -1, 0 and 1."""
    spec, _ = parse_bits(f"w{bits}")
    assert spec is not None
    return spec


def plan_all(source: keras.Model) -> Plan:
    """A plan in which all layers with a kernel are rounded.

    Raises:
        LoweringError: the model has layers that are not supported, or is quantized already.
    """
    return plan(source, scheme_from_bits("8"))


def kernel_layers(planned: Plan) -> dict[str, Operation]:
    """The operation of each layer with a kernel, by the layer's name; of several the first."""
    found: dict[str, Operation] = {}
    for operation in planned.operations:
        if operation.kind in COMPUTE:
            found.setdefault(operation.layer_name, operation)
    return found


def rebuilt(planned: Plan, source: keras.Model) -> keras.Model:
    """The float model with the names of the plan, whose kernels may be changed."""
    return split_float(planned, source, planned.operations.outputs)


def round_kernel(layer: keras.layers.Layer, operation: Operation, bits: int) -> Kernel:
    """Rounds a layer's kernel as `kq quantize` does; the layer stays as it is.

    Args:
        layer: of the rebuilt model, with its weights.
        operation: the plan's.
    """
    method = load_method(DEFAULT_METHOD)
    options = options_of(method, post_training=True)
    twin = method.maker.wrap(layer, weight_spec(bits), options)
    twin.build((None, *operation.input_shapes[0]))
    copy_variables(layer, twin)
    weight = read_kernel(twin)
    assert weight is not None and weight.scale is not None, layer.name
    values = weight.values * weight.scale
    error = np.square(values - np.asarray(kernel_variable(layer), np.float64)).sum()
    return Kernel(
        values=values.astype(np.float32),
        entropy=entropy(weight.values),
        squared_error=float(error),
    )


def entropy(codes: np.ndarray) -> float:
    """Shannon's entropy of integers, -sum p log2 p over the shares of each, in bits a value."""
    _, counts = np.unique(codes, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0  # no -0.0


@contextlib.contextmanager
def replaced(layer: keras.layers.Layer, values: np.ndarray) -> Iterator[None]:
    """Puts values in place of a layer's kernel, until the block ends, however it ends."""
    variable = kernel_variable(layer)
    before = variable.numpy()
    variable.assign(values)
    try:
        yield
    finally:
        variable.assign(before)


@contextlib.contextmanager
def shifted(
    planned: Plan,
    layers: Mapping[str, keras.layers.Layer],
    operation: Operation,
    delta: np.ndarray,
) -> Iterator[None]:
    """Adds to what a layer puts out, where it has something that adds, until the block ends.

    Args:
        layers: of the rebuilt model, by their names.
        delta: float64 (channels,).
    """
    before = [(variable, variable.numpy()) for variable in _adding(planned, layers, operation)]
    add_bias(planned, layers, operation, delta)
    try:
        yield
    finally:
        for variable, values in before:
            variable.assign(values)


def _adding(
    planned: Plan, layers: Mapping[str, keras.layers.Layer], operation: Operation
) -> list[Any]:
    """The variables that `add_bias` may change: of the layer, and of batch norms behind it."""
    layer = layers[operation.layer_name]
    found = [layer.bias] if layer.use_bias else []
    readers = planned.operations.readers[operation.name]
    norms = [layers[r.layer_name] for r in readers if r.kind == "batch_norm"]
    return [*found, *(norm.moving_mean for norm in norms)]

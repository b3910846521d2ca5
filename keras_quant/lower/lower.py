"""From a quantized Keras model to the ideal graph: codes, scales and real biases.

Each layer that computes is first held open (Pending), while the batch norm and ReLU behind it
fold into it; the quantizer that follows closes it to a node that puts out codes, anything
else to one that puts out floats. A layer in between that only moves values is held open too
(Held): rounding what it moved is moving what was rounded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeGuard

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.graph.ir import Graph, Node, Shape, Tensor
from keras_quant.graph.passes.outputs import tell_apart
from keras_quant.graph.passes.pads import fold_pads
from keras_quant.graph.verify import verify
from keras_quant.lower.builder import GraphBuilder
from keras_quant.lower.common_grid import common_grid
from keras_quant.lower.gain import KernelGain
from keras_quant.lower.layers import (
    ON_IMAGES,
    attrs_of,
    image_shape,
    layout,
    margins_of,
    op_of,
    op_shape,
)
from keras_quant.lower.origin import NormFold, Origin, behind, in_front_of_folds, with_kernel
from keras_quant.lower.signs import Signs
from keras_quant.lower.table import name_function, rounded_table, tabulate_codes
from keras_quant.lower.values import Held, Pending, Value
from keras_quant.lower.weights import bias_of, kernel_of, read_norm, unit_kernel
from keras_quant.methods.method import Movable
from keras_quant.methods.readers import parts_maker, read_movable
from keras_quant.model.operations import (
    AVERAGE,
    COMPUTE,
    Lookup,
    Operation,
    Operations,
    Quantizer,
    describe,
)
from keras_quant.model.topology import layers_by_name
from keras_quant.qparams import QParams, fits_int8, holds_range, hull, same_grid
from keras_quant.tf import keras


def lower(model: keras.Model) -> Graph:
    """Lowers a functional or sequential model.

    Args:
        model: of the supported layers, with a method's quantizers, or in float, or in part.
    Returns: the ideal graph; its inputs and outputs are the model's, in order.
    Raises:
        LoweringError: layers that are not supported or cannot be folded, all by name.
    """
    graph, _ = lower_with_origins(model)
    return graph


def lower_with_origins(model: keras.Model) -> tuple[Graph, dict[str, Origin]]:
    """Lowers a model as `lower` does.

    Returns: the graph, and by their names what the nodes with a kernel were made from.
    """
    operations = describe(model)
    layers = layers_by_name(model)
    lowering = _Lowering(
        operations, {operation.name: _movable(operation, layers) for operation in operations}
    )
    values: dict[str, Value] = {}
    problems = []
    for operation in operations:
        try:
            values[operation.name] = lowering.operation(
                operation, [values[name] for name in operation.inputs]
            )
        except LoweringError as error:
            problems.append(str(error))
            values[operation.name] = values[operation.inputs[0]]
    if problems:
        raise LoweringError(f"model {model.name}: {'; '.join(problems)}")
    shapes = {operation.name: operation.shape for operation in operations}
    outputs = [lowering.as_output(values[name], shapes[name]) for name in operations.outputs]
    built = lowering.built.finish(model.name, inputs=operations.inputs, outputs=outputs)
    graph = tell_apart(fold_pads(built))
    verify(graph)
    return graph, lowering.origins


class _Lowering:
    """What the operations so far give, and what of it is still open."""

    def __init__(self, operations: Operations, movables: Mapping[str, Movable | None]) -> None:
        self.built = GraphBuilder()
        self.movables = movables
        self.readers = operations.readers
        self.closed: dict[int, str] = {}
        self.origins: dict[str, Origin] = {}

    def operation(self, operation: Operation, inputs: list[Value]) -> Value:
        """Lowers one operation; `inputs` are the values of the operations that it reads."""
        if operation.kind == "input":
            return self._input(operation)
        if operation.kind in ("dropout", "linear"):
            return inputs[0]
        if operation.kind == "to_float":
            return self.built.as_float(self.close(inputs[0]))
        if isinstance(operation, Quantizer):
            return self._quantize(operation, operation.qparams, inputs[0])
        if operation.kind == "batch_norm":
            return self._batch_norm(operation, inputs[0])
        if operation.kind == "relu":
            return self._relu(operation, inputs[0])
        if isinstance(operation, Lookup):
            return self._lookup(operation, inputs[0])
        if operation.kind in COMPUTE or operation.kind in ("add", "multiply", *AVERAGE):
            return self._open(operation, [self.close(value) for value in inputs])
        if operation.kind == "softmax":
            return self.built.emit_float(operation, "softmax", self.close(inputs[0]))
        return self._move(operation, inputs)

    def _input(self, operation: Operation) -> Value:
        self.built.tensors[operation.name] = Tensor(name=operation.name, shape=operation.shape)
        shape = layout(operation.shape)
        if shape == operation.shape:
            return operation.name
        return Held(
            name=operation.name,
            operation=operation,
            op="reshape",
            parts=(operation.name,),
            shape=shape,
            final=shape,
        )

    def _open(self, operation: Operation, inputs: list[str]) -> Pending:
        if op_of(operation) in ON_IMAGES:
            shapes = [image_shape(self.built.tensors[name].shape) for name in inputs]
            inputs = [
                self.built.reshaped(n, shape) for n, shape in zip(inputs, shapes, strict=True)
            ]
        if margins := margins_of(operation):
            inputs = [self.built.padded(operation, inputs[0], margins)]
        in_codes = [self.built.tensors[name].qparams is not None for name in inputs]
        origin = self._origin(operation, in_codes=in_codes[0])
        if origin is not None and origin.kernel[0].scale is None and in_codes[0]:
            inputs = [self.built.as_float(inputs[0])]
        if len(inputs) > 1 and not all(in_codes):
            inputs = [self.built.as_float(name) for name in inputs]
        return Pending(
            name=operation.name,
            operation=operation,
            op=op_of(operation),
            inputs=tuple(inputs),
            shape=op_shape(operation),
            final=layout(operation.shape),
            attrs=attrs_of(operation),
            origin=origin,
            layers=(operation.layer_name,),
        )

    def _batch_norm(self, operation: Operation, value: Value) -> Pending:
        if (
            not isinstance(value, Pending)
            or value.origin is None
            or value.activation != "none"
            or not self._is_read_once(value)
        ):
            return self._open(operation, [self.close(value)])
        origin = behind(value.origin, self._fold(operation))
        layers = (*value.layers, operation.layer_name)
        return dataclasses.replace(value, operation=operation, origin=origin, layers=layers)

    def _relu(self, operation: Operation, value: Value) -> Value:
        activation = "relu" if operation.max_value is None else "relu6"
        if (
            isinstance(value, Pending)
            and (value.origin is not None or value.op in ("add", "multiply"))
            and value.activation == "none"
            and self._is_read_once(value)
        ):
            layers = (*value.layers, operation.layer_name)
            return dataclasses.replace(
                value, operation=operation, activation=activation, layers=layers
            )
        return self.built.emit_float(
            operation, "relu", self.close(value), {"max_value": operation.max_value}
        )

    def _origin(self, operation: Operation, *, in_codes: bool) -> Origin | None:
        """The kernel that an operation opens a node with; None where it has none."""
        if operation.kind == "batch_norm":
            unit = unit_kernel(operation.shape[-1], in_codes=in_codes)
            return behind(in_front_of_folds((unit, None), None), self._fold(operation))
        if operation.kind in COMPUTE:
            return in_front_of_folds(
                (kernel_of(operation), bias_of(operation)), self.movables[operation.name]
            )
        return None

    def _fold(self, operation: Operation) -> NormFold:
        return NormFold(norm=read_norm(operation.layer), movable=self.movables[operation.name])

    def _signs(self, operation: Lookup, value: Value) -> Value | None:
        """A sign of a kernel's sums, folded into it; None where that is not what it reads."""
        if (
            operation.sign is None
            or not isinstance(value, Pending)
            or value.origin is None
            or value.origin.kernel[0].scale is None
            or value.activation != "none"
            or not self._is_read_once(value)
        ):
            return None
        given = self.built.tensors[value.inputs[0]].qparams
        if given is None:
            return None
        signs = Signs(
            dead_band=operation.sign.dead_band,
            input_scale=given.scale,
            output_scale=operation.sign.scale,
        )
        layers = (*value.layers, operation.layer_name)
        origin = behind(value.origin, signs)
        return dataclasses.replace(value, operation=operation, origin=origin, layers=layers)

    def _lookup(self, operation: Lookup, value: Value) -> Value:
        """A function of one value: a table where it reads codes, else computed in float."""
        folded = self._signs(operation, value)
        if folded is not None:
            return folded
        if operation.sign is not None and self._is_open_table(value):
            signs = np.asarray(operation.function(value.reals), np.float32)
            layers = (*value.layers, operation.layer_name)
            return dataclasses.replace(value, operation=operation, reals=signs, layers=layers)
        source = self.close(value)
        given = self.built.tensors[source].qparams
        if given is not None:
            opened = self._open(operation, [self.built.reshaped(source, op_shape(operation))])
            return dataclasses.replace(opened, reals=tabulate_codes(operation, given))
        return self.built.emit_float(
            operation, "pointwise", source, {"function": name_function(operation)}
        )

    def _quantize(self, operation: Operation, qparams: QParams, value: Value) -> str:
        """Rounds a value to a grid; the tensor has the operation's name unless it was on it."""
        if isinstance(value, Held) and self._is_read_once(value):
            return self._quantize_parts(operation, qparams, value)
        if (
            isinstance(value, Pending)
            and self._is_read_once(value)
            and all(self.built.tensors[name].qparams for name in value.inputs)
        ):
            return self._close(value, _clamped(value, qparams), operation)
        source = self.close(value)
        tensor = self.built.tensors[source]
        target = Tensor(name=operation.name, shape=tensor.shape, qparams=qparams)
        if tensor.qparams is None:
            return self.built.emit(operation.name, "quantize", (source,), target)
        if same_grid(tensor.qparams, qparams) and holds_range(qparams, tensor.qparams):
            return source
        return self.built.emit(operation.name, "requantize", (source,), target)

    def _move(self, operation: Operation, inputs: list[Value]) -> Value:
        """Lowers what only moves values; held open where their grid may still be chosen."""
        held = Held(
            name=operation.name,
            operation=operation,
            op=op_of(operation),
            parts=tuple(inputs),
            shape=op_shape(operation),
            final=layout(operation.shape),
            attrs=attrs_of(operation),
        )
        names = [value for value in inputs if isinstance(value, str)]
        if len(names) == len(inputs) and self._is_on_one_grid(names):
            return self._close_held(held)
        return held

    def _is_open_table(self, value: Value) -> TypeGuard[Pending]:
        """Whether a value is a function of codes that nothing else reads."""
        return isinstance(value, Pending) and value.reals is not None and self._is_read_once(value)

    def _is_read_once(self, value: Pending | Held) -> bool:
        return len(self.readers[value.operation.name]) == 1

    def _is_on_one_grid(self, names: Sequence[str]) -> bool:
        """Whether codes can be joined as they are; or all are floats."""
        found = self._grids(names)
        if len(found) < len(names):
            return not found
        return all(same_grid(found[0], q) for q in found) and fits_int8(hull(found))

    def _grids(self, names: Sequence[str]) -> list[QParams]:
        """The grids of those tensors that hold codes."""
        found = [self.built.tensors[name].qparams for name in names]
        return [qparams for qparams in found if qparams is not None]

    def close(self, value: Value) -> str:
        """Gives a value's tensor; a pending node puts out floats."""
        if isinstance(value, str):
            return value
        if id(value) not in self.closed:
            self.closed[id(value)] = (
                self._close_held(value)
                if isinstance(value, Held)
                else self._close(value, None, value.operation)
            )
        return self.closed[id(value)]

    def _close(self, value: Pending, qparams: QParams | None, operation: Operation) -> str:
        inputs, attrs = value.inputs, dict(value.attrs)
        if qparams is None and value.op != "lookup":
            if value.op not in AVERAGE:
                attrs["activation"] = value.activation
            if value.origin is None:
                inputs = tuple(self.built.as_float(name) for name in inputs)
        table = value.reals
        if table is not None and qparams is not None:
            table = rounded_table(table, qparams)
        node = Node(
            name=value.name,
            op=value.op,
            inputs=inputs,
            output=operation.name,
            attrs=attrs,
            layers=(*value.layers, operation.layer_name) if qparams else value.layers,
            table=table,
        )
        if value.origin is not None:
            node = with_kernel(node, value.origin.kernel, in_codes=qparams is not None)
            self.origins[node.name] = value.origin
        self.built.nodes.append(node)
        self.built.tensors[operation.name] = Tensor(
            name=operation.name, shape=value.shape, qparams=qparams
        )
        return self.built.reshaped(operation.name, value.final)

    def _close_held(self, value: Held) -> str:
        names = [self.close(part) for part in value.parts]
        found = self._grids(names)
        if len(found) < len(names):
            names = [self.built.as_float(name) for name in names]
        elif not self._is_on_one_grid(names):
            grid = common_grid(value.operation, found)
            closed = dataclasses.replace(value, parts=tuple(names))
            return self._quantize_parts(value.operation, grid, closed)
        return self._emit_move(value, names, value.operation.name)

    def _quantize_parts(self, operation: Operation, qparams: QParams, value: Held) -> str:
        """Rounding what was moved is moving what was rounded; a part that comes twice, once."""
        rounded: dict[str | int, str] = {}
        for place, part in enumerate(value.parts):
            if _key(part) not in rounded:
                of_part = dataclasses.replace(operation, name=f"{operation.name}/{place}")
                rounded[_key(part)] = self._quantize(of_part, qparams, part)
        return self._emit_move(value, [rounded[_key(p)] for p in value.parts], operation.name)

    def _emit_move(self, value: Held, names: Sequence[str], output: str) -> str:
        layer = value.operation.layer_name
        if value.op == "reshape":
            return self.built.reshaped(names[0], value.shape, output=output, layer=layer)
        found = self._grids(names)
        qparams = hull(found) if len(found) == len(names) else None
        tensor = Tensor(name=output, shape=value.shape, qparams=qparams)
        made = self.built.emit(value.name, value.op, tuple(names), tensor, value.attrs, layer)
        return self.built.reshaped(made, value.final)

    def as_output(self, value: Value, shape: Shape) -> str:
        """Gives a value in float, and in the model's shape."""
        return self.built.reshaped(self.built.as_float(self.close(value)), shape)


def _key(value: Value) -> str | int:
    """What tells a value from all others."""
    return value if isinstance(value, str) else id(value)


def _movable(operation: Operation, layers: Mapping[str, keras.layers.Layer]) -> Movable | None:
    """The model's variables behind what an operation adds; None where it adds none of them.

    Args:
        layers: the model's, by name.
    """
    layer = layers.get(operation.owner or operation.layer_name)
    if operation.kind in COMPUTE:
        return (
            _movable_of_kernel(operation, read_movable(layer)) if operation.layer.use_bias else None
        )
    if operation.kind != "batch_norm":
        return None
    # A Rescaling is one too, and has nothing to move.
    is_norm = isinstance(layer, keras.layers.BatchNormalization)
    return read_movable(layer) if is_norm or parts_maker(layer) else None


def _movable_of_kernel(operation: Operation, found: Movable) -> Movable:
    """A layer's variables; the gain of a kernel that goes by itself is one of them."""
    if found.kernel is None or operation.owner is not None:
        return found
    return dataclasses.replace(found, gamma=KernelGain(operation=operation, kernel=found.kernel))


def _clamped(value: Pending, qparams: QParams) -> QParams:
    """What is left of a grid behind a ReLU: rounding is monotone, so 6 has the highest code.

    Raises:
        LoweringError: the codes are too far apart to say anything below 6.
    """
    if value.activation == "none":
        return qparams
    qmin, qmax = max(qparams.qmin, qparams.zero_point), qparams.qmax
    if value.activation == "relu6":
        qmax = min(qmax, qparams.zero_point + int(np.rint(6.0 / qparams.scale)))
        if qmax <= qmin:
            raise LoweringError(
                f"{value.operation.name} (ReLU6: all of it rounds to 0 on the step {qparams.scale} "
                "that follows)"
            )
    return dataclasses.replace(qparams, qmin=qmin, qmax=qmax)

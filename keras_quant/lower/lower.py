"""From a fitted Keras model to the ideal graph: codes, scales and real biases.

Each layer that computes is first held open (Pending), while the batch norm and ReLU behind it
fold into it; the quantizer that follows closes it to a node that puts out codes, anything
else to one that puts out floats.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.functional import AVERAGE, COMPUTE, Step, consumers, describe
from keras_quant.graph.ir import Graph, Node, Shape, Tensor, Weight
from keras_quant.graph.verify import verify
from keras_quant.lower.table import name_function, read_table
from keras_quant.lower.weights import Kernel, fold_batch_norm, read_kernel
from keras_quant.qparams import QParams, same_grid
from keras_quant.tf import keras


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pending:
    """A node whose output is not decided yet."""

    step: Step
    op: str
    inputs: tuple[str, ...]
    shape: Shape
    attrs: Mapping[str, Any] = field(default_factory=dict)
    kernel: Kernel | None = None
    activation: str = "none"
    layers: tuple[str, ...] = ()


Value = str | Pending


def lower(model: keras.Model) -> Graph:
    """Lowers a functional or sequential model.

    Args:
        model: of the supported layers, with QKeras' quantizers, or in float, or in part.
    Returns: the ideal graph; its one output is the model's.
    Raises:
        LoweringError: layers that are not supported or cannot be folded, all by name.
    """
    steps = describe(model)
    lowering = _Lowering(steps)
    values: dict[str, Value] = {}
    problems = []
    for step in steps:
        try:
            values[step.name] = lowering.step(step, [values[name] for name in step.inputs])
        except LoweringError as error:
            problems.append(str(error))
            values[step.name] = values[step.inputs[0]]
    if problems:
        raise LoweringError(f"model {model.name}: {'; '.join(problems)}")
    output = lowering.as_float(lowering.close(values[steps[-1].name]))
    graph = Graph(
        name=model.name,
        inputs=(steps[0].name,),
        outputs=(output,),
        tensors=lowering.tensors,
        nodes=tuple(lowering.nodes),
    )
    verify(graph)
    return graph


class _Lowering:
    """The graph so far."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.readers = consumers(steps)
        self.closed: dict[int, str] = {}

    def step(self, step: Step, inputs: list[Value]) -> Value:
        """Lowers one step; `inputs` are the values of the steps that it reads."""
        if step.kind == "input":
            return self._input(step)
        if step.kind in ("dropout", "linear"):
            return inputs[0]
        if step.kind == "quantizer":
            return self._quantize(step, inputs[0])
        if step.kind == "batch_norm":
            return self._batch_norm(step, inputs[0])
        if step.kind == "relu":
            return self._relu(step, inputs[0])
        if step.kind == "lookup":
            return self._lookup(step, self.close(inputs[0]))
        if step.kind in COMPUTE or step.kind in ("add", "multiply", *AVERAGE):
            return self._open(step, [self.close(value) for value in inputs])
        return self._passing(step, self.close(inputs[0]))

    def _input(self, step: Step) -> str:
        shape = tuple(step.layer.input_shape[0][1:])
        self.tensors[step.name] = Tensor(name=step.name, shape=shape)
        return step.name

    def _open(self, step: Step, inputs: list[str]) -> Pending:
        kernel = read_kernel(step) if step.kind in COMPUTE else None
        in_codes = [self.tensors[name].qparams is not None for name in inputs]
        if kernel is not None and not kernel.in_codes and in_codes[0]:
            inputs = [self.as_float(inputs[0])]
        if len(inputs) > 1 and not all(in_codes):
            inputs = [self.as_float(name) for name in inputs]
        return Pending(
            step=step,
            op=step.kind,
            inputs=tuple(inputs),
            shape=tuple(step.layer.output_shape[1:]),
            attrs=_attrs(step),
            kernel=kernel,
            layers=(step.layer.name,),
        )

    def _batch_norm(self, step: Step, value: Value) -> Pending:
        if (
            not isinstance(value, Pending)
            or value.kernel is None
            or value.activation != "none"
            or len(self.readers[value.step.name]) != 1
        ):
            raise LoweringError(
                f"{step.name} (BatchNormalization: only directly behind a Conv2D, "
                "DepthwiseConv2D or Dense that nothing else reads)"
            )
        kernel = fold_batch_norm(value.kernel, step.layer)
        layers = (*value.layers, step.layer.name)
        return dataclasses.replace(value, step=step, kernel=kernel, layers=layers)

    def _relu(self, step: Step, value: Value) -> Value:
        activation = "relu" if step.max_value is None else "relu6"
        if (
            isinstance(value, Pending)
            and (value.kernel is not None or value.op in ("add", "multiply"))
            and value.activation == "none"
            and len(self.readers[value.step.name]) == 1
        ):
            layers = (*value.layers, step.layer.name)
            return dataclasses.replace(value, step=step, activation=activation, layers=layers)
        source = self.as_float(self.close(value))
        shape = self.tensors[source].shape
        attrs = {"max_value": step.max_value}
        return self._emit(step.name, "relu", (source,), Tensor(name=step.name, shape=shape), attrs)

    def _lookup(self, step: Step, source: str) -> Value:
        """A function of one value: a table where it reads codes, else computed in float."""
        tensor = self.tensors[source]
        if tensor.qparams is not None:
            return self._open(step, [source])
        output = Tensor(name=step.name, shape=tensor.shape)
        attrs = {"function": name_function(step)}
        return self._emit(step.name, "pointwise", (source,), output, attrs, step.layer.name)

    def _quantize(self, step: Step, value: Value) -> str:
        assert step.qparams is not None
        if (
            isinstance(value, Pending)
            and len(self.readers[value.step.name]) == 1
            and all(self.tensors[name].qparams for name in value.inputs)
        ):
            return self._close(value, _clamped(value, step.qparams), step)
        source = self.close(value)
        tensor = self.tensors[source]
        target = Tensor(name=step.name, shape=tensor.shape, qparams=step.qparams)
        if tensor.qparams is None:
            return self._emit(step.name, "quantize", (source,), target)
        if same_grid(tensor.qparams, step.qparams) and _contains(step.qparams, tensor.qparams):
            return source
        return self._emit(step.name, "requantize", (source,), target)

    def _passing(self, step: Step, source: str) -> str:
        if step.kind == "softmax":
            source = self.as_float(source)
        op = "reshape" if step.kind == "flatten" else step.kind
        shape = tuple(step.layer.output_shape[1:])
        tensor = Tensor(name=step.name, shape=shape, qparams=self.tensors[source].qparams)
        return self._emit(step.name, op, (source,), tensor, _attrs(step), step.layer.name)

    def close(self, value: Value) -> str:
        """Gives a value's tensor; a pending node puts out floats."""
        if not isinstance(value, Pending):
            return value
        if id(value) not in self.closed:
            self.closed[id(value)] = self._close(value, None, value.step)
        return self.closed[id(value)]

    def _close(self, value: Pending, qparams: QParams | None, step: Step) -> str:
        inputs, attrs, kernel = value.inputs, dict(value.attrs), value.kernel
        if qparams is None and value.op != "lookup":
            if value.op not in AVERAGE:
                attrs["activation"] = value.activation
            if kernel is None:
                inputs = tuple(self.as_float(name) for name in inputs)
        weight, bias = None, None
        if kernel is not None:
            weight = Weight(values=kernel.values, scale=kernel.scale, bits=kernel.bits)
            bias = kernel.bias
            if bias is not None and qparams is None:
                bias = bias.astype(np.float32)
        table = None
        if value.op == "lookup":
            table = read_table(value.step, self.tensors[inputs[0]], qparams)
        node = Node(
            name=value.layers[0],
            op=value.op,
            inputs=inputs,
            output=step.name,
            attrs=attrs,
            weight=weight,
            bias=bias,
            layers=(*value.layers, step.layer.name) if qparams else value.layers,
            table=table,
        )
        self.nodes.append(node)
        self.tensors[step.name] = Tensor(name=step.name, shape=value.shape, qparams=qparams)
        return step.name

    def as_float(self, name: str) -> str:
        """Gives the float twin of a tensor of codes, made once."""
        tensor = self.tensors[name]
        if tensor.qparams is None:
            return name
        twin = f"{name}/float"
        if twin not in self.tensors:
            self._emit(twin, "dequantize", (name,), Tensor(name=twin, shape=tensor.shape))
        return twin

    def _emit(
        self,
        name: str,
        op: str,
        inputs: tuple[str, ...],
        output: Tensor,
        attrs: Mapping[str, Any] | None = None,
        layer: str | None = None,
    ) -> str:
        layers = (layer or name,)
        self.nodes.append(
            Node(name=name, op=op, inputs=inputs, output=name, attrs=attrs or {}, layers=layers)
        )
        self.tensors[name] = output
        return name


def _attrs(step: Step) -> dict[str, Any]:
    """A layer's settings under the graph's names."""
    layer = step.layer
    if step.kind in ("conv2d", "depthwise_conv2d"):
        return {
            "strides": tuple(layer.strides),
            "padding": layer.padding.lower(),
            "dilation": tuple(layer.dilation_rate),
        }
    if step.kind in ("max_pool", "avg_pool"):
        return {
            "pool_size": tuple(layer.pool_size),
            "strides": tuple(layer.strides),
            "padding": layer.padding.lower(),
        }
    if step.kind == "pad":
        return {"padding": tuple(tuple(pair) for pair in layer.padding)}
    return {}


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
                f"{value.step.name} (ReLU6: all of it rounds to 0 on the step {qparams.scale} that "
                "follows)"
            )
    return dataclasses.replace(qparams, qmin=qmin, qmax=qmax)


def _contains(outer: QParams, inner: QParams) -> bool:
    return outer.qmin <= inner.qmin and inner.qmax <= outer.qmax

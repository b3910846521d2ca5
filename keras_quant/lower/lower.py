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
from keras_quant.lower.layers import (
    ON_IMAGES,
    attrs_of,
    causal_margins,
    image_shape,
    is_causal,
    op_of,
)
from keras_quant.lower.weights import Kernel, fold_batch_norm, read_kernel, unit_kernel
from keras_quant.qparams import QParams, same_grid
from keras_quant.tf import keras


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pending:
    """A node whose output is not decided yet; `final` is the shape that the model gives it."""

    step: Step
    op: str
    inputs: tuple[str, ...]
    shape: Shape
    final: Shape
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
    graph = _without_unread(graph)
    verify(graph)
    return graph


class _Lowering:
    """The graph so far."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.readers = consumers(steps)
        self.closed: dict[int, str] = {}
        self.origins: dict[str, str] = {}  # what each reshaped twin was made from

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
        if step.kind in COMPUTE or step.kind in ("add", *AVERAGE):
            return self._open(step, [self.close(value) for value in inputs])
        return self._passing(step, self.close(inputs[0]))

    def _input(self, step: Step) -> str:
        shape = tuple(step.layer.input_shape[0][1:])
        self.tensors[step.name] = Tensor(name=step.name, shape=shape)
        return step.name

    def _open(self, step: Step, inputs: list[str]) -> Pending:
        kernel = self._kernel(step, inputs[0])
        op, final = op_of(step), tuple(step.layer.output_shape[1:])
        were_images = all(name in self.origins for name in inputs)
        on_images = op in ON_IMAGES or (op == "add" and were_images)
        if on_images:
            inputs = [self._as_image(name) for name in inputs]
        if is_causal(step):
            inputs = [self._padded(step, inputs[0])]
        in_codes = [self.tensors[name].qparams is not None for name in inputs]
        if kernel is not None and not kernel.in_codes and in_codes[0]:
            inputs = [self.as_float(inputs[0])]
        if len(inputs) > 1 and not all(in_codes):
            inputs = [self.as_float(name) for name in inputs]
        return Pending(
            step=step,
            op=op,
            inputs=tuple(inputs),
            shape=image_shape(final) if on_images and op != "mean" else final,
            final=final,
            attrs=attrs_of(step),
            kernel=kernel,
            layers=(step.layer.name,),
        )

    def _kernel(self, step: Step, source: str) -> Kernel | None:
        if step.kind == "batch_norm":
            in_codes = self.tensors[source].qparams is not None
            unit = unit_kernel(step.layer.output_shape[-1], in_codes=in_codes)
            return fold_batch_norm(unit, step.layer)
        return read_kernel(step) if step.kind in COMPUTE else None

    def _batch_norm(self, step: Step, value: Value) -> Pending:
        if (
            not isinstance(value, Pending)
            or value.kernel is None
            or value.activation != "none"
            or len(self.readers[value.step.name]) != 1
        ):
            return self._open(step, [self.close(value)])
        kernel = fold_batch_norm(value.kernel, step.layer)
        layers = (*value.layers, step.layer.name)
        return dataclasses.replace(value, step=step, kernel=kernel, layers=layers)

    def _relu(self, step: Step, value: Value) -> Value:
        activation = "relu" if step.max_value is None else "relu6"
        if (
            isinstance(value, Pending)
            and (value.kernel is not None or value.op == "add")
            and value.activation == "none"
            and len(self.readers[value.step.name]) == 1
        ):
            layers = (*value.layers, step.layer.name)
            return dataclasses.replace(value, step=step, activation=activation, layers=layers)
        source = self.as_float(self.close(value))
        shape = self.tensors[source].shape
        attrs = {"max_value": step.max_value}
        return self._emit(step.name, "relu", (source,), Tensor(name=step.name, shape=shape), attrs)

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
        final = shape = tuple(step.layer.output_shape[1:])
        if op in ON_IMAGES:
            source, shape = self._as_image(source), image_shape(final)
        elif op == "reshape":
            source = self.origins.get(source, source)
        tensor = Tensor(name=step.name, shape=shape, qparams=self.tensors[source].qparams)
        name = self._emit(step.name, op, (source,), tensor, attrs_of(step), step.layer.name)
        return self._reshaped(name, final)

    def close(self, value: Value) -> str:
        """Gives a value's tensor; a pending node puts out floats."""
        if not isinstance(value, Pending):
            return value
        if id(value) not in self.closed:
            self.closed[id(value)] = self._close(value, None, value.step)
        return self.closed[id(value)]

    def _close(self, value: Pending, qparams: QParams | None, step: Step) -> str:
        inputs, attrs, kernel = value.inputs, dict(value.attrs), value.kernel
        if qparams is None:
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
        node = Node(
            name=value.layers[0],
            op=value.op,
            inputs=inputs,
            output=step.name,
            attrs=attrs,
            weight=weight,
            bias=bias,
            layers=(*value.layers, step.layer.name) if qparams else value.layers,
        )
        self.nodes.append(node)
        self.tensors[step.name] = Tensor(name=step.name, shape=value.shape, qparams=qparams)
        return self._reshaped(step.name, value.final)

    def _as_image(self, name: str) -> str:
        """Gives a tensor as (height, width, channels), see `lower.layers`."""
        return self._reshaped(name, image_shape(self.tensors[name].shape))

    def _reshaped(self, name: str, shape: Shape) -> str:
        """Gives a tensor in another shape: what it was reshaped from, or a twin, made once."""
        if self.tensors[name].shape == shape:
            return name
        origin = self.origins.get(name, name)
        if self.tensors[origin].shape == shape:
            return origin
        twin = f"{origin}/{'x'.join(map(str, shape))}"
        if twin not in self.tensors:
            tensor = dataclasses.replace(self.tensors[origin], name=twin, shape=shape)
            self._emit(twin, "reshape", (origin,), tensor, {"shape": shape})
            self.origins[twin] = origin
        return twin

    def _padded(self, step: Step, name: str) -> str:
        """Gives an image with what a causal convolution pads in front of it."""
        rows, columns = margins = causal_margins(step)
        height, width, channels = self.tensors[name].shape
        shape = (height + sum(rows), width + sum(columns), channels)
        tensor = dataclasses.replace(self.tensors[name], name=f"{step.name}/pad", shape=shape)
        return self._emit(tensor.name, "pad", (name,), tensor, {"padding": margins})

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


def _without_unread(graph: Graph) -> Graph:
    """A graph without the nodes whose output nothing reads; its inputs stay."""
    wanted, nodes = {*graph.inputs, *graph.outputs}, []
    for node in reversed(graph.nodes):
        if node.output in wanted:
            wanted.update(node.inputs)
            nodes.append(node)
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name in wanted}
    return dataclasses.replace(graph, nodes=tuple(reversed(nodes)), tensors=tensors)


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

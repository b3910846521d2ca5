"""A Keras model as a list of steps: one plain view for preparing and for lowering it.

Fused activations become steps of their own, QKeras layers count as what they compute, and
everything that is not understood is told at once, by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras_quant.errors import LoweringError
from keras_quant.methods.pointwise import POINTWISE_LAYERS, Function, is_pointwise, prelu_limit
from keras_quant.methods.qkeras import activation_qparams, freeze_activation
from keras_quant.qparams import QParams
from keras_quant.tf import keras

COMPUTE = ("conv2d", "depthwise_conv2d", "dense")
AVERAGE = ("avg_pool", "mean")
# Steps that put out codes of the grid that they take in.
PASSING = ("max_pool", "flatten", "pad", "dropout", "linear")

_KINDS = {
    "InputLayer": "input",
    "Conv2D": "conv2d",
    "DepthwiseConv2D": "depthwise_conv2d",
    "Dense": "dense",
    "BatchNormalization": "batch_norm",
    "ReLU": "relu",
    "Add": "add",
    "Multiply": "multiply",
    "MaxPooling2D": "max_pool",
    "AveragePooling2D": "avg_pool",
    "GlobalAveragePooling2D": "mean",
    "Flatten": "flatten",
    "ZeroPadding2D": "pad",
    "Dropout": "dropout",
    "Softmax": "softmax",
    **dict.fromkeys(POINTWISE_LAYERS, "lookup"),
}
SUPPORTED = (*_KINDS, "Activation('softmax' or a function of one value)", "QActivation")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """One thing that a layer does.

    Attributes:
        name: the layer's name; a fused activation's step is called "LAYER/activation".
        kind: a value of the table above, or "quantizer", "linear".
        layer: the Keras layer.
        inputs: names of the steps that it reads.
        max_value: upper end of a relu: None or 6.0.
        qparams: of a quantizer.
        function: what a lookup computes of each value: a Keras function, or the layer itself.
    """

    name: str
    kind: str
    layer: Any
    inputs: tuple[str, ...] = ()
    max_value: float | None = None
    qparams: QParams | None = None
    function: Function | None = None


def class_name(layer: keras.layers.Layer) -> str:
    """The layer's class, without the leading Q of the QKeras layers that are understood.

    QBatchNormalization and the pooling layers of QKeras are not: they have quantizers inside.
    """
    name = type(layer).__name__
    return name[1:] if name[:1] == "Q" and _KINDS.get(name[1:]) in COMPUTE else name


def describe(model: keras.Model) -> tuple[Step, ...]:
    """Lists a functional or sequential model's steps, each after those that it reads.

    Raises:
        LoweringError: layers that are not supported, all of them, with names and reasons.
    """
    steps: list[Step] = []
    problems: list[str] = []
    tail: dict[str, str] = {}
    for layer, inputs in _calls(model, problems):
        found = _steps_of(layer, tuple(tail[name] for name in inputs), problems)
        tail[layer.name] = found[-1].name
        steps += found
    if problems:
        raise LoweringError(
            f"model {model.name}: {len(problems)} layers are not supported: "
            f"{'; '.join(problems)}. Supported: {', '.join(SUPPORTED)}"
        )
    return tuple(steps)


def consumers(steps: Sequence[Step]) -> dict[str, tuple[Step, ...]]:
    """For each step's name the steps that read it."""
    return {s.name: tuple(c for c in steps if s.name in c.inputs) for s in steps}


def _calls(
    model: keras.Model, problems: list[str]
) -> list[tuple[keras.layers.Layer, tuple[str, ...]]]:
    """Layers of the model in the order of computation, with the layers that they read."""
    if isinstance(model, keras.Sequential) and not model.built:
        raise LoweringError(f"model {model.name} is not built: give its first layer an input_shape")
    if not getattr(model, "_is_graph_network", False):
        raise LoweringError(
            f"model {model.name} is a subclassed model: its layers cannot be followed; "
            "build it with the functional API"
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        problems.append(
            f"{model.name} ({len(model.inputs)} inputs, {len(model.outputs)} outputs: "
            "one of each is supported)"
        )
    found, seen = [], set()
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            layer = node.layer
            if layer.name in seen:
                problems.append(f"{layer.name} (used more than once)")
                continue
            seen.add(layer.name)
            parents = [] if node.is_input else list(node.iterate_inbound())
            found.append((layer, tuple(parent.name for parent, *_ in parents)))
    return found


def _steps_of(
    layer: keras.layers.Layer, inputs: tuple[str, ...], problems: list[str]
) -> list[Step]:
    name, cls = layer.name, class_name(layer)
    if cls == "Activation":
        return [_activation_step(layer, name, inputs, problems)]
    qparams = _try(lambda: freeze_activation(layer), problems)
    if qparams is not None or cls in ("QActivation", "InputGrid"):
        return [Step(name=name, kind="quantizer", layer=layer, inputs=inputs, qparams=qparams)]
    kind = _KINDS.get(cls)
    reason = "" if kind else "not supported"
    reason = reason or _limit(layer, cls)
    if reason:
        problems.append(f"{name} ({cls}: {reason})")
    if kind == "relu" and _is_bent(layer):
        kind = "lookup"
    limit = getattr(layer, "max_value", None) if kind == "relu" else None
    step = Step(
        name=name,
        kind=kind or "linear",
        layer=layer,
        inputs=inputs,
        max_value=None if limit is None else float(limit),
        function=layer if kind == "lookup" else None,
    )
    if kind in COMPUTE and not _is_linear(layer.activation):
        return [step, _activation_step(layer, f"{name}/activation", (name,), problems)]
    return [step]


def _is_linear(activation: Any) -> bool:
    return activation is None or activation is keras.activations.linear


def _activation_step(
    layer: keras.layers.Layer, name: str, inputs: tuple[str, ...], problems: list[str]
) -> Step:
    function = layer.activation
    known = {
        keras.activations.linear: ("linear", None),
        keras.activations.relu: ("relu", None),
        keras.activations.softmax: ("softmax", None),
    }
    if function in known:
        kind, max_value = known[function]
    elif getattr(function, "__name__", "") == "relu6":
        kind, max_value = "relu", 6.0
    elif hasattr(function, "__name__") and is_pointwise(function):
        return Step(name=name, kind="lookup", layer=layer, inputs=inputs, function=function)
    else:
        qparams = _try(lambda: activation_qparams(function, layer.name), problems)
        return Step(name=name, kind="quantizer", layer=layer, inputs=inputs, qparams=qparams)
    return Step(name=name, kind=kind, layer=layer, inputs=inputs, max_value=max_value)


def _try(read: Any, problems: list[str]) -> QParams | None:
    try:
        return read()
    except LoweringError as error:
        problems.append(str(error))
        return None


def _limit(layer: keras.layers.Layer, cls: str) -> str:
    """Why a layer of a supported class is not supported after all; "" if it is."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return f"data_format {layer.data_format}; channels_last is supported"
    if cls == "Conv2D" and layer.groups != 1:
        return f"groups {layer.groups}; 1 is supported"
    if cls == "DepthwiseConv2D" and layer.depth_multiplier != 1:
        return f"depth_multiplier {layer.depth_multiplier}; 1 is supported"
    if cls == "Dense" and len(layer.input_shape) != 2:
        return f"input of shape {layer.input_shape}; (batch, features) is supported"
    if cls == "GlobalAveragePooling2D" and layer.keepdims:
        return "keepdims; without is supported"
    if cls == "Multiply" and len(layer.input_shape) != 2:
        return f"{len(layer.input_shape)} inputs; two are supported"
    if cls == "PReLU":
        return prelu_limit(layer)
    if cls == "BatchNormalization" and list(layer.axis) != [len(layer.input_shape) - 1]:
        return f"axis {layer.axis}; the last is supported"
    if cls == "AveragePooling2D" and layer.padding == "same" and _pads(layer):
        return "padding 'same' that reaches over the edge; padding 'valid' is supported"
    if cls == "Softmax" and layer.axis not in (-1, len(layer.input_shape) - 1):
        return f"axis {layer.axis}; the last is supported"
    return ""


def _is_bent(layer: keras.layers.ReLU) -> bool:
    """Whether a ReLU is another function than min(max(x, 0), 6) or max(x, 0)."""
    odd_end = layer.max_value not in (None, 6)
    return bool(layer.negative_slope or layer.threshold or odd_end)


def _pads(layer: keras.layers.Layer) -> bool:
    sizes = layer.input_shape[1:3]
    return any(
        (-(-size // stride) - 1) * stride + pool > size
        for size, stride, pool in zip(sizes, layer.strides, layer.pool_size, strict=True)
    )

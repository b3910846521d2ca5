"""Layers that are shorthand for others: what is quantized and lowered is what they stand for.

| layer | stands for |
|---|---|
| SeparableConv2D | DepthwiseConv2D, then a Conv2D of 1x1 |
| SeparableConv1D | Conv1D with a group for each channel, then a Conv1D of 1 |
| DepthwiseConv1D | Conv1D with a group for each channel |
| Conv1DTranspose | Conv2DTranspose of the sequence laid out as an image of one row |
| Rescaling, Normalization | BatchNormalization that is not trained |
| those that differ by position | the same, of pixels laid out as one vector |

Likewise the layers of a method that its reader says stand for others.

The two halves of a separable convolution get a kernel quantizer each, and their codes must meet
on a grid, so values are rounded between them as behind any convolution without a ReLU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.methods.method import Built
from keras_quant.methods.readers import parts_maker
from keras_quant.model.combined import split_combined
from keras_quant.model.norms import affine
from keras_quant.model.topology import Call, Shape, free_name, list_calls
from keras_quant.tf import keras


def unfold_calls(calls: Sequence[Call]) -> list[Call]:
    """Replaces calls of layers of the table, and of `combined`, by calls of what they stand for.

    Returns: calls with unique names: the last of those that stand for one has its name. The
        parts of a layer that is called more than once are the same in all its calls.
    """
    return split_combined(_unfolded(calls))


def parts_by_owner(model: keras.Model) -> dict[str, dict[str, keras.layers.Layer]]:
    """The layers with weights that a model's layers stand for, in order.

    Returns: by the name of the model's layer, and by the name that a part has in a quantized model.
    Raises:
        LoweringError: see `list_calls`.
    """
    found: dict[str, dict[str, keras.layers.Layer]] = {}
    for call in unfold_calls(list_calls(model)):
        if call.owner is not None and call.layer.weights:
            found.setdefault(call.owner, {})[call.layer_name] = call.layer
    return found


def _unfolded(calls: Sequence[Call]) -> list[Call]:
    taken = {name for call in calls for name in (call.name, call.layer_name)}
    parts: dict[str, dict[str, keras.layers.Layer]] = {}
    found: list[Call] = []
    for call in calls:
        known = parts.get(call.layer_name, {}).values()
        layers = tuple(known) or unfold(call.layer, call.input_shapes)
        suffixes = [layer.name.removeprefix(layers[-1].name) for layer in layers[:-1]]
        names = [free_name(call.name + suffix, taken) for suffix in suffixes]
        taken.update(names)
        names.append(call.name)
        # The first call of a layer has its name.
        parts.setdefault(call.layer_name, dict(zip(names, layers, strict=True)))
        found += _chain(call, names, parts[call.layer_name])
    return found


def unfold(
    layer: keras.layers.Layer, input_shapes: Sequence[Shape]
) -> tuple[keras.layers.Layer, ...]:
    """Gives the layers that compute, one after the other, what a layer of the table computes.

    Args:
        layer: a built layer.
        input_shapes: of what it is called on, without the batch axis.
    Returns: new layers with the layer's weights, each called on what the one before gives; the
        last has the layer's name. The layer itself where it is no shorthand, or one that cannot
        be said in other layers (see `why_whole`).
    """
    try:
        parts = _made(layer, input_shapes)
    except LoweringError:
        return (layer,)
    inputs = [keras.Input(shape) for shape in input_shapes] if parts else []
    x = inputs if len(inputs) > 1 else next(iter(inputs), None)
    for part, weights in parts:
        x = part(x)
        part.set_weights(weights)
    return tuple(part for part, _ in parts) or (layer,)


def why_whole(layer: keras.layers.Layer, input_shapes: Sequence[Shape]) -> str:
    """Why `unfold` left a layer of the table as it is, as an error says it; "" if none does."""
    try:
        _made(layer, input_shapes)
    except LoweringError as error:
        return str(error)
    return ""


def _made(layer: keras.layers.Layer, input_shapes: Sequence[Shape]) -> Built:
    make = _PARTS.get(type(layer).__name__) or parts_maker(layer)
    return make(layer, input_shapes[0]) if make and _is_channels_last(layer) else []


def _chain(
    call: Call, names: Sequence[str], parts: Mapping[str, keras.layers.Layer]
) -> Iterator[Call]:
    """The calls, under their names, of a layer's parts by the parts' own names."""
    owner = call.owner if call.layer in parts.values() else call.layer_name
    inputs, input_shapes = call.inputs, call.input_shapes
    for name, (layer_name, layer) in zip(names, parts.items(), strict=True):
        last = name == call.name
        shape = call.shape if last else _shape(layer, input_shapes)
        yield replace(
            call,
            name=name,
            layer_name=layer_name,
            layer=layer,
            inputs=inputs,
            input_shapes=input_shapes,
            shape=shape,
            outputs=call.outputs if last else (),
            owner=owner,
        )
        inputs, input_shapes = (name,), (shape,)


def _shape(layer: keras.layers.Layer, input_shapes: Sequence[Shape]) -> Shape:
    """Of what a layer puts out, without the batch axis."""
    batched = [(None, *shape) for shape in input_shapes]
    return tuple(layer.compute_output_shape(batched if len(batched) > 1 else batched[0])[1:])


def _is_channels_last(layer: keras.layers.Layer) -> bool:
    return getattr(layer, "data_format", "channels_last") == "channels_last"


def _separable_2d(layer: keras.layers.Layer, input_shape: Shape) -> Built:
    config = layer.get_config()
    depthwise = keras.layers.DepthwiseConv2D(
        **_picked(config, *_WINDOW, "depth_multiplier", *_prefixed("depthwise")),
        use_bias=False,
        name=f"{layer.name}_depthwise",
    )
    pointwise = keras.layers.Conv2D(**_pointwise(config))
    first, *others = layer.get_weights()
    return [(depthwise, [first]), (pointwise, others)]


def _separable_1d(layer: keras.layers.Layer, input_shape: Shape) -> Built:
    config = layer.get_config()
    first, *others = layer.get_weights()
    depthwise = _grouped_1d(
        config, first.shape, use_bias=False, name=f"{layer.name}_depthwise", activation=None
    )
    pointwise = keras.layers.Conv1D(**_pointwise(config))
    return [(depthwise, [_grouped(first)]), (pointwise, others)]


def _depthwise_1d(layer: keras.layers.Layer, input_shape: Shape) -> Built:
    config = layer.get_config()
    kernel, *bias = layer.get_weights()
    own = _picked(config, "name", "activation", "use_bias", *_prefixed("bias"))
    return [(_grouped_1d(config, kernel.shape, **own), [_grouped(kernel), *bias])]


def _transpose_1d(layer: keras.layers.Layer, input_shape: Shape) -> Built:
    config = layer.get_config()
    kernel, *bias = layer.get_weights()
    more = config["output_padding"]
    same = ("filters", "padding", "activation", "use_bias", "trainable")
    image = keras.layers.Reshape((1, -1, input_shape[-1]), name=f"{layer.name}_image")
    conv = keras.layers.Conv2DTranspose(
        **_picked(config, *same, *_prefixed("kernel"), *_prefixed("bias")),
        **{name: (1, *config[name]) for name in ("kernel_size", "strides")},
        dilation_rate=config["dilation_rate"] * 2,  # TensorFlow wants equal ones; there is one row
        output_padding=None if more is None else (0, *more),
        name=f"{layer.name}_2d",
    )
    sequence = keras.layers.Reshape((-1, config["filters"]), name=layer.name)
    return [(image, []), (conv, [kernel[np.newaxis], *bias]), (sequence, [])]


def _rescaling(layer: keras.layers.Layer, input_shape: Shape) -> Built:
    gain, shift = (np.asarray(v, np.float64) for v in (layer.scale, layer.offset))
    if not {gain.shape[-1:], shift.shape[-1:]} <= {(), (1,), input_shape[-1:]}:
        return []
    if all(math.prod(v.shape[:-1]) == 1 for v in (gain, shift)):
        gain, shift = (v.reshape(v.shape[-1:]) for v in (gain, shift))
        return [affine(input_shape, gain=gain, shift=shift, name=layer.name)]
    if None in input_shape:
        return []
    return _affine_by_position(layer, input_shape, gain=gain, shift=shift)


def _normalization(layer: keras.layers.Layer, input_shape: Shape) -> Built:
    rank = 1 + len(input_shape)
    by_position = bool({axis % rank for axis in layer.axis} - {rank - 1})
    if by_position and None in input_shape:
        return []
    mean, variance = (np.asarray(v, np.float64) for v in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), keras.backend.epsilon())
    gain, shift = (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)
    if by_position:
        return _affine_by_position(layer, input_shape, gain=gain, shift=shift)
    return [affine(input_shape, gain=gain.ravel(), shift=shift.ravel(), name=layer.name)]


_PARTS: Mapping[str, Callable[[keras.layers.Layer, Shape], Built]] = {
    "SeparableConv2D": _separable_2d,
    "SeparableConv1D": _separable_1d,
    "DepthwiseConv1D": _depthwise_1d,
    "Conv1DTranspose": _transpose_1d,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
}
SHORTHANDS = tuple(_PARTS)


def is_shorthand(layer: keras.layers.Layer) -> bool:
    """Whether a layer is of the table, or one of a method that stands for others."""
    return type(layer).__name__ in _PARTS or parts_maker(layer) is not None


_WINDOW = ("kernel_size", "strides", "padding", "dilation_rate", "trainable")


def _prefixed(name: str) -> tuple[str, str]:
    return f"{name}_initializer", f"{name}_regularizer"


def _picked(config: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: config[name] for name in names}


def _pointwise(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the convolution of 1x1 that ends a separable one."""
    own = _picked(
        config, "name", "trainable", "filters", "use_bias", "activation", *_prefixed("bias")
    )
    kernel = {
        f"kernel_{name}": config[f"pointwise_{name}"] for name in ("initializer", "regularizer")
    }
    return own | kernel | {"kernel_size": 1}


def _grouped_1d(
    config: Mapping[str, Any], kernel: tuple[int, ...], **own: Any
) -> keras.layers.Layer:
    """A depthwise convolution of sequences; kernel (taps, channels, depth_multiplier)."""
    _, channels, multiplier = kernel
    return keras.layers.Conv1D(
        filters=channels * multiplier,
        groups=channels,
        kernel_initializer=config["depthwise_initializer"],
        kernel_regularizer=config["depthwise_regularizer"],
        **_picked(config, *_WINDOW),
        **own,
    )


def _grouped(kernel: np.ndarray) -> np.ndarray:
    """(taps, channels, depth_multiplier) as (taps, 1, channels * depth_multiplier)."""
    return kernel.reshape(len(kernel), 1, -1)


def _affine_by_position(
    layer: keras.layers.Layer, input_shape: Shape, *, gain: np.ndarray, shift: np.ndarray
) -> Built:
    """x * gain + shift, both of a shape that broadcasts to (1, *input_shape)."""
    gain, shift = (np.broadcast_to(v, (1, *input_shape)).ravel() for v in (gain, shift))
    vector = keras.layers.Reshape((-1,), name=f"{layer.name}_vector")
    norm = affine(gain.shape, gain=gain, shift=shift, name=f"{layer.name}_positions")
    image = keras.layers.Reshape(input_shape, name=layer.name)
    return [(vector, []), norm, (image, [])]

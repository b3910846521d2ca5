"""Layers that are shorthand for others: what is quantized and lowered is what they stand for.

| layer | stands for |
|---|---|
| SeparableConv2D | DepthwiseConv2D, then a Conv2D of 1x1 |
| SeparableConv1D | Conv1D with a group for each channel, then a Conv1D of 1 |
| DepthwiseConv1D | Conv1D with a group for each channel |
| Rescaling, Normalization | BatchNormalization that is not trained |

The two halves of a separable convolution get a kernel quantizer each, and their codes must meet
on a grid, so values are rounded between them as behind any convolution without a ReLU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_quant.tf import keras

# Layers with their weights, in the order in which they are called.
_Built = list[tuple[keras.layers.Layer, list[np.ndarray]]]

# With this variance and epsilon, both exact in float32, a batch norm multiplies by gamma alone.
# TensorFlow raises smaller epsilons to 1.001e-5.
_EPSILON = 2.0**-10


def unfold(layer: keras.layers.Layer) -> tuple[keras.layers.Layer, ...]:
    """Gives the layers that compute, one after the other, what a layer of the table computes.

    Args:
        layer: a built layer that is called in a model.
    Returns: new layers with the layer's weights, each called on what the one before gives; the
        last has the layer's name. The layer itself where it is no shorthand, or one that cannot
        be told in other layers (channels first, statistics of another axis than the last).
    """
    make = _PARTS.get(type(layer).__name__)
    parts = make(layer) if make and _is_channels_last(layer) else []
    x = keras.Input(layer.input_shape[1:]) if parts else None
    for part, weights in parts:
        x = part(x)
        part.set_weights(weights)
    return tuple(part for part, _ in parts) or (layer,)


def _is_channels_last(layer: keras.layers.Layer) -> bool:
    return getattr(layer, "data_format", "channels_last") == "channels_last"


def _separable_2d(layer: keras.layers.Layer) -> _Built:
    config = layer.get_config()
    depthwise = keras.layers.DepthwiseConv2D(
        **_picked(config, *_WINDOW, "depth_multiplier", *_prefixed("depthwise")),
        use_bias=False,
        name=f"{layer.name}_depthwise",
    )
    pointwise = keras.layers.Conv2D(**_pointwise(config))
    first, *others = layer.get_weights()
    return [(depthwise, [first]), (pointwise, others)]


def _separable_1d(layer: keras.layers.Layer) -> _Built:
    config = layer.get_config()
    first, *others = layer.get_weights()
    depthwise = _grouped_1d(
        config, first.shape, use_bias=False, name=f"{layer.name}_depthwise", activation=None
    )
    pointwise = keras.layers.Conv1D(**_pointwise(config))
    return [(depthwise, [_grouped(first)]), (pointwise, others)]


def _depthwise_1d(layer: keras.layers.Layer) -> _Built:
    config = layer.get_config()
    kernel, *bias = layer.get_weights()
    own = _picked(config, "name", "activation", "use_bias", *_prefixed("bias"))
    return [(_grouped_1d(config, kernel.shape, **own), [_grouped(kernel), *bias])]


def _rescaling(layer: keras.layers.Layer) -> _Built:
    return _affine(layer, gain=layer.scale, shift=layer.offset)


def _normalization(layer: keras.layers.Layer) -> _Built:
    rank = len(layer.input_shape)
    if {axis % rank for axis in layer.axis} - {rank - 1}:
        return []
    mean = np.asarray(layer.mean, np.float64).ravel()
    deviation = np.sqrt(np.asarray(layer.variance, np.float64)).ravel()
    deviation = np.maximum(deviation, keras.backend.epsilon())
    if layer.invert:
        return _affine(layer, gain=deviation, shift=mean)
    return _affine(layer, gain=1 / deviation, shift=-mean / deviation)


_PARTS: Mapping[str, Callable[[keras.layers.Layer], _Built]] = {
    "SeparableConv2D": _separable_2d,
    "SeparableConv1D": _separable_1d,
    "DepthwiseConv1D": _depthwise_1d,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
}
SHORTHANDS = tuple(_PARTS)

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


def _affine(layer: keras.layers.Layer, *, gain: Any, shift: Any) -> _Built:
    """x * gain + shift, both scalars or (channels,)."""
    channels = (layer.input_shape[-1],)
    norm = keras.layers.BatchNormalization(epsilon=_EPSILON, trainable=False, name=layer.name)
    gamma, beta = (np.broadcast_to(np.asarray(v, np.float32), channels) for v in (gain, shift))
    variance = np.full(channels, 1 - _EPSILON, np.float32)
    return [(norm, [gamma, beta, np.zeros_like(variance), variance])]

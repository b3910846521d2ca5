"""QKeras' layers that are shorthand for others, which compute the same in inference.

| layer | stands for |
|---|---|
| QBatchNormalization | BatchNormalization of its quantized weights |
| Q(Depthwise)Conv2DBatchnorm | Q(Depthwise)Conv2D of the kernel with the batch norm folded in |
| QSeparableConv1D, 2D | one QConv1D, 2D: nothing is rounded between their two kernels |
| Q(Global)AveragePooling2D | (Global)AveragePooling2D, then QActivation |
| the same, with average_quantizer | QDepthwiseConv2D of ones times a factor, then QActivation |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.methods.method import Built
from keras_quant.methods.qkeras.door import qkeras
from keras_quant.methods.qkeras.kernels import MAX_CODE, given_codes, read_codes
from keras_quant.methods.qkeras.naming import name_of
from keras_quant.tf import keras, tf

Shape = tuple[int | None, ...]
_WINDOW = ("strides", "padding", "dilation_rate")


def _norm(layer: Any, input_shape: Shape) -> Built:
    given = {
        "gamma": layer.gamma if layer.scale else None,
        "beta": layer.beta if layer.center else None,
        "mean": layer.moving_mean,
        "variance": layer.moving_variance,
    }
    values = [
        _quantized(getattr(layer, f"{name}_quantizer_internal"), value)
        for name, value in given.items()
        if value is not None
    ]
    norm = keras.layers.BatchNormalization(
        axis=list(layer.axis),
        epsilon=layer.epsilon,
        center=layer.center,
        scale=layer.scale,
        trainable=False,
        name=layer.name,
    )
    return [(norm, values)]


def _quantized(quantizer: Any, values: Any) -> np.ndarray:
    return np.asarray(values if quantizer is None else quantizer(values))


def _conv_with_norm(layer: Any, input_shape: Shape) -> Built:
    kernel, bias = layer.get_folded_weights()
    twin = qkeras.QConv2D(
        layer.filters,
        layer.kernel_size,
        groups=layer.groups,
        kernel_initializer="zeros",
        kernel_quantizer=layer.kernel_quantizer_internal,
        **_settings(layer),
    )
    return [(twin, [np.asarray(kernel), np.asarray(bias)])]


def _depthwise_with_norm(layer: Any, input_shape: Shape) -> Built:
    kernel, bias = layer.get_folded_weights()
    twin = qkeras.QDepthwiseConv2D(
        layer.kernel_size,
        depth_multiplier=layer.depth_multiplier,
        depthwise_initializer="zeros",
        depthwise_quantizer=layer.depthwise_quantizer_internal,
        **_settings(layer),
    )
    return [(twin, [np.asarray(kernel), np.asarray(bias)])]


def _settings(layer: Any) -> dict[str, Any]:
    """What a convolution has besides its kernel."""
    return {
        "name": layer.name,
        "activation": layer.activation,
        "bias_quantizer": layer.bias_quantizer_internal,
        **{name: getattr(layer, name) for name in _WINDOW},
    }


def _separable(layer: Any, input_shape: Shape) -> Built:
    """One kernel: that of an input and an output is the sum of what the channels between give."""
    first, second = _halves(layer)
    is_image = len(layer.kernel_size) == 2
    channels, multiplier = first.values.shape[-2:]
    between = second.values.reshape(channels, multiplier, -1)
    codes = np.einsum("...im,imo->...io", first.values.astype(np.int64), between)
    largest = int(np.abs(codes).max(initial=0))
    if largest > MAX_CODE:
        raise LoweringError(
            f"layer {layer.name}: nothing is rounded between its two kernels, and their product "
            f"has codes up to {largest}, where one int8 kernel takes {MAX_CODE}. Give them fewer "
            "bits (4 and 4 fit), or put a QActivation between a QDepthwiseConv2D and a QConv2D"
        )
    scale = first.scale.reshape(-1)[0] * second.scale.reshape(-1)
    bits = max(largest.bit_length() + 1, min(first.bits, second.bits))
    quantizer = given_codes(bits, np.broadcast_to(scale, codes.shape[-1:]))
    make = qkeras.QConv2D if is_image else qkeras.QConv1D
    twin = make(
        layer.filters,
        layer.kernel_size,
        use_bias=layer.use_bias,
        kernel_initializer="zeros",
        kernel_quantizer=quantizer,
        **_settings(layer),
    )
    bias = [np.asarray(layer.bias)] if layer.use_bias else []
    kernel = (codes * quantizer.scale).astype(np.float32)
    return [(twin, [kernel if is_image else kernel[0], *bias])]


def _halves(layer: Any) -> Any:
    """The codes of both kernels; the first has one scale, as its channels are summed.

    Raises:
        LoweringError: for either of them, or one is in float.
    """
    quantizers = (layer.depthwise_quantizer_internal, layer.pointwise_quantizer_internal)
    if None in quantizers:
        raise LoweringError(
            f"layer {layer.name}: one of its kernels is quantized and the other is not; quantize "
            "both, or neither"
        )
    kernels = [tf.convert_to_tensor(k) for k in (layer.depthwise_kernel, layer.pointwise_kernel)]
    if len(kernels[0].shape) == 3:  # QKeras quantizes kernels of sequences as those of images
        kernels = [kernel[None] for kernel in kernels]
    return (
        read_codes(quantizers[0], kernels[0], channels=(), layer=layer),
        read_codes(quantizers[1], kernels[1], channels=(3,), layer=layer),
    )


def _average(layer: Any, input_shape: Shape) -> Built:
    pool = keras.layers.AveragePooling2D(
        layer.pool_size, layer.strides, layer.padding, name=_inner_name(layer)
    )
    factor = _factor(layer, int(np.prod(layer.pool_size)))
    if factor is None:
        return _activated(layer, [(pool, [])])
    if layer.padding == "same":
        raise LoweringError(
            f"layer {layer.name}: an average_quantizer and padding 'same' are not lowered; "
            "padding 'valid' is"
        )
    channels = input_shape[-1]
    if channels is None:
        return []
    sums = _sums(channels, layer.pool_size, layer.strides, factor, name=_inner_name(layer))
    return _activated(layer, [sums])


def _global_average(layer: Any, input_shape: Shape) -> Built:
    height, width, channels = input_shape
    if height is None or width is None or channels is None:
        return []
    factor = _factor(layer, height * width)
    if factor is None:
        pool = keras.layers.GlobalAveragePooling2D(keepdims=layer.keepdims, name=_inner_name(layer))
        return _activated(layer, [(pool, [])])
    sums = _sums(channels, (height, width), (1, 1), factor, name=f"{layer.name}_sums")
    shape = (1, 1, channels) if layer.keepdims else (channels,)
    return _activated(layer, [sums, (keras.layers.Reshape(shape, name=_inner_name(layer)), [])])


def _factor(layer: Any, area: int) -> float | None:
    """What a sum of pixels is multiplied by; None where that is one over the area."""
    quantizer = layer.average_quantizer_internal
    if quantizer is None:
        return None
    factor = float(np.asarray(quantizer(tf.constant(1.0 / area, tf.float32))).reshape(()))
    if not factor > 0:
        raise LoweringError(
            f"layer {layer.name}: {name_of(quantizer)} makes 1 / {area} {factor:g}, so that all "
            "averages are 0; give it more bits"
        )
    return None if factor * area == 1 else factor


def _sums(
    channels: int, size: tuple[int, ...], strides: tuple[int, ...], factor: float, *, name: str
) -> tuple[keras.layers.Layer, list[np.ndarray]]:
    """Sums of windows times a factor."""
    depthwise = qkeras.QDepthwiseConv2D(
        size,
        strides=strides,
        use_bias=False,
        depthwise_initializer="zeros",
        depthwise_quantizer=qkeras.quantizers.binary(alpha=factor),
        name=name,
    )
    return depthwise, [np.ones((*size, channels, 1), np.float32)]


def _inner_name(layer: Any) -> str:
    """Of what is in front of the activation, if there is one; the last part has the layer's."""
    return layer.name if layer.activation is None else f"{layer.name}_average"


def _activated(layer: Any, built: Built) -> Built:
    """The layers, and the activation behind them."""
    if layer.activation is None:
        return built
    return [*built, (qkeras.QActivation(layer.activation, name=layer.name), [])]


PARTS: Mapping[str, Callable[[Any, Shape], Built]] = {
    "QBatchNormalization": _norm,
    "QConv2DBatchnorm": _conv_with_norm,
    "QDepthwiseConv2DBatchnorm": _depthwise_with_norm,
    "QSeparableConv2D": _separable,
    "QSeparableConv1D": _separable,
    "QAveragePooling2D": _average,
    "QGlobalAveragePooling2D": _global_average,
}
"""By class: a function of a layer and its input's shape, without the batch axis.

Each gives the parts, the last of which has the layer's name, or raises LoweringError.
"""

"""Networks of depthwise separable convolutions: ds_cnn, mobilenet_v1, mobilenet_v2."""

from __future__ import annotations

from typing import Any

from keras_quant.tf import keras
from keras_quant.zoo.layers import SMALL_IMAGE, Shape, conv_bn, depthwise_bn, pooled_classifier

TINY_IMAGE = 16  # below, ds_cnn keeps all pixels

# (channels, strides) of each block: Howard et al. 2017, table 1.
V1_BLOCKS = (
    (64, 1),
    *((128, 2), (128, 1)),
    *((256, 2), (256, 1)),
    *((512, 2), *((512, 1),) * 5),
    *((1024, 2), (1024, 1)),
)
# (expansion, channels, repeats, strides of the first): Sandler et al. 2018, table 2.
V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def ds_cnn(input_shape: Shape, num_classes: int, *, width: int = 64) -> keras.Model:
    """DS-CNN (Zhang et al. 2017; MLPerf Tiny) for images: a 3x3 stem in place of 10x4."""
    inputs = keras.Input(input_shape, name="image")
    strides = 1 if min(input_shape[:2]) < TINY_IMAGE else 2
    x = conv_bn(inputs, width, 3, prefix="", number=1, strides=strides)
    x = keras.layers.ReLU(name="relu1")(x)
    for block in range(1, 5):
        x = _separable_block(x, width, 1, f"block{block}_", max_value=None)
    return pooled_classifier(inputs, x, num_classes, "ds_cnn")


def mobilenet_v1(input_shape: Shape, num_classes: int, *, alpha: float = 1.0) -> keras.Model:
    """Howard et al. 2017; the stem has stride 1 for images smaller than SMALL_IMAGE.

    Args:
        alpha: width multiplier; channels are rounded to multiples of 8.
    """
    inputs = keras.Input(input_shape, name="image")
    x = _stem(inputs, alpha)
    for block, (channels, strides) in enumerate(V1_BLOCKS, start=1):
        filters = _round_to_eight(alpha * channels)
        x = _separable_block(x, filters, strides, f"block{block}_", max_value=6.0)
    return pooled_classifier(inputs, x, num_classes, "mobilenet_v1")


def mobilenet_v2(input_shape: Shape, num_classes: int, *, alpha: float = 1.0) -> keras.Model:
    """Sandler et al. 2018; the stem has stride 1 for images smaller than SMALL_IMAGE.

    Args:
        alpha: width multiplier; channels are rounded to multiples of 8, and the last
            convolution never has fewer than 1280.
    """
    inputs = keras.Input(input_shape, name="image")
    x = _stem(inputs, alpha)
    block = 0
    for expansion, channels, repeats, first_strides in V2_STAGES:
        for repeat in range(repeats):
            block += 1
            x = _inverted_residual(
                x,
                _round_to_eight(alpha * channels),
                expansion=expansion,
                strides=first_strides if repeat == 0 else 1,
                prefix=f"block{block}_",
            )
    x = conv_bn(x, _round_to_eight(max(1.0, alpha) * 1280), 1, prefix="", number=2)
    x = keras.layers.ReLU(6.0, name="relu2")(x)
    return pooled_classifier(inputs, x, num_classes, "mobilenet_v2")


def _round_to_eight(channels: float) -> int:
    """The nearest multiple of 8 that loses at most a tenth (Sandler et al.'s own code)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _stem(inputs: Any, alpha: float) -> Any:
    strides = 1 if min(inputs.shape[1:3]) < SMALL_IMAGE else 2
    x = conv_bn(inputs, _round_to_eight(alpha * 32), 3, prefix="", number=1, strides=strides)
    return keras.layers.ReLU(6.0, name="relu1")(x)


def _separable_block(
    x: Any, filters: int, strides: int, prefix: str, *, max_value: float | None
) -> Any:
    x = depthwise_bn(x, prefix=prefix, number=1, strides=strides)
    x = keras.layers.ReLU(max_value, name=f"{prefix}relu1")(x)
    x = conv_bn(x, filters, 1, prefix=prefix, number=2)
    return keras.layers.ReLU(max_value, name=f"{prefix}relu2")(x)


def _inverted_residual(
    inputs: Any, filters: int, *, expansion: int, strides: int, prefix: str
) -> Any:
    """Expansion, depthwise and a linear projection; the first block has no expansion."""
    x = inputs
    if expansion > 1:
        x = conv_bn(x, expansion * x.shape[-1], 1, prefix=prefix, number=1)
        x = keras.layers.ReLU(6.0, name=f"{prefix}relu1")(x)
    x = depthwise_bn(x, prefix=prefix, number=2, strides=strides)
    x = keras.layers.ReLU(6.0, name=f"{prefix}relu2")(x)
    x = conv_bn(x, filters, 1, prefix=prefix, number=3)
    if strides == 1 and inputs.shape[-1] == filters:
        x = keras.layers.Add(name=f"{prefix}add")([inputs, x])
    return x

"""Residual networks: the CIFAR family and the ImageNet family (He et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_quant.tf import keras
from keras_quant.zoo.layers import SMALL_IMAGE, Shape, conv_bn, pooled_classifier

CIFAR_WIDTHS = (16, 32, 64)  # of the stages of ResNets for small images, section 4.2
EXPANSION = 4  # of a bottleneck block, He et al. 2016, table 1


def cifar_resnet(
    input_shape: Shape, num_classes: int, *, blocks: int, widths: Sequence[int], name: str
) -> keras.Model:
    """ResNets of depth 6 * blocks + 2 for small images (He et al. 2016, section 4.2).

    Shortcuts that change the shape are 1x1 convolutions with batch norm (option B), where
    the paper pads with zeros (option A): padding channels has no integer kernel.

    Args:
        blocks: residual blocks a stage.
        widths: channels of each stage.
    """
    inputs = keras.Input(input_shape, name="image")
    x = stem(inputs, widths[0], kernel_size=3, strides=1)
    for stage, width in enumerate(widths, start=1):
        for block in range(1, blocks + 1):
            strides = 2 if block == 1 and stage > 1 else 1
            x = basic_block(x, width, strides, f"stage{stage}_block{block}_")
    return pooled_classifier(inputs, x, num_classes, name)


def imagenet_resnet(
    input_shape: Shape, num_classes: int, *, blocks: Sequence[int], bottleneck: bool, name: str
) -> keras.Model:
    """ResNet-18, 34, 50, 101 (He et al. 2016, table 1); stride 2 in the 3x3 of a bottleneck.

    Images smaller than SMALL_IMAGE get a 3x3 stride-1 stem without pooling.

    Args:
        blocks: residual blocks of each stage.
        bottleneck: 1x1, 3x3, 1x1 blocks in place of two 3x3.
    """
    inputs = keras.Input(input_shape, name="image")
    if min(input_shape[:2]) < SMALL_IMAGE:
        x = stem(inputs, 64, kernel_size=3, strides=1)
    else:
        x = stem(inputs, 64, kernel_size=7, strides=2)
        x = keras.layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)
    residual_block = _bottleneck_block if bottleneck else basic_block
    for stage, count in enumerate(blocks, start=1):
        for block in range(1, count + 1):
            strides = 2 if block == 1 and stage > 1 else 1
            x = residual_block(x, 32 * 2**stage, strides, f"stage{stage}_block{block}_")
    return pooled_classifier(inputs, x, num_classes, name)


def stem(inputs: Any, filters: int, *, kernel_size: int, strides: int) -> Any:
    """The first convolution."""
    x = conv_bn(inputs, filters, kernel_size, prefix="", number=1, strides=strides)
    return keras.layers.ReLU(name="relu1")(x)


def basic_block(x: Any, filters: int, strides: int, prefix: str, *, on: Any = None) -> Any:
    """Two 3x3 convolutions beside a shortcut; on: what their sum is multiplied by, if anything."""
    shortcut = _shortcut(x, filters, strides, prefix)
    x = conv_bn(x, filters, 3, prefix=prefix, number=1, strides=strides)
    x = keras.layers.ReLU(name=f"{prefix}relu1")(x)
    x = conv_bn(x, filters, 3, prefix=prefix, number=2)
    if on is not None:
        x = keras.layers.Multiply(name=f"{prefix}masked")([x, on])
    x = keras.layers.Add(name=f"{prefix}add")([x, shortcut])
    return keras.layers.ReLU(name=f"{prefix}relu2")(x)


def _bottleneck_block(x: Any, filters: int, strides: int, prefix: str) -> Any:
    shortcut = _shortcut(x, EXPANSION * filters, strides, prefix)
    x = conv_bn(x, filters, 1, prefix=prefix, number=1)
    x = keras.layers.ReLU(name=f"{prefix}relu1")(x)
    x = conv_bn(x, filters, 3, prefix=prefix, number=2, strides=strides)
    x = keras.layers.ReLU(name=f"{prefix}relu2")(x)
    x = conv_bn(x, EXPANSION * filters, 1, prefix=prefix, number=3)
    x = keras.layers.Add(name=f"{prefix}add")([x, shortcut])
    return keras.layers.ReLU(name=f"{prefix}relu3")(x)


def _shortcut(x: Any, filters: int, strides: int, prefix: str) -> Any:
    """The identity, or a projection where the block changes the shape."""
    if strides == 1 and x.shape[-1] == filters:
        return x
    return conv_bn(x, filters, 1, prefix=f"{prefix}shortcut_", number="", strides=strides)

"""Networks that concatenate channels: SqueezeNet and DenseNet, as torchvision defines them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_quant.tf import keras
from keras_quant.zoo.layers import (
    INITIALIZER,
    SMALL_IMAGE,
    Shape,
    add_batch_norm,
    conv,
    pooled_classifier,
)

DROPOUT = 0.5

# (squeezed, expanded) channels of each Fire module, None for a pooling: version 1.1 of the paper's
# authors, https://github.com/forresti/SqueezeNet/tree/master/SqueezeNet_v1.1
SQUEEZENET_1_1 = (
    *((16, 64), (16, 64), None),
    *((32, 128), (32, 128), None),
    *((48, 192), (48, 192), (64, 256), (64, 256)),
)

BOTTLENECK = 4  # 1x1 filters for each channel that a layer adds: Huang et al. 2017, section 3


def squeezenet(input_shape: Shape, num_classes: int) -> keras.Model:
    """SqueezeNet 1.1 (Iandola et al. 2016); the head is a 1x1 convolution that is averaged."""
    inputs = keras.Input(input_shape, name="image")
    x = keras.layers.Conv2D(
        64, 3, strides=2, padding="valid", kernel_initializer=INITIALIZER, name="conv1"
    )(inputs)
    x = keras.layers.ReLU(name="relu1")(x)
    x = keras.layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    fires = pools = 1
    for module in SQUEEZENET_1_1:
        if module is None:
            pools += 1
            x = keras.layers.MaxPooling2D(3, strides=2, name=f"pool{pools}")(x)
        else:
            fires += 1
            x = _fire(x, *module, prefix=f"fire{fires}_")
    x = keras.layers.Dropout(DROPOUT, name="dropout")(x)
    x = conv(x, num_classes, 1, name="logits", use_bias=True)
    x = keras.layers.ReLU(name="head_relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    return keras.Model(inputs, x, name="squeezenet1_1")


def densenet(
    input_shape: Shape, num_classes: int, *, blocks: Sequence[int], growth: int, name: str
) -> keras.Model:
    """DenseNet-BC (Huang et al. 2017, table 1); half of the channels go on between blocks.

    Images smaller than SMALL_IMAGE get a 3x3 stride-1 stem without pooling.

    Args:
        blocks: layers of each block.
        growth: channels that each layer adds.
    """
    inputs = keras.Input(input_shape, name="image")
    small = min(input_shape[:2]) < SMALL_IMAGE
    x = conv(inputs, 2 * growth, 3 if small else 7, name="conv1", strides=1 if small else 2)
    x = _norm_relu(x, "", 1)
    if not small:
        x = keras.layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)
    for block, count in enumerate(blocks, start=1):
        for layer in range(1, count + 1):
            x = _dense_layer(x, growth, prefix=f"block{block}_layer{layer}_")
        if block < len(blocks):
            x = _transition(x, prefix=f"transition{block}_")
    return pooled_classifier(inputs, _norm_relu(x, "", 2), num_classes, name)


def _fire(x: Any, squeezed: int, expanded: int, *, prefix: str) -> Any:
    """A 1x1 convolution, read by a 1x1 and a 3x3 one whose channels are concatenated."""
    x = _conv_relu(x, squeezed, 1, f"{prefix}squeeze")
    sides = [_conv_relu(x, expanded, size, f"{prefix}expand{size}") for size in (1, 3)]
    return keras.layers.Concatenate(name=f"{prefix}concat")(sides)


def _conv_relu(x: Any, filters: int, size: int, name: str) -> Any:
    x = conv(x, filters, size, name=name, use_bias=True)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _dense_layer(x: Any, growth: int, *, prefix: str) -> Any:
    """What it computes is concatenated to what it reads."""
    new = _norm_relu(x, prefix, 1)
    new = conv(new, BOTTLENECK * growth, 1, name=f"{prefix}conv1")
    new = _norm_relu(new, prefix, 2)
    new = conv(new, growth, 3, name=f"{prefix}conv2")
    return keras.layers.Concatenate(name=f"{prefix}concat")([x, new])


def _transition(x: Any, *, prefix: str) -> Any:
    x = _norm_relu(x, prefix, 1)
    x = conv(x, x.shape[-1] // 2, 1, name=f"{prefix}conv")
    return keras.layers.AveragePooling2D(name=f"{prefix}pool")(x)


def _norm_relu(x: Any, prefix: str, number: int) -> Any:
    x = add_batch_norm(x, name=f"{prefix}bn{number}")
    return keras.layers.ReLU(name=f"{prefix}relu{number}")(x)

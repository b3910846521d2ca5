"""The layer groups that the zoo is made of, with the names that schemes match."""

from __future__ import annotations

from typing import Any

from keras_quant.tf import keras

Shape = tuple[int, int, int]  # (height, width, channels)

SMALL_IMAGE = 64  # below, the strided stems made for ImageNet would leave too few pixels
INITIALIZER = "he_normal"  # He et al. 2015: keeps the variance through ReLU layers
# Keras' default of 0.99 averages over more batches than a short training has.
BN_MOMENTUM = 0.9


def conv(
    x: Any, filters: int, kernel_size: int, *, name: str, strides: int = 1, use_bias: bool = False
) -> Any:
    """A convolution with padding "same"; without a bias where batch norm follows."""
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=use_bias,
        kernel_initializer=INITIALIZER,
        name=name,
    )(x)


def conv_bn(
    x: Any, filters: int, kernel_size: int, *, prefix: str, number: int | str, strides: int = 1
) -> Any:
    """Convolution and batch norm, named {prefix}conv{number} and {prefix}bn{number}."""
    x = conv(x, filters, kernel_size, name=f"{prefix}conv{number}", strides=strides)
    return add_batch_norm(x, name=f"{prefix}bn{number}")


def depthwise_bn(x: Any, *, prefix: str, number: int, strides: int = 1) -> Any:
    """3x3 depthwise convolution {prefix}dwconv{number} and batch norm {prefix}bn{number}."""
    x = keras.layers.DepthwiseConv2D(
        3,
        strides=strides,
        padding="same",
        use_bias=False,
        # He et al. 2015 with the true fan-in of 3 * 3; Keras multiplies it by all channels.
        depthwise_initializer=keras.initializers.RandomNormal(stddev=(2 / 9) ** 0.5),
        name=f"{prefix}dwconv{number}",
    )(x)
    return add_batch_norm(x, name=f"{prefix}bn{number}")


def add_batch_norm(x: Any, *, name: str) -> Any:
    """Batch norm with the momentum of the zoo."""
    return keras.layers.BatchNormalization(momentum=BN_MOMENTUM, name=name)(x)


def logits(x: Any, num_classes: int, *, name: str = "logits") -> Any:
    """The classifier head: one real a class, no softmax."""
    return keras.layers.Dense(num_classes, name=name)(x)


def pooled_classifier(inputs: Any, x: Any, num_classes: int, name: str) -> keras.Model:
    """Ends a network with global average pooling and the head."""
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, logits(x, num_classes), name=name)

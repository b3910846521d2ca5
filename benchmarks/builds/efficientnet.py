"""EfficientNet-Lite0, of 21,008 channels, with batch norms that hold the statistics of images."""

from __future__ import annotations

import numpy as np

from keras_quant.tf import keras

# Repeats, kernel, stride of the first, expansion and filters of each stage: Tan and Le,
# "EfficientNet" (2019), table 1; Lite has no squeeze-and-excitation, and ReLU6 for swish.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280


def efficientnet_lite0(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds the network, with random weights."""
    inputs = keras.Input(input_shape, name="image")
    x = _relu6(_conv(inputs, STEM, 3, 2, "stem"), "stem")
    number = 0
    for repeats, kernel, stride, expansion, filters in STAGES:
        for place in range(repeats):
            number += 1
            strides = stride if place == 0 else 1
            x = _block(x, f"block{number}", kernel, strides, expansion, filters)
    x = _relu6(_conv(x, HEAD, 1, 1, "head"), "head")
    x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    outputs = keras.layers.Dense(num_classes, name="logits")(x)
    return keras.Model(inputs, outputs, name="efficientnet_lite0")


def measure_norms(model: keras.Model, reals: np.ndarray) -> None:
    """Gives batch norms the statistics that their inputs have, as training does.

    Args:
        reals: float32 (images, height, width, channels), as the model takes them.
    """
    norms = [n for n in model.layers if isinstance(n, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(reals, training=True)


def _block(
    x: keras.KerasTensor, name: str, kernel: int, strides: int, expansion: int, filters: int
) -> keras.KerasTensor:
    """An inverted residual: expansion, depthwise convolution, projection."""
    source, channels = x, x.shape[-1]
    if expansion > 1:
        x = _relu6(_conv(x, channels * expansion, 1, 1, f"{name}_expand"), f"{name}_expand")
    x = keras.layers.DepthwiseConv2D(
        kernel, strides=strides, padding="same", use_bias=False, name=f"{name}_depthwise"
    )(x)
    x = keras.layers.BatchNormalization(name=f"{name}_depthwise_norm")(x)
    x = _conv(_relu6(x, f"{name}_depthwise"), filters, 1, 1, f"{name}_project")
    if strides == 1 and channels == filters:
        x = keras.layers.Add(name=f"{name}_add")([source, x])
    return x


def _conv(
    x: keras.KerasTensor, filters: int, kernel: int, strides: int, name: str
) -> keras.KerasTensor:
    x = keras.layers.Conv2D(
        filters, kernel, strides=strides, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    return keras.layers.BatchNormalization(name=f"{name}_norm")(x)


def _relu6(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x)

"""Networks with layers that only pad, as others write them; their weights are random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_quant.tf import keras

Shape = tuple[int, int, int]


def torch_resnet56(input_shape: Shape, num_classes: int) -> keras.Model:
    """The ResNet-56 of the zoo as it comes from PyTorch, which pads both sides alike.

    A ZeroPadding2D stands in front of each of its 55 convolutions of 3x3, whose padding is "valid".
    """
    inputs = keras.Input(input_shape, name="image")
    x = keras.layers.ReLU()(_conv_bn(inputs, 16))
    for filters in (16, 32, 64):
        for block in range(9):
            x = _block(x, filters, strides=2 if block == 0 and filters > 16 else 1)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(num_classes, name="logits")(x))


def keras_mobilenet_v2(input_shape: Shape, num_classes: int) -> keras.Model:
    """MobileNetV2 of keras.applications: pads in front of its strided convolutions."""
    return _application(keras.applications.MobileNetV2, input_shape, num_classes)


def keras_resnet50(input_shape: Shape, num_classes: int) -> keras.Model:
    """ResNet50 of keras.applications: pads in front of the first convolution and the pooling."""
    return _application(keras.applications.ResNet50, input_shape, num_classes)


PADDED_NETS: Mapping[str, Callable[[Shape, int], keras.Model]] = {
    function.__name__: function for function in (torch_resnet56, keras_mobilenet_v2, keras_resnet50)
}
"""Builders by name; each takes an input shape and a number of classes."""


def _application(function: Any, input_shape: Shape, num_classes: int) -> keras.Model:
    model = function(
        weights=None, input_shape=input_shape, classes=num_classes, classifier_activation=None
    )
    _initialize(model)
    inputs = keras.Input(input_shape, name="image")
    return keras.Model(inputs, model(inputs), name=model.name)


def _initialize(model: keras.Model) -> None:
    """Random kernels that keep the variance (He et al. 2015), which Keras' own make vanish."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        kernel = getattr(layer, "depthwise_kernel", getattr(layer, "kernel", None))
        if kernel is not None:
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            taken = np.prod(kernel.shape[:2] if depthwise else kernel.shape[:-1])
            kernel.assign(rng.normal(0, np.sqrt(2 / taken), kernel.shape))


def _block(x: Any, filters: int, *, strides: int) -> Any:
    shortcut = x
    if strides > 1:
        shortcut = keras.layers.Conv2D(filters, 1, strides=strides, use_bias=False)(x)
        shortcut = keras.layers.BatchNormalization()(shortcut)
    x = keras.layers.ReLU()(_conv_bn(x, filters, strides=strides))
    x = keras.layers.Add()([_conv_bn(x, filters), shortcut])
    return keras.layers.ReLU()(x)


def _conv_bn(x: Any, filters: int, *, strides: int = 1) -> Any:
    x = keras.layers.ZeroPadding2D(1)(x)
    x = keras.layers.Conv2D(filters, 3, strides=strides, use_bias=False)(x)
    return keras.layers.BatchNormalization()(x)

"""Networks without branches: mlp, lenet5, cnn."""

from __future__ import annotations

from typing import Any

from keras_quant.tf import keras
from keras_quant.zoo.layers import INITIALIZER, Shape, add_batch_norm, conv, conv_bn, logits


def mlp(input_shape: Shape, num_classes: int, *, units: int = 128) -> keras.Model:
    """Two hidden layers of equal width with batch norm."""
    inputs = keras.Input(input_shape, name="image")
    x = keras.layers.Flatten(name="flatten")(inputs)
    for number in (1, 2):
        x = keras.layers.Dense(
            units, use_bias=False, kernel_initializer=INITIALIZER, name=f"dense{number}"
        )(x)
        x = add_batch_norm(x, name=f"bn{number}")
        x = keras.layers.ReLU(name=f"relu{number}")(x)
    return keras.Model(inputs, logits(x, num_classes), name="mlp")


def lenet5(input_shape: Shape, num_classes: int) -> keras.Model:
    """LeCun et al. 1998, with ReLU and max-pooling as is usual today."""
    inputs = keras.Input(input_shape, name="image")
    x = inputs
    for number, filters in enumerate((6, 16), start=1):
        x = conv(x, filters, 5, name=f"conv{number}", use_bias=True)
        x = keras.layers.ReLU(name=f"relu{number}")(x)
        x = keras.layers.MaxPooling2D(name=f"pool{number}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for number, units in enumerate((120, 84), start=3):
        x = keras.layers.Dense(units, kernel_initializer=INITIALIZER, name=f"dense{number}")(x)
        x = keras.layers.ReLU(name=f"relu{number}")(x)
    return keras.Model(inputs, logits(x, num_classes), name="lenet5")


def cnn(
    input_shape: Shape, num_classes: int, *, batch_norm: bool = True, dropout: float = 0.25
) -> keras.Model:
    """VGG-like (Simonyan and Zisserman 2015): two pairs of 3x3 convolutions, one hidden layer."""
    inputs = keras.Input(input_shape, name="image")
    x = inputs
    for number, filters in enumerate((32, 32, 64, 64), start=1):
        x = _conv_relu(x, filters, number, batch_norm)
        if number % 2 == 0:
            x = keras.layers.MaxPooling2D(name=f"pool{number // 2}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dropout(dropout, name="dropout1")(x)
    x = keras.layers.Dense(
        128, use_bias=not batch_norm, kernel_initializer=INITIALIZER, name="dense5"
    )(x)
    if batch_norm:
        x = add_batch_norm(x, name="bn5")
    x = keras.layers.ReLU(name="relu5")(x)
    x = keras.layers.Dropout(dropout, name="dropout2")(x)
    name = "cnn" if batch_norm else "cnn_nobn"
    return keras.Model(inputs, logits(x, num_classes), name=name)


def _conv_relu(x: Any, filters: int, number: int, batch_norm: bool) -> Any:
    if batch_norm:
        x = conv_bn(x, filters, 3, prefix="", number=number)
    else:
        x = conv(x, filters, 3, name=f"conv{number}", use_bias=True)
    return keras.layers.ReLU(name=f"relu{number}")(x)

"""Networks of convolutions and large dense layers: AlexNet and VGG, as torchvision defines them.

Both end with a flattened map of features, which torchvision first averages to 6x6 or 7x7: at
224x224 that changes nothing, and at other sizes ours has another number of weights there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_quant.tf import keras
from keras_quant.zoo.layers import INITIALIZER, Shape, conv, logits

HIDDEN_UNITS = 4096
DROPOUT = 0.5

# Convolutions of each of the five stages, all 3x3: Simonyan and Zisserman 2015, table 1.
STAGE_WIDTHS = (64, 128, 256, 512, 512)


def vgg(
    input_shape: Shape, num_classes: int, *, convolutions: Sequence[int], name: str
) -> keras.Model:
    """VGG without batch norm (Simonyan and Zisserman 2015, table 1: A is 11, D 16, E 19).

    Args:
        convolutions: of each stage.
    """
    inputs = keras.Input(input_shape, name="image")
    x, number = inputs, 0
    for stage, (count, width) in enumerate(zip(convolutions, STAGE_WIDTHS, strict=True), start=1):
        for _ in range(count):
            number += 1
            x = conv(x, width, 3, name=f"conv{number}", use_bias=True)
            x = keras.layers.ReLU(name=f"relu{number}")(x)
        x = keras.layers.MaxPooling2D(name=f"pool{stage}")(x)
    return _classified(inputs, x, num_classes, number, dropout_first=False, name=name)


def alexnet(input_shape: Shape, num_classes: int) -> keras.Model:
    """AlexNet of Krizhevsky 2014 ("One weird trick", section 5), with padding as in torchvision."""
    inputs = keras.Input(input_shape, name="image")
    x = keras.layers.ZeroPadding2D(2, name="pad1")(inputs)
    x = keras.layers.Conv2D(
        64, 11, strides=4, padding="valid", kernel_initializer=INITIALIZER, name="conv1"
    )(x)
    x = keras.layers.ReLU(name="relu1")(x)
    x = keras.layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    x = conv(x, 192, 5, name="conv2", use_bias=True)
    x = keras.layers.ReLU(name="relu2")(x)
    x = keras.layers.MaxPooling2D(3, strides=2, name="pool2")(x)
    for number, filters in enumerate((384, 256, 256), start=3):
        x = conv(x, filters, 3, name=f"conv{number}", use_bias=True)
        x = keras.layers.ReLU(name=f"relu{number}")(x)
    x = keras.layers.MaxPooling2D(3, strides=2, name="pool3")(x)
    return _classified(inputs, x, num_classes, 5, dropout_first=True, name="alexnet")


def _classified(
    inputs: Any, x: Any, num_classes: int, number: int, *, dropout_first: bool, name: str
) -> keras.Model:
    """Two hidden layers and the head; dropout comes before them in AlexNet, behind in VGG."""
    x = keras.layers.Flatten(name="flatten")(x)
    for layer in (number + 1, number + 2):
        if dropout_first:
            x = keras.layers.Dropout(DROPOUT, name=f"dropout{layer}")(x)
        x = keras.layers.Dense(HIDDEN_UNITS, kernel_initializer=INITIALIZER, name=f"dense{layer}")(
            x
        )
        x = keras.layers.ReLU(name=f"relu{layer}")(x)
        if not dropout_first:
            x = keras.layers.Dropout(DROPOUT, name=f"dropout{layer}")(x)
    return keras.Model(inputs, logits(x, num_classes), name=name)

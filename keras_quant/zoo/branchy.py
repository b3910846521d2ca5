"""BranchyNet's networks with early exits: B-LeNet, B-AlexNet, B-ResNet.

Teerapittayanon et al. 2016, "BranchyNet: Fast Inference via Early Exiting from Deep Neural
Networks", with the layers of the authors' code (kunglab/branchynet). Where we differ: padding is
"same", max-pooling never reaches over the edge, and in place of local response normalization, which
has no integer kernel, B-AlexNet has batch norm.
"""

from __future__ import annotations

from typing import Any

from keras_quant.tf import keras
from keras_quant.zoo.exits import add_exits
from keras_quant.zoo.layers import INITIALIZER, Shape, conv, conv_bn, logits
from keras_quant.zoo.resnet import CIFAR_WIDTHS, cifar_resnet


def b_lenet(input_shape: Shape, num_classes: int, *, exits: int = 1) -> keras.Model:
    """LeNet-5 of three convolutions, with an exit behind the first (networks/lenet_mnist.py).

    Args:
        exits: 0 for the same net without it.
    """
    inputs = keras.Input(input_shape, name="image")
    x = _conv_pool(inputs, 5, 5, prefix="", number=1)
    outputs = [_lenet_exit(x, num_classes)] if exits else []
    for number, filters in ((2, 10), (3, 20)):
        x = _conv_pool(x, filters, 5, prefix="", number=number)
    x = keras.layers.Flatten(name="flatten")(x)
    x = _dense_relu(x, 84, number=4)
    return keras.Model(inputs, [*outputs, logits(x, num_classes)], name="b_lenet")


def b_alexnet(
    input_shape: Shape, num_classes: int, *, dropout: float = 0.5, exits: int = 2
) -> keras.Model:
    """AlexNet for small images, with exits behind its second and third convolution.

    networks/alex_cifar10.py, where the exits read what lies in front of the ReLU, and begin with
    one, and normalization, of their own: ours read what lies behind it.

    Args:
        exits: 0 for the same net without them.
    """
    inputs = keras.Input(input_shape, name="image")
    x = _conv_bn_relu(inputs, 32, 5, number=1)
    x = keras.layers.MaxPooling2D(name="pool1")(x)
    x = _conv_bn_relu(x, 64, 5, number=2)
    x = first = keras.layers.MaxPooling2D(name="pool2")(x)
    x = second = _conv_bn_relu(x, 96, 3, number=3)
    for number, filters in ((4, 96), (5, 64)):
        x = _conv_bn_relu(x, filters, 3, number=number)
    x = keras.layers.MaxPooling2D(name="pool5")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for number, units in ((6, 256), (7, 128)):
        x = _dense_relu(x, units, number=number)
        x = keras.layers.Dropout(dropout, name=f"dropout{number}")(x)
    early = [
        logits(_alexnet_exit(source, number, convs=convs), num_classes, name=f"exit{number}_logits")
        for source, number, convs in ((first, 1, 2), (second, 2, 1))[:exits]
    ]
    return keras.Model(inputs, [*early, logits(x, num_classes)], name="b_alexnet")


def b_resnet(
    input_shape: Shape, num_classes: int, *, blocks: int = 18, exits: int = 2
) -> keras.Model:
    """ResNet of depth 6 * blocks + 2, with exits in the first and at the end of the first stage.

    networks/resnet_cifar10.py, whose 18 blocks a stage make a ResNet-110; its exits have two
    convolutions and a residual block, ours are those of `exits.exit_head`.

    Args:
        exits: 0 for the same net without them.
    """
    model = cifar_resnet(
        input_shape, num_classes, blocks=blocks, widths=CIFAR_WIDTHS, name="b_resnet"
    )
    places = dict.fromkeys(f"stage1_block{block}_relu2" for block in (1, blocks)[:exits])
    return add_exits(model, tuple(places)) if places else model


def _lenet_exit(x: Any, num_classes: int) -> Any:
    x = _conv_pool(x, 10, 3, prefix="exit1_", number="")
    x = keras.layers.Flatten(name="exit1_flatten")(x)
    return logits(x, num_classes, name="exit1_logits")


def _conv_pool(x: Any, filters: int, size: int, *, prefix: str, number: int | str) -> Any:
    x = conv(x, filters, size, name=f"{prefix}conv{number}", use_bias=True)
    x = keras.layers.ReLU(name=f"{prefix}relu{number}")(x)
    return keras.layers.MaxPooling2D(name=f"{prefix}pool{number}")(x)


def _conv_bn_relu(x: Any, filters: int, size: int, *, number: int | str, prefix: str = "") -> Any:
    x = conv_bn(x, filters, size, prefix=prefix, number=number)
    return keras.layers.ReLU(name=f"{prefix}relu{number}")(x)


def _alexnet_exit(x: Any, number: int, *, convs: int) -> Any:
    for place in range(1, convs + 1):
        x = _conv_bn_relu(x, 32, 3, prefix=f"exit{number}_", number=place)
    x = keras.layers.MaxPooling2D(name=f"exit{number}_pool")(x)
    return keras.layers.Flatten(name=f"exit{number}_flatten")(x)


def _dense_relu(x: Any, units: int, *, number: int) -> Any:
    x = keras.layers.Dense(units, kernel_initializer=INITIALIZER, name=f"dense{number}")(x)
    return keras.layers.ReLU(name=f"relu{number}")(x)

"""MSDNet: features of several scales at every depth, so that an exit anywhere has coarse ones.

Huang et al. 2018, "Multi-Scale Dense Networks for Resource Efficient Image Classification", with
the layers of kalviny/MSDNet-PyTorch, to which the authors refer. Every layer reads all earlier
features of its scale and of the next finer one, and its own are concatenated to them; exits read
the coarsest scale. Where we differ: an exit's last pooling is a global one, which at 32x32 pixels
is the same, and its width grows with the net's; and what no exit reads is not computed at all
(section 4, "lazy evaluation"), as a model of Keras does not hold it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_quant.tf import keras
from keras_quant.zoo.layers import Shape, conv_bn, logits

BOTTLENECK = (1, 2, 4, 4)  # 1x1 filters of each scale, for each channel that a layer adds there
WIDENING = (1, 2, 4, 4)  # of each scale's channels, grFactor of the authors' code
EXIT_WIDTH = (
    8  # filters of an exit's convolutions for each of the first one's: theirs are 128 and 16
)


def msdnet(
    input_shape: Shape,
    num_classes: int,
    *,
    blocks: int = 4,
    base: int = 2,
    step: int = 1,
    channels: int = 16,
    growth: int = 6,
    scales: int = 3,
) -> keras.Model:
    """MSDNet with an exit behind each of its blocks.

    The finest scale left is dropped after each of as many equal parts as there are scales, and a
    1x1 convolution then halves the channels of the others (section 4, "network reduction").

    Args:
        blocks: exits, of which the last is the model's end.
        base: layers up to the first exit, behind the first convolutions.
        step: layers from one exit to the next.
        channels: of the first convolution, at the finest scale.
        growth: channels that a layer adds at the finest scale.
        scales: each has half as many pixels a side as the one before.
    """
    inputs = keras.Input(input_shape, name="image")
    features = _first_layer(inputs, channels, scales)
    exits = [base + step * number for number in range(blocks)]
    count = exits[-1]
    outputs: list[Any] = []
    part = -(-count // scales)
    for layer in range(1, count + 1):
        finest = (layer - 1) // part
        features = _layer(features, finest, growth, prefix=f"layer{layer}_")
        if layer in exits:
            prefix = "" if layer == count else f"exit{len(outputs) + 1}_"
            width = EXIT_WIDTH * channels
            outputs.append(_exit(features[scales - 1], width, num_classes, prefix=prefix))
    return keras.Model(inputs, outputs, name="msdnet")


def _first_layer(x: Any, channels: int, scales: int) -> dict[int, Any]:
    """Each scale from the one before; by their places, 0 for the finest."""
    features = {}
    for scale in range(scales):
        strides = 2 if scale else 1
        prefix = f"first_scale{scale + 1}_"
        x = _conv_bn_relu(x, channels * WIDENING[scale], 3, prefix=prefix, strides=strides)
        features[scale] = x
    return features


def _layer(features: Mapping[int, Any], finest: int, growth: int, *, prefix: str) -> dict[int, Any]:
    """Adds channels at each scale from `finest` on, of its own features and of the finer one's."""
    found = {}
    for scale in features:
        if scale < finest:
            continue
        own, added, name = features[scale], growth * WIDENING[scale], f"{prefix}scale{scale + 1}_"
        if scale - 1 in features:
            finer, added = features[scale - 1], added // 2
            down = _bottleneck(finer, added, scale - 1, prefix=f"{name}down_", strides=2)
            new = [down, _bottleneck(own, added, scale, prefix=name)]
        else:
            new = [_bottleneck(own, added, scale, prefix=name)]
        x = keras.layers.Concatenate(name=f"{name}concat")([own, *new])
        if min(features) < finest:
            half = x.shape[-1] // WIDENING[scale] // 2 * WIDENING[scale]
            x = _conv_bn_relu(x, half, 1, prefix=f"{name}half_")
        found[scale] = x
    return found


def _bottleneck(x: Any, filters: int, scale: int, *, prefix: str, strides: int = 1) -> Any:
    """A 1x1 convolution of the features of a scale, and a 3x3 one."""
    squeezed = min(x.shape[-1], BOTTLENECK[scale] * filters)
    x = _conv_bn_relu(x, squeezed, 1, prefix=prefix, number=1)
    return _conv_bn_relu(x, filters, 3, prefix=prefix, number=2, strides=strides)


def _exit(x: Any, filters: int, num_classes: int, *, prefix: str) -> Any:
    named = prefix or "end_"
    for number in (1, 2):
        x = _conv_bn_relu(x, filters, 3, prefix=named, number=number, strides=2)
    x = keras.layers.GlobalAveragePooling2D(name=f"{named}pool")(x)
    return logits(x, num_classes, name=f"{prefix}logits")


def _conv_bn_relu(
    x: Any, filters: int, size: int, *, prefix: str, number: int | str = "", strides: int = 1
) -> Any:
    x = conv_bn(x, filters, size, prefix=prefix, number=number, strides=strides)
    return keras.layers.ReLU(name=f"{prefix}relu{number}")(x)

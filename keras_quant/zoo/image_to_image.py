"""Networks that put out an image: U-Net, of plain and of depthwise separable convolutions."""

from __future__ import annotations

from typing import Any

from keras_quant.errors import ModelError
from keras_quant.tf import keras
from keras_quant.zoo.layers import Shape, conv, conv_bn, depthwise_bn

DEPTH = 2  # poolings; Ronneberger et al. 2015 have 4, for images of 572x572


def unet(
    input_shape: Shape, num_classes: int, *, width: int = 16, separable: bool, name: str
) -> keras.Model:
    """U-Net (Ronneberger et al. 2015) that puts out an image of its input's shape.

    As there: two 3x3 convolutions a level, channels that double as pixels halve, and on the way up
    what was there on the way down, concatenated. Otherwise: zeros are padded, batch norms are
    behind convolutions, and an up-convolution is one of 1x1, whose values are repeated (nearest);
    behind the repetition it would give the same.

    Args:
        num_classes: of the data; nothing depends on it.
        width: channels of the first level.
        separable: all 3x3 convolutions but the first are depthwise ones and 1x1 ones, with batch
            norm and ReLU behind both, as in MobileNet (Howard et al. 2017, figure 3).
    Raises:
        ModelError: height or width cannot be halved so often.
    """
    side = 2**DEPTH
    if any(size % side for size in input_shape[:2]):
        raise ModelError(
            f"model {name} needs images whose height and width are multiples of {side}; these are "
            f"{input_shape[0]}x{input_shape[1]}"
        )
    inputs = keras.Input(input_shape, name="image")
    x, skips = inputs, []
    for level in range(DEPTH):
        x = _level(x, width << level, f"down{level + 1}_", separable=separable)
        skips.append(x)
        x = keras.layers.MaxPooling2D(2, name=f"down{level + 1}_pool")(x)
    x = _level(x, width << DEPTH, "middle_", separable=separable)
    for level in reversed(range(DEPTH)):
        prefix = f"up{level + 1}_"
        x = conv_bn(x, width << level, 1, prefix=prefix, number=0)
        x = keras.layers.ReLU(name=f"{prefix}relu0")(x)
        x = keras.layers.UpSampling2D(2, name=f"{prefix}repeat")(x)
        x = keras.layers.Concatenate(name=f"{prefix}concat")([skips[level], x])
        x = _level(x, width << level, prefix, separable=separable)
    return keras.Model(
        inputs, conv(x, input_shape[-1], 1, name="restored", use_bias=True), name=name
    )


def _level(x: Any, filters: int, prefix: str, *, separable: bool) -> Any:
    """Two 3x3 convolutions with batch norm and ReLU."""
    for number in (1, 2):
        is_first = prefix == "down1_" and number == 1
        if separable and not is_first:
            x = depthwise_bn(x, prefix=prefix, number=number)
            x = keras.layers.ReLU(name=f"{prefix}dwrelu{number}")(x)
            x = conv_bn(x, filters, 1, prefix=prefix, number=f"{number}_1x1")
        else:
            x = conv_bn(x, filters, 3, prefix=prefix, number=number)
        x = keras.layers.ReLU(name=f"{prefix}relu{number}")(x)
    return x

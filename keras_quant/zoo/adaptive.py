"""A residual network that computes less where an image is easy: sact_resnet."""

from __future__ import annotations

from typing import Any

from keras_quant.tf import keras
from keras_quant.zoo import halting
from keras_quant.zoo.halting import PonderCost
from keras_quant.zoo.layers import INITIALIZER, Shape, pooled_classifier
from keras_quant.zoo.resnet import CIFAR_WIDTHS, basic_block, stem

FIRST_BIAS = -3.0  # of a halting score's logit: all units run at first; INIT_BIAS of the authors


def sact_resnet(
    input_shape: Shape, num_classes: int, *, blocks: int = 3, tau: float = 0.01
) -> keras.Model:
    """ResNet of depth 6 * blocks + 2 for small images, with spatially adaptive computation time.

    Figurnov et al. 2017, see `halting`; each stage halts by itself. A position that has halted is
    computed all the same, and its change multiplied by 0. Where we differ from the authors' code:
    batch norms stand behind the convolutions of a unit (He et al. 2016), so that they fold, and
    halting scores have none.

    Args:
        blocks: residual units a stage, 2 or more.
        tau: weight of the ponder cost in the loss of a training; 0 is without it.
    """
    inputs = keras.Input(input_shape, name="image")
    x = stem(inputs, CIFAR_WIDTHS[0], kernel_size=3, strides=1)
    for stage, width in enumerate(CIFAR_WIDTHS, start=1):
        x = _stage(x, width, 2 if stage > 1 else 1, blocks, tau=tau, prefix=f"stage{stage}_")
    return pooled_classifier(inputs, x, num_classes, "sact_resnet")


def _stage(x: Any, width: int, strides: int, blocks: int, *, tau: float, prefix: str) -> Any:
    """Units whose states are added up, each times its share of the halting distribution."""
    x = basic_block(x, width, strides, f"{prefix}block1_")
    total = _score(x, f"{prefix}block1_")
    totals, halted = [total], _of(halting.halted_share, total, f"{prefix}block1_halted")
    shares = [_weighted(x, halted, f"{prefix}block1_")]
    for block in range(2, blocks):
        named = f"{prefix}block{block}_"
        x = basic_block(x, width, 1, named, on=_of(halting.is_on, total, f"{named}on"))
        before = _of(halting.less_halted_share, total, f"{named}less")
        total = keras.layers.Add(name=f"{named}total")([halted, _score(x, named)])
        halted = _of(halting.halted_share, total, f"{named}halted")
        halts = keras.layers.Add(name=f"{named}difference")([halted, before])
        # No difference is negative: what rounds it needs no sign.
        halts = keras.layers.ReLU(name=f"{named}halts")(halts)
        totals.append(total)
        shares.append(_weighted(x, halts, named))
    named = f"{prefix}block{blocks}_"
    x = basic_block(x, width, 1, named, on=_of(halting.is_on, total, f"{named}on"))
    shares.append(_weighted(x, _of(halting.share_left, total, f"{named}halts"), named))
    x = keras.layers.Add(name=f"{prefix}states")(shares)
    return PonderCost(tau, name=f"{prefix}ponder")([x, *totals])


def _weighted(state: Any, share: Any, prefix: str) -> Any:
    return keras.layers.Multiply(name=f"{prefix}state")([state, share])


def _score(x: Any, prefix: str) -> Any:
    """A halting score: of each position's surroundings, and of the whole image."""
    around = keras.layers.Conv2D(
        1,
        3,
        padding="same",
        kernel_initializer=INITIALIZER,
        bias_initializer=keras.initializers.Constant(FIRST_BIAS),
        name=f"{prefix}score_conv",
    )(x)
    whole = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{prefix}score_pool")(x)
    whole = keras.layers.Conv2D(1, 1, name=f"{prefix}score_whole")(whole)
    logit = keras.layers.Add(name=f"{prefix}score_add")([around, whole])
    return keras.layers.Activation("sigmoid", name=f"{prefix}score")(logit)


def _of(function: Any, total: Any, name: str) -> Any:
    return keras.layers.Activation(function, name=name)(total)

"""Early exits: classifiers that hang on layers inside a model, and answer before its end.

BranchyNet (Teerapittayanon et al. 2016, section III): a net with an answer at several depths, whose
losses are added up; an image that an early answer is sure of needs no more of the net.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_quant.errors import UsageError, close_names
from keras_quant.tf import keras
from keras_quant.zoo.layers import conv, logits

MOST_FILTERS = 32  # of an exit's convolution: BranchyNet's have 10 (B-LeNet) to 32 (B-AlexNet)
SIDE = 4  # pixels that an exit's dense layer reads a channel, at most so many a side

# Behind these, values are rounded to codes already; an exit behind others would add a rounding
# between a convolution and its batch norm, which then could not be folded.
_READABLE = (
    *("ReLU", "Activation", "LeakyReLU", "PReLU", "ELU"),
    *("MaxPooling2D", "AveragePooling2D", "Add", "Concatenate"),
)


def possible_exits(model: keras.Model) -> tuple[str, ...]:
    """Names of the layers that an exit can hang on, in the order of their depth."""
    return tuple(layer.name for layer in model.layers if _is_readable(layer))


def add_exits(model: keras.Model, names: Sequence[str]) -> keras.Model:
    """Hangs an exit on each layer named.

    Args:
        model: functional, with one output, (batch, classes) logits.
        names: of `possible_exits`.
    Returns: a model of the same layers, whose outputs are the exits, in the order of their depth,
        and at the end the model's own; exit N's layers are called exitN_*, its output exitN_logits.
    Raises:
        UsageError: a layer is not there or takes no exit, is named twice, or the model has several
            outputs already.
    """
    _check(model, names)
    depth = {layer.name: place for place, layer in enumerate(model.layers)}
    classes = model.output_shape[-1]
    ordered = sorted(names, key=depth.__getitem__)
    exits = [
        exit_head(model.get_layer(name).output, classes, prefix=f"exit{number}_")
        for number, name in enumerate(ordered, start=1)
    ]
    return keras.Model(model.inputs, [*exits, *model.outputs], name=model.name)


def exit_head(x: Any, classes: int, *, prefix: str, filters: int | None = None) -> Any:
    """An exit: a dense layer, and of images a convolution, ReLU and pooling in front of it.

    The 3x3 convolution has strides of 2 where there are more than SIDE pixels a side, and gives as
    many channels as it takes, MOST_FILTERS at most; max-pooling leaves up to SIDE pixels a side.

    Args:
        x: (batch, features), or (batch, height, width, channels).
        filters: of the convolution; None for as above.
    Returns: (batch, classes) logits, of a layer called {prefix}logits.
    """
    if len(x.shape) == 4:
        strides = 2 if min(x.shape[1:3]) > SIDE else 1
        filters = filters or min(x.shape[-1], MOST_FILTERS)
        x = conv(x, filters, 3, name=f"{prefix}conv", strides=strides, use_bias=True)
        x = keras.layers.ReLU(name=f"{prefix}relu")(x)
        pool = tuple(-(-side // SIDE) for side in x.shape[1:3])
        if pool != (1, 1):
            x = keras.layers.MaxPooling2D(pool, name=f"{prefix}pool")(x)
        x = keras.layers.Flatten(name=f"{prefix}flatten")(x)
    return logits(x, classes, name=f"{prefix}logits")


def _is_readable(layer: keras.layers.Layer) -> bool:
    if type(layer).__name__ not in _READABLE or len(layer.inbound_nodes) != 1:
        return False
    return len(layer.output.shape) in (2, 4)


def _check(model: keras.Model, names: Sequence[str]) -> None:
    if len(model.outputs) != 1:
        raise UsageError(
            f"--exits is for models with one output; {model.name} has {len(model.outputs)} "
            f"already: {', '.join(model.output_names)}"
        )
    known, possible = [layer.name for layer in model.layers], possible_exits(model)
    problems = [f"{name} is named twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    for name in dict.fromkeys(names):
        if name not in known:
            problems.append(f"model {model.name} has no layer {name!r}{close_names(name, known)}")
        elif name not in possible:
            kind = type(model.get_layer(name)).__name__
            problems.append(f"{name} is a {kind}: an exit reads what is rounded to codes anyhow")
    if problems:
        raise UsageError(
            f"--exits: {'; '.join(problems)}. Exits are possible at: {', '.join(possible)}"
        )

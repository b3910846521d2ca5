"""The nets within a net: of each layer the first channels.

Yu et al., "Slimmable Neural Networks" (ICLR 2019): sub-nets of a share of all channels, which are
the first ones, compute with the first part of each kernel, and have batch norms of their own. Of a
convolution in groups, whole groups are kept, as many of them as the share says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_quant.errors import UsageError
from keras_quant.model.topology import Call, layers_by_name, list_calls, variables_by_name
from keras_quant.tf import keras

_CHANNELS = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv2DTranspose"), "filters"),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), "filters"),
    "Dense": "units",
}
# What mixes channels with positions, or with those of other values, so that the first ones of what
# it puts out are not made of the first ones of what it reads.
_MIXING = ("Flatten", "Reshape", "Permute", "Concatenate")
_UNLIKE = (
    "the first channels of its layers do not go together. Give shares of which all layers have "
    "whole channels and, in groups, whole groups"
)
_Layers = Mapping[str, keras.layers.Layer]


def narrow_net(model: keras.Model, share: float) -> keras.Model:
    """Makes a net of the first channels of each layer, with the first part of its weights.

    Args:
        model: a functional float model of one output, whose last layer keeps its channels.
        share: of the channels, 0 to 1; of n of them max(1, round(n * share)) are kept.
    Returns: a model whose layers have the same names; at share 1 all is as it was.
    Raises:
        UsageError: layers for which that means nothing, all of them; or a share that leaves layers
            of unequal numbers of channels, or parts of groups.
    """
    calls = list_calls(model)
    kept = _ends(calls)
    _check(calls, kept)
    try:
        narrow = keras.models.clone_model(
            model, clone_function=lambda layer: _clone(layer, 1.0 if layer.name in kept else share)
        )
    except ValueError as error:  # of Keras, where shapes do not go together
        raise UsageError(f"--slim {share:g}: {_UNLIKE} ({str(error).splitlines()[0]})") from error
    given = layers_by_name(model)
    if split := _split_groups(given, layers_by_name(narrow)):
        raise UsageError(f"--slim {share:g}: {_UNLIKE}: groups of {', '.join(split)} are split")
    for name, layer in layers_by_name(narrow).items():
        whole = variables_by_name(given[name])
        for key, variable in variables_by_name(layer).items():
            variable.assign(whole[key][first_part(variable.shape)])
    return narrow


def _split_groups(given: _Layers, narrow: _Layers) -> list[str]:
    """Names of the layers whose groups no longer read the channels that they read in the whole."""
    return [
        name
        for name, layer in given.items()
        if getattr(layer, "groups", 1) > 1
        and narrow[name].kernel.shape[-2] != layer.kernel.shape[-2]
    ]


def first_part(shape: Any) -> tuple[slice, ...]:
    """What picks the first values along each axis, so many that they have a shape."""
    return tuple(slice(0, size) for size in shape)


def _clone(layer: keras.layers.Layer, share: float) -> keras.layers.Layer:
    config = layer.get_config()
    if share < 1 and type(layer).__name__ in _CHANNELS:
        name = _CHANNELS[type(layer).__name__]
        config[name] = max(1, round(config[name] * share))
        groups = config.get("groups", 1)
        if groups > 1:
            config["groups"] = max(1, round(groups * share))
            config[name] = layer.filters // groups * config["groups"]
    return type(layer).from_config(config)


def _ends(calls: list[Call]) -> set[str]:
    """Names of the layers whose channels the model puts out."""
    by_name = {call.name: call for call in calls}
    waiting, found = [call.name for call in calls if call.outputs], set()
    while waiting:
        call = by_name[waiting.pop()]
        if type(call.layer).__name__ in _CHANNELS:
            found.add(call.layer_name)
        else:
            waiting += call.inputs
    return found


def _check(calls: list[Call], kept: set[str]) -> None:
    """Raises: UsageError."""
    narrowed: set[str] = set()
    problems = []
    for call in calls:
        kind, reads = type(call.layer).__name__, narrowed & set(call.inputs)
        if kind in _CHANNELS:
            if call.layer_name not in kept:
                narrowed.add(call.name)
            continue
        if reads:
            narrowed.add(call.name)
            if kind in _MIXING and not _is_vector(call):
                problems.append(f"{call.name} ({kind})")
    if problems:
        raise UsageError(
            f"--slim keeps the first channels of each layer, and {', '.join(problems)} would mix "
            "those with others; give a net that ends in a global pooling, such as resnet8"
        )


def _is_vector(call: Call) -> bool:
    """Whether it reads vectors, or single pixels, so that what it does leaves channels in order."""
    sizes = [size for shape in call.input_shapes for size in shape[:-1]]
    return type(call.layer).__name__ == "Flatten" and all(size == 1 for size in sizes)

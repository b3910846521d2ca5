"""Models of inputs whose size is known: what is lowered has the shape of each tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras_quant.errors import ModelError
from keras_quant.tf import keras


def with_input_shape(model: keras.Model, shape: Sequence[int]) -> keras.Model:
    """Gives a model that takes inputs of one size, with the same layers and weights.

    A functional model of inputs of any size is called on one of the given size; a Sequential
    model that was not built is built; of a subclassed model, `call` is followed once, which finds
    its layers where it calls nothing else.

    Args:
        model: of one input.
        shape: of the input, without the batch axis.
    Returns: the model itself where its input has that shape.
    Raises:
        ModelError: it takes other inputs, or its `call` cannot be followed.
    """
    shape = tuple(shape)
    if isinstance(model, keras.Sequential) and not getattr(model, "inputs", None):
        _attempt(model, lambda: model.build((None, *shape)))
        return model
    if not getattr(model, "_is_graph_network", False):
        given = keras.Input(shape)
        answer = _attempt(model, lambda: model.call(given))
        return _attempt(model, lambda: keras.Model(given, answer, name=model.name))
    if len(model.inputs) != 1 or model.input_shape[1:] == shape:
        return model
    wanted = model.input_shape[1:]
    fits = len(wanted) == len(shape) and all(
        have in (None, need) for have, need in zip(wanted, shape, strict=True)
    )
    if not fits:
        raise ModelError(f"model {model.name} takes {wanted}; inputs of {shape} do not fit it")
    given = keras.Input(shape, name=model.input_names[0])
    return _attempt(model, lambda: keras.Model(given, model(given), name=model.name))


def image_size(model: keras.Model) -> tuple[int, int] | None:
    """The (height, width) of the images that a model takes; None where it takes any, or none."""
    shape = getattr(model, "input_shape", None)  # those of several inputs come as a list
    if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[1:3]:
        return None
    return shape[1], shape[2]


def _attempt(model: keras.Model, build: Callable[[], Any]) -> Any:
    """Runs what runs a user's code, or Keras on sizes that it was not written for."""
    try:
        return build()
    except Exception as error:
        text = " ".join(str(error).split())
        raise ModelError(
            f"model {model.name} cannot be built as a functional one: {type(error).__name__}: "
            f"{text[:300]}. Build it as keras.Model(inputs, outputs) of layers"
        ) from error

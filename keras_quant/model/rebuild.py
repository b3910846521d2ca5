"""A functional model once more: of inputs of another size, or with other layers in some places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_quant.errors import ModelError
from keras_quant.tf import keras, tf


def rebuild(
    model: keras.Model,
    *,
    input_shape: Sequence[int] | None = None,
    instead: Mapping[str, keras.layers.Layer] | None = None,
) -> keras.Model:
    """Calls a model's layers again, in their order; they are shared, and so are their weights.

    Args:
        model: functional or sequential, of one input; models inside it are opened.
        input_shape: without the batch axis; None means the model's own.
        instead: by their names the layers that others are called in place of.
    Returns: a functional model; its outputs have the names of the model's.
    Raises:
        ModelError: a layer does not take what it is given, as a Dense layer behind a Flatten does
            not take images of another size.
    """
    (own,) = model.inputs
    given = keras.Input(input_shape or own.shape[1:], name=own.node.layer.name)
    outputs = _call(model, given, instead or {})
    return keras.Model(given, outputs if len(outputs) > 1 else outputs[0], name=model.name)


def _call(model: keras.Model, given: Any, instead: Mapping[str, keras.layers.Layer]) -> list[Any]:
    """What a model puts out for a value."""
    (own,) = model.inputs
    values: dict[int, Any] = {id(own): given}

    def now(value: Any) -> Any:
        return values.get(id(value), value)

    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            arguments, settings = tf.nest.map_structure(now, (node.call_args, node.call_kwargs))
            layer = instead.get(node.layer.name, node.layer)
            if isinstance(layer, keras.Model):
                made: Any = _call(layer, arguments[0], instead)
            else:
                made = _attempt(layer, arguments, settings)
            old = tf.nest.flatten(node.outputs)
            values |= {id(o): new for o, new in zip(old, tf.nest.flatten(made), strict=True)}
    return [values[id(tensor)] for tensor in model.outputs]


def _attempt(layer: keras.layers.Layer, arguments: Any, settings: Any) -> Any:
    try:
        return layer(*arguments, **settings)
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        shapes = ", ".join(str(tuple(one.shape[1:])) for one in tf.nest.flatten(arguments))
        raise ModelError(
            f"layer {layer.name} ({type(layer).__name__}) does not take {shapes} in place of "
            f"{_shapes(layer)}"
        ) from error


def _shapes(layer: keras.layers.Layer) -> str:
    shapes = layer.get_input_shape_at(0)  # it may have been called on other sizes since
    listed = shapes if isinstance(shapes, list) else [shapes]
    return ", ".join(str(tuple(shape[1:])) for shape in listed)

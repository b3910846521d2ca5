"""A Keras model as a list of calls: models inside models opened, shared layers once a call.

Names are unique: a layer keeps its own unless another layer has it too, as may happen in models
inside models; then it is called "MODEL_LAYER". The second call of a shared layer is
"LAYER_call2".
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from typing import Any

from keras_quant.errors import LoweringError
from keras_quant.methods.layers import variable_name
from keras_quant.tf import keras, tf

Shape = tuple[int, ...]

# What calls the layers of a model that can be followed, and no more.
_FOLLOWED = (keras.src.engine.functional.Functional.call, keras.Sequential.call)
# Layers that stand for functions of TensorFlow, whose arguments are told by these (`combined`).
_CALLED_OTHERWISE = ("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod")
# Packages whose classes compute what Keras' of the same names do.
_HOMES = (keras.__name__.partition(".")[0], "keras_quant")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Call:
    """One use of a layer.

    Attributes:
        name: unique among the calls.
        layer_name: of the layer, the same in all its calls; see `layers_by_name`.
        layer: the Keras layer.
        inputs: names of the calls whose values it reads, in order.
        input_shapes: of these values, without the batch axis.
        shape: of its own value, without the batch axis.
        outputs: where among the model's outputs its value stands; () where it is none of them.
        owner: layer_name of the model's layer, where this one is a part of it (`parts`).
    """

    name: str
    layer_name: str
    layer: keras.layers.Layer
    inputs: tuple[str, ...]
    input_shapes: tuple[Shape, ...]
    shape: Shape
    outputs: tuple[int, ...] = ()
    owner: str | None = None


def list_calls(model: keras.Model) -> list[Call]:
    """Lists a functional or sequential model's calls, each after those that it reads.

    Returns: first the model's inputs, in the model's order.
    Raises:
        LoweringError: the model, or models inside it, are subclassed or not built, or its inputs
            are of any size; or layers are called with more than their inputs, such as
            training=True, or have the name of a Keras layer but are another.
    """
    problems = [problem for inside in _models(model) for problem in _shortcomings(inside)]
    problems = problems or list(_sizeless(model))
    if problems:
        raise LoweringError("; ".join(problems))
    walk = _Walk(model)
    ends = walk.follow(model, [walk.add_input(tensor) for tensor in model.inputs])
    return [
        replace(call, outputs=tuple(i for i, end in enumerate(ends) if end == call.name))
        for call in walk.calls.values()
    ]


def layers_by_name(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Lists a model's layers, also those of models inside it, by unique names."""
    inside = list(_layers_inside(model))
    counts = Counter(layer.name for _, layer in inside)
    # The outermost layers come first, so that they keep their names whatever lies inside.
    named: dict[str, keras.layers.Layer] = {}
    for path, layer in sorted(inside, key=lambda item: len(item[0])):
        own = layer.name if counts[layer.name] == 1 or not path else "_".join((*path, layer.name))
        named[free_name(own, named)] = layer
    return named


def variables_by_name(layer: keras.layers.Layer) -> dict[str, Any]:
    """Lists a layer's variables by the last part of their names, such as "kernel"."""
    names = [variable_name(variable) for variable in layer.weights]
    assert len(set(names)) == len(names), (layer.name, names)
    return dict(zip(names, layer.weights, strict=True))


def copy_variables(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Copies the variables that two layers have in common, by their names.

    One of the layers may have more: those that a method adds to it.
    """
    theirs, ours = variables_by_name(source), variables_by_name(target)
    common = [name for name in ours if name in theirs]
    assert len(common) == min(len(theirs), len(ours)), (target.name, list(theirs), list(ours))
    for name in common:
        ours[name].assign(theirs[name])


class _Walk:
    """The calls found so far."""

    def __init__(self, model: keras.Model) -> None:
        self.calls: dict[str, Call] = {}
        self._layer_names = {id(layer): name for name, layer in layers_by_name(model).items()}
        self._count: Counter[str] = Counter()

    def add_input(self, tensor: Any) -> str:
        layer = tensor.node.layer
        name = self._layer_names[id(layer)]
        self.calls[name] = Call(
            name=name,
            layer_name=name,
            layer=layer,
            inputs=(),
            input_shapes=(),
            shape=tuple(tensor.shape[1:]),
        )
        return name

    def follow(self, model: keras.Model, given: list[str]) -> list[str]:
        """Adds what a model calls when it is given the values of some calls.

        Returns: names of the calls whose values it puts out.
        """
        value_of = {id(tensor): name for tensor, name in zip(model.inputs, given, strict=True)}
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                read = [value_of[id(tensor)] for tensor in _inputs_of(node)]
                inner = isinstance(node.layer, keras.Model)
                made = self.follow(node.layer, read) if inner else [self._add(node, read)]
                tensors = tf.nest.flatten(node.outputs)
                value_of |= {id(t): name for t, name in zip(tensors, made, strict=False)}
        return [value_of[id(tensor)] for tensor in model.outputs]

    def _add(self, node: Any, read: list[str]) -> str:
        layer_name = self._layer_names[id(node.layer)]
        self._count[layer_name] += 1
        count = self._count[layer_name]
        taken = {*self.calls, *self._layer_names.values()}
        name = layer_name if count == 1 else free_name(f"{layer_name}_call{count}", taken)
        input_shapes = tuple(self.calls[name].shape for name in read)
        self.calls[name] = Call(
            name=name,
            layer_name=layer_name,
            layer=node.layer,
            inputs=tuple(read),
            input_shapes=input_shapes,
            shape=_shape(node, input_shapes),
        )
        return name


def _models(model: keras.Model) -> Iterator[keras.Model]:
    """A model and the models inside it."""
    yield model
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _models(layer)


def _shortcomings(model: keras.Model) -> Iterator[str]:
    if isinstance(model, keras.Sequential) and not model.built:
        yield f"model {model.name} is not built: give its first layer an input_shape"
    elif not getattr(model, "_is_graph_network", False):
        yield (
            f"model {model.name} is a subclassed model: its layers cannot be followed; "
            "build it with the functional API"
        )
    elif type(model).call not in _FOLLOWED:
        yield (
            f"model {model.name} is a {type(model).__name__}, whose own `call` cannot be followed; "
            "build it with the functional API, of layers alone"
        )
    else:
        nodes = [node for nodes in model._nodes_by_depth.values() for node in nodes]
        yield from dict.fromkeys(problem for node in nodes for problem in _beyond_inputs(node))
        yield from filter(None, map(_namesake, model.layers))


def _beyond_inputs(node: Any) -> Iterator[str]:
    """What a call is given besides values of the model: a Call says nothing of it."""
    layer = node.layer
    if node.is_input or type(layer).__name__ in _CALLED_OTHERWISE:
        return
    named = dict(zip(layer._call_spec.arg_names[1:], node.call_args[1:], strict=False))
    for name, value in (named | node.call_kwargs).items():
        # Keras 3 writes a mask of None for each of several inputs.
        if name == "mask" and any(mask is not None for mask in tf.nest.flatten(value)):
            yield (
                f"layer {layer.name} is called with a mask, which no file has: call it without, "
                "and multiply by what is to count"
            )
        if name == "training" and (tf.is_tensor(value) or value):
            yield (
                f"layer {layer.name} is called with training={value}, and would compute in "
                "inference what it does in training: call it without"
            )
    if any(not hasattr(value, "_keras_history") for value in tf.nest.flatten(node.call_args[:1])):
        yield (
            f"layer {layer.name} is called on a constant; only values of the model are supported: "
            "to add or to multiply by one, put a Rescaling there, or a BatchNormalization"
        )


def _inputs_of(node: Any) -> list[Any]:
    """The tensors that a call reads; of a model in the order of its inputs.

    A model may be called on a dict of values by the names of its inputs, in any order, and of more.
    """
    if not isinstance(node.layer, keras.Model) or not isinstance(node.call_args[0], dict):
        return list(node.keras_inputs)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Input dict contained keys")
        read: list[Any] = node.layer._flatten_to_reference_inputs(node.call_args[0])
    return read


def _namesake(layer: keras.layers.Layer) -> str:
    """What is wrong with a layer of somebody's class that has the name of one of Keras; "" else."""
    cls = type(layer)
    own = getattr(keras.layers, cls.__name__, cls)
    if cls is own or cls.__module__.partition(".")[0] in _HOMES:
        return ""
    return (
        f"layer {layer.name} is a {cls.__name__} of {cls.__module__}, which may compute something "
        "else than Keras' own: use that, or give the class another name"
    )


def _sizeless(model: keras.Model) -> Iterator[str]:
    for tensor in model.inputs:
        if None in tensor.shape[1:]:
            yield (
                f"model {model.name} takes inputs of any size, {tuple(tensor.shape[1:])}, where "
                "one is needed: give --input-shape, or --dataset where the command takes it; in "
                "Python, keras_quant.model.inputs.with_input_shape(model, shape)"
            )


def _layers_inside(
    model: keras.Model, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], keras.layers.Layer]]:
    """Each layer once, with the names of the models around it; inner models' inputs are none."""
    seen = set()
    inputs = {id(tensor.node.layer) for tensor in model.inputs}
    own = [tensor.node.layer for tensor in model.inputs] if not path else []
    for layer in [*own, *(layer for layer in model.layers if id(layer) not in inputs)]:
        found = [(path, layer)]
        if isinstance(layer, keras.Model):
            found = list(_layers_inside(layer, (*path, layer.name)))
        for item in found:
            if id(item[1]) not in seen:
                seen.add(id(item[1]))
                yield item


def free_name(name: str, taken: Container[str]) -> str:
    """The name itself, or with the first number behind it that is not taken."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _shape(node: Any, input_shapes: tuple[Shape, ...]) -> Shape:
    """Of a call's value; a model inside another may have been built for images of any size."""
    shapes = tf.nest.flatten(node.outputs)[0].shape
    if None not in shapes[1:]:
        return tuple(shapes[1:])
    batched = [(None, *shape) for shape in input_shapes]
    given = batched if len(batched) > 1 else batched[0]
    return tuple(node.layer.compute_output_shape(given)[1:])

"""Rebuilds a float model with quantizers where its plan puts them."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_quant.errors import MissingDependencyError, SchemeError
from keras_quant.methods import METHODS, load_method
from keras_quant.methods.layers import InputGrid, KeepFloat
from keras_quant.methods.method import Maker, Method
from keras_quant.methods.rules import options_of
from keras_quant.model.operations import COMPUTE, Lookup, Operation, Operations, is_fused
from keras_quant.model.parts import is_shorthand, unfold_calls
from keras_quant.model.topology import copy_variables, free_name, layers_by_name, list_calls
from keras_quant.prepare.adjust.correct_bias import norms_behind
from keras_quant.prepare.plan import Plan
from keras_quant.prepare.points import Point
from keras_quant.qparams import QParams
from keras_quant.schemes.scheme import MethodSpec, QuantSpec
from keras_quant.tf import keras


def split_float(plan: Plan, source: keras.Model, names: Sequence[str]) -> keras.Model:
    """Rebuilds the float model with other outputs, for calibration.

    Args:
        names: of the operations whose values it puts out, in order.
    Returns: a model with the source model's weights.
    """
    tensors = _assemble(plan, {}, input_layers={}, make_kernel=_clone)
    model = keras.Model(
        [tensors[name] for name in plan.operations.inputs],
        [tensors[name] for name in names],
    )
    copy_weights(source, model)
    return model


def wrap(
    plan: Plan,
    source: keras.Model,
    method: Method,
    input_qparams: QParams | Mapping[str, QParams] | None,
    *,
    post_training: bool = False,
) -> keras.Model:
    """Builds the fake-quantized model of a calibrated plan, with the source's weights.

    Args:
        input_qparams: the grid of the model's inputs, one for all or by the input's name; None
            leaves them in float, and so does a name that is missing.
        method: of the layers whose rule names none.
        post_training: kernels get the options that their method has for that, and a bias of 0
            where they have none and no batch norm follows: without it no bias can be moved to what
            integers say, and no mean be corrected. Batch norms get a gamma of 1 where they have
            none: without it no gain can be moved away from ties.
    Raises:
        SchemeError: activations that share a scale are to be of several methods; or kernels that
            their method cannot have, all of them, with the methods that can.
    Returns: a functional model with the same layer names, models inside it opened; quantizers
        that replace no ReLU are called "LAYER_quant", that of an only input "input_quant", with a
        number where a layer has that name; batch norms have a beta, of 0 where they had none.
    """
    makers = _Makers(method, post_training=post_training)
    quantizers = _quantizers(plan, makers)

    refused: list[str] = []

    def make_kernel(operation: Operation) -> keras.layers.Layer:
        spec = plan.weights[operation.layer_name]
        lacks_bias = post_training and not norms_behind(plan.operations, operation)
        layer = _clone(operation, add_bias=lacks_bias and not spec.is_float)
        if spec.is_float:
            return layer
        maker, options = makers.of(plan.methods.get(operation.layer_name))
        layer.build((None, *operation.input_shapes[0]))
        copy_variables(operation.layer, layer)
        try:
            return maker.wrap(layer, spec, options)
        except SchemeError as error:
            refused.append(f"{error}; {_those_that_can(layer, spec)}")
            return layer  # in place of what is reported

    grids = _input_grids(plan, input_qparams)
    tensors = _assemble(
        plan, quantizers, input_layers=grids, make_kernel=make_kernel, add_gamma=post_training
    )
    if refused:
        raise SchemeError("; ".join(refused))
    given, wanted = (
        [tensors[name] for name in names]
        for names in (plan.operations.inputs, plan.operations.outputs)
    )
    model = keras.Model(_bare(given), _bare(wanted), name=source.name)
    copy_weights(source, model)
    return model


def _those_that_can(layer: keras.layers.Layer, spec: QuantSpec) -> str:
    """The methods that can have a layer's kernel with some bits."""
    found = []
    for name in METHODS:
        with contextlib.suppress(SchemeError, MissingDependencyError):
            method = load_method(name)
            method.maker.wrap(layer, spec, options_of(method))
            found.append(name)
    return f"methods that have it: {', '.join(found) or 'none'}"


class _Makers:
    """The methods that rules name, and the run's, with their options."""

    def __init__(self, default: Method, *, post_training: bool) -> None:
        self._default = default
        self._post_training = post_training

    def of(self, spec: MethodSpec | None) -> tuple[Maker, Any]:
        method = self._default if spec is None else load_method(spec.name)
        given = () if spec is None else spec.options
        return method.maker, options_of(method, given, post_training=self._post_training)


def _quantizers(plan: Plan, makers: _Makers) -> dict[Point, keras.layers.Layer]:
    """Makes the quantizer of each point; those of one group share one step object.

    Raises:
        SchemeError: points of one group are to be of several methods.
    """
    names, groups = _quantizer_names(plan), defaultdict(list)
    for point in plan.points:
        groups[point.group].append(point)
    found = {}
    for group, points in groups.items():
        (maker, options), *others = [makers.of(point.method) for point in points]
        if any(other != (maker, options) for other in others):
            raise SchemeError(
                "these activations share one scale, since they are added, concatenated or go "
                f"through calls of one layer, and need one method: {_named_methods(points)}"
            )
        leading = next((point for point in points if not point.is_branch), points[0])
        step = maker.step(f"group{group}_step", plan.grid_of(leading), options)
        for point in points:
            found[point] = maker.activation(names[point], plan.grid_of(point), step, options)
    return found


def _named_methods(points: Sequence[Point]) -> str:
    return ", ".join(f"{point.after} ({point.method or 'that of the run'})" for point in points)


def _bare(items: list[Any]) -> Any:
    """The only item, which then is no list for Keras either; or all of them."""
    return items if len(items) > 1 else items[0]


def _input_grids(plan: Plan, given: QParams | Mapping[str, QParams] | None) -> dict[str, InputGrid]:
    """The layers that round the model's inputs, by the input's name."""
    names = plan.operations.inputs
    taken = {*_layer_names(plan.operations).values(), *_quantizer_names(plan).values()}
    grids = dict.fromkeys(names, given) if isinstance(given, QParams) else given or {}
    return {
        name: InputGrid(
            grid.scale,
            grid.qmin,
            grid.qmax,
            grid.zero_point,
            name=free_name(f"{name if len(names) > 1 else 'input'}_quant", taken),
        )
        for name, grid in grids.items()
    }


def _quantizer_names(plan: Plan) -> dict[Point, str]:
    layers, replaced = _layer_names(plan.operations), _replaced(plan)
    taken = set(layers.values())
    names: dict[Point, str] = {}
    for point in plan.points:
        own = layers[point.after]
        if point.after in replaced and not point.readers:
            names[point] = own
            continue
        suffix = f"a{point.spec.bits}" if point.readers else "quant"
        names[point] = free_name(f"{own}_{suffix}", taken)
        taken.add(names[point])
    return names


def _replaced(plan: Plan) -> set[str]:
    """Names of the ReLUs of which a quantizer does all that they do: its codes start at real 0.

    Those of a group that some values reach below 0 with start lower where they are not symmetric.
    """
    relus = {o.name for o in plan.operations if o.kind == "relu" and o.max_value is None}
    grids = {p.after: plan.grid_of(p) for p in plan.points if not p.readers and p.after in relus}
    return {name for name, grid in grids.items() if grid.qmin == grid.zero_point}


def _layer_names(operations: Operations) -> dict[str, str]:
    """What the layer of each operation is called: as it was; of a fused one, LAYER_FUNCTION."""
    names = {o.name: o.name for o in operations if not is_fused(o)}
    taken = {*names.values(), *(operation.layer_name for operation in operations)}
    for operation in (o for o in operations if is_fused(o)):
        call = operation.name.rpartition("/")[0]
        names[operation.name] = free_name(f"{call}_{_suffix(operation)}", taken)
        taken.add(names[operation.name])
    return names


def _suffix(operation: Operation) -> str:
    if not isinstance(operation, Lookup):
        return operation.kind
    name = getattr(operation.function, "__name__", "")
    return name if name.isidentifier() else "lookup"  # Keras takes no <lambda>


def _assemble(
    plan: Plan,
    quantizers: Mapping[Point, Any],
    *,
    input_layers: Mapping[str, InputGrid],
    make_kernel: Callable[[Operation], keras.layers.Layer],
    add_gamma: bool = False,
) -> dict[str, Any]:
    """Calls new layers in order; gives each operation's output (the input's: before its grid)."""
    after = {point.after: quantizer for point, quantizer in quantizers.items() if not point.readers}
    rounded: dict[
        tuple[str, str], Any
    ] = {}  # what (an operation, in place of an input's values) reads
    made: dict[tuple[str, str], keras.layers.Layer] = {}
    names, replaced = _layer_names(plan.operations), _replaced(plan)
    rounding = (*quantizers.values(), *input_layers.values())
    taken = {*names.values(), *(layer.name for layer in rounding)}
    outputs: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for operation in plan.operations:
        if operation.kind == "input":
            x = outputs[operation.name] = keras.Input(operation.shape, name=operation.name)
            x = input_layers[operation.name](x) if operation.name in input_layers else x
        else:
            inputs = [
                rounded.get((operation.name, name), values[name]) for name in operation.inputs
            ]
            if operation.layer_name in plan.in_float and operation.kind not in COMPUTE:
                inputs = [
                    KeepFloat(name=free_name(f"{operation.name}_float{place or ''}", taken))(x)
                    for place, x in enumerate(inputs)
                ]
            inputs += [values[name] for name in operation.while_training]
            x = inputs if operation.kind == "concat" else _bare(inputs)
            quantizer = after.get(operation.name)
            if quantizer is None or operation.name not in replaced:
                key = operation.layer_name, operation.kind  # the calls of a layer share one
                if key not in made:
                    made[key] = (
                        make_kernel(operation)
                        if operation.kind in COMPUTE
                        else _clone_operation(
                            operation, name=names[operation.name], add_gamma=add_gamma
                        )
                    )
                x = made[key](x)
            x = outputs[operation.name] = x if quantizer is None else quantizer(x)
        values[operation.name] = x
        for point, quantizer in quantizers.items():
            if point.readers and point.after == operation.name:
                rounded |= dict.fromkeys([(r, operation.name) for r in point.readers], quantizer(x))
    return outputs


def _clone(operation: Operation, *, add_bias: bool = False) -> keras.layers.Layer:
    """A new layer of the same settings, without a fused activation; with a bias of 0 if wanted."""
    config = {**operation.layer.get_config(), "name": operation.layer_name}
    if add_bias and not config.get("use_bias", True):
        config |= {"use_bias": True, "bias_initializer": "zeros"}
    if "activation" in config:
        config["activation"] = "linear"
    return type(operation.layer).from_config(config)


def _clone_operation(operation: Operation, *, name: str, add_gamma: bool) -> keras.layers.Layer:
    if operation.kind == "relu":
        return keras.layers.ReLU(operation.max_value, name=name)
    if operation.kind == "softmax":
        return keras.layers.Softmax(name=name)
    if isinstance(operation, Lookup) and operation.function is not operation.layer:
        return _clone_function(operation, name=name)
    config = {**operation.layer.get_config(), "name": operation.layer_name}
    if operation.kind == "batch_norm":
        if not config.get("center", True):  # without it no bias can be moved to what integers say
            config |= {"center": True, "beta_initializer": "zeros"}
        if add_gamma and not config.get("scale", True):  # and without this no gain
            config |= {"scale": True, "gamma_initializer": "ones"}
    return type(operation.layer).from_config(config)


def _clone_function(operation: Lookup, *, name: str) -> keras.layers.Layer:
    """A layer of an activation's function; with its weights, which no layer of the model has."""
    function = operation.function
    if not isinstance(function, keras.layers.Layer):
        return keras.layers.Activation(function, name=name)
    made = type(function).from_config({**function.get_config(), "name": name})
    if function.weights:
        made.build((None, *operation.shape))
        made.set_weights(function.get_weights())
    return made


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copies the weights of layers, or of their parts, that have one name in both models.

    Variables are found by their names, so that those which a method adds to a layer stay what
    they are.
    """
    layers = layers_by_name(source)
    parts = {call.layer_name: call.layer for call in unfold_calls(list_calls(source))}
    for name, layer in layers_by_name(target).items():
        given = (layers if is_shorthand(layer) else parts).get(name)
        if given is not None:
            copy_variables(given, layer)

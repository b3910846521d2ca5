"""Rebuilds a float model with quantizers where its plan puts them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_quant.errors import SchemeError
from keras_quant.methods import load_method
from keras_quant.methods.layers import InputGrid, KeepFloat
from keras_quant.methods.method import Maker, Method
from keras_quant.methods.rules import options_of
from keras_quant.model.parts import is_shorthand, unfold_calls
from keras_quant.model.steps import COMPUTE, Lookup, Step
from keras_quant.model.topology import copy_variables, free_name, layers_by_name, list_calls
from keras_quant.prepare.plan import Plan
from keras_quant.prepare.points import Point
from keras_quant.qparams import QParams
from keras_quant.schemes.scheme import MethodSpec
from keras_quant.tf import keras


def split_float(plan: Plan, source: keras.Model, names: Sequence[str]) -> keras.Model:
    """Rebuilds the float model with other outputs, for calibration.

    Args:
        names: of the steps whose values it puts out, in order.
    Returns: a model with the source model's weights.
    """
    tensors = _assemble(plan, {}, input_layers={}, make_kernel=_clone)
    model = keras.Model(
        [tensors[name] for name in plan.steps.inputs],
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
        post_training: kernels get the options that their method has for that.
    Raises:
        SchemeError: activations that share a scale are to be of several methods.
    Returns: a functional model with the same layer names, models inside it opened; quantizers
        that replace no ReLU are called "LAYER_quant", that of an only input "input_quant", with a
        number where a layer has that name; batch norms have a beta, of 0 where they had none.
    """
    makers = _Makers(method, post_training=post_training)
    quantizers = _quantizers(plan, makers)

    def make_kernel(step: Step) -> keras.layers.Layer:
        spec, layer = plan.weights[step.layer_name], _clone(step)
        if spec.is_float:
            return layer
        maker, options = makers.of(plan.methods.get(step.layer_name))
        layer.build((None, *step.input_shapes[0]))
        copy_variables(step.layer, layer)
        return maker.wrap(layer, spec, options)

    grids = _input_grids(plan, input_qparams)
    tensors = _assemble(plan, quantizers, input_layers=grids, make_kernel=make_kernel)
    given, wanted = (
        [tensors[name] for name in names] for names in (plan.steps.inputs, plan.steps.outputs)
    )
    model = keras.Model(_bare(given), _bare(wanted), name=source.name)
    copy_weights(source, model)
    return model


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
    names = plan.steps.inputs
    taken = {step.layer_name for step in plan.steps} | set(_quantizer_names(plan).values())
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
    by_name = plan.steps.by_name
    replaced = {p.after for p in plan.points if not p.readers and _is_plain_relu(by_name[p.after])}
    taken = {_layer_name(step) for step in plan.steps if step.name not in replaced}
    names: dict[Point, str] = {}
    for point in plan.points:
        wanted = _layer_name(by_name[point.after])
        if point.readers:
            wanted += f"_a{point.spec.bits}"
        elif point.after not in replaced:
            wanted += "_quant"
        names[point] = free_name(wanted, taken)
        taken.add(names[point])
    return names


def _is_plain_relu(step: Step) -> bool:
    """Whether an unsigned quantizer does all that the step does: what starts at 0 is a ReLU."""
    return step.kind == "relu" and step.max_value is None


def _layer_name(step: Step) -> str:
    name = getattr(step.function, "__name__", "") if isinstance(step, Lookup) else "relu"
    suffix = name if name.isidentifier() else "lookup"  # Keras takes no <lambda>
    return step.name.replace("/activation", f"_{suffix}")


def _assemble(
    plan: Plan,
    quantizers: Mapping[Point, Any],
    *,
    input_layers: Mapping[str, InputGrid],
    make_kernel: Callable[[Step], keras.layers.Layer],
) -> dict[str, Any]:
    """Calls new layers in order; gives each step's output (the input's: before its grid)."""
    after = {point.after: quantizer for point, quantizer in quantizers.items() if not point.readers}
    rounded: dict[tuple[str, str], Any] = {}  # what (a step, in place of an input's values) reads
    made: dict[tuple[str, str], keras.layers.Layer] = {}
    outputs: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for step in plan.steps:
        if step.kind == "input":
            x = outputs[step.name] = keras.Input(step.shape, name=step.name)
            x = input_layers[step.name](x) if step.name in input_layers else x
        else:
            inputs = [rounded.get((step.name, name), values[name]) for name in step.inputs]
            if step.layer_name in plan.in_float and step.kind not in COMPUTE:
                inputs = [
                    KeepFloat(name=f"{step.name}_float{place or ''}")(x)
                    for place, x in enumerate(inputs)
                ]
            x = inputs if step.kind == "concat" else _bare(inputs)
            quantizer = after.get(step.name)
            if quantizer is None or not _is_plain_relu(step):  # else it replaces it
                key = step.layer_name, step.kind  # the calls of a layer share one
                if key not in made:
                    made[key] = make_kernel(step) if step.kind in COMPUTE else _clone_step(step)
                x = made[key](x)
            x = outputs[step.name] = x if quantizer is None else quantizer(x)
        values[step.name] = x
        for point, quantizer in quantizers.items():
            if point.readers and point.after == step.name:
                rounded |= dict.fromkeys([(r, step.name) for r in point.readers], quantizer(x))
    return outputs


def _clone(step: Step) -> keras.layers.Layer:
    """A new layer of the same settings, without a fused activation."""
    config = {**step.layer.get_config(), "name": step.layer_name}
    if "activation" in config:
        config["activation"] = "linear"
    return type(step.layer).from_config(config)


def _clone_step(step: Step) -> keras.layers.Layer:
    if step.kind == "relu":
        return keras.layers.ReLU(step.max_value, name=_layer_name(step))
    if step.kind == "softmax":
        return keras.layers.Softmax(name=_layer_name(step).replace("_relu", "_softmax"))
    if isinstance(step, Lookup) and step.function is not step.layer:
        if not isinstance(step.function, keras.layers.Layer):
            return keras.layers.Activation(step.function, name=_layer_name(step))
        config = {**step.function.get_config(), "name": _layer_name(step)}
        return type(step.function).from_config(config)
    config = {**step.layer.get_config(), "name": step.layer_name}
    if step.kind == "batch_norm":
        config["center"] = True  # of 0: without it no bias can be moved to what integers say
    return type(step.layer).from_config(config)


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

"""From a float Keras model and a scheme to a fake-quantized model.

Where quantizers go: after each block (a convolution or dense layer with its batch norm and
ReLU, an addition, an average), unless its values leave the model. Everything that an Add
reads or writes shares one step: then adding codes needs no rounding, and integer kernels add
exactly. A convolution that only feeds an Add is held in 8 bits on that step, which costs no
accuracy: rounding the branch on the sum's own grid is rounding the sum.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_quant.errors import LoweringError
from keras_quant.functional import AVERAGE, COMPUTE, PASSING, Step, class_name, consumers, describe
from keras_quant.methods import Method
from keras_quant.methods.grid import ActivationGrid
from keras_quant.methods.pointwise import find_named, is_nonnegative
from keras_quant.methods.quantizers import InputGrid
from keras_quant.qparams import QParams
from keras_quant.scheme import FLOAT, Block, BlockBits, QuantSpec, Scheme, resolve
from keras_quant.tf import keras

BRANCH_BITS = 8
LOOKUP_BITS = 8  # what a function of one value reads; a table of 256 entries costs the same
QKERAS_CLASSES = ("QConv2D", "QDepthwiseConv2D", "QDense")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A place where a quantizer goes.

    Attributes:
        after: name of the step whose output it rounds.
        grid: bits and sign; its step is what calibration finds.
        group: points of one group share their step.
        is_branch: feeds additions only, so it follows the step of their sum.
        readers: names of the only steps that read the rounded values; () means all that come
            after.
    """

    after: str
    grid: ActivationGrid
    group: int
    is_branch: bool = False
    readers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """What a scheme means for one model.

    Attributes:
        steps: the float model's.
        weights: for each compute step's name what its kernel gets.
        points: where activations are rounded.
        input_spec: width of the model's input.
    """

    steps: tuple[Step, ...]
    weights: Mapping[str, QuantSpec]
    points: tuple[Point, ...]
    input_spec: QuantSpec

    @property
    def float_layers(self) -> tuple[str, ...]:
        """Layers whose kernel stays in float."""
        return tuple(name for name, spec in self.weights.items() if spec.is_float)


def plan(model: keras.Model, scheme: Scheme) -> Plan:
    """Applies a scheme to a float model.

    Raises:
        SchemeError: rules that match nothing.
        LoweringError: the model has layers that are not supported, or is quantized already.
    """
    steps = describe(model)
    quantized = [s.name for s in steps if s.qparams or type(s.layer).__name__ in QKERAS_CLASSES]
    if quantized:
        raise LoweringError(
            f"model {model.name} is quantized already ({', '.join(quantized)}): give the float "
            "model, and say the bits in the scheme; kq export takes quantized models as they are"
        )
    blocks = _blocks(steps)
    bits = resolve(scheme, [_as_scheme_block(block) for block in blocks])
    points = _tie_additions(steps, _points(steps, blocks, bits))
    points += _input_points(steps, points, bits)
    heads = {block[0].name: block for block in blocks}
    return Plan(
        steps=steps,
        weights={n: bits[n].weight for n, block in heads.items() if block[0].kind in COMPUTE},
        points=points,
        input_spec=bits[steps[0].name].activation,
    )


def _blocks(steps: Sequence[Step]) -> list[list[Step]]:
    """Groups each step with the batch norm and ReLU that it alone feeds."""
    reads = consumers(steps)
    block_of: dict[str, list[Step]] = {}
    blocks = []
    for step in steps:
        if step.kind in (*PASSING, "softmax", "quantizer"):
            continue
        before = block_of.get(step.inputs[0]) if step.inputs else None
        follows = step.kind in ("batch_norm", "relu") and before is not None
        if follows and len(reads[step.inputs[0]]) == 1 and before[-1].name == step.inputs[0]:
            before.append(step)
            block_of[step.name] = before
        else:
            blocks.append([step])
            block_of[step.name] = blocks[-1]
    return blocks


def _as_scheme_block(block: Sequence[Step]) -> Block:
    return Block(
        names=tuple(step.name for step in block),
        types=tuple(class_name(step.layer) for step in block),
        has_weights=block[0].kind in COMPUTE,
        is_input=block[0].kind == "input",
    )


def _points(
    steps: Sequence[Step], blocks: Sequence[Sequence[Step]], bits: Mapping[str, BlockBits]
) -> list[Point]:
    reads = consumers(steps)
    nonnegative = _nonnegative(steps)
    points = []
    for block in blocks:
        spec, tail = bits[block[0].name].activation, block[-1]
        readers = _readers(tail, reads)
        leaves_model = all(_ends_model(reader, reads) for reader in readers)
        if tail.kind == "input" or spec.is_float or leaves_model:
            continue
        looked_up = any(reader.kind == "lookup" for reader in readers)
        bits_of_tail = LOOKUP_BITS if looked_up else spec.bits
        grid = ActivationGrid(bits=bits_of_tail, signed=False)
        if tail.name not in nonnegative:
            # One signed bit would be 0 alone; two in narrow range are -1, 0, +1.
            width = max(2, bits_of_tail)
            grid = ActivationGrid(bits=width, signed=True, narrow_range=width < 8)
        points.append(Point(after=tail.name, grid=grid, group=len(points)))
    return points


def _readers(step: Step, reads: Mapping[str, Sequence[Step]]) -> list[Step]:
    """Steps that read a step's values, seen through steps that only pass them on."""
    found = []
    for reader in reads[step.name]:
        found += _readers(reader, reads) if reader.kind in PASSING else [reader]
    return found


def _ends_model(step: Step, reads: Mapping[str, Sequence[Step]]) -> bool:
    """Whether a step turns logits, left in float, into what the model puts out."""
    if step.kind == "lookup" and step.function is not None:
        return not _readers(step, reads) and find_named(step.function) is not None
    return step.kind == "softmax"


def _nonnegative(steps: Sequence[Step]) -> set[str]:
    names: set[str] = set()
    for step in steps:
        inherits = step.kind in ("add", "multiply", *AVERAGE, *PASSING)
        rectified = step.kind == "relu" or (
            step.function is not None and is_nonnegative(step.function)
        )
        if rectified or (inherits and all(name in names for name in step.inputs)):
            names.add(step.name)
    return names


def _tie_additions(steps: Sequence[Step], points: Sequence[Point]) -> tuple[Point, ...]:
    """Gives all points around an addition one group, and marks its branches."""
    by_name = {step.name: step for step in steps}
    reads = consumers(steps)
    point_of = {point.after: point for point in points}
    group = {point.after: point.group for point in points}
    tied = set()
    for step in steps:
        if step.kind != "add":
            continue
        around = [_source(name, by_name) for name in step.inputs] + [_tail(step, reads, point_of)]
        if all(name in point_of for name in around):
            tied.add(step.name)
            numbers = {group[name] for name in around}
            group = {n: min(numbers) if g in numbers else g for n, g in group.items()}
    branches = {
        point.after
        for point in points
        if point.grid.signed
        and all(reader.name in tied for reader in _readers(by_name[point.after], reads))
    }
    widest: dict[int, int] = {}
    for point in points:
        if point.after not in branches:
            number = group[point.after]
            widest[number] = max(widest.get(number, 0), point.grid.bits)
    return tuple(
        Point(
            after=point.after,
            grid=ActivationGrid(bits=BRANCH_BITS, signed=True)
            if point.after in branches
            else _widened(point.grid, widest[group[point.after]]),
            group=group[point.after],
            is_branch=point.after in branches,
        )
        for point in points
    )


def _widened(grid: ActivationGrid, bits: int) -> ActivationGrid:
    """A grid as wide as the widest of its group: one step for all leaves no other choice."""
    narrow_range = grid.signed and bits < 8
    return ActivationGrid(bits=bits, signed=grid.signed, narrow_range=narrow_range)


def _input_points(
    steps: Sequence[Step], points: Sequence[Point], bits: Mapping[str, BlockBits]
) -> tuple[Point, ...]:
    """Where values are rounded again because they are wider than their reader's input."""
    by_name = {step.name: step for step in steps}
    grid_of = {point.after: point.grid for point in points}
    found: dict[tuple[str, ActivationGrid], list[str]] = {}
    for step in steps:
        source = _source(step.inputs[0], by_name) if step.kind in COMPUTE else ""
        spec = bits[step.name].input if step.kind in COMPUTE else FLOAT
        if source not in grid_of or spec.bits >= grid_of[source].bits:
            continue
        signed = grid_of[source].signed
        width = max(2, spec.bits) if signed else spec.bits
        grid = ActivationGrid(bits=width, signed=signed, narrow_range=signed)
        found.setdefault((step.inputs[0], grid), []).append(step.name)
    first = 1 + max((point.group for point in points), default=-1)
    return tuple(
        Point(after=after, grid=grid, group=first + number, readers=tuple(readers))
        for number, ((after, grid), readers) in enumerate(found.items())
    )


def _source(name: str, by_name: Mapping[str, Step]) -> str:
    """The step whose grid a step's values are on."""
    while by_name[name].kind in PASSING:
        name = by_name[name].inputs[0]
    return name


def _tail(step: Step, reads: Mapping[str, Sequence[Step]], point_of: Mapping[str, Point]) -> str:
    """The step behind which an addition's sum is rounded: itself, or its ReLU."""
    readers = reads[step.name]
    if step.name not in point_of and len(readers) == 1 and readers[0].kind == "relu":
        return readers[0].name
    return step.name


def with_steps(plan: Plan, step_of: Mapping[int, float]) -> Plan:
    """Puts calibrated steps (real distance of two codes, by group) into a plan."""
    points = [
        dataclasses.replace(p, grid=dataclasses.replace(p.grid, step=step_of[p.group]))
        for p in plan.points
    ]
    return dataclasses.replace(plan, points=tuple(points))


def split_float(plan: Plan, source: keras.Model) -> keras.Model:
    """Rebuilds the float model with one output a point, for calibration.

    Returns: a model that puts out the values in front of each of the plan's points, in
        order, with the source model's weights.
    """
    tensors = _assemble(plan, {}, input_layer=None, make_kernel=lambda step: _clone(step.layer))
    model = keras.Model(
        tensors[plan.steps[0].name], [tensors[point.after] for point in plan.points]
    )
    copy_weights(source, model)
    return model


def wrap(
    plan: Plan, source: keras.Model, method: Method, input_qparams: QParams | None
) -> keras.Model:
    """Builds the fake-quantized model of a calibrated plan, with the source's weights.

    Args:
        input_qparams: the grid of the model's input; None leaves it in float.
    Returns: a functional model with the same layer names; quantizers that replace no ReLU
        are called "LAYER_quant", the input's "input_quant".
    """
    quantizers = {p: method.activation(_quantizer_name(p, plan), p.grid) for p in plan.points}
    input_layer = None
    if input_qparams is not None:
        input_layer = InputGrid(
            input_qparams.scale, input_qparams.qmin, input_qparams.qmax, name="input_quant"
        )

    def make_kernel(step: Step) -> keras.layers.Layer:
        spec = plan.weights[step.name]
        return _clone(step.layer) if spec.is_float else method.wrap(step.layer, spec)

    tensors = _assemble(plan, quantizers, input_layer=input_layer, make_kernel=make_kernel)
    last = plan.steps[-1].name
    model = keras.Model(tensors[plan.steps[0].name], tensors[last], name=source.name)
    copy_weights(source, model)
    return model


def _quantizer_name(point: Point, plan: Plan) -> str:
    step = next(step for step in plan.steps if step.name == point.after)
    if point.readers:
        return f"{_layer_name(step)}_a{point.grid.bits}"
    if step.kind == "relu" and step.max_value is None:  # a quantizer that starts at 0 is a ReLU
        return _layer_name(step)
    return f"{_layer_name(step)}_quant"


def _layer_name(step: Step) -> str:
    kind = "relu" if step.function is None else getattr(step.function, "__name__", "lookup")
    return step.name.replace("/activation", f"_{kind}")


def _assemble(
    plan: Plan, quantizers: Mapping[Point, Any], *, input_layer: Any, make_kernel: Any
) -> dict[str, Any]:
    """Calls new layers in order; gives each step's output (the input's: before its grid)."""
    after = {point.after: quantizer for point, quantizer in quantizers.items() if not point.readers}
    rounded: dict[str, Any] = {}  # what a step reads in place of its input's values
    outputs: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for step in plan.steps:
        if step.kind == "input":
            x = outputs[step.name] = keras.Input(step.layer.input_shape[0][1:], name=step.name)
            x = x if input_layer is None else input_layer(x)
        else:
            inputs = [rounded.get(step.name, values[name]) for name in step.inputs]
            x = inputs if len(inputs) > 1 else inputs[0]
            quantizer = after.get(step.name)
            if quantizer is None or quantizer.name != _layer_name(step):  # else it replaces it
                x = (make_kernel(step) if step.kind in COMPUTE else _clone_step(step))(x)
            x = outputs[step.name] = x if quantizer is None else quantizer(x)
        values[step.name] = x
        for point, quantizer in quantizers.items():
            if point.readers and point.after == step.name:
                rounded |= dict.fromkeys(point.readers, quantizer(x))
    return outputs


def _clone(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A new layer of the same settings, without a fused activation."""
    config = layer.get_config()
    if "activation" in config:
        config["activation"] = "linear"
    return type(layer).from_config(config)


def _clone_step(step: Step) -> keras.layers.Layer:
    if step.kind == "relu":
        return keras.layers.ReLU(step.max_value, name=_layer_name(step))
    if step.kind == "softmax":
        return keras.layers.Softmax(name=_layer_name(step).replace("_relu", "_softmax"))
    if step.kind == "lookup" and step.function is not step.layer:
        return keras.layers.Activation(step.function, name=_layer_name(step))
    return type(step.layer).from_config(step.layer.get_config())


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copies the weights of layers that have one name and shapes in both models."""
    layers = {layer.name: layer for layer in source.layers}
    for layer in target.layers:
        if layer.weights and layer.name in layers:
            layer.set_weights(layers[layer.name].get_weights())

"""From a float Keras model and a scheme to a fake-quantized model.

Where quantizers go: after each block (a convolution or dense layer with its batch norm and
ReLU, an addition, an average), unless its values leave the model. Everything that an Add
reads or writes shares one step: then adding codes needs no rounding, and integer kernels add
exactly. So does everything that a Concatenate joins. A convolution that only feeds an Add is
held in 8 bits on that step, which costs no accuracy: rounding the branch on the sum's own grid
is rounding the sum.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_quant.errors import LoweringError
from keras_quant.functional import (
    AVERAGE,
    COMPUTE,
    PASSING,
    Step,
    class_name,
    consumers,
    describe,
    input_names,
    output_names,
    readers_of,
    sources_of,
)
from keras_quant.methods import Method
from keras_quant.methods.grid import ActivationGrid
from keras_quant.methods.pointwise import find_named, is_nonnegative
from keras_quant.methods.quantizers import InputGrid, KeepFloat
from keras_quant.parts import SHORTHANDS, unfold_calls
from keras_quant.qparams import QParams
from keras_quant.scheme import Block, BlockBits, QuantSpec, Scheme, resolve
from keras_quant.tf import keras
from keras_quant.ties import tie
from keras_quant.topology import free_name, layers_by_name, list_calls

# An integer kernel ends at the highest code of 8 bits by itself, so a bound there costs nothing.
BOUNDED_BITS = 8
LOOKUP_BITS = 8  # what a function of one value reads; a table of 256 entries costs the same
QKERAS_CLASSES = ("QConv1D", "QConv2D", "QConv2DTranspose", "QDepthwiseConv2D", "QDense")


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
        weights: for the name of each layer with a kernel what the kernel gets.
        points: where activations are rounded.
        input_spec: width of the model's inputs.
        in_float: names of the layers that compute in float whatever they read.
    """

    steps: tuple[Step, ...]
    weights: Mapping[str, QuantSpec]
    points: tuple[Point, ...]
    input_spec: QuantSpec
    in_float: frozenset[str] = frozenset()

    @property
    def float_layers(self) -> tuple[str, ...]:
        """Layers whose kernel stays in float, or all that they compute."""
        kept = {name for name, spec in self.weights.items() if spec.is_float} | self.in_float
        return tuple(dict.fromkeys(s.layer_name for s in self.steps if s.layer_name in kept))


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
    in_float = frozenset(name for name, found in bits.items() if found.in_float)
    grids = _grids(steps, blocks, bits)
    points = tuple(
        Point(after=name, grid=tied.grid, group=tied.group, is_branch=tied.is_branch)
        for name, tied in tie(steps, blocks, grids, in_float).items()
    )
    points += _joined_inputs(steps, points)
    points += _input_points(steps, points, bits)
    heads = [block[0] for block in blocks]
    return Plan(
        steps=steps,
        weights={s.layer_name: bits[s.layer_name].weight for s in heads if s.kind in COMPUTE},
        points=points,
        input_spec=bits[steps[0].layer_name].activation,
        in_float=in_float,
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
        if before is not None and _joins(step, before) and len(reads[before[-1].name]) == 1:
            before.append(step)
            block_of[step.name] = before
        else:
            blocks.append([step])
            block_of[step.name] = blocks[-1]
    return blocks


def _joins(step: Step, block: Sequence[Step]) -> bool:
    """Whether a step computes with a block's last values before they are rounded.

    A batch norm is folded into a kernel, or into another batch norm; what it does to values that
    have none, or to those of a ReLU, is a block of its own.
    """
    if block[-1].name != step.inputs[0]:
        return False
    if step.kind == "batch_norm":
        return block[0].kind in (*COMPUTE, "batch_norm") and block[-1].kind != "relu"
    return step.kind == "relu"


def _as_scheme_block(block: Sequence[Step]) -> Block:
    return Block(
        names=tuple(dict.fromkeys(n for s in block for n in (s.layer_name, s.owner) if n)),
        types=tuple(class_name(step.layer) for step in block),
        has_weights=block[0].kind in COMPUTE,
        is_input=block[0].kind == "input",
    )


def _grids(
    steps: Sequence[Step], blocks: Sequence[Sequence[Step]], bits: Mapping[str, BlockBits]
) -> dict[str, ActivationGrid]:
    """What the scheme says of each step behind which values are rounded."""
    reads = consumers(steps)
    nonnegative = _nonnegative(steps)
    by_name = {step.name: step for step in steps}
    grids = {}
    for block in blocks:
        spec, tail = bits[_width_of(block, by_name)].activation, block[-1]
        readers = readers_of(tail, reads)
        leaves_model = all(_ends_model(reader, reads) for reader in readers)
        if tail.kind == "input" or spec.is_float or leaves_model:
            continue
        looked_up = any(r.kind == "lookup" and not bits[r.layer_name].in_float for r in readers)
        bits_of_tail = LOOKUP_BITS if looked_up else spec.bits
        bound = _bound(tail, readers, bits) if bits_of_tail == BOUNDED_BITS else None
        grid = ActivationGrid(bits=bits_of_tail, signed=False, bound=bound)
        if tail.name not in nonnegative:
            # One signed bit would be 0 alone; two in narrow range are -1, 0, +1.
            width = max(2, bits_of_tail)
            grid = ActivationGrid(bits=width, signed=True, narrow_range=width < 8)
        grids[tail.name] = grid
    return grids


def _bound(step: Step, readers: Sequence[Step], bits: Mapping[str, BlockBits]) -> float | None:
    """Where a ReLU6 ends, if its values are read by kernels alone.

    Kernels take any step. What adds, averages or rounds codes again wants powers of two.
    """
    to_kernels = all(
        r.kind in COMPUTE and bits[r.layer_name].input.bits >= BOUNDED_BITS for r in readers
    )
    return step.max_value if step.kind == "relu" and to_kernels else None


def _width_of(block: Sequence[Step], by_name: Mapping[str, Step]) -> str:
    """The layer whose bits a block's values get: a batch norm keeps the width of an input."""
    head = block[0]
    if head.kind == "batch_norm":
        sources = [by_name[name] for name in sources_of(head.inputs[0], by_name)]
        if all(source.kind == "input" for source in sources):
            return sources[0].layer_name
    return head.layer_name


def _ends_model(step: Step, reads: Mapping[str, Sequence[Step]]) -> bool:
    """Whether a step turns logits, left in float, into what the model puts out, or puts it out."""
    if step.kind == "lookup" and step.function is not None:
        put_out = all(reader.kind == "output" for reader in readers_of(step, reads))
        return put_out and find_named(step.function) is not None
    return step.kind in ("softmax", "output")


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


def _joined_inputs(steps: Sequence[Step], points: Sequence[Point]) -> tuple[Point, ...]:
    """Where inputs of the model are rounded to the step of what they are concatenated with."""
    by_name = {step.name: step for step in steps}
    point_of = {point.after: point for point in points}
    found = []
    for step in steps:
        sources = {name: sources_of(name, by_name) for name in step.inputs}
        members = [point_of[n] for names in sources.values() for n in names if n in point_of]
        if step.kind != "concat" or not members:
            continue
        bits = max(2, *(point.grid.bits for point in members))
        grid = ActivationGrid(bits=bits, signed=True, narrow_range=bits < 8)
        found += [
            Point(after=name, grid=grid, group=members[0].group, readers=(step.name,))
            for name, names in sources.items()
            if all(by_name[source].kind == "input" for source in names)
        ]
    return tuple(found)


def _input_points(
    steps: Sequence[Step], points: Sequence[Point], bits: Mapping[str, BlockBits]
) -> tuple[Point, ...]:
    """Where values are rounded again because they are wider than their reader's input."""
    by_name = {step.name: step for step in steps}
    grid_of = {point.after: point.grid for point in points if not point.readers}
    found: dict[tuple[str, ActivationGrid], list[str]] = {}
    for step in steps:
        if step.kind not in COMPUTE:
            continue
        spec, sources = bits[step.layer_name].input, sources_of(step.inputs[0], by_name)
        grids = [grid_of[name] for name in sources if name in grid_of]
        if not grids or spec.bits >= max(grid.bits for grid in grids):
            continue
        signed = any(grid.signed for grid in grids)
        width = max(2, spec.bits) if signed else spec.bits
        grid = ActivationGrid(bits=width, signed=signed, narrow_range=signed)
        found.setdefault((step.inputs[0], grid), []).append(step.name)
    first = 1 + max((point.group for point in points), default=-1)
    return tuple(
        Point(after=after, grid=grid, group=first + number, readers=tuple(readers))
        for number, ((after, grid), readers) in enumerate(found.items())
    )


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
    tensors = _assemble(plan, {}, input_layers={}, make_kernel=_clone)
    model = keras.Model(
        [tensors[name] for name in input_names(plan.steps)],
        [tensors[point.after] for point in plan.points],
    )
    copy_weights(source, model)
    return model


def wrap(
    plan: Plan,
    source: keras.Model,
    method: Method,
    input_qparams: QParams | Mapping[str, QParams] | None,
) -> keras.Model:
    """Builds the fake-quantized model of a calibrated plan, with the source's weights.

    Args:
        input_qparams: the grid of the model's inputs, one for all or by the input's name; None
            leaves them in float, and so does a name that is missing.
    Returns: a functional model with the same layer names, models inside it opened; quantizers
        that replace no ReLU are called "LAYER_quant", that of an only input "input_quant".
    """
    names = _quantizer_names(plan)
    quantizers = {point: method.activation(names[point], point.grid) for point in plan.points}

    def make_kernel(step: Step) -> keras.layers.Layer:
        spec, layer = plan.weights[step.layer_name], _clone(step)
        return layer if spec.is_float else method.wrap(layer, spec)

    grids = _input_grids(plan, input_qparams)
    tensors = _assemble(plan, quantizers, input_layers=grids, make_kernel=make_kernel)
    given, wanted = (
        [tensors[name] for name in names]
        for names in (input_names(plan.steps), output_names(plan.steps))
    )
    model = keras.Model(_bare(given), _bare(wanted), name=source.name)
    copy_weights(source, model)
    return model


def _bare(items: list[Any]) -> Any:
    """The only item, which then is no list for Keras either; or all of them."""
    return items if len(items) > 1 else items[0]


def _input_grids(plan: Plan, given: QParams | Mapping[str, QParams] | None) -> dict[str, InputGrid]:
    """The layers that round the model's inputs, by the input's name."""
    names = input_names(plan.steps)
    grids = dict.fromkeys(names, given) if isinstance(given, QParams) else given or {}
    return {
        name: InputGrid(
            grid.scale, grid.qmin, grid.qmax, name=f"{name if len(names) > 1 else 'input'}_quant"
        )
        for name, grid in grids.items()
    }


def _quantizer_names(plan: Plan) -> dict[Point, str]:
    by_name = {step.name: step for step in plan.steps}
    replaced = {p.after for p in plan.points if not p.readers and _is_plain_relu(by_name[p.after])}
    taken = {_layer_name(step) for step in plan.steps if step.name not in replaced}
    names: dict[Point, str] = {}
    for point in plan.points:
        wanted = _layer_name(by_name[point.after])
        if point.readers:
            wanted += f"_a{point.grid.bits}"
        elif point.after not in replaced:
            wanted += "_quant"
        names[point] = free_name(wanted, taken)
        taken.add(names[point])
    return names


def _is_plain_relu(step: Step) -> bool:
    """Whether an unsigned quantizer does all that the step does: what starts at 0 is a ReLU."""
    return step.kind == "relu" and step.max_value is None


def _layer_name(step: Step) -> str:
    name = "relu" if step.function is None else getattr(step.function, "__name__", "")
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
    if step.kind == "lookup" and step.function is not step.layer:
        return keras.layers.Activation(step.function, name=_layer_name(step))
    return type(step.layer).from_config({**step.layer.get_config(), "name": step.layer_name})


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copies the weights of layers, or of their parts, that have one name in both models."""
    layers = layers_by_name(source)
    parts = {call.layer_name: call.layer for call in unfold_calls(list_calls(source))}
    for name, layer in layers_by_name(target).items():
        given = (layers if type(layer).__name__ in SHORTHANDS else parts).get(name)
        if given is not None and layer.weights:
            layer.set_weights(given.get_weights())

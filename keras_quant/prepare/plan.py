"""What a scheme means for one model: the bits of its kernels, and where activations are rounded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from keras_quant.errors import LoweringError
from keras_quant.methods import load_method
from keras_quant.methods.readers import is_quantized
from keras_quant.methods.rules import check_methods
from keras_quant.model.operations import COMPUTE, Operations, Quantizer, describe
from keras_quant.prepare.blocks import as_scheme_block, group_blocks
from keras_quant.prepare.points import Point, find_points
from keras_quant.qparams import QParams
from keras_quant.schemes.scheme import MethodSpec, QuantSpec, Scheme, resolve
from keras_quant.tf import keras


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """What a scheme means for one model.

    Attributes:
        operations: the float model's.
        weights: for the name of each layer with a kernel what the kernel gets.
        points: where activations are rounded.
        methods: by the name of each layer whose rule names a method that method.
        grids: by the number of a group of points its scale and zero point, where calibrated.
        input_spec: width of the model's inputs.
        input_calibrator: that chooses their scales; None means the run's.
        in_float: names of the layers that compute in float whatever they read.
    """

    operations: Operations
    weights: Mapping[str, QuantSpec]
    points: tuple[Point, ...]
    input_spec: QuantSpec
    input_calibrator: str | None = None
    in_float: frozenset[str] = frozenset()
    methods: Mapping[str, MethodSpec] = field(default_factory=dict)
    grids: Mapping[int, QParams] = field(default_factory=dict)

    def grid_of(self, point: Point) -> QParams:
        """What a point rounds to; of scale 1 where it is not calibrated."""
        found = self.grids.get(point.group)
        return point.spec.at(found.scale, found.zero_point) if found else point.spec.at()

    @property
    def float_layers(self) -> tuple[str, ...]:
        """Layers whose kernel stays in float, or all that they compute."""
        kept = {name for name, spec in self.weights.items() if spec.is_float} | self.in_float
        return tuple(dict.fromkeys(s.layer_name for s in self.operations if s.layer_name in kept))


def plan(model: keras.Model, scheme: Scheme) -> Plan:
    """Applies a scheme to a float model.

    Raises:
        SchemeError: rules that match nothing, or name a method or options that are not known.
        LoweringError: the model has layers that are not supported, or is quantized already.
    """
    check_methods(scheme)
    operations = describe(model)
    quantized = [s for s in operations if isinstance(s, Quantizer) or is_quantized(s.layer)]
    if quantized:
        names = dict.fromkeys(s.owner or s.name for s in quantized)
        raise LoweringError(
            f"model {model.name} is quantized already ({', '.join(names)}): give the float "
            "model, and say the bits in the scheme; kq export takes quantized models as they are"
        )
    blocks = group_blocks(operations)
    # What "@last" means: of several outputs the last one's, whatever else was called after it.
    by_output = sorted(blocks, key=lambda block: operations.outputs[-1] in [s.name for s in block])
    bits = resolve(scheme, [as_scheme_block(block) for block in by_output])
    in_float = frozenset(name for name, found in bits.items() if found.in_float)
    heads = [block[0] for block in blocks]
    inputs = bits[operations.in_order[0].layer_name]
    return Plan(
        operations=operations,
        weights={s.layer_name: bits[s.layer_name].weight for s in heads if s.kind in COMPUTE},
        points=find_points(operations, blocks, bits, in_float),
        input_spec=inputs.activation,
        input_calibrator=inputs.calibrator,
        in_float=in_float,
        methods={name: found.method for name, found in bits.items() if found.method},
    )


def with_real_steps(plan: Plan, method: str) -> Plan:
    """Frees the scales of activations whose method learns or fits steps of any size.

    Args:
        method: a name of METHODS, of what no rule names another for.
    """
    points = tuple(
        dataclasses.replace(point, spec=dataclasses.replace(point.spec, power_of_two=False))
        if load_method(point.method.name if point.method else method).real_steps
        else point
        for point in plan.points
    )
    return dataclasses.replace(plan, points=points)


def with_grids(plan: Plan, grids: Mapping[int, QParams]) -> Plan:
    """Puts calibrated grids into a plan.

    Args:
        grids: by the number of each group of points its scale, rounded to float32 as Keras
            computes with it, and its zero point; the codes are those of each point's spec.
    Raises:
        KeyError: a group is missing.
    """
    rounded = {
        point.group: dataclasses.replace(
            grids[point.group], scale=float(np.float32(grids[point.group].scale))
        )
        for point in plan.points
    }
    return dataclasses.replace(plan, grids=rounded)

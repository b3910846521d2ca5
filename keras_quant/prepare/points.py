"""Where activations are rounded, and with which bits.

Quantizers go after each block (a convolution or dense layer with its batch norm and ReLU, an
addition, an average), unless its values leave the model; in front of a Concatenate that joins an
input of the model with codes; and in front of a layer whose input is to have fewer bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from keras_quant.model.operations import (
    AVERAGE,
    COMPUTE,
    PASSING,
    Lookup,
    Operation,
    Operations,
)
from keras_quant.model.pointwise import find_named, is_nonnegative
from keras_quant.prepare.ties import tie, widened
from keras_quant.qparams import GridSpec
from keras_quant.schemes.scheme import BlockBits, MethodSpec, QuantSpec
from keras_quant.zoo.halting import SPANS

# An integer kernel ends at the highest code of 8 bits by itself, so a bound there costs nothing.
BOUNDED_BITS = 8
LOOKUP_BITS = 8  # what a function of one value reads; a table of 256 entries costs the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A place where a quantizer goes.

    Attributes:
        after: name of the operation whose output it rounds.
        spec: which codes it may give.
        group: points of one group share their scale and zero point, which calibration finds.
        is_branch: feeds additions only, so it follows the step of their sum.
        readers: names of the only operations that read the rounded values; () means all that come
            after.
        method: that rounds it; None means the run's.
        calibrator: that chooses its scale; None means the run's.
    """

    after: str
    spec: GridSpec
    group: int
    is_branch: bool = False
    readers: tuple[str, ...] = ()
    method: MethodSpec | None = None
    calibrator: str | None = None


def find_points(
    operations: Operations,
    blocks: Sequence[Sequence[Operation]],
    bits: Mapping[str, BlockBits],
    in_float: Collection[str],
) -> tuple[Point, ...]:
    """Finds all places where quantizers go.

    Args:
        operations: the model's.
        blocks: what `group_blocks` gives.
        bits: what the scheme says, by layer name.
        in_float: names of layers that compute in float.
    """
    tied = tie(operations, blocks, _specs(operations, blocks, bits), in_float)
    bits_of = {block[-1].name: bits[block[0].layer_name] for block in blocks}
    points = tuple(
        Point(
            after=name,
            spec=found.spec,
            group=found.group,
            is_branch=found.is_branch,
            method=bits_of[name].method,
            calibrator=bits_of[name].calibrator,
        )
        for name, found in tied.items()
    )
    points += _joined_inputs(operations, points)
    return points + _input_points(operations, points, bits)


def _specs(
    operations: Operations, blocks: Sequence[Sequence[Operation]], bits: Mapping[str, BlockBits]
) -> dict[str, GridSpec]:
    """What the scheme says of each operation behind which values are rounded."""
    nonnegative = _nonnegative(operations)
    found = {}
    for block in blocks:
        spec, tail = bits[_width_of(block, operations)].activation, block[-1]
        readers = operations.users(tail.name)
        leaves_model = all(_ends_model(reader, operations) for reader in readers)
        if tail.kind == "input" or spec.is_float or leaves_model:
            continue
        looked_up = any(r.kind == "lookup" and not bits[r.layer_name].in_float for r in readers)
        bits_of_tail = LOOKUP_BITS if looked_up else spec.bits
        signed = tail.name not in nonnegative
        codes = _codes(dataclasses.replace(spec, bits=bits_of_tail), signed=signed)
        bound = None if signed else _bound(tail, readers, bits, codes)
        span = SPANS.get(tail.function) if isinstance(tail, Lookup) else None
        found[tail.name] = dataclasses.replace(codes, bound=bound, span=span)
    return found


def _codes(spec: QuantSpec, *, signed: bool) -> GridSpec:
    """What a scheme's spec means for values that reach below zero, or do not."""
    # One signed bit would be 0 alone; two in narrow range are -1, 0, +1.
    bits = max(2, spec.bits) if signed and spec.symmetric else spec.bits
    return GridSpec(
        bits=bits,
        signed=signed,
        narrow_range=signed and spec.symmetric and bits < 8,
        symmetric=spec.symmetric,
        power_of_two=spec.power_of_two,
    )


def _bound(
    operation: Operation,
    readers: Sequence[Operation],
    bits: Mapping[str, BlockBits],
    codes: GridSpec,
) -> float | None:
    """Where a ReLU6 ends, if its scale may be any, or its values are read by kernels alone.

    Kernels take any scale. What adds, averages or rounds codes again wants powers of two.
    """
    to_kernels = codes.bits == BOUNDED_BITS and all(
        r.kind in COMPUTE and bits[r.layer_name].input.bits >= BOUNDED_BITS for r in readers
    )
    free = to_kernels or not codes.power_of_two
    return operation.max_value if operation.kind == "relu" and free else None


def _width_of(block: Sequence[Operation], operations: Operations) -> str:
    """The layer whose bits a block's values get: a batch norm keeps the width of an input."""
    head = block[0]
    if head.kind == "batch_norm":
        sources = [operations.by_name[name] for name in operations.read_by(head)]
        if all(source.kind == "input" for source in sources):
            return sources[0].layer_name
    return head.layer_name


def _ends_model(operation: Operation, operations: Operations) -> bool:
    """Whether it turns logits, left in float, into what the model puts out, or puts that out."""
    if isinstance(operation, Lookup):
        put_out = all(reader.kind == "output" for reader in operations.users(operation.name))
        return put_out and find_named(operation.function) is not None
    return operation.kind in ("softmax", "output")


def _nonnegative(operations: Operations) -> set[str]:
    names: set[str] = set()
    for operation in operations:
        inherits = operation.kind in ("add", "multiply", *AVERAGE, *PASSING)
        rectified = operation.kind == "relu" or (
            isinstance(operation, Lookup) and is_nonnegative(operation.function)
        )
        if rectified or (inherits and all(name in names for name in operation.inputs)):
            names.add(operation.name)
    return names


def _joined_inputs(operations: Operations, points: Sequence[Point]) -> tuple[Point, ...]:
    """Where inputs of the model are rounded to the step of what they are concatenated with."""
    point_of = {point.after: point for point in points}
    found = []
    for operation in operations:
        sources = {name: operations.sources(name) for name in operation.inputs}
        members = [point_of[n] for names in sources.values() for n in names if n in point_of]
        if operation.kind != "concat" or not members:
            continue
        shared = members[0].spec
        bits = max(point.spec.bits for point in members)
        spec = widened(shared, max(2, bits) if shared.symmetric else bits, signed=True)
        found += [
            dataclasses.replace(
                members[0], after=name, spec=spec, is_branch=False, readers=(operation.name,)
            )
            for name, names in sources.items()
            if all(operations.by_name[source].kind == "input" for source in names)
        ]
    return tuple(found)


def _input_points(
    operations: Operations, points: Sequence[Point], bits: Mapping[str, BlockBits]
) -> tuple[Point, ...]:
    """Where values are rounded again because they are wider than their reader's input."""
    spec_of = {point.after: point.spec for point in points if not point.readers}
    found: dict[tuple[str, GridSpec, MethodSpec | None], list[str]] = {}
    for operation in operations:
        if operation.kind not in COMPUTE:
            continue
        wanted, sources = bits[operation.layer_name].input, operations.read_by(operation)
        given = [spec_of[name] for name in sources if name in spec_of]
        if not given or wanted.bits >= max(spec.bits for spec in given):
            continue
        spec = _codes(wanted, signed=any(spec.signed for spec in given))
        key = operation.inputs[0], spec, bits[operation.layer_name].method
        found.setdefault(key, []).append(operation.name)
    first = 1 + max((point.group for point in points), default=-1)
    return tuple(
        Point(after=after, spec=spec, group=first + number, readers=tuple(readers), method=method)
        for number, ((after, spec, method), readers) in enumerate(found.items())
    )

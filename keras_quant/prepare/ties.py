"""Which activations must share one step, and how wide and signed they then are.

* Around an addition: codes on one grid are added without rounding.
* In front of a Concatenate: its codes mean the same in all channels.
* Around the calls of a layer that is called more than once: they have one bias, which integers of
  different steps would say differently.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from keras_quant.model.operations import COMPUTE, Operation, Operations
from keras_quant.qparams import GridSpec

BRANCH_BITS = 8
_BRANCH = GridSpec(bits=BRANCH_BITS, signed=True)

Specs = Mapping[str, GridSpec]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tied:
    """What ties make of a rounded activation.

    Attributes:
        group: activations of one group share their scale and zero point.
        spec: the codes that they then get.
        is_branch: feeds additions only, so it follows the step of their sum.
    """

    group: int
    spec: GridSpec
    is_branch: bool


def tie(
    operations: Operations,
    blocks: Sequence[Sequence[Operation]],
    specs: Specs,
    in_float: Collection[str],
) -> dict[str, Tied]:
    """Ties rounded activations.

    Args:
        operations: the model's.
        blocks: operations that are quantized as one; a layer with its batch norm, say.
        specs: by the name of the operation that is rounded, in order, what its scheme says.
        in_float: names of layers that compute in float, and tie nothing.
    Returns: for each name in specs what becomes of it.
    """
    sums = {
        operation.name: _around_addition(operation, operations, specs)
        for operation in operations
        if operation.kind == "add" and operation.layer_name not in in_float
    }
    sums = {name: around for name, around in sums.items() if _all_in(specs, around)}
    joined = [
        _joined(operation, operations) for operation in operations if operation.kind == "concat"
    ]
    joined = [names for names in joined if _all_in(specs, names)]
    group = _groups(specs, [*sums.values(), *joined, *_around_calls(blocks, operations, specs)])
    branches = {
        name
        for name, spec in specs.items()
        if spec.signed and all(r.name in sums for r in operations.users(name))
    }
    beside_signed = _beside_signed(operations, specs)
    common = {}
    for number in set(group.values()):
        members = {name for name in specs if group[name] == number}
        common[number] = _common([specs[name] for name in members - branches or members])
    tied = {}
    for name, spec in specs.items():
        shared = common[group[name]]
        fewer = shared.symmetric and name in beside_signed
        codes = widened(shared, max(1, shared.bits - fewer), signed=spec.signed)
        tied[name] = Tied(
            group=group[name],
            spec=replace(
                replace(_BRANCH, power_of_two=shared.power_of_two) if name in branches else codes,
                span=spec.span,
            ),
            is_branch=name in branches,
        )
    return tied


def _all_in(specs: Specs, names: Sequence[str]) -> bool:
    return all(name in specs for name in names)


def _around_addition(operation: Operation, operations: Operations, specs: Specs) -> list[str]:
    """What an addition reads, and the operation behind which its sum is rounded: it or its ReLU."""
    names, readers = operations.read_by(operation), operations.readers[operation.name]
    if operation.name not in specs and len(readers) == 1 and readers[0].kind == "relu":
        return [*names, readers[0].name]
    return [*names, operation.name]


def _joined(operation: Operation, operations: Operations) -> list[str]:
    """What a Concatenate reads, but for the model's inputs, which are rounded again for it."""
    return [
        name for name in operations.read_by(operation) if operations.by_name[name].kind != "input"
    ]


def _around_calls(
    blocks: Sequence[Sequence[Operation]], operations: Operations, specs: Specs
) -> Iterator[list[str]]:
    """What the calls read that share a bias, and what they put out."""
    calls: dict[str, list[Sequence[Operation]]] = defaultdict(list)
    for block in blocks:
        owners = [operation for operation in block if operation.kind in (*COMPUTE, "batch_norm")]
        if owners:
            calls[owners[-1].layer_name].append(block)
    for sharing in (blocks for blocks in calls.values() if len(blocks) > 1):
        read = [name for block in sharing for name in operations.read_by(block[0])]
        for names in (read, [block[-1].name for block in sharing]):
            yield [name for name in names if name in specs]


def _groups(specs: Specs, ties: Sequence[Sequence[str]]) -> dict[str, int]:
    """The number of each name's group, equal for those that are tied, however far round."""
    group = {name: number for number, name in enumerate(specs)}
    for names in ties:
        numbers = {group[name] for name in names}
        group = {n: min(numbers) if g in numbers else g for n, g in group.items()}
    return group


def _beside_signed(operations: Operations, specs: Specs) -> set[str]:
    """Activations without negative codes that are joined with some that have them.

    They get one bit less: both then end at one code, and together have the signed ones' bits.
    """
    found: set[str] = set()
    for operation in operations:
        if operation.kind == "concat":
            names = operations.read_by(operation)
            unsigned = {name for name in names if name in specs and not specs[name].signed}
            found |= unsigned if len(unsigned) < len(names) else set()
    return found


def _common(members: Sequence[GridSpec]) -> GridSpec:
    """What the codes of one group have in common; a word that frees one member frees them all."""
    bounds = {spec.bound for spec in members}
    return GridSpec(
        bits=max(spec.bits for spec in members),
        signed=any(spec.signed for spec in members),
        symmetric=all(spec.symmetric for spec in members),
        power_of_two=all(spec.power_of_two for spec in members),
        bound=bounds.pop() if len(bounds) == 1 else None,
    )


def widened(spec: GridSpec, bits: int, *, signed: bool) -> GridSpec:
    """The same kind of codes, of other bits or signs: one scale for all leaves no other choice."""
    return replace(
        spec,
        bits=bits,
        signed=signed,
        narrow_range=signed and spec.symmetric and bits < 8,
        bound=None if signed else spec.bound,
    )

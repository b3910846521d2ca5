"""Parts of a quantized model whose kernels are rounded together: layers, or residual blocks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from keras_quant.methods.layers import FixedGrid
from keras_quant.model.topology import Call
from keras_quant.tf import keras

# A bottleneck with its shortcut has four kernels, an inverted bottleneck with a gate five; a region
# of many more, as around a U-Net's outermost concatenation, is no block but a model.
MOST_KERNELS = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unit:
    """Calls that read one value and give one.

    Attributes:
        calls: in order; nothing else reads what they put out, but for the last.
        source: name of the call whose value they read.
        kernels: names of those whose kernels are rounded, at least one.
    """

    calls: tuple[Call, ...]
    source: str
    kernels: tuple[str, ...]

    @property
    def tail(self) -> Call:
        """The call whose value is to be as in the float model."""
        return self.calls[-1]


def find_units(
    calls: Sequence[Call], kernels: Collection[str], *, together: Collection[str] = ()
) -> tuple[Unit, ...]:
    """Divides a model into units: each kernel is in one.

    A layer has the batch norms, ReLU and quantizer with it that alone read it. A block is what lies
    between two places that all values go through, one behind the other: a residual block, Li et
    al., "BRECQ" (2021), section 3.2, with its shortcut, addition and the ReLU behind; of those that
    lie inside each other the outermost of no more than MOST_KERNELS.

    Args:
        calls: a quantized model's, in order.
        kernels: names of calls.
        together: those of them that may be in a unit with others, which is a block then; what is in
            no block is a unit by layer.
    Returns: in the model's order.
    """
    readers = _readers(calls)
    found = _blocks(calls, kernels, together, readers) if together else []
    taken = {call.name for unit in found for call in unit.calls}
    for call in calls:
        if call.name in kernels and call.name not in taken:
            chain = (call, *_tail(call, readers))
            found.append(Unit(calls=chain, source=call.inputs[0], kernels=(call.name,)))
    places = {call.name: place for place, call in enumerate(calls)}
    return tuple(sorted(found, key=lambda unit: places[unit.calls[0].name]))


def unit_by_unit(calls: Sequence[Call], units: Iterable[Unit]) -> list[Call]:
    """Calls in an order in which those of a unit follow each other."""
    unit_of = {call.name: unit for unit in units for call in unit.calls}
    ordered: dict[str, Call] = {}
    for call in calls:
        unit = unit_of.get(call.name)
        ordered |= {c.name: c for c in (unit.calls if unit else (call,)) if c.name not in ordered}
    return list(ordered.values())


def _readers(calls: Sequence[Call]) -> Mapping[str, list[Call]]:
    """By the name of each call those that read its value."""
    readers: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        for name in dict.fromkeys(call.inputs):
            readers[name].append(call)
    return readers


def _tail(call: Call, readers: Mapping[str, list[Call]]) -> list[Call]:
    """The batch norms, then the ReLU, then the quantizer that alone read a call."""
    found: list[Call] = []
    stage = 0
    while not call.outputs and len(readers[call.name]) == 1:
        (call,) = readers[call.name]
        here = next((i for i, kind in enumerate(_TAIL) if isinstance(call.layer, kind)), -1)
        if here < stage:
            break
        found.append(call)
        stage = here + (here > 0)  # there may be several batch norms
    return found


_TAIL = (keras.layers.BatchNormalization, keras.layers.ReLU, FixedGrid)


def _blocks(
    calls: Sequence[Call],
    kernels: Collection[str],
    together: Collection[str],
    readers: Mapping[str, list[Call]],
) -> list[Unit]:
    """Those with the most kernels first, no two of which have a call in common."""
    regions = _regions(calls, kernels, readers)
    found = [u for u in regions if len(u.kernels) > 1 and {*u.kernels} <= {*together}]
    chosen: list[Unit] = []
    taken: set[str] = set()
    for unit in sorted(found, key=lambda unit: -len(unit.kernels)):
        names = {call.name for call in unit.calls}
        if len(unit.kernels) <= MOST_KERNELS and not names & taken:
            chosen.append(unit)
            taken |= names
    return chosen


def _regions(
    calls: Sequence[Call], kernels: Collection[str], readers: Mapping[str, list[Call]]
) -> Iterable[Unit]:
    """What lies between each call that joins values and the last one that all of them come from."""
    entry = _dominators(calls)
    by_name = {call.name: call for call in calls}
    for join in calls:
        source = entry[join.name]
        if len(set(join.inputs)) < 2 or source is None:
            continue
        inside = {join.name}
        waiting = [join.name]
        while waiting:
            for name in by_name[waiting.pop()].inputs:
                if name != source and name not in inside:
                    inside.add(name)
                    waiting.append(name)
        others = inside - {join.name}
        leaks = any(
            by_name[name].outputs or any(reader.name not in inside for reader in readers[name])
            for name in others
        )
        if not leaks:
            chain = (*(call for call in calls if call.name in inside), *_tail(join, readers))
            rounded = tuple(call.name for call in chain if call.name in kernels)
            yield Unit(calls=chain, source=source, kernels=rounded)


def _dominators(calls: Sequence[Call]) -> dict[str, str | None]:
    """For each call the last other one that all values it is computed of go through.

    The immediate dominators of Cooper et al., "A Simple, Fast Dominance Algorithm" (2001), whose
    one pass in topological order is enough without circles. None: there is none.
    """
    found: dict[str, str | None] = {}
    depth: dict[str | None, int] = {None: 0}
    for call in calls:
        common: str | None = call.inputs[0] if call.inputs else None
        for other in call.inputs[1:]:
            here: str | None = other
            while common != here:
                if depth[common] >= depth[here]:
                    common = found[common] if common is not None else None
                else:
                    here = found[here] if here is not None else None
        found[call.name] = common
        depth[call.name] = depth[common] + 1
    return found

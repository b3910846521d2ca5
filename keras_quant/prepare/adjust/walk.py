"""Layer by layer through a quantized model and its float model, on the same images.

What each layer with a kernel reads is what the quantized layers before it give, as they are by
then: so what is changed in one of them is known to all that follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_quant.model.operations import COMPUTE, Operation
from keras_quant.model.topology import Call, list_calls
from keras_quant.prepare.adjust.units import Unit, find_units, unit_by_unit
from keras_quant.prepare.plan import Plan
from keras_quant.prepare.wrap import split_float
from keras_quant.tf import keras, tf

# Of one tensor; a walk holds some at a time, of either model.
TENSOR_BYTES = 2**27
# Of the images themselves.
IMAGES_BYTES = 2**28
# By how much more images a walk goes on, or by all that are left: they go all the way again.
GROWTH = 1.5
# Of one that a layer reads at once.
BATCH_BYTES = 2**26


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Site:
    """A layer with a rounded kernel, and what it is to do.

    Attributes:
        operation: the plan's, of which the layer is called once.
        layer: of the quantized model; whoever looks at it may change its weights.
        read: float32 (images, ...): what it is given by the layers before it.
        wanted: float32 (images, ...): what it puts out in the float model.
    """

    operation: Operation
    layer: keras.layers.Layer
    read: np.ndarray
    wanted: np.ndarray


class Walk:
    """Both models, on the same images, unit by unit in their order.

    It begins with so many images as memory holds of the largest tensor. Where tensors get smaller,
    as they do in most nets, `grow` takes more of them through all that lies behind.

    Args:
        plan: of the source.
        model: wrapped, with the plan's names; its weights may be changed as the walk goes on.
        images: float32 for each input, as the model takes them.
        together: names of operations whose kernels are rounded together where they are in one
            block, see `find_units`.
    """

    def __init__(
        self,
        plan: Plan,
        source: keras.Model,
        model: keras.Model,
        images: Sequence[np.ndarray],
        *,
        together: Collection[str] = (),
    ) -> None:
        self._sites = {operation.name: operation for operation in rounded_sites(plan)}
        calls = list_calls(model)
        self.units = find_units(calls, self._sites, together=together)
        self._calls = {call.name: call for call in calls}
        plain = list_calls(split_float(plan, source, plan.operations.outputs))
        self._plain = {call.name for call in plain}
        asked = [name for unit in self.units for name in self._asked(unit)]
        ordered = unit_by_unit(calls, self.units)
        self._images, self._count = images, min(len(images[0]), held_images(ordered))
        first = [x[: self._count] for x in images]
        self._given = Values(ordered, first)
        self._wanted = Values(plain, first, asked=asked)

    def operation(self, name: str) -> Operation:
        """The plan's of a unit's kernel."""
        return self._sites[name]

    def grow(self) -> int:
        """Takes more images, if memory holds them from here on; between two units.

        Returns: how many there are by now.
        """
        most = min(len(self._images[0]), self._given.held_images())
        if most >= min(GROWTH * self._count, len(self._images[0])) and most > self._count:
            for values in (self._given, self._wanted):
                values.grow([x[self._count : most] for x in self._images], batch=self._count)
            self._count = most
        return self._count

    def read(self, unit: Unit) -> np.ndarray:
        """What a unit is given by the units before it."""
        return self._given.of(unit.source)

    def plain(self, unit: Unit) -> np.ndarray:
        """What a unit is given in the float model."""
        return self._wanted.of(self._same(unit.source))

    def wanted(self, unit: Unit) -> np.ndarray:
        """What a unit puts out in the float model, before it is rounded."""
        return self._wanted.of(self._same(unit.tail.name))

    def site(self, name: str) -> Site:
        """A layer of a unit, with what it reads as the layers before it are by now."""
        call = self._calls[name]
        return Site(
            operation=self._sites[name],
            layer=call.layer,
            read=self._given.of(call.inputs[0]),
            wanted=self._wanted.of(name),
        )

    def answered(self, name: str, values: np.ndarray) -> None:
        """Takes what a layer of a unit puts out as its weights are by now; it is not run again."""
        self._given.put(name, values)

    def again(self, unit: Unit, read: np.ndarray) -> None:
        """Forgets what a unit's calls put out before its kernels were rounded otherwise.

        Args:
            read: what `read` gave.
        """
        self._given.take_back(unit.calls, {unit.source: read})

    def leave(self, unit: Unit) -> None:
        """Lets go what only a unit needed; its kernels have been rounded."""
        for name in self._asked(unit):
            self._wanted.let_go(name)
        self._given.of(unit.tail.name)

    def _asked(self, unit: Unit) -> list[str]:
        """The float model's values that a unit may need, by their calls' names."""
        return [*unit.kernels, self._same(unit.source), self._same(unit.tail.name)]

    def _same(self, name: str) -> str:
        """The float model's call of the value that a quantized one's call gives, or rounds."""
        while name not in self._plain:
            name = self._calls[name].inputs[0]
        return name


def walk(
    plan: Plan,
    source: keras.Model,
    model: keras.Model,
    images: Sequence[np.ndarray],
    visit: Callable[[Site], None],
) -> None:
    """Visits the layers with rounded kernels, in order; those that are called once.

    Args:
        model: wrapped, with the plan's names; its weights are the visitor's to change.
        images: float32 for each input, as the model takes them; see `walked_images`.
    """
    found = Walk(plan, source, model, images)
    for unit in found.units:
        visit(found.site(unit.kernels[0]))
        found.leave(unit)


def rounded_sites(plan: Plan) -> tuple[Operation, ...]:
    """The operations with rounded kernels whose layers are called once."""
    calls = Counter(o.layer_name for o in plan.operations if o.kind in COMPUTE)
    return tuple(
        operation
        for operation in plan.operations
        if operation.kind in COMPUTE
        and calls[operation.layer_name] == 1
        and not plan.weights[operation.layer_name].is_float
    )


def walked_images(plan: Plan, most: int, *, is_growing: bool = False) -> int:
    """How many images a walk can hold in memory at once, at most.

    Args:
        is_growing: in its end; else all the way.
    """
    inputs = {*plan.operations.inputs}
    if is_growing:
        sizes = [4 * int(np.prod(o.shape)) for o in plan.operations if o.name in inputs]
        return max(1, min(most, IMAGES_BYTES // max(sizes)))
    largest = max(4 * int(np.prod(operation.shape)) for operation in plan.operations)
    return max(1, min(most, TENSOR_BYTES // largest))


def held_images(calls: Sequence[Call]) -> int:
    """Of how many images memory holds the values of calls, one at a time."""
    largest = max(4 * int(np.prod(call.shape)) for call in calls)
    return max(1, TENSOR_BYTES // largest)


def run(layer: keras.layers.Layer, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """What a layer makes of values, batch by batch: float32 (images, ...).

    Batches are as large as memory allows, as a layer may look for its kernel's scale in each.
    """
    found: np.ndarray | None = None
    batch = max(1, BATCH_BYTES // max(x[:1].nbytes for x in inputs))
    for start in range(0, len(inputs[0]), batch):
        part = [tf.constant(x[start : start + batch]) for x in inputs]
        values = np.asarray(layer(part if len(part) > 1 else part[0]), np.float32)
        if found is None:
            found = np.empty((len(inputs[0]), *values.shape[1:]), np.float32)
        found[start : start + batch] = values
    assert found is not None
    return found


class Values:
    """Values of a model's calls on some images: each kept until all that read it have.

    Args:
        calls: the model's, each after those that it reads.
        images: for each input.
        asked: names of calls that are to be let go, each as often as it is named.
    """

    def __init__(
        self, calls: Sequence[Call], images: Sequence[np.ndarray], asked: Sequence[str] = ()
    ) -> None:
        self._calls, self._next = calls, 0
        self._left = Counter(name for call in calls for name in call.inputs)
        self._left.update(asked)
        inputs = [call for call in calls if not call.inputs]
        self._values = {call.name: x for call, x in zip(inputs, images, strict=True)}

    def of(self, name: str) -> np.ndarray:
        """The value of a call that is still to be read, after those of all calls in front."""
        while name not in self._values:
            self._run()
        return self._values[name]

    def put(self, name: str, values: np.ndarray) -> None:
        """Takes the value of a call that was not run yet, after those of all calls in front."""
        while self._calls[self._next].name != name:
            self._run()
        self._follow(values)

    def _run(self) -> None:
        """The next call."""
        call = self._calls[self._next]
        read = [self._values[source] for source in call.inputs]
        self._follow(run(call.layer, read) if read else None)

    def _follow(self, values: np.ndarray | None) -> None:
        """The next call gives values; those that nothing else reads are forgotten."""
        call = self._calls[self._next]
        self._next += 1
        if values is not None:
            self._values[call.name] = values
        for source in call.inputs:
            self.let_go(source)

    def held_images(self) -> int:
        """Of how many images memory holds the values that there are, and those to come."""
        live = [call for call in self._calls if call.name in self._values and call.inputs]
        return held_images([*live, *self._calls[self._next :]] or self._calls)

    def grow(self, images: Sequence[np.ndarray], *, batch: int) -> None:
        """Takes more images to where the others are.

        Args:
            images: for each input.
            batch: so many at a time.
        """
        parts: dict[str, list[np.ndarray]] = {name: [x] for name, x in self._values.items()}
        for start in range(0, len(images[0]), batch):
            some = [x[start : start + batch] for x in images]
            behind = Values(self._calls, some, asked=list(self._values))
            while behind._next < self._next:
                behind._run()
            for name, found in parts.items():
                found.append(behind._values[name])
        self._values = {name: np.concatenate(found) for name, found in parts.items()}

    def take_back(self, calls: Sequence[Call], values: Mapping[str, np.ndarray]) -> None:
        """Forgets that calls were run, which follow each other and are the last that were.

        Args:
            values: that they read.
        """
        first = next(i for i, call in enumerate(self._calls) if call is calls[0])
        for call in self._calls[first : self._next]:
            self._left.update(call.inputs)
            self._values.pop(call.name, None)
        self._values.update(values)
        self._next = min(first, self._next)

    def let_go(self, name: str) -> None:
        """Forgets a value, once all that read or asked for it have."""
        self._left[name] -= 1
        if self._left[name] <= 0:
            self._values.pop(name, None)

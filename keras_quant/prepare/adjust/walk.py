"""Layer by layer through a quantized model and its float model, on the same images.

What each layer with a kernel reads is what the quantized layers before it give, as they are by
then: so what is changed in one of them is known to all that follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from keras_quant.model.operations import COMPUTE, Operation
from keras_quant.model.topology import list_calls
from keras_quant.prepare.adjust.units import Unit, find_units, unit_by_unit
from keras_quant.prepare.adjust.values import TENSOR_BYTES, Values, held_images
from keras_quant.prepare.plan import Plan
from keras_quant.prepare.wrap import split_float
from keras_quant.tf import keras

# Of the images themselves.
IMAGES_BYTES = 2**28
# By how much more images a walk goes on, or by all that are left: they go all the way again.
GROWTH = 1.5


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

    def grow(self, unit: Unit) -> int:
        """Takes more images, if memory holds them from a unit on, which is the next one.

        Returns: how many there are by now.
        """
        for read in (self.read, self.plain):
            read(unit)  # after what is pooled in front of a unit, tensors are small
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

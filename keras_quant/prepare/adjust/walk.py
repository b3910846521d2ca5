"""Layer by layer through a quantized model and its float model, on the same images.

What each layer with a kernel reads is what the quantized layers before it give, as they are by
then: so what is changed in one of them is known to all that follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_quant.model.operations import COMPUTE, Operation
from keras_quant.model.topology import Call, list_calls
from keras_quant.prepare.plan import Plan
from keras_quant.prepare.wrap import split_float
from keras_quant.tf import keras, tf

BATCH = 32
# Of one tensor; a walk holds some at a time, of either model.
TENSOR_BYTES = 2**28


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
    sites = {operation.name: operation for operation in rounded_sites(plan)}
    wanted = _Values(split_float(plan, source, list(sites)), images)
    given = _Values(model, images)
    for call in given.calls:
        if call.name in sites:
            site = Site(
                operation=sites[call.name],
                layer=call.layer,
                read=given.of(call.inputs[0]),
                wanted=wanted.of(call.name),
            )
            visit(site)
        given.of(call.name)


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


def walked_images(plan: Plan, most: int) -> int:
    """How many images a walk holds in memory at once, at most."""
    largest = max(4 * int(np.prod(operation.shape)) for operation in plan.operations)
    return max(1, min(most, TENSOR_BYTES // largest))


def run(layer: keras.layers.Layer, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """What a layer makes of values, batch by batch."""
    found = []
    for start in range(0, len(inputs[0]), BATCH):
        batch = [tf.constant(x[start : start + BATCH]) for x in inputs]
        found.append(np.asarray(layer(batch if len(batch) > 1 else batch[0]), np.float32))
    return np.concatenate(found)


class _Values:
    """Values of a model's calls on some images: each kept until all that read it have."""

    def __init__(self, model: keras.Model, images: Sequence[np.ndarray]) -> None:
        self.calls: list[Call] = list_calls(model)
        self._next = 0
        self._left = Counter(name for call in self.calls for name in call.inputs)
        for call in self.calls:  # what is put out is asked for from outside
            self._left[call.name] += bool(call.outputs)
        inputs = [call for call in self.calls if not call.inputs]
        self._values = {call.name: x for call, x in zip(inputs, images, strict=True)}

    def of(self, name: str) -> np.ndarray:
        """The value of a call, after those of all calls in front of it."""
        while name not in self._values:
            call = self.calls[self._next]
            self._next += 1
            if call.name not in self._values:
                read = [self._values[source] for source in call.inputs]
                self._values[call.name] = run(call.layer, read)
            for source in call.inputs:
                self._left[source] -= 1
                if not self._left[source]:
                    del self._values[source]
        return self._values[name]

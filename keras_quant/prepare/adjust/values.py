"""Values of a model's calls on some images, as long as something is to read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from keras_quant.model.topology import Call
from keras_quant.tf import keras, tf

# Of one tensor; a walk holds some at a time, of either model.
TENSOR_BYTES = 2**27
# Of one that a layer reads at once.
BATCH_BYTES = 2**26


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

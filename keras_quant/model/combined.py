"""Layers of several inputs that stand for others: calls of those take their places.

| layer | stands for |
|---|---|
| Add, Multiply of three or more | one of two after the other |
| Subtract | a BatchNormalization by -1, which a kernel in front of it takes in, and an Add |
| `a + b`, `a * b` | Add, Multiply |
| Average, Maximum | their inputs beside each other, and a pooling over each pixel's own |

Sums and differences of codes on one grid are codes on it, and the greatest of them is one of them.
So only where a product, or an average, is rounded to its grid, is anything rounded at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from keras_quant.model.norms import affine
from keras_quant.model.topology import Call, Shape, free_name
from keras_quant.tf import keras

Value = tuple[str, Shape]
"""A call's name, and the shape of what it gives."""


def split_combined(calls: Sequence[Call]) -> list[Call]:
    """Replaces calls of layers of the table; of those that cannot be said so, none.

    Returns: calls with unique names; the last of those that stand for one has its name.
    """
    taken = {name for call in calls for name in (call.name, call.layer_name)}
    found: list[Call] = []
    for call in calls:
        parts, split = _Parts(call, taken), _split_of(call)
        inputs = list(zip(call.inputs, call.input_shapes, strict=True))
        if split is not None:
            (split if len(inputs) > 1 else _pass_on)(parts, inputs)
        found += parts.calls or [call]
    return found


def _split_of(call: Call) -> _Split | None:
    """How a call is said in others; None where it is not."""
    symbol = getattr(call.layer, "symbol", "") or ""
    if type(call.layer).__name__ == "TFOpLambda":  # a + 1 reads one value
        fits = len(call.inputs) == 2 and not meets_batch(call)
        return _OPERATORS.get(symbol) if fits else None
    return _SPLITS.get(type(call.layer).__name__)


def meets_batch(call: Call) -> bool:
    """Whether a call of an operator lays the batch axis of one value beside another axis.

    TensorFlow aligns axes from the last on, so that values of fewer axes do; layers align batches.
    """
    symbol = getattr(call.layer, "symbol", "") or ""
    return symbol in _OPERATORS and len(set(map(len, call.input_shapes))) > 1


class _Parts:
    """The calls that stand for one."""

    def __init__(self, call: Call, taken: set[str]) -> None:
        self.calls: list[Call] = []
        self._call = call
        self._taken = taken

    def add(self, layer: keras.layers.Layer, inputs: Sequence[Value], *, last: bool) -> Value:
        """Calls a layer on values; on an only one without a list."""
        given = [keras.Input(shape) for _, shape in inputs]
        shape: Shape = tuple(layer(given if len(given) > 1 else given[0]).shape[1:])
        self.calls.append(
            replace(
                self._call,
                name=layer.name,
                layer_name=layer.name,
                layer=layer,
                inputs=tuple(name for name, _ in inputs),
                input_shapes=tuple(shape for _, shape in inputs),
                shape=shape,
                outputs=self._call.outputs if last else (),
                owner=self._call.owner or self._call.layer_name,
            )
        )
        return layer.name, shape

    def name(self, suffix: str) -> str:
        """A free name for a part."""
        name = free_name(f"{self._call.name}_{suffix}", self._taken)
        self._taken.add(name)
        return name

    @property
    def own_name(self) -> str:
        """Of the last part."""
        return self._call.name


_Split = Callable[[_Parts, list[Value]], None]
"""Adds the parts of a call for its inputs; none where it stays as it is."""


def _pass_on(parts: _Parts, inputs: list[Value]) -> None:
    parts.add(keras.layers.Activation("linear", name=parts.own_name), inputs, last=True)


def _by_twos(make: Callable[..., keras.layers.Layer]) -> _Split:
    """A layer of two of its inputs, and of what that gives and the next."""

    def split(parts: _Parts, inputs: list[Value]) -> None:
        if len(inputs) <= 2:
            return
        total, *others = inputs
        for place, value in enumerate(others, start=2):
            last = place == len(inputs)
            layer = make(name=parts.own_name if last else parts.name(f"of{place}"))
            total = parts.add(layer, [total, value], last=last)

    return split


def _operator(make: Callable[..., keras.layers.Layer]) -> _Split:
    """The layer that an operator between two tensors is."""

    def split(parts: _Parts, inputs: list[Value]) -> None:
        parts.add(make(name=parts.own_name), inputs, last=True)

    return split


def _subtract(parts: _Parts, inputs: list[Value]) -> None:
    first, second = inputs
    norm, weights = affine(second[1], gain=-1.0, shift=0.0, name=parts.name("negated"))
    negated = parts.add(norm, [second], last=False)
    norm.set_weights(weights)
    parts.add(keras.layers.Add(name=parts.own_name), [first, negated], last=True)


def _pooled(pool: Callable[..., keras.layers.Layer]) -> _Split:
    """Pixels in a column, the inputs' own in rows, which a pooling makes one each."""

    def split(parts: _Parts, inputs: list[Value]) -> None:
        shape, count = inputs[0][1], len(inputs)
        if len({shape for _, shape in inputs}) > 1 or None in shape:
            return
        column = (int(np.prod(shape[:-1])), 1, shape[-1])
        columns = [
            parts.add(keras.layers.Reshape(column, name=parts.name(f"in{n}")), [value], last=False)
            for n, value in enumerate(inputs)
        ]
        joined = keras.layers.Concatenate(axis=2, name=parts.name("joined"))
        pooled = pool((1, count), name=parts.name("pooled"))
        image = keras.layers.Reshape(shape, name=parts.own_name)
        rows = parts.add(joined, columns, last=False)
        parts.add(image, [parts.add(pooled, [rows], last=False)], last=True)

    return split


_SPLITS: dict[str, _Split] = {
    "Add": _by_twos(keras.layers.Add),
    "Average": _pooled(keras.layers.AveragePooling2D),
    "Maximum": _pooled(keras.layers.MaxPooling2D),
    "Multiply": _by_twos(keras.layers.Multiply),
    "Subtract": _subtract,
}
COMBINED = tuple(_SPLITS)

_OPERATORS: dict[str, _Split] = {
    "__operators__.add": _operator(keras.layers.Add),
    "math.add": _operator(keras.layers.Add),
    "math.multiply": _operator(keras.layers.Multiply),
}

"""Residual blocks of a model, and the model with switches that cut them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras_quant.model.operations import COMPUTE, Operation, Operations, describe
from keras_quant.model.rebuild import rebuild
from keras_quant.tf import keras, tf

# What may lie on a shortcut: rounding, and a projection with its batch norm, or a pooling.
_ON_SHORTCUTS = (
    *("quantizer", "batch_norm", "relu", "linear", "dropout", "pad", "avg_pool", "max_pool"),
    *COMPUTE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """An addition of a branch and a shortcut around it.

    Attributes:
        name: of the Add layer.
        shortcut: which of its two inputs is the shortcut, 0 or 1.
        is_identity: whether the shortcut computes nothing.
        link: names of the operations that only the shortcut needs.
        branch: likewise of the branch.
    """

    name: str
    shortcut: int
    is_identity: bool
    link: tuple[str, ...]
    branch: tuple[str, ...]


def residuals(model: keras.Model) -> tuple[Residual, ...]:
    """Finds the residual blocks of a model, quantized or not, in their order.

    A block is an Add of two values that come of one, of which the one, the shortcut, goes through
    fewer convolutions or dense layers than the other, one at most.

    Raises:
        LoweringError: the model has layers that are not supported.
    """
    operations = describe(model)
    place = {operation.name: number for number, operation in enumerate(operations)}
    before = _ancestors(operations)
    layers = {layer.name for layer in model.layers if type(layer).__name__ == "Add"}
    found = []
    for operation in operations:
        if operation.kind != "add" or operation.layer_name not in layers:
            continue
        one = _residual(operation, operations, before, place)
        if one is not None:
            found.append(one)
    return tuple(found)


def _ancestors(operations: Operations) -> dict[str, frozenset[str]]:
    """For each operation itself and all that it is computed from."""
    found: dict[str, frozenset[str]] = {}
    for operation in operations:
        found[operation.name] = frozenset({operation.name}).union(
            *(found[name] for name in operation.inputs)
        )
    return found


def _residual(
    operation: Operation,
    operations: Operations,
    before: dict[str, frozenset[str]],
    place: dict[str, int],
) -> Residual | None:
    sides = [before[name] for name in operation.inputs]
    if len(sides) != 2 or not sides[0] & sides[1]:
        return None
    fork = before[max(sides[0] & sides[1], key=place.__getitem__)]
    paths = [sorted(side - fork, key=place.__getitem__) for side in sides]
    kinds = [[operations.by_name[name].kind for name in path] for path in paths]
    computed = [sum(kind in COMPUTE for kind in one) for one in kinds]
    shortcut = computed.index(min(computed))
    is_plain = all(kind in _ON_SHORTCUTS for kind in kinds[shortcut])
    if computed[0] == computed[1] or computed[shortcut] > 1 or not is_plain:
        return None
    return Residual(
        name=operation.layer_name,
        shortcut=shortcut,
        is_identity=computed[shortcut] == 0,
        link=tuple(paths[shortcut]),
        branch=tuple(paths[1 - shortcut]),
    )


class Switches:
    """A model whose residual blocks can be cut, one by one, without being built again.

    Attributes:
        model: with all weights of the one that it was made of, which it shares.
    """

    def __init__(self, model: keras.Model, blocks: Sequence[Residual]) -> None:
        self._layers = {block.name: _SwitchedAdd(name=block.name) for block in blocks}
        self.model = rebuild(model, instead=self._layers)

    def set(self, kept: dict[str, tuple[float, float]]) -> None:
        """Says what each Add multiplies its two inputs by; (1, 1) where nothing is said."""
        for name, layer in self._layers.items():
            layer.factors.assign(kept.get(name, (1.0, 1.0)))


class _SwitchedAdd(keras.layers.Layer):  # type: ignore[misc]
    """Adds two values, each times a factor; factors of 0 and 1 are exact."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.factors = tf.Variable([1.0, 1.0], trainable=False)

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        first, second = inputs
        return first * self.factors[0] + second * self.factors[1]

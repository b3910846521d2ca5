"""What a node's scale and bias were made from, and what they become with other numbers."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from keras_quant.graph.ir import Node, Weight
from keras_quant.lower.signs import Signs, fold_signs
from keras_quant.lower.weights import Norm, fold_batch_norm
from keras_quant.methods.method import Movable
from keras_quant.tf import keras

Kernel = tuple[Weight, np.ndarray | None]
"""In the graph's layout; and its bias, (channels,) float64, real; None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NormFold:
    """A batch norm that is folded into a kernel.

    Attributes:
        movable: its variables that may be moved; None where there are none.
    """

    norm: Norm
    movable: Movable | None


Fold: TypeAlias = "NormFold | Signs"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Origin:
    """A kernel, and what its scale and bias were made from.

    Attributes:
        kernel: with all that is folded into it.
        unfolded: as its layer has it.
        movable: the layer's variables that may be moved; None where there are none.
        folds: what is folded into it, in order.
    """

    kernel: Kernel
    unfolded: Kernel
    movable: Movable | None
    folds: tuple[Fold, ...] = ()

    @property
    def bias(self) -> keras.Variable | None:
        """The (channels,) variable that is added last; None where nothing may move it."""
        return self._last[1].bias

    @property
    def gamma(self) -> keras.Variable | None:
        """The (channels,) variable that is multiplied by last, if it may be moved.

        That of the last batch norm; the kernel's own gain where none follows.
        """
        count, movable = self._last
        return movable.gamma if count == len(self.folds) else None

    @property
    def slope(self) -> np.ndarray:
        """What the kernel's bias moves by where `bias` does by 1, (channels,) float64, or ()."""
        count, _ = self._last
        gains = [f.norm.gain_and_shift()[0] for f in self.folds[count:] if isinstance(f, NormFold)]
        return functools.reduce(np.multiply, gains, np.ones(()))

    @property
    def variables(self) -> list[keras.Variable]:
        """All that may be moved of what this was made from, as often as it was used for it."""
        movables = [self.movable, *(f.movable for f in self.folds if isinstance(f, NormFold))]
        named = [(m.bias, m.gamma, m.kernel) for m in movables if m is not None]
        return [variable for found in named for variable in found if variable is not None]

    @property
    def _last(self) -> tuple[int, Movable]:
        """How many folds there are up to the last variable that may be moved, and which it is."""
        for count in range(len(self.folds), 0, -1):
            fold = self.folds[count - 1]
            if isinstance(fold, Signs):  # what is left of a value is no line of it
                return 0, Movable()
            if fold.movable is not None and fold.movable.bias is not None:
                return count, fold.movable
        return 0, self.movable or Movable()


def in_front_of_folds(kernel: Kernel, movable: Movable | None) -> Origin:
    """A kernel into which nothing is folded yet."""
    return Origin(kernel=kernel, unfolded=kernel, movable=movable)


def behind(origin: Origin, fold: Fold) -> Origin:
    """The kernel with what follows folded into it."""
    return replace(origin, kernel=_folded(origin.kernel, fold), folds=(*origin.folds, fold))


def with_variables(origin: Origin, *, bias: np.ndarray, gamma: np.ndarray | None) -> Kernel:
    """The kernel that lowering reads, had its variables other values.

    Args:
        bias: (channels,) float32, in place of that of `origin.bias`.
        gamma: likewise; None where there is none.
    """
    count, movable = origin._last
    kernel, folds = origin.unfolded, list(origin.folds)
    before = np.asarray(movable.bias)
    if count:
        fold = folds[count - 1]
        assert isinstance(fold, NormFold), fold
        norm = replace(fold.norm, beta=_moved(fold.norm.beta, before, bias))
        norm = norm if gamma is None else replace(norm, gamma=gamma)
        folds[count - 1] = replace(fold, norm=norm)
    else:
        weight = kernel[0] if gamma is None else movable.gamma.read(gamma)
        kernel = weight, _moved(kernel[1], before, bias).astype(np.float64)
    for fold in folds:
        kernel = _folded(kernel, fold)
    return kernel


def _moved(value: np.ndarray | None, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """What is added, where the variable moves; it may be the variable and something else."""
    if value is None or np.array_equal(value, before):
        return after
    moved: np.ndarray = value + (after.astype(np.float64) - before)
    return moved


def _folded(kernel: Kernel, fold: Fold) -> Kernel:
    if isinstance(fold, Signs):
        return fold_signs(*kernel, fold)
    return fold_batch_norm(*kernel, fold.norm)


def with_kernel(node: Node, kernel: Kernel, *, in_codes: bool) -> Node:
    """The node with a kernel and its bias.

    Args:
        in_codes: whether the node puts out codes; a bias that is added to reals is float32.
    """
    weight, bias = kernel
    if bias is not None and not in_codes:
        bias = bias.astype(np.float32)
    return replace(node, weight=weight, bias=bias)

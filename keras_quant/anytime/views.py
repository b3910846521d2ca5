"""Several views of one thing, by several cameras say: what an exit says of each becomes one answer.

DDNN, Teerapittayanon et al. 2017, section III.C: MP takes the largest score of each class over
the devices, AP the mean, and CC hands the scores of all to a linear layer. There that layer is
trained with the net; here behind it, see `concat`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from keras_quant.errors import DataError

AVERAGE, CONCAT = "average", "concat"

_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


def _largest(scores: np.ndarray) -> np.ndarray:
    most: np.ndarray = scores.max(axis=0)
    return most


def _mean(scores: np.ndarray) -> np.ndarray:
    mean: np.ndarray = scores.mean(axis=0, dtype=np.float32)
    return mean


AGGREGATIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "max": _largest,
    AVERAGE: _mean,
}
"""How the scores of views, float32 (views, classes), become those of the thing, (classes,)."""

NAMES = (*AGGREGATIONS, CONCAT)
"""Of all ways; CONCAT is the one that has to be learned."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """A linear layer on the scores that an exit gives of all views.

    Attributes:
        weights: float32 (views, classes, classes): what each score of each view, in the first two
            axes, adds to each class, in the last.
        bias: float32 (classes,).
    """

    weights: np.ndarray
    bias: np.ndarray

    def answer(self, scores: np.ndarray) -> np.ndarray:
        """One answer of all views, the same on every machine.

        A product of two float32 is exact in float64. They are added to the bias one after the
        other, view by view, so that each addition rounds as IEEE 754 says, whatever vectors, fused
        multiply-adds or BLAS a machine has; and the sum is rounded to float32 once.

        Args:
            scores: float32 (views, classes).
        Returns: float32 (classes,), held to the finite ones.
        Raises:
            DataError: these are other views or classes than it was learned for.
        """
        if scores.shape != self.weights.shape[:2]:
            views, classes = self.weights.shape[:2]
            raise DataError(
                f"the layer of {CONCAT} was learned for {views} views of {classes} classes; here "
                f"are {len(scores)} of {scores.shape[-1]}"
            )
        inputs = scores.reshape(-1, 1).astype(np.float64)
        products = inputs * self.weights.reshape(len(inputs), -1)
        sums = np.add.accumulate(np.concatenate([self.bias[None].astype(np.float64), products]))
        finite: np.ndarray = np.clip(sums[-1], -_LARGEST_FLOAT32, _LARGEST_FLOAT32)
        return finite.astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Concat:
    """The layers of all exits of a net, in order."""

    layers: tuple[Layer, ...]

    @property
    def sha256(self) -> str:
        """Of all weights and biases: by it two machines know that they have the same."""
        digest = hashlib.sha256()
        for layer in self.layers:
            for values in (layer.weights, layer.bias):
                digest.update(f"{values.shape}".encode())
                digest.update(values.astype("<f4").tobytes())
        return digest.hexdigest()


Aggregate: TypeAlias = str | Concat
"""How the answers to views become one: a key of AGGREGATIONS, or layers that were learned."""


def aggregated(scores: np.ndarray, how: Aggregate, *, exit_number: int) -> np.ndarray:
    """One answer of several.

    Args:
        scores: float32 (views, classes). Those of one view stay what they are where nothing was
            learned.
        exit_number: that they are of, from 0 on.
    Returns: float32 (classes,).
    Raises:
        DataError: layers were learned for other views or classes.
    """
    if isinstance(how, Concat):
        return how.layers[exit_number].answer(scores)
    one: np.ndarray = scores[0] if len(scores) == 1 else AGGREGATIONS[how](scores)
    return one

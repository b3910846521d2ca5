"""Counts how far a file's answers are from the reference's and from Keras', and what is allowed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from keras_quant.graph.ir import Graph
from keras_quant.qparams import QParams, dequantize

Arrays = Mapping[str, np.ndarray]

LOGIT_TOLERANCE = 2e-5
"""Largest difference of float outputs, in units of an image's largest (at least 1).

A head sums in float32, whose error grows with the terms and not with their sum.
"""

KERAS_TOLERANCE = 1e-3
"""Largest share of images, rounded up, whose top-1 may differ from Keras' own.

Keras computes in float32 what the graph computes in integers: at 5 bits and more, values
within its rounding error of a half may fall to the next code. Measured: no image in 10,000.
"""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What the batches compared so far came to.

    Attributes:
        images: how many images were compared.
        compared: codes, by tensor.
        different: those that are not the reference's, by tensor.
        logit_difference: see `parity.Parity`, as the others are.
        top1: images whose largest output is the reference's.
        keras_top1: images whose largest output is Keras' own.
    """

    images: int = 0
    compared: Counter[str] = field(default_factory=Counter)
    different: Counter[str] = field(default_factory=Counter)
    logit_difference: float = 0.0
    top1: int = 0
    keras_difference: float = 0.0
    keras_top1: int = 0

    def is_clean(self, codes_tolerance: float, *, with_keras: bool) -> bool:
        """Whether a file may pass; codes_tolerance: the largest share of other codes."""
        allowed = math.ceil(KERAS_TOLERANCE * self.images)
        if with_keras and self.images - self.keras_top1 > allowed:
            return False
        if codes_tolerance:
            few = self.different.total() <= codes_tolerance * self.compared.total()
            return few and self.images - self.top1 <= allowed
        exact = self.different.total() == 0 and self.top1 == self.images
        return exact and self.logit_difference <= LOGIT_TOLERANCE

    def add_codes(self, expected: Arrays, found: Arrays) -> None:
        """Counts a batch's codes, by tensor."""
        for name, codes in expected.items():
            self.compared[name] += codes.size
            self.different[name] += int(np.count_nonzero(codes != found[name]))

    def add_outputs(
        self, graph: Graph, expected: Arrays, found: Arrays, keras: np.ndarray | None
    ) -> None:
        """Counts how a batch's outputs answer, by name; keras: its first output, where known."""
        for name in graph.outputs:
            if graph.tensors[name].qparams is None:
                size = np.abs(expected[name]).max(axis=-1, keepdims=True)
                difference = (found[name] - expected[name]) / np.maximum(1, size)
                self.logit_difference = _largest(self.logit_difference, difference)
            else:
                self.add_codes({name: expected[name]}, found)
        logits = graph.outputs[0]
        self.top1 += _agreeing(found[logits], expected[logits])
        if keras is not None:
            reals = _reals(found[logits], graph.tensors[logits].qparams)
            self.keras_difference = _largest(self.keras_difference, reals - keras)
            self.keras_top1 += _agreeing(found[logits], keras)


def _reals(values: np.ndarray, qparams: QParams | None) -> np.ndarray:
    """What codes stand for; floats as they are."""
    return values if qparams is None else dequantize(values, qparams)


def _largest(so_far: float, difference: np.ndarray) -> float:
    """The larger magnitude; NaN stays, so that it cannot pass."""
    return float(np.maximum(so_far, np.abs(difference).max(initial=0)))


def _agreeing(found: np.ndarray, expected: np.ndarray) -> int:
    """How many images have their largest value at the same place; at each pixel, of a map."""
    same = found.argmax(-1) == expected.argmax(-1)
    return int(np.count_nonzero(same.reshape(len(same), -1).all(axis=1)))

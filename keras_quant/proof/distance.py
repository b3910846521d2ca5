"""How far some answers are from others, image by image."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from keras_quant.errors import DataError

LOGIT_TOLERANCE = 2e-5
"""Largest difference of float outputs, in units of an image's largest (at least 1).

A head sums in float32, whose error grows with the terms and not with their sum. Measured, of
Keras and the reference: at most 8e-7, in 30 nets (cnn, resnet8, ds_cnn, resnet20, mobilenet_v2, at
w1a2 to w8a8).
"""


@dataclass(slots=True, kw_only=True)
class Distance:
    """What comparing the answers to some images came to; answers are added, batch by batch.

    Attributes:
        images: how many.
        ranked: how many of them have vectors of several values to answer, as classifiers have.
        top1: ranked ones whose largest value is at the same place in both answers.
        torn: other ranked ones, where `expected` has at both places what two answers within
            LOGIT_TOLERANCE of each other may rank either way.
        near: images that differ by at most LOGIT_TOLERANCE.
        largest: largest difference, in magnitude; NaN where one is.
        scaled: the same, each image's divided by max(1, its largest magnitude in `expected`).
        squares: sum of the squared differences.
        power: sum of the squares of `expected`.
    """

    images: int = 0
    ranked: int = 0
    top1: int = 0
    torn: int = 0
    near: int = 0
    largest: float = 0.0
    scaled: float = 0.0
    squares: float = 0.0
    power: float = 0.0

    def add(self, found: np.ndarray, expected: np.ndarray) -> None:
        """Compares the answers to some images.

        Args:
            found, expected: reals (images, *shape).
        Raises:
            DataError: their shapes differ.
        """
        if found.shape != expected.shape:
            raise DataError(f"answers are {found.shape}; {expected.shape} is needed")
        flat = expected.reshape(len(expected), -1).astype(np.float64)
        difference = found.reshape(len(found), -1) - flat
        furthest = np.abs(difference).max(axis=1, initial=0)
        unit = np.maximum(1, np.abs(flat).max(axis=1, initial=0))
        scaled = furthest / unit
        self.images += len(found)
        if found.ndim == 2 and found.shape[1] > 1:
            self.ranked += len(found)
            places = found.argmax(axis=1)
            same = places == expected.argmax(axis=1)
            behind = flat.max(axis=1) - flat[np.arange(len(flat)), places]
            self.top1 += int(np.count_nonzero(same))
            self.torn += int(np.count_nonzero(~same & (behind <= 2 * LOGIT_TOLERANCE * unit)))
        self.near += int(np.count_nonzero(scaled <= LOGIT_TOLERANCE))
        self.largest = _larger(self.largest, furthest)
        self.scaled = _larger(self.scaled, scaled)
        self.squares += float(np.square(difference).sum())
        self.power += float(np.square(flat).sum())

    def merge(self, other: Distance) -> None:
        """Adds what comparing other images came to."""
        self.images += other.images
        self.ranked += other.ranked
        self.top1 += other.top1
        self.torn += other.torn
        self.near += other.near
        self.largest = float(np.maximum(self.largest, other.largest))
        self.scaled = float(np.maximum(self.scaled, other.scaled))
        self.squares += other.squares
        self.power += other.power

    @property
    def agreement(self) -> float | None:
        """Share of the images with the same largest value; None for other than vectors."""
        return self.top1 / self.ranked if self.ranked else None

    @property
    def relative(self) -> float:
        """Root mean square of the differences, divided by that of `expected`."""
        if not self.squares:
            return 0.0
        return math.sqrt(self.squares / self.power) if self.power else math.inf


def furthest(distances: Iterable[Distance]) -> float:
    """The largest `relative` of some; NaN where one is, so that it cannot pass."""
    return float(np.max([one.relative for one in distances]))


def _larger(so_far: float, found: np.ndarray) -> float:
    """The larger one; NaN stays, so that it cannot pass."""
    return float(np.maximum(so_far, found.max(initial=0)))

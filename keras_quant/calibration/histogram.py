"""Histograms that grow: how often values fell where, in memory that no number of values changes.

Bins are as wide as a power of two and start at 0, so that two neighbours are one bin of twice the
width. What was counted in fine bins is therefore counted in coarse ones too, exactly: a histogram
is the same whatever the order in which its values came, and in how many parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Bins of either sign. They reach to the largest value and less than twice as far, so that the step
# of an 8-bit tensor that just holds all values spans 16 bins or more; then rounding within a bin is
# 1/256 of the error of rounding to the step.
BINS = 2**13
# 2**-126 is the smallest normal float32: what is finer is one bin.
MIN_EXPONENT = -126
MAX_EXPONENT = 128 - (BINS.bit_length() - 1)  # bins up to 2**128, beyond the largest float32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Histogram:
    """How many values fell into each bin.

    Attributes:
        exponent: bins are 2**exponent wide: the finest, of MIN_EXPONENT or more, that hold all
            values.
        counts: int64 (2 * BINS,); bin i reaches from (i - BINS) * width to (i - BINS + 1) * width.
            What is on an edge is in the bin further from 0; values that are 0 are in none.
        zeros: how many values are exactly 0, as many are behind a ReLU.
    """

    exponent: int
    counts: np.ndarray
    zeros: int

    @property
    def width(self) -> float:
        return 2.0**self.exponent

    @property
    def edges(self) -> np.ndarray:
        """float64 (2 * BINS + 1,): where bins begin, and the last one ends."""
        return np.arange(-BINS, BINS + 1) * self.width


def empty() -> Histogram:
    """The histogram of no values."""
    return Histogram(exponent=MIN_EXPONENT, counts=np.zeros(2 * BINS, np.int64), zeros=0)


def histogram_of(values: np.ndarray) -> Histogram:
    """Counts values.

    Args:
        values: float32 of any shape, finite.
    """
    flat = values.reshape(-1)
    if not flat.size:
        return empty()
    exponent = _exponent(max(abs(float(flat.min())), abs(float(flat.max()))))
    # Exact but for what is smaller than a bin by far; the sign is read where it is not lost.
    places = (flat * np.float32(2.0**-exponent)).astype(np.int32) + BINS
    counts = np.bincount(places - (flat < 0), minlength=2 * BINS)
    zeros = int(np.count_nonzero(flat == 0))
    counts[BINS] -= zeros
    return Histogram(exponent=exponent, counts=counts, zeros=zeros)


def merge(histograms: Sequence[Histogram]) -> Histogram:
    """The histogram of the values of several."""
    exponent = max((found.exponent for found in histograms), default=MIN_EXPONENT)
    counts = np.zeros(2 * BINS, np.int64)
    for found in histograms:
        counts += _coarsened(found, exponent)
    return Histogram(
        exponent=exponent, counts=counts, zeros=sum(found.zeros for found in histograms)
    )


def _coarsened(histogram: Histogram, exponent: int) -> np.ndarray:
    """The counts of wider bins: each takes 2**doublings neighbours."""
    doublings = exponent - histogram.exponent
    filled = np.flatnonzero(histogram.counts)
    places = ((filled - BINS) >> min(doublings, 31)) + BINS
    counts = np.zeros(2 * BINS, np.int64)
    np.add.at(counts, places, histogram.counts[filled])
    return counts


def _exponent(largest: float) -> int:
    """That of the finest bins which hold all values up to a size; 2**k lies beyond bins up to k."""
    _, power = math.frexp(largest)  # largest < 2**power
    return max(MIN_EXPONENT, power - (BINS.bit_length() - 1)) if largest else MIN_EXPONENT

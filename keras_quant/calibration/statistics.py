"""What calibration knows of a tensor: range, moments, histogram, over any number of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from keras_quant.calibration.histogram import Histogram, empty, histogram_of, merge

CHUNK = 2**18  # values that are looked at together: they stay in a processor's cache


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moments:
    """Range and moments of values, each number float64: () of a tensor, (channels,) of channels.

    Attributes:
        count: how many values, of each channel where there are several.
        low: the smallest; +inf where there are none.
        high: the largest; -inf where there are none.
        total: their sum.
        squares: the sum of their squares.
    """

    count: int
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean; 0 where there are no values."""
        return self.total / max(1, self.count)

    @property
    def mean_square(self) -> NDArray[np.float64]:
        """The mean of the squares; 0 where there are no values."""
        return self.squares / max(1, self.count)

    @property
    def variance(self) -> NDArray[np.float64]:
        """The mean squared distance from the mean."""
        return np.maximum(0.0, self.mean_square - np.square(self.mean))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRanges:
    """The ranges of images, each on its own, added up.

    Attributes:
        images: how many.
        low: the sum of their smallest values.
        high: the sum of their largest.
    """

    images: int = 0
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TensorStatistics:
    """What was seen of a tensor.

    Attributes:
        moments: of all its values.
        histogram: of all its values.
        channels: moments of each channel; None where nobody asked for them.
        ranges: of its images; of none in files that were written without them.
    """

    moments: Moments
    histogram: Histogram
    channels: Moments | None = None
    ranges: ImageRanges = ImageRanges()


def nothing_seen() -> TensorStatistics:
    """The statistics of no values."""
    zero = np.zeros(())
    moments = Moments(count=0, low=zero + np.inf, high=zero - np.inf, total=zero, squares=zero)
    return TensorStatistics(moments=moments, histogram=empty())


def observe(values: np.ndarray, *, per_channel: bool = False) -> TensorStatistics:
    """The statistics of one batch's values.

    Args:
        values: float32 (images, ..., channels), finite, of one image or more.
        per_channel: keep moments of each channel too.
    """
    rows = values.reshape(-1, values.shape[-1])
    length = max(1, CHUNK // rows.shape[1])
    chunks = [rows[start : start + length] for start in range(0, len(rows), length)]
    found = combine([_observe(chunk, per_channel=per_channel) for chunk in chunks])
    return replace(found, ranges=_ranges(values.reshape(len(values), -1)))


def _ranges(images: np.ndarray) -> ImageRanges:
    low, high = (np.sum(end(axis=1), dtype=np.float64) for end in (images.min, images.max))
    return ImageRanges(images=len(images), low=float(low), high=float(high))


def _observe(rows: np.ndarray, *, per_channel: bool) -> TensorStatistics:
    channels = _moments_of(rows) if per_channel else None
    flat = rows.reshape(-1)
    return TensorStatistics(
        moments=_moments_of(flat), histogram=histogram_of(flat), channels=channels
    )


def combine(parts: Sequence[TensorStatistics]) -> TensorStatistics:
    """The statistics of the values of several: counts, ranges and histograms exactly.

    Args:
        parts: one or more, of one tensor.
    """
    channels = [part.channels for part in parts if part.channels is not None]
    return TensorStatistics(
        moments=_combined([part.moments for part in parts]),
        histogram=merge([part.histogram for part in parts]),
        channels=_combined(channels) if channels else None,
        ranges=ImageRanges(
            images=sum(part.ranges.images for part in parts),
            low=sum(part.ranges.low for part in parts),
            high=sum(part.ranges.high for part in parts),
        ),
    )


def _moments_of(values: np.ndarray) -> Moments:
    """Those along the first axis of one value or more."""
    exact = values.astype(np.float64)
    return Moments(
        count=len(values),
        low=exact.min(axis=0),
        high=exact.max(axis=0),
        total=exact.sum(axis=0),
        squares=np.square(exact, out=exact).sum(axis=0),
    )


def _combined(parts: Sequence[Moments]) -> Moments:
    return Moments(
        count=sum(part.count for part in parts),
        low=np.min(np.stack([part.low for part in parts]), axis=0),
        high=np.max(np.stack([part.high for part in parts]), axis=0),
        total=np.sum([part.total for part in parts], axis=0),
        squares=np.sum([part.squares for part in parts], axis=0),
    )

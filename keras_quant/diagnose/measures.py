"""What is counted of a layer's values, batch by batch, in memory that no number of images changes.

Signal to quantization noise: 10 log10(sum r^2 / sum (r - x)^2), r float's values and x the file's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_quant.diagnose.contents import TensorContents

COMMON_SHARE = 0.999
"""An outlier is what lies beyond what this share of the values reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodesSeen:
    """What a tensor's codes were like.

    Attributes:
        used: how far from each other the least and the greatest code were, as a share of the grid.
        at_ends: share of codes at an end of the grid that is neither real 0 nor a function's bound.
        outliers: the greatest distance from real 0 over what COMMON_SHARE of the values reach; None
            where all those are 0.
        dead: channels that had one code on all images.
        channels: how many there are.
        least, most: of the values, in reals.
    """

    used: float
    at_ends: float
    outliers: float | None
    dead: int
    channels: int
    least: float
    most: float


class Codes:
    """Counts a tensor's codes."""

    def __init__(self, tensor: TensorContents, *, channels_first: bool) -> None:
        """Begins with nothing. Args: tensor: of codes, with a scale."""
        assert tensor.scale is not None, tensor
        self._tensor, self._axis = tensor, 1 if channels_first else -1
        info = np.iinfo(tensor.dtype)
        self._least = int(info.min)
        self._counts = np.zeros(int(info.max) - self._least + 1, np.int64)
        self._low: np.ndarray | None = None
        self._high: np.ndarray | None = None

    def add(self, codes: np.ndarray) -> None:
        """Counts those of a batch: (images, ...), of the tensor's dtype."""
        levels = codes.astype(np.int64).reshape(-1) - self._least
        self._counts += np.bincount(levels, minlength=self._counts.size)
        rows = np.moveaxis(codes, self._axis if codes.ndim > 2 else -1, 0)
        rows = rows.reshape(len(rows), -1)
        low, high = rows.min(axis=1), rows.max(axis=1)
        self._low = low if self._low is None else np.minimum(self._low, low)
        self._high = high if self._high is None else np.maximum(self._high, high)

    def seen(self) -> CodesSeen | None:
        """Sums up; None where nothing was counted."""
        tensor, total = self._tensor, int(self._counts.sum())
        if not total or self._low is None or self._high is None:
            return None
        codes = np.arange(self._counts.size) + self._least
        there = codes[self._counts > 0]
        ends = 0
        if tensor.low != tensor.zero_point:
            ends += int(self._counts[codes <= tensor.low].sum())
        if not tensor.is_bounded and tensor.high != tensor.zero_point:
            ends += int(self._counts[codes >= tensor.high].sum())
        scale = tensor.scale or 0.0
        return CodesSeen(
            used=(int(there[-1]) - int(there[0])) / max(1, tensor.high - tensor.low),
            at_ends=ends / total,
            outliers=_outliers(np.abs(codes - tensor.zero_point), self._counts),
            dead=int((self._low == self._high).sum()),
            channels=len(self._low),
            least=(int(there[0]) - tensor.zero_point) * scale,
            most=(int(there[-1]) - tensor.zero_point) * scale,
        )


def _outliers(distances: NDArray[np.int64], counts: NDArray[np.int64]) -> float | None:
    order = np.argsort(distances, kind="stable")
    reached = np.cumsum(counts[order])
    common = distances[order][np.searchsorted(reached, COMMON_SHARE * reached[-1])]
    return float(distances[counts > 0].max() / common) if common else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """How far a layer's values are from float's.

    Attributes:
        sqnr_db: signal to quantization noise; None where all of float's are 0; infinite where
            they are equal.
        cosine: of the angle between both; None where either is 0.
        gain: by which float's are to be multiplied to come nearest to the file's.
        cut_off: share of float's values beyond the tensor's grid; None without a grid.
        cut_noise: share of the noise that cutting them off makes; None without a grid, or noise.
        offset_noise: share of the noise that is each channel's mean error; None without noise.
    """

    sqnr_db: float | None
    cosine: float | None
    gain: float | None
    cut_off: float | None
    cut_noise: float | None
    offset_noise: float | None


class Errors:
    """Sums up how far a layer's values are from float's."""

    def __init__(self, tensor: TensorContents) -> None:
        """Begins with nothing. Args: tensor: whose grid, if there is one, cuts values off."""
        self._ends: tuple[float, float] | None = None
        self._step = tensor.scale or 0.0
        if tensor.scale:
            self._ends = (
                (tensor.low - tensor.zero_point) * tensor.scale,
                (tensor.high - tensor.zero_point) * tensor.scale,
            )
        self._float = self._file = self._both = self._noise = self._cut_noise = 0.0
        self._cut = self._count = 0
        self._offsets: NDArray[np.float64] | None = None
        self._rows = 0

    def add(self, expected: np.ndarray, found: np.ndarray) -> None:
        """Compares a batch: float's values and the file's, (images, ..., channels), both reals."""
        wanted, given = expected.astype(np.float64), found.astype(np.float64)
        error = given - wanted
        self._float += float(np.vdot(wanted, wanted))
        self._file += float(np.vdot(given, given))
        self._both += float(np.vdot(wanted, given))
        self._noise += float(np.vdot(error, error))
        self._count += error.size
        rows = error.reshape(-1, error.shape[-1])
        offsets = rows.sum(axis=0)
        self._offsets = offsets if self._offsets is None else self._offsets + offsets
        self._rows += len(rows)
        if self._ends is not None:
            beyond = wanted - np.clip(wanted, *self._ends)
            cut = np.abs(beyond) > self._step / 2
            self._cut += int(cut.sum())
            self._cut_noise += float(np.square(beyond[cut]).sum())

    def error(self) -> Error | None:
        """Sums up; None where nothing was compared, or values were NaN or infinite."""
        if not self._count or not math.isfinite(self._noise + self._float):
            return None
        cosine = gain = None
        if self._float and self._file:
            cosine = self._both / math.sqrt(self._float * self._file)
            gain = self._both / self._float
        offset = None
        if self._noise and self._offsets is not None:
            offset = float(np.square(self._offsets).sum() / self._rows) / self._noise
        has_grid = self._ends is not None
        return Error(
            sqnr_db=_decibels(self._float, self._noise),
            cosine=cosine,
            gain=gain,
            cut_off=self._cut / self._count if has_grid else None,
            cut_noise=min(1.0, self._cut_noise / self._noise) if has_grid and self._noise else None,
            offset_noise=offset,
        )


def _decibels(signal: float, noise: float) -> float | None:
    if not signal:
        return None
    return math.inf if not noise else 10 * math.log10(signal / noise)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's, of two arrays of one shape; 0 where either is constant or not finite."""
    a, b = (x.astype(np.float64).reshape(-1) for x in (one, other))
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size and math.isfinite(size) else 0.0

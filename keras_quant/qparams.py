"""What the integer codes of a tensor mean: real = scale * (code - zero_point)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

INT8_CODES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class GridSpec:
    """Which codes a tensor of activations may hold, before its scale and zero point are known.

    Attributes:
        bits: 1 to 8.
        signed: the values reach below zero.
        narrow_range: symmetric codes of signed values leave out the lowest one.
        symmetric: real 0 is code 0; else codes are 0 .. 2**bits - 1, of which one is real 0.
        power_of_two: the scale is one, unless it gives the bound the highest code.
        bound: the largest value there is, behind a ReLU6; None where there is none, or where
            only powers of two will do for the scale.
        span: ends of the values that there may be, whatever calibration saw, where a grid that ends
            before them would change what they mean; None where calibration decides.
    """

    bits: int
    signed: bool
    narrow_range: bool = False
    symmetric: bool = True
    power_of_two: bool = True
    bound: float | None = None
    span: tuple[float, float] | None = None

    def at(self, scale: float = 1.0, zero_point: int = 0) -> QParams:
        """The codes, on a scale; the zero point counts where codes are not symmetric."""
        if not self.symmetric:
            qmax = 2**self.bits - 1
            return QParams(scale=scale, zero_point=zero_point, qmin=0, qmax=qmax, bits=self.bits)
        if self.signed:
            return signed(self.bits, scale, narrow_range=self.narrow_range)
        return unsigned(self.bits, scale)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QParams:
    """Quantization parameters of one tensor of activations.

    Attributes:
        scale: real distance of two neighbouring codes, > 0.
        zero_point: the code that stands for real 0, within [qmin, qmax] unless the
            range does not reach zero.
        qmin: lowest code, inclusive.
        qmax: highest code, inclusive. A kernel must clamp to [qmin, qmax].
        bits: logical width that the scheme asked for; 2**bits >= qmax - qmin + 1.
    """

    scale: float
    zero_point: int = 0
    qmin: int
    qmax: int
    bits: int

    def __post_init__(self) -> None:
        assert self.scale > 0 and np.isfinite(self.scale), self.scale
        assert self.qmin < self.qmax and self.qmax - self.qmin < 2**self.bits, self

    @property
    def signed(self) -> bool:
        """Whether codes below the zero point exist."""
        return self.qmin < self.zero_point


def unsigned(bits: int, scale: float) -> QParams:
    """Codes 0 .. 2**bits - 1 with real 0 at code 0, as after a ReLU."""
    return QParams(scale=scale, qmin=0, qmax=2**bits - 1, bits=bits)


def signed(bits: int, scale: float, *, narrow_range: bool) -> QParams:
    """Codes around real 0 at code 0; narrow_range leaves out the lowest code."""
    qmax = 2 ** (bits - 1) - 1
    return QParams(scale=scale, qmin=-qmax if narrow_range else -qmax - 1, qmax=qmax, bits=bits)


def same_grid(a: QParams, b: QParams) -> bool:
    """Whether equal codes of a and b stand for equal reals."""
    return a.scale == b.scale and a.zero_point == b.zero_point


def holds_range(outer: QParams, inner: QParams) -> bool:
    """Whether each code of inner is one of outer's."""
    return outer.qmin <= inner.qmin and inner.qmax <= outer.qmax


def fits_int8(qparams: QParams) -> bool:
    """Whether the codes are few enough for int8, with some shift."""
    return qparams.qmax - qparams.qmin < INT8_CODES


def hull(all_qparams: Sequence[QParams]) -> QParams:
    """The narrowest range that holds the codes of several ranges on one grid."""
    first = all_qparams[0]
    assert all(same_grid(first, other) for other in all_qparams), all_qparams
    qmin, qmax = min(q.qmin for q in all_qparams), max(q.qmax for q in all_qparams)
    bits = max((qmax - qmin).bit_length(), *(q.bits for q in all_qparams))
    return replace(first, qmin=qmin, qmax=qmax, bits=bits)


def quantize(real: np.ndarray, qparams: QParams) -> np.ndarray:
    """Rounds reals to codes; halves round to even, and codes saturate.

    Args:
        real: float array of any shape.
    Returns: int32 codes of real's shape, each in [qmin, qmax].
    """
    codes = np.rint(np.asarray(real) / np.asarray(qparams.scale, np.asarray(real).dtype))
    codes = np.clip(codes + qparams.zero_point, qparams.qmin, qparams.qmax)
    return np.asarray(codes, np.int32)


def dequantize(codes: np.ndarray, qparams: QParams) -> np.ndarray:
    """Gives the reals that codes stand for, as float64 of the same shape."""
    return (np.asarray(codes, np.float64) - qparams.zero_point) * qparams.scale

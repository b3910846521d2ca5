"""How reals become codes, and what the kernels of every op share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keras_quant.qparams import QParams

Kernel = Callable[..., np.ndarray]


def code_dtype(qparams: QParams) -> type[np.signedinteger]:
    """Gives the narrowest signed integer type that holds every code and the zero point."""
    low = min(qparams.qmin, qparams.zero_point)
    high = max(qparams.qmax, qparams.zero_point)
    for dtype in (np.int8, np.int16):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return dtype
    return np.int32


def levels(codes: np.ndarray, qparams: QParams) -> np.ndarray:
    """Gives code - zero_point as float32 of the same shape."""
    real = codes.astype(np.float32)
    if qparams.zero_point:
        real -= qparams.zero_point
    return real


def reals_of(qparams: QParams) -> np.ndarray:
    """Gives the real of each code from qmin to qmax, as the op dequantize computes it."""
    codes = np.arange(qparams.qmin, qparams.qmax + 1)
    reals: np.ndarray = levels(codes, qparams) * np.float32(qparams.scale)
    return reals


def to_codes(steps: np.ndarray, qparams: QParams) -> np.ndarray:
    """Rounds reals counted in output steps to codes; halves round to even, codes saturate.

    Args:
        steps: float array, real / scale; it is overwritten.
        qparams: of the codes.
    Returns: codes of steps' shape and `code_dtype`, each in [qmin, qmax].
    """
    np.rint(steps, out=steps)
    if qparams.zero_point:
        steps += qparams.zero_point
    np.clip(steps, qparams.qmin, qparams.qmax, out=steps)
    return steps.astype(code_dtype(qparams))

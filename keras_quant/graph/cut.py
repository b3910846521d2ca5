"""Kernels of fewer bits that are cut from a base kernel of 8.

A net whose widths are nested keeps each kernel once, in 8 bits; what a narrower width computes with
is the upper bits of that. Yu et al., "Any-precision deep neural networks" (2021), and Jin et al.,
"AdaBits" (2020), cut with a floor, whose codes lie off 0 by half a step: levels none of which is 0
can have it so. Here half of what is cut off is added before the shift, so that codes have 0 among
them and no offset: what all kernels of integers take.
"""

from __future__ import annotations

import numpy as np

BASE_BITS = 8
BASE_MAX = 127  # of either sign, as int8 kernels have it


def cut_codes(
    base: np.ndarray, *, bits: int, qmin: int, qmax: int, of: int = BASE_BITS
) -> np.ndarray:
    """The codes of a narrower width: clip((base + half) >> shift, qmin, qmax).

    shift is bits of the base codes less these, and half is 2**(shift - 1), 0 without a shift. A
    narrower code's step is 2**shift steps of the base codes.

    Args:
        base: whole numbers of any shape, in -BASE_MAX .. BASE_MAX.
        bits: 1 to those of the base codes.
        qmin, qmax: the lowest and the highest code of so many bits.
        of: bits of the base codes.
    Returns: int8 codes of the same shape.
    """
    shift = of - bits
    wide = np.asarray(base, np.int32)
    return np.asarray(np.clip((wide + (1 << shift >> 1)) >> shift, qmin, qmax), np.int8)

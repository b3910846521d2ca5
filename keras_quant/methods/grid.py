"""What methods give: kernels as codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrozenKernel:
    """A kernel as integers: kernel = codes * scale, channel by channel.

    Attributes:
        codes: int16 in the Keras layout of the kernel.
        scale: float64, broadcastable to codes.
        bits: logical width.
    """

    codes: np.ndarray
    scale: np.ndarray
    bits: int

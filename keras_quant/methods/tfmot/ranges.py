"""From the range of a quantizer to the grid that TensorFlow's fake-quantize kernels round to.

They move ("nudge") a range so that real 0 is one of its codes: tensorflow/core/kernels/
fake_quant_ops_functor.h, `Nudge`; Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference" (2018), section 3. Computed in float32 as there, so
that scale and zero point are those of the kernels to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_quant.qparams import QParams


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """What ranges are nudged to.

    Attributes:
        scale: float32, of the ranges' shape.
        zero_point: int64, likewise, in [qmin, qmax].
        qmin: lowest code: 1 in narrow range, else 0.
        qmax: highest code.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    qmin: int
    qmax: int

    def codes_of(self, values: np.ndarray) -> np.ndarray:
        """The codes of what the kernels put out, int64, of values' shape.

        Args:
            values: float32; ranges of channels are those of the last axis.
        """
        lowest = (np.float32(self.qmin) - self.zero_point.astype(np.float32)) * self.scale
        steps = (values.astype(np.float64) - lowest) / self.scale
        return np.asarray(np.rint(steps), np.int64) + self.qmin


def nudge(low: np.ndarray, high: np.ndarray, *, bits: int, narrow_range: bool) -> Grid:
    """Computes the grid of ranges.

    Args:
        low, high: float32 of any shape, low < high.
        bits: 2 to 8.
    """
    qmin, qmax = int(narrow_range), 2**bits - 1
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    scale = (high - low) / (np.float32(qmax) - np.float32(qmin))
    from_low = np.float32(qmin) - low / scale
    # std::round: halves away from zero; what is not negative is rounded by floor(x + 1/2), which
    # float64 computes exactly.
    zero_point = np.floor(np.clip(from_low, qmin, qmax).astype(np.float64) + 0.5)
    return Grid(
        scale=np.asarray(scale, np.float32),
        zero_point=np.asarray(zero_point, np.int64),
        qmin=qmin,
        qmax=qmax,
    )


def grid_of(low: float, high: float, *, bits: int, narrow_range: bool) -> QParams:
    """The grid of the range of a tensor; see `nudge`."""
    grid = nudge(np.float32(low), np.float32(high), bits=bits, narrow_range=narrow_range)
    return QParams(
        scale=float(grid.scale),
        zero_point=int(grid.zero_point),
        qmin=grid.qmin,
        qmax=grid.qmax,
        bits=bits,
    )

"""Whether float32 adds codes of unlike scales to the codes that the reference gives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keras_quant.qparams import QParams


def wrong_sums(first: QParams, second: QParams, output: QParams) -> tuple[int, int]:
    """Counts the pairs of codes that float32 adds to another code than float64 does.

    Both inputs are made real, added, and multiplied by float32(1 / scale), as where a file has no
    exact kernel for an addition.

    Returns: how many are wrong, and how many pairs there are.
    """
    wanted = exact_sums(first, second, output)
    a, b = (levels(q).astype(np.float32) * np.float32(q.scale) for q in (first, second))
    steps = np.add.outer(a, b) * (np.float32(1) / np.float32(output.scale))
    return int(np.count_nonzero(clipped(steps, output) != wanted)), wanted.size


def exact_sums(first: QParams, second: QParams, output: QParams) -> NDArray[np.floating]:
    """The reference's codes of all pairs, less the zero point, as in `graph.kernels.bind_add`."""
    a, b = (levels(q).astype(np.float64) * q.scale for q in (first, second))
    return clipped(np.add.outer(a, b) / output.scale, output)


def levels(qparams: QParams) -> np.ndarray:
    """All codes of a grid, counted from that of real 0: int64."""
    return np.arange(qparams.qmin, qparams.qmax + 1) - qparams.zero_point


def clipped(steps: NDArray[np.floating], output: QParams) -> NDArray[np.floating]:
    """Rounds half to even, and cuts at a grid's ends; less the zero point."""
    bounds = output.qmin - output.zero_point, output.qmax - output.zero_point
    codes: NDArray[np.floating] = np.clip(np.rint(steps), *bounds)
    return codes

"""Signs of sums: which of -1, 0 and 1 a sum is rounded to, as a line through the integers.

A sum n * unit + bias is 1 from n = high on, -1 up to n = low, and 0 between. A line that is 1/2
half a step in front of high, and -1/2 half a step behind low, rounds to the same, and needs no real
bias: with a = high - 1/2 and b = low + 1/2 it is (n - (a + b) / 2) / (a - b). Where there is no 0,
a is b, and the line is so steep that it is far from 1/2 at all integers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from keras_quant.graph.ir import Weight

STEEP = 4.0  # of a half step from the crossing, the nearest integers are rounded from +-2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Signs:
    """A sign with a dead band: 1 from dead_band on, -1 from -dead_band down, else 0.

    Attributes:
        dead_band: real, at least 0; at 0 it is 1 from 0 on and else -1.
        input_scale: of the codes that the kernel reads.
        output_scale: the real value of 1.
    """

    dead_band: float
    input_scale: float
    output_scale: float


def fold_signs(kernel: Weight, bias: np.ndarray | None, signs: Signs) -> tuple[Weight, np.ndarray]:
    """Gives the kernel and bias whose sums are rounded to the signs of those of the given ones.

    Args:
        kernel: of codes, with a scale.
    """
    unit = signs.input_scale * kernel.code_scale
    added = np.zeros_like(unit) if bias is None else bias
    # From n = -added / unit on, the sum is at least 0.
    above = np.ceil((signs.dead_band - added) / unit) - 0.5
    below = above
    if signs.dead_band:
        below = np.floor((-signs.dead_band - added) / unit) + 0.5
    with np.errstate(divide="ignore"):
        slope = np.where(above > below, 1 / (above - below), STEEP)
    scale = slope * signs.output_scale / signs.input_scale
    middle = (above + below) / 2
    return replace(kernel, scale=scale), -middle * slope * signs.output_scale

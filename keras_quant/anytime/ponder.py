"""What positions that halt would save: units at each position, and multiply-accumulates.

Figurnov et al. 2017, "Spatially Adaptive Computation Time for Residual Networks". Masks say where a
unit changes anything; its last convolution is needed there, and the one before it at all positions
that the last one's 3x3 window reaches from there, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
"""(images, height, width): where a unit changes a position."""


def units_at(masks: Sequence[Mask]) -> NDArray[np.int64]:
    """How many units of a stage each position goes through, the first included.

    Args:
        masks: of the units behind the first, one or more.
    """
    return 1 + np.sum(np.stack(masks), axis=0, dtype=np.int64)


def reached(mask: Mask) -> Mask:
    """The positions of a mask, and all that touch one of them."""
    height, width = mask.shape[1:]
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    found = np.zeros_like(mask)
    for row in range(3):
        for column in range(3):
            found |= padded[:, row : row + height, column : column + width]
    return found


def spread(values: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
    """Gives each pixel of an image the value of the position that it lies in.

    Args:
        values: (images, height, width).
        size: (height, width) of the image, each at least that of the values.
    """
    rows, columns = (
        np.arange(pixels) * places // pixels
        for pixels, places in zip(size, values.shape[1:], strict=True)
    )
    found: NDArray[np.int64] = values[:, rows][:, :, columns]
    return found

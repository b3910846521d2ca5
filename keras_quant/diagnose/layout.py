"""Values of one tensor as two files lay them out: channels in front, or last."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def layouts(values: np.ndarray, shape: tuple[int, ...], *, exact: bool) -> Iterator[np.ndarray]:
    """The ways in which values may be those of a tensor with channels last.

    Args:
        values: (images, ...) as a file gives them.
        shape: of the other tensor, with the images.
        exact: without those where axes were joined or split.
    Yields: arrays of that shape.
    """
    if values.shape == shape:
        yield values
    if values.ndim > 2:
        moved = np.moveaxis(values, 1, -1)
        if moved.shape == shape:
            yield moved
        values = moved if not exact and moved.shape != shape else values
    if not exact and values.shape != shape and values.size == int(np.prod(shape)):
        yield values.reshape(shape)

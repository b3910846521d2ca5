"""How many images go into a call, where that is free and where the model fixes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

IMAGES_AT_ONCE = 250  # where a part of a dataset is answered
Arrays = Mapping[str, np.ndarray]


def in_batches(
    run: Callable[[Arrays], dict[str, np.ndarray]], inputs: Arrays, size: int
) -> dict[str, np.ndarray]:
    """Computes any number of images, so many a call; the last ones are filled up, and cut off.

    Args:
        run: computes `size` images.
        inputs: by name, (images, *shape), at least one image.
    Returns: by name, (images, *shape).
    """
    images = len(next(iter(inputs.values())))
    parts = []
    for start in range(0, images, size):
        rows = np.minimum(np.arange(start, start + size), images - 1)
        parts.append(run({name: array[rows] for name, array in inputs.items()}))
    return {name: np.concatenate([part[name] for part in parts])[:images] for name in parts[0]}

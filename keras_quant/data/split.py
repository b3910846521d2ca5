"""Seeded splits that keep the share of each class."""

from __future__ import annotations

import numpy as np

# The test images of a set without a test part of its own do not depend on the user's seed:
# runs with different seeds are compared on the same images, and a run that starts from the
# weights of another one is never tested on what that one was trained on.
TEST_SEED = 0
TEST_FRACTION = 0.2


def stratified_split(y: np.ndarray, fraction: float, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Holds out a share of the images, the same share of each class.

    The images, sorted by class and shuffled within it, are sampled at even distances: the
    number held out is exact, and each class is within one image of its share.

    Args:
        y: int (images,), class numbers.
        fraction: share to hold out, in (0, 1).
        seed: equal seeds give equal splits.
    Returns: int64 positions kept and positions held out, both ascending.
    """
    order = np.lexsort((np.random.default_rng(seed).permutation(len(y)), y))
    num_held = round(fraction * len(y))
    picks = ((np.arange(num_held) + 0.5) * len(y) / max(num_held, 1)).astype(np.int64)
    held = np.zeros(len(y), dtype=bool)
    held[order[picks]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def hold_out_test(x: np.ndarray, y: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Sets a stratified fifth of the images apart as test, the same one each time.

    Args:
        y: None for images without labels.
    Returns: x_train and x_test; of images with labels y_train and y_test too.
    """
    classes = np.zeros(len(x), np.int64) if y is None else y
    kept, held = stratified_split(classes, TEST_FRACTION, seed=TEST_SEED)
    images = {"x_train": x[kept], "x_test": x[held]}
    return images if y is None else images | {"y_train": y[kept], "y_test": y[held]}

"""What a dataset is: three splits kept apart, and how pixels become reals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PIXEL_MAX = np.float32(255)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Images and labels in equal order.

    Attributes:
        x: uint8 in [0, 255] or float32 of any range, (images, height, width, channels).
        y: int32 class numbers, (images,), each in [0, num_classes).
    """

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Checked data, ready to train on. Images stay in the dtype of their file.

    Attributes:
        name: name or path that the user gave.
        train: what weights and scales are fitted on.
        validation: taken from the training images; what epochs and methods are chosen by.
        test: read once, at the end.
        class_names: one a class; position is the class number.
        source: where the arrays came from, for the record of a run.
        augment: whether random flips and crops are the default while training.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    source: str
    augment: bool = False

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of each image."""
        height, width, channels = self.train.x.shape[1:]
        return height, width, channels

    @property
    def input_scale(self) -> float | None:
        """Real distance of two neighbouring pixel codes; None for float images."""
        return 1 / 255 if self.train.x.dtype == np.uint8 else None


def normalize(x: np.ndarray) -> np.ndarray:
    """Gives the reals that a model sees: pixels divided by 255, float images as they are.

    Args:
        x: uint8 or float32 of any shape.
    Returns: float32 of x's shape; for uint8 exactly float32(k) / float32(255).
    """
    return x.astype(np.float32) / PIXEL_MAX if x.dtype == np.uint8 else x

"""What arrays must look like to be a dataset. Every problem of a set is found at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

PARTS = ("train", "val", "test")
PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What people call the parts of a set."""
MOST_CHANNELS = 4  # of an image as people keep them


def as_images(x: np.ndarray) -> np.ndarray:
    """Gives grey images (images, height, width) their channel axis; any float as float32."""
    x = x[..., np.newaxis] if x.ndim == 3 else x
    return x.astype(np.float32) if x.dtype.kind == "f" else x


def as_labels(y: np.ndarray) -> np.ndarray:
    """Flattens (images, 1) labels to (images,)."""
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def is_one_hot(y: np.ndarray) -> bool:
    """Whether labels are rows of zeros and a single one, (images, classes)."""
    if y.ndim != 2 or y.shape[1] < 2 or not y.size or y.dtype.kind not in "biuf":
        return False
    return bool(np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all())


def is_channels_first(x: np.ndarray) -> bool:
    """Whether images are (images, 3, height, width), or (images, 1, size, size).

    One channel first is told from a height of 1 by images that are square.
    """
    if x.ndim != 4 or min(x.shape[2:]) <= MOST_CHANNELS:
        return False
    channels, height, width = map(int, x.shape[1:])
    return channels == 3 or (channels == 1 and height == width)


def find_problems(arrays: Mapping[str, np.ndarray], num_classes: int | None) -> list[str]:
    """Says everything that is wrong with the arrays of a dataset.

    Args:
        arrays: x_train, y_train, x_test, y_test, and x_val, y_val where there are any; as
            as_images and as_labels give them. Arrays that are not there are not looked at.
        num_classes: number of classes where it is known; otherwise the labels of y_train
            must be 0, 1, 2, ... without a gap, and the highest counts.
    Returns: one line a problem, beginning with the array's name; empty when all is well.
    """
    images = {part: arrays[f"x_{part}"] for part in PARTS if f"x_{part}" in arrays}
    labels = {part: arrays[f"y_{part}"] for part in PARTS if f"y_{part}" in arrays}
    bad_images = {part: problem for part, x in images.items() if (problem := _image_problem(x))}
    bad_labels = {part: problem for part, y in labels.items() if (problem := _label_problem(y))}
    images = {part: x for part, x in images.items() if part not in bad_images}
    labels = {part: y for part, y in labels.items() if part not in bad_labels}
    return [
        *(f"x_{part}: {problem}" for part, problem in bad_images.items()),
        *(f"y_{part}: {problem}" for part, problem in bad_labels.items()),
        *_length_problems(images, labels),
        *_shape_problems(images),
        *_class_problems(labels, num_classes),
    ]


def _image_problem(x: np.ndarray) -> str:
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        return f"dtype is {x.dtype}; uint8 (0 to 255) or float is allowed"
    if x.ndim not in (2, 4):
        return (
            f"shape is {x.shape}; (images, height, width), (images, height, width, channels), or "
            "(vectors, features) is allowed"
        )
    if x.size == 0:
        return f"is empty, shape {x.shape}"
    broken = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1))
    if broken.size:
        return f"{broken.size} images hold NaN or infinity, the first is image {broken[0]}"
    return ""


def _label_problem(y: np.ndarray) -> str:
    if y.dtype.kind not in "iu":
        return f"dtype is {y.dtype}; integer class numbers are allowed"
    if y.ndim != 1:
        return (
            f"shape is {y.shape}; (images,), (images, 1), or rows of zeros and a single one are "
            "allowed"
        )
    return "" if y.size else "is empty"


def _length_problems(
    images: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]
) -> list[str]:
    return [
        f"x_{part} has {len(x)} images but y_{part} has {len(labels[part])} labels"
        for part, x in images.items()
        if part in labels and len(x) != len(labels[part])
    ]


def _shape_problems(images: Mapping[str, np.ndarray]) -> list[str]:
    if "train" not in images:
        return []
    shape, dtype = images["train"].shape[1:], images["train"].dtype
    return [
        f"x_{part}: images are {x.shape[1:]} {x.dtype}; those of x_train are {shape} {dtype}"
        for part, x in images.items()
        if (x.shape[1:], x.dtype) != (shape, dtype)
    ]


def _class_problems(labels: Mapping[str, np.ndarray], num_classes: int | None) -> list[str]:
    problems: list[str] = []
    if num_classes is None and "train" in labels:
        num_classes, problems = _count_classes(labels["train"])
    if num_classes is None:
        return problems
    for part, y in labels.items():
        outside = np.flatnonzero((y < 0) | (y >= num_classes))
        if outside.size:
            problems.append(
                f"y_{part}: {outside.size} labels are outside the classes 0 to {num_classes - 1}, "
                f"the first is {y[outside[0]]} at position {outside[0]}"
            )
    return problems


def _count_classes(y: np.ndarray) -> tuple[int, list[str]]:
    """The number of classes that training labels make, and what is wrong with them."""
    seen = np.unique(y[y >= 0])
    if len(seen) < 2:
        return 2, [f"y_train: has the labels {seen.tolist()}; two classes or more are needed"]
    highest = int(seen[-1])
    if highest == len(seen) - 1:
        return len(seen), []
    gap = int(np.flatnonzero(seen != np.arange(len(seen)))[0])
    return highest + 1, [
        f"y_train: the highest label is {highest} but no image has label {gap}; number the "
        "classes 0, 1, 2, ..., or name all of them in an array class_names"
    ]

"""What a model's outputs are for, by their shapes: classes, or the image again."""

from __future__ import annotations

import math
from collections.abc import Sequence

from keras_quant.errors import ModelError

Shape = Sequence[int]

CLASSIFICATION = "classification"
RECONSTRUCTION = "reconstruction"


def tasks_of(
    shapes: Sequence[Shape], input_shape: Shape, num_classes: int, *, name: str
) -> tuple[str, ...]:
    """Says what each output is trained and judged for.

    Args:
        shapes: of the outputs, without the batch axis.
        input_shape: of the input, likewise.
        num_classes: how many classes the data have; 0 without labels.
        name: of the model, for errors.
    Returns: CLASSIFICATION of (num_classes,) logits, RECONSTRUCTION of as many values as the input
        has, in any shape; one an output.
    Raises:
        ModelError: outputs that are neither.
    """
    found = [task_of(shape, input_shape, num_classes) for shape in shapes]
    wrong = [str(tuple(shape)) for shape, task in zip(shapes, found, strict=True) if task is None]
    if wrong:
        classes = f"({num_classes},), one number a class, or " if num_classes else ""
        labels = "" if num_classes else ", as their images have no labels"
        raise ModelError(
            f"model {name} puts out {', '.join(wrong)}; the data need {classes}the input's "
            f"{math.prod(input_shape)} values again{labels}"
        )
    return tuple(task for task in found if task)


def task_of(shape: Shape, input_shape: Shape, num_classes: int) -> str | None:
    """Says what an output is for, as `tasks_of`; None where it is neither."""
    if tuple(shape) == (num_classes,):
        return CLASSIFICATION
    same = None not in shape and math.prod(shape) == math.prod(input_shape)
    return RECONSTRUCTION if same else None

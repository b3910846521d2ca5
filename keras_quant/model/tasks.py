"""What a model's outputs are for, by their shapes: classes, or the image again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from keras_quant.errors import ModelError

Shape = Sequence[int]

CLASSIFICATION = "classification"
RECONSTRUCTION = "reconstruction"
POSTERIOR_MEAN = "posterior mean"
POSTERIOR_VARIANCE = "posterior log variance"
LIKELIHOOD = "pixel likelihood"
VARIATIONAL = (POSTERIOR_MEAN, POSTERIOR_VARIANCE, LIKELIHOOD)
"""The outputs of a variational autoencoder, in order; their losses add up to the negative ELBO."""


class Asked(Protocol):
    """What data ask of outputs, see `data.Dataset`."""

    @property
    def input_shape(self) -> tuple[int, ...]: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def elbo(self) -> bool: ...


def tasks_of(shapes: Sequence[Shape], asked: Asked, *, name: str) -> tuple[str, ...]:
    """Says what each output is trained and judged for.

    Args:
        shapes: of the outputs, without the batch axis.
        name: of the model, for errors.
    Returns: CLASSIFICATION of (num_classes,) logits, RECONSTRUCTION of as many values as the input
        has, in any shape; one an output. Where an ELBO is asked for, VARIATIONAL.
    Raises:
        ModelError: outputs that are neither.
    """
    found = find_tasks(shapes, asked)
    wrong = [str(tuple(shape)) for shape, task in zip(shapes, found, strict=True) if task is None]
    if wrong:
        hint = ""
        if not asked.elbo and _is_variational(shapes, asked):
            hint = ". For a variational autoencoder, put +elbo behind the data's name"
        raise ModelError(
            f"model {name} puts out {', '.join(wrong)}; the data need {_needed(asked)}{hint}"
        )
    return tuple(task for task in found if task)


def last_classifier(tasks: Sequence[str | None]) -> int | None:
    """The place of the last output of classes, which is the model's own behind early exits.

    Args:
        tasks: of the outputs, as `find_tasks` gives them.
    Returns: from 0 on; None without one.
    """
    places = [place for place, task in enumerate(tasks) if task == CLASSIFICATION]
    return places[-1] if places else None


def find_tasks(shapes: Sequence[Shape], asked: Asked) -> tuple[str | None, ...]:
    """Says what each output is for, as `tasks_of`; None where it is nothing."""
    if not asked.elbo:
        return tuple(task_of(shape, asked.input_shape, asked.num_classes) for shape in shapes)
    return VARIATIONAL if _is_variational(shapes, asked) else (None,) * len(shapes)


def _is_variational(shapes: Sequence[Shape], asked: Asked) -> bool:
    """Whether outputs are as large as those of a variational autoencoder are."""
    if len(shapes) != len(VARIATIONAL):
        return False
    mean, variance, pixels = shapes
    is_normal = len(mean) == 1 and tuple(mean) == tuple(variance)
    return is_normal and _is_same(pixels, asked.input_shape)


def task_of(shape: Shape, input_shape: Shape, num_classes: int) -> str | None:
    """Says what an output is for where no ELBO is asked for; None where it is nothing."""
    if tuple(shape) == (num_classes,):
        return CLASSIFICATION
    return RECONSTRUCTION if _is_same(shape, input_shape) else None


def _is_same(shape: Shape, input_shape: Shape) -> bool:
    """Whether there are as many values as the input has."""
    return None not in shape and math.prod(shape) == math.prod(input_shape)


def _needed(asked: Asked) -> str:
    values = f"the input's {math.prod(asked.input_shape)} values again"
    if asked.elbo:
        return (
            f"means and logarithms of variances of one size, (dimensions,), and {values}, as logits"
        )
    if not asked.num_classes:
        return f"{values}, as their images have no labels"
    return f"({asked.num_classes},), one number a class, or {values}"

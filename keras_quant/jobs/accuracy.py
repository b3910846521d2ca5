"""How often a Keras model's last output is right: what studies of changed models compare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from keras_quant.data import Dataset, Split
from keras_quant.errors import DataError, UsageError
from keras_quant.jobs.loaded import load_with_data
from keras_quant.model.logits import AnswerFunction
from keras_quant.model.tasks import CLASSIFICATION, find_tasks
from keras_quant.runners.batches import IMAGES_AT_ONCE
from keras_quant.runs.progress import Progress
from keras_quant.tf import keras


def load_classifier(
    path: Path, dataset: str | None, *, trust: bool = False, progress: Progress
) -> tuple[keras.Model, Dataset]:
    """Loads a run's model, or a Keras file, with labelled images that it tells apart.

    Raises:
        DataError: the images have no labels, or the model's last output is not of their classes.
        KerasQuantError: as `load_with_data`.
    """
    model, data = load_with_data(
        path, dataset=dataset, preprocess=None, trust=trust, say=progress.say
    )
    tasks = find_tasks([tuple(output.shape[1:]) for output in model.outputs], data)
    if not data.has_labels or tasks[-1] != CLASSIFICATION:
        raise DataError(
            f"{path}: its last output, {model.output_names[-1]}, is not of the classes of "
            f"{data.name}, or these images have no labels; give images with --dataset"
        )
    return model, data


def one_dataset(names: Iterable[str]) -> str:
    """The data that all models were asked about.

    Raises:
        UsageError: they are several, which cannot be compared.
    """
    first, *others = dict.fromkeys(names)
    if others:
        found = ", ".join((first, *others))
        raise UsageError(f"these are of different data ({found}); give one --dataset")
    return first


def right_answers(answer: AnswerFunction, data: Dataset, part: Split) -> int:
    """How many images the last output of a model answers rightly."""
    return sum(
        int((answer(reals)[-1].argmax(axis=-1) == labels).sum())
        for reals, labels in _batches(data, part)
    )


def _batches(data: Dataset, part: Split) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(part), IMAGES_AT_ONCE):
        batch = part.at(slice(start, start + IMAGES_AT_ONCE))
        yield np.asarray(data.reals(batch.x), np.float32), batch.y

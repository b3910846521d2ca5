"""How often a Keras model's last output is right: what studies of changed models compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Classifier:
    """A model, and the images that it is asked for.

    Attributes:
        data: its test part are these; it has no others, which would be in memory once a model.
    """

    path: Path
    model: keras.Model
    data: Dataset


def load_classifiers(
    paths: Sequence[Path],
    dataset: str | None,
    *,
    images: int,
    trust: bool = False,
    progress: Progress,
) -> list[Classifier]:
    """Loads runs' models, or Keras files, with labelled images that they tell apart.

    All are loaded before any is asked, so that what does not fit is told at once.

    Args:
        dataset: name or path of the images; None means each run's own.
        images: of the test images so many, at even distances; 0 means all.
    Raises:
        UsageError: they are of different data.
        DataError: the images have no labels, or a model's last output is not of their classes.
        KerasQuantError: as `load_with_data`.
    """
    loaded = [
        _classifier(path, dataset, images=images, trust=trust, progress=progress) for path in paths
    ]
    first, *others = dict.fromkeys(each.data.name for each in loaded)
    if others:
        found = ", ".join((first, *others))
        raise UsageError(f"these are of different data ({found}); give one --dataset")
    return loaded


def _classifier(
    path: Path, dataset: str | None, *, images: int, trust: bool, progress: Progress
) -> Classifier:
    model, data = load_with_data(
        path, dataset=dataset, preprocess=None, trust=trust, say=progress.say
    )
    tasks = find_tasks([tuple(output.shape[1:]) for output in model.outputs], data)
    if not data.has_labels or tasks[-1] != CLASSIFICATION:
        raise DataError(
            f"{path}: its last output, {model.output_names[-1]}, is not of the classes of "
            f"{data.name}, or these images have no labels; give images with --dataset"
        )
    shown = data.test.spread(images or len(data.test))
    none = shown.at(slice(0))
    data = dataclasses.replace(data, train=none, validation=none, test=shown)
    return Classifier(path=path, model=model, data=data)


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

"""The model whose answers a quantized one learns beside the labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_quant.data import Dataset
from keras_quant.errors import UsageError
from keras_quant.jobs.loaded import check_takes
from keras_quant.jobs.paths import keras_file_of, record_around
from keras_quant.model.files import load_model
from keras_quant.model.probabilities import are_probabilities, as_logits
from keras_quant.model.suffixes import MODEL_KINDS, is_keras_model
from keras_quant.preprocessing import describe
from keras_quant.tf import keras, tf

Teacher = Callable[..., Any]
"""Gives (batch, classes) logits of images, maybe several; is called as a Keras model is."""


def load_teacher(path: Path, dataset: Dataset) -> Teacher:
    """Loads a teacher: a run's folder, or a Keras file of version 2 or 3.

    Of one with early exits the last answers are learned.

    Probabilities stand for their logarithms, which are logits with the same softmax.

    Raises:
        UsageError: it is neither, has other classes, or takes pixels that became something else.
        ModelError, RunError: it cannot be loaded.
        DataError: it takes other images.
    """
    if not (path.is_dir() or is_keras_model(path)):
        raise UsageError(
            f"--distill {path}: no such run or model; give the share of the parent's answers, as "
            f"0.9, or a teacher: a run's folder or a {MODEL_KINDS}"
        )
    file = keras_file_of(path)
    model = load_model(file)
    check_takes(file, model, dataset)
    shapes = [tuple(output.shape[1:]) for output in model.outputs]
    if set(shapes) != {(dataset.num_classes,)}:
        raise UsageError(
            f"--distill {path}: the teacher puts out {model.output_shape}; {dataset.num_classes} "
            f"classes are needed, as dataset {dataset.name} has"
        )
    _check_pixels(path, dataset)
    return _of_probabilities(model) if are_probabilities(model)[-1] else model


def _check_pixels(path: Path, dataset: Dataset) -> None:
    record = record_around(path)
    declared, own = dataset.preprocessing, record.dataset.preprocess if record else None
    if own is not None and declared is not None and own != declared:
        raise UsageError(
            f"--distill {path}: the teacher was trained with pixels as {describe(own)}, and this "
            f"run has {describe(declared)}; give both one --preprocess"
        )


def _of_probabilities(model: keras.Model) -> Teacher:
    def logits(x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return as_logits(tf.nest.flatten(model(x, training=training))[-1])

    return logits

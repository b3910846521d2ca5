"""How well a run, a Keras file, a TFLite or an ONNX file classifies images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_quant.data import Dataset, load_dataset
from keras_quant.errors import DataError, ModelError, RunError, UsageError
from keras_quant.model.suffixes import KERAS_SUFFIXES
from keras_quant.proof.answers import run_logits
from keras_quant.proof.formats import FORMATS, format_of
from keras_quant.runs import RunFolder, model_of, records

if TYPE_CHECKING:
    from keras_quant.tf import keras

SPLITS = ("test", "validation", "train")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One file's answers to one split.

    Attributes:
        file: what was run.
        kernels: what computed the answers.
        images: how many.
        accuracy: share of images whose largest output is that of their label.
        agreement: share of images on which the largest output is the first file's; None for
            the first file.
        seconds: time for all images.
    """

    file: Path
    kernels: tuple[str, ...]
    images: int
    accuracy: float
    agreement: float | None
    seconds: float


Logits = Callable[[np.ndarray], np.ndarray]


def evaluate(
    path: Path,
    *,
    dataset: str | None = None,
    split: str = "test",
    trust: bool = False,
) -> tuple[Evaluation, ...]:
    """Evaluates a run's model.keras and exported files, or one .keras, .h5 or exported file.

    Args:
        dataset: name or path; None means the dataset of the run that the path belongs to.
        split: one of SPLITS.
        trust: load a Keras file that holds code (see model.files.load_model).
    Raises:
        UsageError: no such split, or no dataset known.
        RunError, ModelError, DataError: the path or the data is broken, or does not fit.
    """
    if split not in SPLITS:
        raise UsageError(f"split {split!r} is not known; splits are {', '.join(SPLITS)}")
    files = _files(path)
    data = dataset_of(path, dataset)
    part = getattr(data, split)
    found: list[Evaluation] = []
    first: np.ndarray | None = None
    for file in files:
        logits_of, kernels = _load(file, data, trust=trust)
        started = time.perf_counter()
        logits = logits_of(part.x)
        seconds = time.perf_counter() - started
        if logits.ndim != 2 or logits.shape[1] != data.num_classes:
            raise DataError(
                f"{file}: puts out {logits.shape[1:]}; dataset {data.name} has "
                f"{data.num_classes} classes"
            )
        best = logits.argmax(axis=-1)
        found.append(
            Evaluation(
                file=file,
                kernels=kernels,
                images=len(part),
                accuracy=float(np.mean(best == part.y)),
                agreement=None if first is None else float(np.mean(best == first)),
                seconds=seconds,
            )
        )
        first = best if first is None else first
    return tuple(found)


def check_fits(file: Path, model: keras.Model, data: Dataset) -> None:
    """Checks that a Keras model maps a dataset's images to its classes.

    Raises:
        DataError: it does not, or has several inputs or outputs.
    """
    needed = ((None, *data.input_shape), (None, data.num_classes))
    if not all(map(_is_shape, (model.input_shape, model.output_shape), needed)):
        raise DataError(
            f"{file}: maps {model.input_shape} to {model.output_shape}; dataset {data.name} needs "
            f"{needed[0]} to {needed[1]}. Name the data that it was trained on with --dataset"
        )


def _is_shape(shape: Any, needed: Sequence[int | None]) -> bool:
    """Whether a model's shape is the needed one; None stands for any length."""
    return (
        isinstance(shape, tuple)  # several inputs or outputs come as a list
        and len(shape) == len(needed)
        and all(have in (None, need) for have, need in zip(shape, needed, strict=True))
    )


def _files(path: Path) -> list[Path]:
    suffixes = (*KERAS_SUFFIXES, *(form.suffix for form in FORMATS.values()))
    if path.suffix.lower() in suffixes:
        if not path.is_file():
            raise ModelError(f"{path}: no such file")
        return [path]
    if not path.is_dir():
        raise RunError(
            f"{path}: no such run folder; give a run, or a file ending with {', '.join(suffixes)}"
        )
    exported = [RunFolder(path).export / form.file_name for form in FORMATS.values()]
    return [model_of(path), *(file for file in exported if file.exists())]


def dataset_of(path: Path, name: str | None) -> Dataset:
    """Loads a dataset by name, or the one that the run around a path was trained on.

    Raises:
        UsageError: no name was given, and the path belongs to no run.
        DataError: see load_dataset.
    """
    if name is not None:
        return load_dataset(name)
    run = next((p for p in (path, *path.parents) if (p / records.FILE_NAME).exists()), None)
    if run is None:
        raise UsageError(f"{path} belongs to no run: say which data with --dataset")
    record = records.load(run)
    return load_dataset(
        record.dataset.name,
        seed=record.seed,
        validation_fraction=record.dataset.validation_fraction,
    )


def _load(file: Path, data: Dataset, *, trust: bool) -> tuple[Logits, tuple[str, ...]]:
    form = format_of(file)
    if form is not None:
        runner = form.definition.runner(file)
        return lambda x: run_logits(runner, x), runner.info.kernels
    # The other half of this module works without TensorFlow.
    from keras_quant.model.files import load_model
    from keras_quant.model.logits import LogitFunction

    model = load_model(file, trust=trust)
    check_fits(file, model, data)
    return LogitFunction(model), ("TensorFlow",)

"""How well a run, a Keras file, a TFLite or an ONNX file classifies images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_quant.data import Dataset, Split, load_dataset
from keras_quant.errors import DataError, ModelError, RunError, UsageError
from keras_quant.jobs.preprocess import TRIED_IMAGES, Say, declare, guessing_warning
from keras_quant.model.suffixes import KERAS_SUFFIXES
from keras_quant.preprocessing import Preprocessing
from keras_quant.proof.answers import run_logits
from keras_quant.proof.formats import FORMATS, format_of
from keras_quant.runs import RunFolder, model_of, records
from keras_quant.runs.records import RunRecord

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
        preprocess: what became of pixels in front of it; None for images of floats.
        warning: that it is no better than a guess; "" where it is.
    """

    file: Path
    kernels: tuple[str, ...]
    images: int
    accuracy: float
    agreement: float | None
    seconds: float
    preprocess: Preprocessing | None
    warning: str = ""


Logits = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Loaded:
    """A file that can be run.

    Attributes:
        logits: gives what answers images where these become what it is told.
        kernels: what computes them.
        model: where it is a Keras file.
        recorded: what becomes of pixels in front of it, as the file says.
        takes_pixels: whatever becomes of them.
    """

    logits: Callable[[Preprocessing | None], Logits]
    kernels: tuple[str, ...]
    model: keras.Model | None = None
    recorded: Preprocessing | None = None
    takes_pixels: bool = False


def evaluate(
    path: Path,
    *,
    dataset: str | None = None,
    preprocess: str | None = None,
    split: str = "test",
    trust: bool = False,
    say: Say = lambda text: None,
) -> tuple[Evaluation, ...]:
    """Evaluates a run's model.keras and exported files, or one .keras, .h5 or exported file.

    Args:
        dataset: name or path; None means the dataset of the run that the path belongs to.
        preprocess: what pixels become, see `preprocessing.parse_preprocessing`; None means what
            the file or its run says, or else the model's first layers.
        split: one of SPLITS.
        trust: load a Keras file that holds code (see model.files.load_model).
        say: is told what is not usual of the input, and of answers that are mere guesses.
    Raises:
        UsageError: no such split, or no dataset known.
        RunError, ModelError, DataError: the path or the data is broken, or does not fit.
    """
    if split not in SPLITS:
        raise UsageError(f"split {split!r} is not known; splits are {', '.join(SPLITS)}")
    files = _files(path)
    data = dataset_of(path, dataset)
    run = record_around(path)
    found: list[Evaluation] = []
    first: np.ndarray | None = None
    for file in files:
        loaded = _load(file, data, trust=trust)
        recorded = loaded.recorded or (run and run.dataset.preprocess)
        data = declare(
            data,
            asked=None if loaded.takes_pixels else preprocess,
            recorded=recorded,
            model=loaded.model,
            say=say,
        )
        part = getattr(data, split)
        logits_of = loaded.logits(data.preprocessing)
        started = time.perf_counter()
        logits = logits_of(part.x)
        seconds = time.perf_counter() - started
        if logits.ndim != 2 or logits.shape[1] != data.num_classes:
            raise DataError(
                f"{file}: puts out {logits.shape[1:]}; dataset {data.name} has "
                f"{data.num_classes} classes"
            )
        best = logits.argmax(axis=-1)
        warning = guessing_warning(best, part.y, data, _others(loaded, part))
        if warning:
            say(f"warning: {file}: {warning}")
        found.append(
            Evaluation(
                file=file,
                kernels=loaded.kernels,
                images=len(part),
                accuracy=float(np.mean(best == part.y)),
                agreement=None if first is None else float(np.mean(best == first)),
                seconds=seconds,
                preprocess=data.preprocessing,
                warning=warning,
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
    record = record_around(path)
    if record is None:
        raise UsageError(f"{path} belongs to no run: say which data with --dataset")
    return load_dataset(
        record.dataset.name,
        seed=record.seed,
        validation_fraction=record.dataset.validation_fraction,
    )


def record_around(path: Path) -> RunRecord | None:
    """The record of the run that a path is, or lies in.

    Raises:
        RunError: it is broken.
    """
    run = next((p for p in (path, *path.parents) if (p / records.FILE_NAME).exists()), None)
    return None if run is None else records.load(run)


def _load(file: Path, data: Dataset, *, trust: bool) -> _Loaded:
    form = format_of(file)
    if form is not None:
        runner = form.definition.runner(file)
        return _Loaded(
            logits=lambda becomes: lambda x: run_logits(runner, x, becomes),
            kernels=runner.info.kernels,
            recorded=runner.info.preprocessing,
            takes_pixels=runner.info.takes_pixels,
        )
    # The other half of this module works without TensorFlow.
    from keras_quant.model.files import load_model
    from keras_quant.model.logits import LogitFunction

    model = load_model(file, trust=trust)
    check_fits(file, model, data)
    function = LogitFunction(model, None)
    return _Loaded(logits=function.with_preprocessing, kernels=("TensorFlow",), model=model)


def _others(loaded: _Loaded, part: Split) -> Callable[[Preprocessing], float] | None:
    """Accuracy of a file under another preprocessing, where that makes a difference to it."""
    if loaded.takes_pixels:
        return None
    x, y = part.x[:TRIED_IMAGES], part.y[:TRIED_IMAGES]
    return lambda becomes: float(np.mean(loaded.logits(becomes)(x).argmax(axis=-1) == y))

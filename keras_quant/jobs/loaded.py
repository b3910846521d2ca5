"""Files of all kinds, loaded so that they can be asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_quant.anytime.rules import as_logits
from keras_quant.data import Dataset
from keras_quant.errors import DataError, ModelError
from keras_quant.jobs.paths import dataset_of, keras_file_of, record_around
from keras_quant.jobs.preprocess import Say, declare
from keras_quant.model.metrics import are_shares
from keras_quant.pixels import normalize
from keras_quant.preprocessing import Preprocessing
from keras_quant.proof.formats import Format, format_of
from keras_quant.runners.child import ChildRunner

if TYPE_CHECKING:
    from keras_quant.tf import keras

Answers = dict[str, np.ndarray]
"""By output, in the model's order, (images, *shape)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loaded:
    """A file that can be asked.

    Attributes:
        file: where it is.
        ask: its answers to uint8 or float32 (images, height, width, channels), where pixels
            become what it is told.
        kernels: what computes them.
        model: where it is a Keras file.
        recorded: what becomes of pixels in front of it, as the file says.
        takes_pixels: whatever becomes of them.
    """

    file: Path
    ask: Callable[[np.ndarray, Preprocessing | None], Answers]
    kernels: tuple[str, ...]
    model: keras.Model | None = None
    recorded: Preprocessing | None = None
    takes_pixels: bool = False


def load_file(file: Path, data: Dataset, *, trust: bool) -> Loaded:
    """Loads a Keras file, or one of a format; one that is no Keras file needs no TensorFlow.

    Runtimes run in a child process, which alone ends where they crash.

    Args:
        data: whose images it is to take.
        trust: load a Keras file that holds code.
    Raises:
        ModelError: it cannot be loaded, or has several inputs.
        DataError: it takes other images.
    """
    form = format_of(file)
    return load_exported(file, form) if form else _load_keras(file, data, trust=trust)


def last_logits(loaded: Loaded, images: np.ndarray, becomes: Preprocessing | None) -> np.ndarray:
    """What the last output of a file answers, as logits.

    Args:
        images: as `Loaded.ask` takes them, one or more.
    Returns: float32 (images, *shape), as it is; of probabilities, as a softmax gives them, their
        logarithms, which are logits of the same softmax.
    """
    *_, last = loaded.ask(images, becomes).values()
    outputs = np.asarray(last, np.float32)
    if outputs.ndim != 2 or not are_shares(outputs).all():
        return outputs
    return as_logits(outputs)


def check_takes(file: Path, model: keras.Model, data: Dataset) -> None:
    """Checks that a Keras model takes a dataset's images.

    Raises:
        DataError: it does not, or has several inputs.
    """
    needed = (None, *data.input_shape)
    if not _is_shape(model.input_shape, needed):
        raise DataError(
            f"{file}: takes {model.input_shape}; images of dataset {data.name} are {needed}. Name "
            "the data that it was trained on with --dataset"
        )


def fitting(file: Path, model: keras.Model, data: Dataset) -> keras.Model:
    """Gives a model that was loaded the shape of a dataset's images, where it leaves that open.

    Raises:
        DataError: it takes other images, see `check_takes`.
    """
    from keras_quant.model.inputs import with_input_shape

    check_takes(file, model, data)
    return with_input_shape(model, data.input_shape)


def load_with_data(
    path: Path,
    *,
    dataset: str | None,
    preprocess: str | None,
    trust: bool,
    say: Say,
) -> tuple[keras.Model, Dataset]:
    """Loads the Keras model that a path stands for, and the images that it takes, declared.

    Args:
        path: a run's folder, or a Keras file or SavedModel.
        dataset: name or path of the images; None means the run's.
        preprocess: what pixels become; None means what the run says, or the model's first layers.
        trust: load a Keras file that holds code.
        say: is told what is loaded, and what is not usual of the input.
    Raises:
        KerasQuantError: a subclass says what of them is wrong, or does not fit.
    """
    from keras_quant.model.files import load_model
    from keras_quant.model.inputs import image_size

    file = keras_file_of(path)
    say(f"loading {file}")
    model = load_model(file, trust=trust)
    data = dataset_of(path, dataset, image_size(model))
    model = fitting(file, model, data)
    run = record_around(path)
    declared = declare(
        data,
        asked=preprocess,
        recorded=run.dataset.preprocess if run else None,
        model=model,
        say=say,
    )
    return model, declared


def _is_shape(shape: Any, needed: Sequence[int | None]) -> bool:
    """Whether a model's shape is the needed one; None stands for any length."""
    return (
        isinstance(shape, tuple)  # those of several inputs come as a list
        and len(shape) == len(needed)
        and all(have in (None, need) for have, need in zip(shape, needed, strict=True))
    )


def load_exported(file: Path, form: Format) -> Loaded:
    """Loads a file of a format, in a child process.

    Raises:
        ModelError: it cannot be loaded, or has several inputs.
    """
    runner = ChildRunner(form.runner, file)
    if len(runner.inputs) != 1:
        raise ModelError(f"{file}: has inputs {', '.join(runner.inputs)}; one is supported")

    def ask(images: np.ndarray, becomes: Preprocessing | None) -> Answers:
        as_they_are = runner.info.takes_pixels and images.dtype == np.uint8
        given = images if as_they_are else normalize(images, becomes)
        return runner.run({runner.inputs[0]: given})

    return Loaded(
        file=file,
        ask=ask,
        kernels=runner.info.kernels,
        recorded=runner.info.preprocessing,
        takes_pixels=runner.info.takes_pixels,
    )


def _load_keras(file: Path, data: Dataset, *, trust: bool) -> Loaded:
    from keras_quant.model.files import load_model
    from keras_quant.model.logits import AnswerFunction
    from keras_quant.model.outputs import output_names

    model = load_model(file, trust=trust)
    check_takes(file, model, data)
    answer = AnswerFunction(model)
    names = output_names(model)

    def ask(images: np.ndarray, becomes: Preprocessing | None) -> Answers:
        return dict(zip(names, answer(normalize(images, becomes)), strict=True))

    return Loaded(file=file, ask=ask, kernels=("TensorFlow",), model=model)

"""TensorFlow, with the Keras model as one traced function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from keras_quant.bench.runtimes import Description, Input, Opened
from keras_quant.errors import ModelError
from keras_quant.model.files import load_model
from keras_quant.model.logits import AnswerFunction
from keras_quant.tf import keras, use_threads

if TYPE_CHECKING:
    import numpy as np


def describe(file: Path) -> Description:
    """Says what a Keras file takes. Raises: ModelError: it cannot be loaded."""
    shape = _load_model(file).input_shape
    return Description(
        kernels=("TensorFlow",),
        versions={name: version(name) for name in ("tensorflow", "tf_keras")},
        inputs=(Input(name="input", dtype="float32", shape=tuple(shape[1:])),),
        batch=shape[0],
    )


def prepare(file: Path, *, threads: int) -> Callable[[], Opened]:
    """Gives what loads a file, see `runtimes.Runtime`."""
    use_threads(threads)
    return partial(_load, file)


def _load(file: Path) -> Opened:
    return partial(_ready, AnswerFunction(_load_model(file)))


def _ready(answer: AnswerFunction, arrays: Mapping[str, np.ndarray]) -> Callable[[], object]:
    (array,) = arrays.values()
    return partial(answer, array)


def _load_model(file: Path) -> keras.Model:
    model = load_model(file)
    if not isinstance(model.input_shape, tuple):
        raise ModelError(f"{file}: has {len(model.inputs)} inputs; one can be measured")
    return model

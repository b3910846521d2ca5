"""Float models that jobs start from: built by name, with the weights of a run, or from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_quant import runs
from keras_quant.data import Dataset
from keras_quant.data.view import view_of
from keras_quant.errors import DataError, RunError, UsageError, warn
from keras_quant.jobs.loaded import fitting
from keras_quant.jobs.preprocess import without_labels
from keras_quant.model.applications import APPLICATIONS, build_application, load_weights
from keras_quant.model.files import load_model
from keras_quant.model.suffixes import is_keras_model
from keras_quant.model.tasks import CLASSIFICATION, tasks_of
from keras_quant.model.topology import layers_by_name, variables_by_name
from keras_quant.model.user import build_from_file
from keras_quant.prepare import copy_weights
from keras_quant.runs import records
from keras_quant.tf import keras
from keras_quant.zoo import MODELS, build
from keras_quant.zoo.exits import add_exits

# What quantizing adds where nothing could be moved: kq quantize all, training a beta.
_ADDED = ("bias", "gamma", "beta")


def is_file(name: str) -> bool:
    """Whether a model's name is that of a Keras file or a SavedModel, which has weights."""
    return is_keras_model(Path(name))


def build_float(
    name: str,
    options: Mapping[str, Any],
    dataset: Dataset,
    parent: Path | None,
    *,
    weights: Path | None = None,
    trust: bool = False,
    exits: Sequence[str] = (),
) -> keras.Model:
    """Builds a float model, with the weights of the parent or a file where there is one.

    Args:
        name: of the zoo, of keras.applications, "FILE.py:FUNCTION", or a Keras file, whose weights
            it has.
        options: of a model of the zoo or of keras.applications.
        parent: a run's folder; one without exits gives all weights but theirs.
        weights: a file of weights alone, see `model.applications.load_weights`.
        trust: load a Keras file, or a parent's, that holds code.
        exits: names of layers that an early exit hangs on, see `zoo.exits`.
    Raises:
        UsageError, ModelError: there is no such model or layer, or it does not fit the data or the
            weights.
        DataError: it is of the zoo, and the images have no labels.
        RunError: the parent has other layers.
    """
    shape, classes = dataset.input_shape, dataset.num_classes
    if name in APPLICATIONS:
        return build_application(name, shape, classes, options, weights)
    needs_labels = name not in MODELS or MODELS[name].needs_labels
    if ":" not in name and not is_file(name) and needs_labels and not dataset.has_labels:
        raise DataError(
            f"{without_labels(dataset)}, and {name} tells classes apart: give images with labels, "
            "one folder a class, or y_train and y_test in the file"
        )
    if name in MODELS and MODELS[name].needs_elbo and not dataset.elbo:
        raise UsageError(
            f"{name} is a variational autoencoder: put +elbo behind the data's name, as in "
            f"--dataset {view_of(dataset.name).base}+elbo"
        )
    if is_file(name):
        file = Path(name)
        model = fitting(file, load_model(file, trust=trust), dataset)
    elif ":" in name:
        model = build_from_file(name, shape, classes)
    else:
        model = build(name, shape, classes, **options)
    model = _with_listed_outputs(model)
    if weights is not None:
        load_weights(model, weights)
    tasks = tasks_of_model(model, dataset)
    if exits and tasks != (CLASSIFICATION,):
        raise UsageError(
            f"--exits is for models with one output, of classes; {name} has {', '.join(tasks)}"
        )
    with_exits = add_exits(model, exits) if exits else model
    if parent is not None:
        has_exits = bool(records.load(parent).model.exits)
        _take_weights(with_exits if has_exits else model, parent, trust=trust)
    return with_exits


def _with_listed_outputs(model: keras.Model) -> keras.Model:
    """The model, with outputs in a list where it gives them by name: so are what they learn."""
    if not isinstance(getattr(model, "output", None), dict):
        return model
    return keras.Model(model.input, model.outputs, name=model.name)


def tasks_of_model(model: keras.Model, dataset: Dataset) -> tuple[str, ...]:
    """Says what each output of a model is trained for.

    Raises:
        ModelError: outputs that are neither a dataset's classes nor its images again.
    """
    shapes = [tuple(output.shape[1:]) for output in model.outputs]
    return tasks_of(shapes, dataset, name=model.name)


def _take_weights(model: keras.Model, parent: Path, *, trust: bool = False) -> None:
    given = load_model(runs.model_of(parent), trust=trust)
    shapes = {
        name: {key: variable.shape for key, variable in variables_by_name(layer).items()}
        for name, layer in layers_by_name(given).items()
    }
    missing = [
        name
        for name, layer in layers_by_name(model).items()
        if any(
            shapes.get(name, {}).get(key) != variable.shape
            for key, variable in variables_by_name(layer).items()
        )
    ]
    if missing:
        raise RunError(
            f"--from {parent}: that run's model ({given.name}) lacks these layers, or has them in "
            f"another shape: {', '.join(missing)}. Start from a run of the same model and classes"
        )
    own = {name: variables_by_name(layer) for name, layer in layers_by_name(model).items()}
    left = [
        f"{key} of {name}"
        for name, variables in shapes.items()
        for key in _ADDED
        if key in variables and key not in own.get(name, {key: None})
    ]
    if left:
        warn(
            f"--from {parent}: {', '.join(left)} are left out, which quantizing added to that "
            "run's model: this one has none there"
        )
    copy_weights(given, model)

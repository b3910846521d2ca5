"""Float models that jobs start from: built by name, with the weights of a run, or from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_quant import runs
from keras_quant.data import Dataset
from keras_quant.data.view import view_of
from keras_quant.errors import DataError, RunError, UsageError, warn
from keras_quant.jobs.loaded import fitting
from keras_quant.jobs.preprocess import without_labels
from keras_quant.model.applications import APPLICATIONS, build_application, load_weights
from keras_quant.model.files import load_model
from keras_quant.model.parts import parts_by_owner
from keras_quant.model.suffixes import is_keras_model
from keras_quant.model.tasks import CLASSIFICATION, tasks_of
from keras_quant.model.topology import copy_variables, layers_by_name, variables_by_name
from keras_quant.model.user import build_from_file
from keras_quant.runs import records
from keras_quant.tf import keras
from keras_quant.zoo import MODELS, build
from keras_quant.zoo.exits import add_exits

# What quantizing adds where nothing could be moved: kq quantize all, training a beta.
_ADDED = ("bias", "gamma", "beta")
_AFFINE = (keras.layers.Normalization, keras.layers.Rescaling)  # whose batch norm has all of them


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
    start = load_model(runs.model_of(parent), trust=trust)
    given = layers_by_name(start)
    shapes = {
        name: {key: variable.shape for key, variable in variables_by_name(layer).items()}
        for name, layer in given.items()
    }
    layers = layers_by_name(model)
    own = {name: variables_by_name(layer) for name, layer in layers.items()}
    unlike = [
        name
        for name, variables in own.items()
        if any(shapes.get(name, {}).get(key) != v.shape for key, v in variables.items())
    ]
    parts = parts_by_owner(model) if unlike else {}
    joined = {name: _joined(layers[name], parts.get(name, {}), given) for name in unlike}
    missing = [name for name, weights in joined.items() if weights is None]
    if missing:
        raise RunError(
            f"--from {parent}: that run's model ({start.name}) lacks these layers, or has them in "
            f"another shape: {', '.join(missing)}. Start from a run of the same model and classes"
        )
    left = [
        f"{key} of {name}"
        for name, layer in layers.items()
        for key in _ADDED
        if key in shapes.get(name, {}) and key not in own[name] and not isinstance(layer, _AFFINE)
    ]
    if left:
        warn(
            f"--from {parent}: {', '.join(left)} are left out, which quantizing added to that "
            "run's model: this one has none there"
        )
    for name, layer in layers.items():
        weights = joined.get(name)
        if weights is not None:
            layer.set_weights(weights)
        elif name in given:
            copy_variables(given[name], layer)


def _joined(
    layer: keras.layers.Layer,
    parts: Mapping[str, keras.layers.Layer],
    given: Mapping[str, keras.layers.Layer],
) -> list[np.ndarray] | None:
    """A layer's weights, of those of the layers it stands for, which a quantized model has.

    Args:
        parts: these layers, by name, with the layer's present weights.
        given: the quantized model's, by name.
    Returns: None where that model lacks them, or has them in another shape.
    """
    found, before = [], []
    for name, part in parts.items():
        theirs = variables_by_name(given[name]) if name in given else {}
        for key, variable in variables_by_name(part).items():
            if key not in theirs or theirs[key].shape != variable.shape:
                return None
            found.append(theirs[key].numpy())
            before.append(variable.numpy())
    own: list[np.ndarray] = layer.get_weights()
    if sum(values.size for values in found) == sum(values.size for values in own):
        return [values.reshape(old.shape) for values, old in zip(found, own, strict=True)]
    # A Normalization is a batch norm of other numbers, which nothing trains.
    is_same = bool(found) and all(map(np.array_equal, found, before))
    return own if is_same else None

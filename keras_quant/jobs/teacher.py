"""The models whose answers a net learns: beside the labels, or of which it learns the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keras_quant.data import Dataset
from keras_quant.errors import UsageError
from keras_quant.jobs.loaded import check_takes
from keras_quant.jobs.paths import keras_file_of, record_around
from keras_quant.model.files import load_model
from keras_quant.model.metrics import are_shares
from keras_quant.model.probabilities import as_logits
from keras_quant.model.suffixes import MODEL_KINDS, is_keras_model
from keras_quant.preprocessing import describe
from keras_quant.runs import ensembles
from keras_quant.runs.ensembles import Combined
from keras_quant.tf import keras, tf

Teacher = Callable[..., Any]
"""Gives (batch, classes) logits of images, maybe several; is called as a Keras model is."""

TRIED_IMAGES = 32  # of which a teacher's answers are looked at


def load_teacher(paths: Sequence[Path], dataset: Dataset, *, trust: bool = False) -> Teacher:
    """Loads a teacher: runs' folders, Keras files of version 2 or 3, or an ensemble's folder.

    Of a net with early exits the last answers are learned. Probabilities stand for their
    logarithms, which are logits with the same softmax. Of several nets the mean of probabilities
    is learned, of an ensemble what its record says (votes have none, so the mean too).

    Args:
        trust: load Keras files that hold code.
    Raises:
        UsageError: a path is none of them, a net has other classes, or takes pixels that became
            something else.
        ModelError, RunError: one cannot be loaded.
        DataError: it takes other images.
    """
    combined = Combined(runs=tuple(paths))
    if len(paths) == 1 and ensembles.is_ensemble(paths[0]):
        combined = ensembles.load(paths[0])
    nets = [_load(path, dataset, trust=trust) for path in combined.runs]
    if len(nets) == 1:
        return nets[0]
    if combined.combination == "sum":
        return sum_of(nets, combined.weights)
    if combined.combination == "logits":
        return sum_of(nets, [1 / len(nets)] * len(nets))
    return _mean_of_probabilities(nets)


def load_sum(runs: Sequence[Path], weight: float, dataset: Dataset) -> Teacher:
    """Loads runs, and adds up their logits, each times a weight.

    Raises: as `load_teacher`.
    """
    return sum_of([_load(run, dataset, trust=False) for run in runs], [weight] * len(runs))


def sum_of(nets: Sequence[Teacher], weights: Sequence[float]) -> Teacher:
    """The sum of nets' logits, each times a weight."""

    def logits(x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return tf.add_n(
            [weight * one for weight, one in zip(weights, _answers(nets, x, training), strict=True)]
        )

    return logits


def _mean_of_probabilities(nets: Sequence[Teacher]) -> Teacher:
    def logits(x: tf.Tensor, training: bool = False) -> tf.Tensor:
        shares = [tf.nn.softmax(one) for one in _answers(nets, x, training)]
        return as_logits(tf.add_n(shares) / len(shares))

    return logits


def _answers(nets: Sequence[Teacher], x: tf.Tensor, training: bool) -> list[tf.Tensor]:
    """The last answer of each net, in float32."""
    return [tf.cast(tf.nest.flatten(net(x, training=training))[-1], tf.float32) for net in nets]


def _load(path: Path, dataset: Dataset, *, trust: bool) -> Teacher:
    if ensembles.is_ensemble(path):
        raise UsageError(f"--distill: {path} is an ensemble; give it alone, or runs")
    if not (path.is_dir() or is_keras_model(path)):
        raise UsageError(
            f"--distill {path}: no such run or model; give the share of the parent's answers, as "
            f"0.9, or teachers: runs' folders or a {MODEL_KINDS}, with commas between them, or an "
            "ensemble's folder"
        )
    file = keras_file_of(path)
    model = load_model(file, trust=trust)
    check_takes(file, model, dataset)
    shapes = [tuple(output.shape[1:]) for output in model.outputs]
    if set(shapes) != {(dataset.num_classes,)}:
        raise UsageError(
            f"--distill {path}: the teacher puts out {model.output_shape}; {dataset.num_classes} "
            f"classes are needed, as dataset {dataset.name} has"
        )
    _check_pixels(path, dataset)
    return of_logits(model, dataset)


def of_logits(model: keras.Model, dataset: Dataset) -> Teacher:
    """A model as a teacher: where its last answers are probabilities, of their logarithms.

    That is seen of some answers, as a softmax may lie within a layer of somebody else's.
    """
    images = tf.constant(dataset.reals(dataset.train.x[:TRIED_IMAGES]))
    last = tf.nest.flatten(model(images, training=False))[-1]
    return _of_probabilities(model) if are_shares(last.numpy()).all() else model


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

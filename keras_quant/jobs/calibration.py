"""The images that a job calibrates on, and the statistics that it keeps of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np

from keras_quant.calibration.collect import CALIBRATION_IMAGES, Statistics, collect
from keras_quant.calibration.quantize import check_statistics
from keras_quant.calibration.store import COLLECT_AGAIN, load_statistics
from keras_quant.data import Dataset
from keras_quant.errors import DataError
from keras_quant.pixels import pixel_grid
from keras_quant.prepare import Plan
from keras_quant.prepare.adjust.correct_bias import kernel_inputs
from keras_quant.preprocessing import describe
from keras_quant.qparams import QParams
from keras_quant.runs.progress import Progress
from keras_quant.tf import keras


def collect_statistics(
    plan: Plan,
    source: keras.Model,
    dataset: Dataset,
    *,
    images: int = CALIBRATION_IMAGES,
    fresh: bool = False,
    post_training: bool = False,
    scales: Mapping[str, np.ndarray] | None = None,
    progress: Progress,
) -> Statistics:
    """Collects statistics over training images; who wants to keep them writes them to a file.

    Args:
        images: how many, taken at even distances, since a folder's come class by class; all where
            there are fewer.
        fresh: the model is untrained, see `collect`.
        post_training: it will not be trained, see `quantize`.
        scales: of channels that were scaled in the source before, for the file.
    Raises:
        ModelError: the model puts out NaN.
    """
    x = calibration_images(dataset, images)
    progress.say(f"calibrating activations on {len(x):,} training images")
    with progress.bar("calibrating", len(x)) as show:
        statistics = collect(
            plan,
            source,
            x,
            reals=dataset.reals,
            pixels=pixels_of(dataset),
            fresh=fresh,
            per_channel=kernel_inputs(plan) if post_training else (),
            on_images=lambda done: show(done, ""),
        )
    return replace(statistics, scales=scales or {})


def calibration_images(dataset: Dataset, images: int) -> np.ndarray:
    """So many training images as they are stored, at even distances; all where there are fewer."""
    return dataset.train.spread(images).x


def read_statistics(
    file: Path, plan: Plan, source: keras.Model, dataset: Dataset, *, post_training: bool = False
) -> Statistics:
    """Reads statistics that were collected earlier.

    Raises:
        DataError: the file is damaged, or its statistics are of another model or plan, or of
            pixels that became something else.
    """
    statistics = load_statistics(file)
    check_known(statistics, file, plan, source, dataset, post_training=post_training)
    return statistics


def check_known(
    statistics: Statistics,
    file: Path,
    plan: Plan,
    source: keras.Model,
    dataset: Dataset,
    *,
    post_training: bool = False,
) -> None:
    """Checks that statistics of a file are of a model and of all that a plan needs them for.

    Raises:
        DataError: they are not, or of pixels that became something else.
    """
    try:
        check_statistics(statistics, plan, source, post_training=post_training)
        _check_pixels(statistics, dataset)
    except DataError as error:
        raise DataError(f"{file}: {error}. {COLLECT_AGAIN}") from error


def _check_pixels(statistics: Statistics, dataset: Dataset) -> None:
    found, expected = statistics.pixels, pixels_of(dataset)
    if (found and astuple(found)) != (expected and astuple(expected)):
        declared = dataset.preprocessing
        raise DataError(
            "they were collected with another --preprocess than "
            f"{describe(declared) if declared else 'images of floats have'}"
        )


def pixels_of(dataset: Dataset) -> QParams | None:
    """The codes that a dataset's pixels are as they are."""
    declared = dataset.preprocessing
    return None if declared is None else pixel_grid(declared, dataset.input_shape[-1])

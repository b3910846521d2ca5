"""Images of anyone to be answered, each with its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from keras_quant.data import Dataset
from keras_quant.data.catalog import DATASETS
from keras_quant.data.dataset import NO_LABEL
from keras_quant.data.every import NamedImages, read_every
from keras_quant.data.view import view_of
from keras_quant.errors import DataError
from keras_quant.jobs.paths import dataset_of, record_around
from keras_quant.runs.progress import Progress


def are_a_datasets(images: str | None) -> bool:
    """Whether these are the test images of a dataset that is known by name, or the run's own."""
    return images is None or view_of(images).base in DATASETS


def images_to_answer(
    run: Path,
    images: str | None,
    *,
    shape: tuple[int, ...],
    classes: int,
    data: Dataset | None = None,
    taker: Path | None = None,
    progress: Progress,
) -> NamedImages:
    """The images to answer, with labels where these are of the classes that a run tells apart.

    Args:
        images: a path, all images of which are answered; or a dataset's name, None for the run's:
            its test images are.
        shape: that the run takes.
        classes: that it tells apart.
        data: the run's, or those that are named, where they are loaded already.
        taker: what to call that which takes them; None for the run.
    Raises:
        DataError: there are none, or the run takes others.
    """
    if are_a_datasets(images):
        data = data or dataset_of(run, images)
        found = NamedImages(
            names=tuple(f"test[{place}]" for place in range(len(data.test))),
            x=data.test.x,
            y=data.test.y,
            class_names=data.class_names,
            num_classes=data.num_classes,
        )
    else:
        size = (shape[0], shape[1]) if len(shape) == 3 else None
        assert images is not None
        found = read_every(Path(images), image_size=size, say=progress.say)
    where = images or "the run's data"
    if tuple(shape) != found.x.shape[1:]:
        raise DataError(
            f"{taker or run}: takes {tuple(shape)}; images of {where} are {found.x.shape[1:]}"
        )
    if not len(found.x):
        raise DataError(f"{where}: there are no images to answer")
    if found.num_classes not in (0, classes):
        progress.say(
            f"{where}: has {found.num_classes} classes, and the net tells {classes} apart: what is "
            "right is not told"
        )
    if found.num_classes == classes:
        return found
    return replace(found, y=np.full(len(found.x), NO_LABEL), class_names=_known_classes(run))


def _known_classes(run: Path) -> tuple[str, ...]:
    """What the classes of a run are called, where its data are known by name."""
    record = record_around(run)
    known = None if record is None else DATASETS.get(view_of(record.dataset.name).base)
    return () if known is None else known.class_names

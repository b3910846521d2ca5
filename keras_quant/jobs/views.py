"""Images of the same things by several cameras, read in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_quant.data.dataset import NO_LABEL
from keras_quant.data.every import NamedImages
from keras_quant.errors import DataError
from keras_quant.jobs.anytime import Opened
from keras_quant.jobs.named_images import images_to_answer
from keras_quant.runs.progress import Progress


def read_views(
    run: Path, images: str | None, views: Sequence[str], *, opened: Opened, progress: Progress
) -> tuple[NamedImages, list[np.ndarray]]:
    """Reads images to answer, and further views of the same things.

    Args:
        images, views: see `images_to_answer`.
    Returns: the first view, whose names and labels count; and the images of all views, each as
        many.
    Raises:
        DataError: there are none, or stages take others; or views differ in number or labels.
    """
    shape, classes = opened.files[0].inputs[0].shape, opened.classes
    first = images_to_answer(run, images, shape=shape, classes=classes, progress=progress)
    read = [first.x]
    for name in views:
        other = images_to_answer(run, name, shape=shape, classes=classes, progress=progress)
        unlike = _unlike(first, other)
        if unlike:
            raise DataError(
                f"--view {name}: {unlike} {images or 'the run'}. A view shows the same things in "
                "the same order"
            )
        read.append(other.x)
    return first, read


def _unlike(first: NamedImages, other: NamedImages) -> str:
    """In what a view shows other things; nothing where it does not."""
    if len(other.x) != len(first.x):
        return f"has {len(other.x)} images, and not {len(first.x)} as"
    known = (first.y != NO_LABEL) & (other.y != NO_LABEL)
    differ = int((first.y[known] != other.y[known]).sum())
    return f"{differ} of its labels are not those of" if differ else ""

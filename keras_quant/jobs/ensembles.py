"""Exported files of several runs as one net: what each is worth, and what all are together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_quant.anytime.ensembles import FUSIONS, any_right, disagreement
from keras_quant.data import Dataset
from keras_quant.errors import DataError, RunError, UsageError, close_names
from keras_quant.jobs.loaded import last_logits, load_file
from keras_quant.jobs.paths import dataset_of, exported_file
from keras_quant.proof.formats import FORMATS
from keras_quant.runners.batches import IMAGES_AT_ONCE
from keras_quant.runs import records
from keras_quant.runs.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One of the nets.

    Attributes:
        run: that it is of.
        scheme: name of its scheme.
        accuracy: share of the test images; of the last output where there are several.
    """

    run: Path
    file: Path
    scheme: str
    size_bytes: int
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """All of them together.

    Attributes:
        images: how many test images.
        size_bytes: of all files.
        accuracies: by fusion, see `anytime.ensembles.FUSIONS`.
        disagreement: share of images on which two members differ, on average.
        any_right: share of images that a member answers rightly.
    """

    members: tuple[Member, ...]
    images: int
    size_bytes: int
    accuracies: Mapping[str, float]
    disagreement: float
    any_right: float


def ensemble(
    runs: Sequence[Path],
    *,
    form: str = "tflite",
    dataset: str | None = None,
    progress: Progress,
) -> Ensemble:
    """Asks the files of several runs for the test images, and puts their answers together.

    Args:
        form: a key of FORMATS.
        dataset: name or path; None means that of the first run.
    Raises:
        UsageError: there are fewer than two runs, or no such format.
        RunError: one was not exported in it, or has another file than was proven.
        DataError: members tell other classes apart, or the images have no labels.
    """
    if len(runs) < 2:
        raise UsageError(f"{len(runs)} run is given; an ensemble has two members or more")
    check_format(form)
    files = _files(runs, form)
    schemes = [str(records.load(run).scheme["name"]) for run in runs]
    data = dataset_of(runs[0], dataset)
    if not data.has_labels:
        raise DataError(f"{data.name} has no labels: give images with labels, with --dataset")
    logits = [_answers(file, data, progress) for file in files]
    _check_classes(runs, logits, data)
    together, truth = np.stack(logits), data.test.y
    labels = together.argmax(axis=-1)
    sizes = [file.stat().st_size for file in files]
    rows = zip(runs, files, schemes, sizes, labels, strict=True)
    return Ensemble(
        members=tuple(
            Member(
                run=run,
                file=file,
                scheme=scheme,
                size_bytes=size,
                accuracy=float(np.mean(found == truth)),
            )
            for run, file, scheme, size, found in rows
        ),
        images=len(truth),
        size_bytes=sum(sizes),
        accuracies={
            name: float(np.mean(fuse(together).argmax(axis=-1) == truth))
            for name, fuse in FUSIONS.items()
        },
        disagreement=disagreement(labels),
        any_right=any_right(labels, truth),
    )


def _files(runs: Sequence[Path], form: str) -> list[Path]:
    """The file of each run; all that are wrong are told at once."""
    files, problems = [], []
    for run in runs:
        try:
            files.append(exported_file(run, form))
        except RunError as error:
            problems.append(str(error))
    if problems:
        raise RunError("\n".join(problems))
    return files


def check_format(form: str) -> None:
    """Raises: UsageError: there is no such format."""
    if form not in FORMATS:
        names = close_names(form, FORMATS)
        raise UsageError(f"--format {form!r} is not known{names}; formats are {', '.join(FORMATS)}")


def _answers(file: Path, data: Dataset, progress: Progress) -> np.ndarray:
    """The logits of a file's last output to all test images."""
    loaded = load_file(file, data, trust=False)
    becomes = loaded.recorded or data.preprocessing
    parts = []
    with progress.bar(f"asking {file}", len(data.test)) as show:
        for start in range(0, len(data.test), IMAGES_AT_ONCE):
            images = data.test.x[start : start + IMAGES_AT_ONCE]
            parts.append(last_logits(loaded, images, becomes))
            show(min(start + IMAGES_AT_ONCE, len(data.test)), "")
    return np.concatenate(parts)


def _check_classes(runs: Sequence[Path], logits: Sequence[np.ndarray], data: Dataset) -> None:
    shapes = [found.shape[1:] for found in logits]
    if set(shapes) != {(data.num_classes,)}:
        counts = ", ".join(
            f"{run} has {' x '.join(map(str, shape))}"
            for run, shape in zip(runs, shapes, strict=True)
        )
        raise DataError(
            f"members are to tell the {data.num_classes} classes of {data.name} apart: {counts}"
        )

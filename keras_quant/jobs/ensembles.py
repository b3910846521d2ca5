"""Exported files of several runs as one net: what each is worth, and what all are together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_quant.anytime.diversity import MEASURES, any_right, disagreement
from keras_quant.anytime.ensembles import FUSIONS, combine
from keras_quant.data import Dataset, Split
from keras_quant.errors import DataError, RunError, UsageError, close_names
from keras_quant.jobs.loaded import last_logits, load_file
from keras_quant.jobs.paths import dataset_of, exported_file
from keras_quant.proof.formats import FORMATS
from keras_quant.runners.batches import IMAGES_AT_ONCE
from keras_quant.runs import ensembles, records
from keras_quant.runs.ensembles import Combined
from keras_quant.runs.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One of the nets.

    Attributes:
        run: that it is of.
        scheme: name of its scheme.
        accuracy: share of the test images; of the last output where there are several. What a
            boosted member answers alone is the rest that others leave, and may be right seldom.
        weight: of its logits in a sum; 1 where they are not summed.
    """

    run: Path
    file: Path
    scheme: str
    size_bytes: int
    accuracy: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """All of them together.

    Attributes:
        images: how many test images.
        size_bytes: of all files.
        combination: how the members' answers become one, as the ensemble's record says; a key of
            accuracies.
        accuracies: by fusion, see `anytime.ensembles.FUSIONS`; and that of the "sum" of logits,
            where the members are boosted.
        disagreement: share of images on which two members differ, on average.
        any_right: share of images that a member answers rightly.
        diversity: by name, see `anytime.diversity.MEASURES`; None where one divides by 0.
    """

    members: tuple[Member, ...]
    images: int
    size_bytes: int
    combination: str
    accuracies: Mapping[str, float]
    disagreement: float
    any_right: float
    diversity: Mapping[str, float | None]


def ensemble(
    paths: Sequence[Path],
    *,
    form: str = "tflite",
    dataset: str | None = None,
    progress: Progress,
) -> Ensemble:
    """Asks the files of several runs for the test images, and puts their answers together.

    Args:
        paths: runs, or one ensemble's folder, see `runs.ensembles`.
        form: a key of FORMATS.
        dataset: name or path; None means that of the first run.
    Raises:
        UsageError: there are fewer than two runs, or no such format.
        RunError: one was not exported in it, or has another file than was proven; or was trained
            anew since the ensemble was made.
        DataError: members tell other classes apart, or the images have no labels.
    """
    combined = combined_of(paths)
    check_format(form)
    runs = combined.runs
    files = _files(runs, form)
    schemes = [str(records.load(run).scheme["name"]) for run in runs]
    data = dataset_of(runs[0], dataset)
    if not data.has_labels:
        raise DataError(f"{data.name} has no labels: give images with labels, with --dataset")
    logits = [logits_of(file, data, data.test, progress) for file in files]
    _check_classes(runs, logits, data)
    together, truth = np.stack(logits), data.test.y
    labels = together.argmax(axis=-1)
    right = labels == truth
    sizes = [file.stat().st_size for file in files]
    weights = _weights(combined)
    rows = zip(runs, files, schemes, sizes, right, weights, strict=True)
    return Ensemble(
        members=tuple(
            Member(
                run=run,
                file=file,
                scheme=scheme,
                size_bytes=size,
                accuracy=float(found.mean()),
                weight=weight,
            )
            for run, file, scheme, size, found, weight in rows
        ),
        images=len(truth),
        size_bytes=sum(sizes),
        combination=combined.combination,
        accuracies={
            way: float(np.mean(combine(together, way, weights).argmax(axis=-1) == truth))
            for way in _ways(combined)
        },
        disagreement=disagreement(labels),
        any_right=any_right(labels, truth),
        diversity={name: measure(right) for name, measure in MEASURES.items()},
    )


def combined_of(paths: Sequence[Path]) -> Combined:
    """The runs that paths stand for.

    Args:
        paths: runs, whose probabilities are averaged, or one ensemble's folder.
    Raises:
        UsageError: there is one run, or an ensemble among others.
        RunError: see `runs.ensembles.load`.
    """
    folders = [path for path in paths if ensembles.is_ensemble(path)]
    if folders and len(paths) == 1:
        return ensembles.load(paths[0])
    if folders:
        raise UsageError(f"{folders[0]}: is an ensemble; give it alone, or give runs")
    if len(paths) < 2:
        raise UsageError(f"{len(paths)} run is given; an ensemble has two members or more")
    return Combined(runs=tuple(paths))


def _weights(combined: Combined) -> tuple[float, ...]:
    is_sum = combined.combination == "sum"
    return combined.weights if is_sum else (1.0,) * len(combined.runs)


def _ways(combined: Combined) -> tuple[str, ...]:
    """The ways in which answers are put together: those of all ensembles, and its own."""
    return tuple(dict.fromkeys((*FUSIONS, combined.combination)))


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


def logits_of(file: Path, data: Dataset, split: Split, progress: Progress) -> np.ndarray:
    """What a file's last output answers to images.

    Args:
        data: whose images they are.
    Returns: float32 (images, classes) logits.
    """
    loaded = load_file(file, data, trust=False)
    becomes = loaded.recorded or data.preprocessing
    parts = []
    with progress.bar(f"asking {file}", len(split)) as show:
        for start in range(0, len(split), IMAGES_AT_ONCE):
            images = split.x[start : start + IMAGES_AT_ONCE]
            parts.append(last_logits(loaded, images, becomes))
            show(min(start + IMAGES_AT_ONCE, len(split)), "")
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

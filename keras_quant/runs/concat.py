"""concat.json: layers that make the scores of several views one answer, and when it is enough."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from keras_quant.errors import RunError
from keras_quant.files import read_record, write_json
from keras_quant.runs.exits import ChosenThresholds

FILE_NAME = "concat.json"
FORMAT_VERSION = 1
REMEDY = "Learn it again: kq anytime concat RUN IMAGES --view IMAGES"

_LARGEST_FLOAT32 = float.fromhex("0x1.fffffep127")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord:
    """The layer of an exit; see `anytime.views.Layer`.

    Attributes:
        weights: a row for each score of each view, view by view, of one float32 a class.
        bias: one float32 a class.
    """

    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcatExit:
    """One exit, where all things end at it.

    Attributes:
        answer: name of the output.
        cost: of all stages up to it, all views.
        views: test accuracy of each view by itself.
        together: test accuracy of all views, by how they become one.
    """

    answer: str
    cost: float
    views: tuple[float, ...]
    together: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcatRecord(ChosenThresholds):
    """Layers, how they were learned, and thresholds of what they answer.

    Attributes:
        images: that each view was read from.
        views, classes: how many.
        learned: how many things the layers were learned from.
        seed: of the split of things into those to learn from, validation and test.
        exits: each by itself.
        layers: of each exit.
    """

    images: tuple[str, ...]
    views: int
    classes: int
    learned: int
    seed: int
    exits: tuple[ConcatExit, ...]
    layers: tuple[LayerRecord, ...]
    format_version: int = FORMAT_VERSION


def save(record: ConcatRecord, run: Path) -> Path:
    """Writes a record into a run's folder. Raises: FileError."""
    path = run / FILE_NAME
    write_json(path, record)
    return path


def load(run: Path) -> ConcatRecord:
    """Reads a run's record.

    Raises:
        RunError: it is missing, broken, or of a newer format.
    """
    path = run / FILE_NAME
    if not path.exists():
        raise RunError(
            f"{run}: has no {FILE_NAME}. Learn it: kq anytime concat {run} IMAGES --view IMAGES"
        )
    return read_record(
        path, ConcatRecord, remedy=REMEDY, format_version=FORMAT_VERSION, problems_of=_problems
    )


def _problems(record: ConcatRecord) -> Iterator[str]:
    """What the fields do not say together."""
    count = len(record.files)
    if len(record.layers) != count:
        yield f"layers: {len(record.layers)} for {count} files; one a file is needed"
    if len(record.thresholds) != count - 1:
        yield (
            f"thresholds: {len(record.thresholds)} for {count} files; one less than files is needed"
        )
    if not all(map(math.isfinite, record.thresholds)):
        yield "thresholds: holds what is no finite number"
    if record.views < 1 or record.classes < 2:
        yield (
            f"views: {record.views} of {record.classes} classes; a view or more, of two classes or "
            "more, are needed"
        )
    for place, layer in enumerate(record.layers):
        rows = (layer.bias, *layer.weights)
        if len(layer.weights) != record.views * record.classes or any(
            len(row) != record.classes for row in rows
        ):
            yield (
                f"layers[{place}]: its weights are no {record.views * record.classes} rows of "
                f"{record.classes}, with a bias of {record.classes}"
            )
        # NaN is not less than anything.
        if not all(abs(value) <= _LARGEST_FLOAT32 for row in rows for value in row):
            yield f"layers[{place}]: holds what is no finite float32"

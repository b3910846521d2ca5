"""What the record of a run says of its beginning, whatever the run does."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

from keras_quant.data import Dataset
from keras_quant.errors import RunError, warn
from keras_quant.runs import records
from keras_quant.runs.records import DatasetRecord, RunRecord


def now() -> str:
    """Local time with its offset, ISO 8601."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def describe_data(dataset: Dataset, validation_fraction: float) -> DatasetRecord:
    """What a record says of the images."""
    return DatasetRecord(
        name=dataset.name,
        source=dataset.source,
        sizes={part: len(getattr(dataset, part)) for part in ("train", "validation", "test")},
        input_shape=dataset.input_shape,
        num_classes=dataset.num_classes,
        has_labels=dataset.has_labels,
        preprocess=dataset.preprocessing,
        validation_fraction=validation_fraction,
    )


def begun(
    path: Path,
    record: RunRecord,
    *,
    again: str,
    as_asked: Callable[[RunRecord], RunRecord] = lambda record: record,
) -> RunRecord:
    """The record that a stopped run began with.

    Args:
        record: of the settings with which it is to go on.
        again: what --overwrite does, for messages.
        as_asked: takes out of a record's settings what the run has added to them.
    Raises:
        RunError: it is finished, or was begun with other settings.
    """
    found = records.load(path)
    if found.status == "exported":
        raise RunError(f"{path}: that run is finished; --overwrite {again} it anew")
    differing = records.differing_settings(as_asked(found), record)
    if differing:
        raise RunError(
            f"{path}: --resume needs the settings that the run was begun with; these differ: "
            f"{', '.join(differing)} (see {path / records.FILE_NAME})"
        )
    if rounding := records.differing_rounding(found, record):
        warn(
            f"{path}: goes on, but not to the bits that it would have ended in: it was begun with "
            f"{'; '.join(rounding)}"
        )
    return found

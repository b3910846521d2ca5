"""What the record of a run says of its beginning, whatever the run does."""

from __future__ import annotations

import datetime

from keras_quant.data import Dataset
from keras_quant.runs.records import DatasetRecord


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

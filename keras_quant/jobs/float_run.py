"""The float model of a run, and its data, for what looks into it."""

from __future__ import annotations

from pathlib import Path

from keras_quant.data import Dataset
from keras_quant.errors import UsageError
from keras_quant.jobs.loaded import check_takes
from keras_quant.jobs.paths import dataset_of
from keras_quant.jobs.preprocess import declare
from keras_quant.model.files import load_model
from keras_quant.model.inputs import with_input_shape
from keras_quant.runs import model_of, records
from keras_quant.runs.progress import Progress
from keras_quant.runs.records import RunRecord
from keras_quant.tf import keras


def load_float_run(path: Path, progress: Progress) -> tuple[keras.Model, Dataset]:
    """Loads the model of a float run, and the data that it was trained on, declared.

    Raises:
        UsageError: the run's model is quantized.
        RunError, ModelError, DataError: it is broken, or its data are.
    """
    record = records.load(path)
    check_float(path, record)
    file = model_of(path)
    progress.say(f"loading {file}")
    source, dataset = load_model(file), dataset_of(path, None)
    check_takes(file, source, dataset)
    source = with_input_shape(source, dataset.input_shape)
    recorded = record.dataset.preprocess
    return source, declare(dataset, asked=None, recorded=recorded, model=source, say=progress.say)


def check_float(path: Path, record: RunRecord) -> None:
    """Checks that a run's model is in float.

    Raises:
        UsageError: it is not; with the run that it was made of, where that is known.
    """
    if record.training is not None and record.training.method == "float":
        return
    parent = parent_of(record)
    advice = f"give the run that it was made of, {parent}" if parent else "give a float run"
    raise UsageError(
        f"{path}: is quantized, and rounding it again would say little of its layers: {advice} "
        "(kq train --method float makes one)"
    )


def parent_of(record: RunRecord) -> str | None:
    """The run or file that a quantized run was made of."""
    if record.quantization is not None:
        return record.quantization.source
    return None if record.training is None else record.training.parent

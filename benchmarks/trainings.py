"""Runs that a benchmark needs: trained where they are missing, reused where they are there."""

from __future__ import annotations

from pathlib import Path

from results import Result

from keras_quant.errors import RunError
from keras_quant.jobs.train import load_images, train
from keras_quant.jobs.train_settings import TrainSettings, begin_record
from keras_quant.runs import records
from keras_quant.runs.progress import Progress
from keras_quant.runs.records import RunRecord


def finished_run(settings: TrainSettings, path: Path) -> RunRecord:
    """Gives the record of a run; trains it, or what is missing of it, where it is not finished.

    Raises:
        RunError: the folder holds a run of other settings.
        KerasQuantError: training or export failed.
    """
    begun = records.load(path) if (path / records.FILE_NAME).exists() else None
    if begun is None or begun.status != "exported":
        resume = begun is not None
        done = train(settings, path, resume=resume, progress=Progress())
        assert done is not None, "one process writes its own run"
        return done.record
    _check_same(begun, settings, path)
    return begun


def _check_same(begun: RunRecord, settings: TrainSettings, path: Path) -> None:
    expected = begin_record(settings, load_images(settings), begun.float_layers, ())
    differing = records.differing_settings(begun, expected)
    if differing:
        raise RunError(
            f"{path}: a run with other settings ({', '.join(differing)}). Give another --out, or "
            "remove it"
        )


def accuracy(record: RunRecord, *, at_least: float | None = None) -> Result:
    """The Keras model's test accuracy, with what the TFLite file says of it as its peer.

    Args:
        at_least: the goal, in %.
    """
    keras, tflite = (_figure(record, "accuracy", of) for of in ("Keras model", "TFLite file"))
    agreement = _figure(record, "top-1 agreement", "Keras and TFLite")
    images = record.dataset.sizes["test"]
    return Result(
        figure=f"accuracy, {record.scheme['name']}",
        value=keras,
        unit="%",
        at_least=at_least,
        peer=f"TFLite file {tflite:.2f} %, agrees on {agreement:.2f} % of {images:,} images",
    )


def file_accuracy(record: RunRecord) -> float:
    """The test accuracy of the TFLite file, in %."""
    return _figure(record, "accuracy", "TFLite file")


def loss_against(reference: Result, result: Result, *, at_most: float | None) -> Result:
    """How much accuracy is lost against a reference, in points.

    Args:
        at_most: the goal, in points.
    """
    return Result(
        figure=f"lost, {result.figure.removeprefix('accuracy, ')}",
        value=reference.value - result.value,
        unit="points",
        at_most=at_most,
        peer=f"{reference.figure.removeprefix('accuracy, ')}, {reference.value:.2f} %",
    )


def _figure(record: RunRecord, name: str, notes: str) -> float:
    return next(f.value for f in record.figures if (f.name, f.notes) == (name, notes))

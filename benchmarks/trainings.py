"""Runs that a benchmark needs: trained where they are missing, reused where they are there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from results import Result

from keras_quant.errors import RunError
from keras_quant.jobs.train import load_images, train
from keras_quant.jobs.train_settings import TrainSettings, begin_record
from keras_quant.runs import records
from keras_quant.runs.progress import Progress
from keras_quant.runs.records import RunRecord
from keras_quant.training.optimizer_settings import OptimizerSettings

_DECAY = 5e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large an experiment is whose runs all start from one float run.

    Attributes:
        epochs: of the float run.
        more_epochs: of each run from its weights.
        optimizer, further: of that, and of these.
        binary: of those with one bit; None for as the others.
        validation_fraction, batch_size: of all runs.
        has_goals: whether figures are held against the goals.
    """

    dataset: str
    model: str
    epochs: int
    more_epochs: int
    optimizer: OptimizerSettings
    further: OptimizerSettings
    binary: OptimizerSettings | None = None
    validation_fraction: float = 0.1
    batch_size: int = 128
    has_goals: bool = False


FULL = Scale(
    dataset="cifar10",
    model="resnet20",
    epochs=30,
    more_epochs=12,
    optimizer=OptimizerSettings(
        name="sgd", learning_rate=0.1, weight_decay=_DECAY, warmup_epochs=1
    ),
    further=OptimizerSettings(name="sgd", learning_rate=0.02, weight_decay=_DECAY),
    binary=OptimizerSettings(learning_rate=1e-3),  # Alizadeh et al. 2019: signs need Adam
    validation_fraction=0.02,
    has_goals=True,
)
SHORT = replace(FULL, epochs=12, more_epochs=4, has_goals=False)
SMALL = Scale(
    dataset="digits",
    model="resnet8",
    epochs=12,
    more_epochs=6,
    optimizer=OptimizerSettings(learning_rate=3e-3),
    further=OptimizerSettings(learning_rate=2e-3),
    batch_size=32,
)


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

"""A run's folder: what lies where, and when it may be written."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from keras_quant.errors import RunError
from keras_quant.files import make_folder, sweep
from keras_quant.runs import records

GRAPH_NAME = "model.kqgraph"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def scheme(self) -> Path:
        return self.path / "scheme.yaml"

    @property
    def model(self) -> Path:
        return self.path / "model.keras"

    @property
    def statistics(self) -> Path:
        return self.path / "statistics.npz"

    @property
    def export(self) -> Path:
        return self.path / "export"

    @property
    def tflite(self) -> Path:
        return self.export / "model.tflite"

    @property
    def graph(self) -> Path:
        return self.export / GRAPH_NAME

    @property
    def parity(self) -> Path:
        return self.export / "parity.json"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"


def create(path: Path, *, overwrite: bool) -> RunFolder:
    """Makes an empty run folder.

    Raises:
        RunError: there is a run already and overwrite is off, or a folder of other things.
        FileError: the system refuses.
    """
    make_folder(path)
    is_run = (path / records.FILE_NAME).exists()
    if is_run and not overwrite:
        raise RunError(
            f"{path}: a run of that name exists. Give --name NAME for another, --overwrite to "
            "replace it, or --resume to go on with it"
        )
    try:
        sweep(path)
        if is_run:
            _empty(path)
        elif any(path.iterdir()):
            raise RunError(f"{path}: not empty, and not a run. Give --name NAME, or empty it")
    except OSError as error:
        raise RunError(f"{path}: cannot be emptied: {error}. Give --name NAME") from error
    return RunFolder(path)


def _empty(path: Path) -> None:
    """Removes what is in a run's folder; the record last, so that half empty it is still a run."""
    record = path / records.FILE_NAME
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != record:
            entry.unlink()
    record.unlink()


def model_of(path: Path) -> Path:
    """The Keras model of a run that has one.

    Raises:
        RunError: there is no run, or it was stopped before it had a model.
    """
    record, model = records.load(path), RunFolder(path).model
    if not model.exists():
        remedy = "train --resume" if record.training else "quantize --overwrite"
        raise RunError(f"{path}: has no model yet; finish it with kq {remedy}")
    return model


def reopen(path: Path) -> RunFolder:
    """Opens a run that was stopped, and removes what a killed process left half-written.

    Raises:
        RunError: there is no run.
    """
    records.load(path)
    sweep(path)
    return RunFolder(path)

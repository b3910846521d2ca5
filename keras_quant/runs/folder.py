"""A run's folder: what lies where, and when it may be written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keras_quant.errors import RunError
from keras_quant.files import explained, is_temporary, make_folder, sweep
from keras_quant.runs import records
from keras_quant.runs.lock import LOCK_NAME, locked

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


@contextmanager
def create(path: Path, *, overwrite: bool) -> Iterator[RunFolder]:
    """Makes an empty run folder, and holds it, see `lock.locked`.

    Raises:
        RunError: there is a run already and overwrite is off, or a folder of other things; or
            another process works on it.
        FileError: the system refuses.
    """
    make_folder(path)
    check_free(path, overwrite=overwrite)
    with locked(path):
        check_free(path, overwrite=overwrite)  # another process may have been first
        try:
            sweep(path)
            if _is_run(path):
                _empty(path)
        except OSError as error:
            raise RunError(f"{path}: cannot be emptied: {error}. Give --name NAME") from error
        yield RunFolder(path)


def delete(path: Path) -> None:
    """Removes a run and all that is in its folder.

    Raises:
        RunError: another process works on it, or the system refuses.
    """
    with locked(path):
        try:
            _empty(path)
            (path / LOCK_NAME).unlink(missing_ok=True)
            path.rmdir()
        except OSError as error:
            raise RunError(f"{path}: not deleted: {error}") from error


def check_free(path: Path, *, overwrite: bool) -> None:
    """Checks that a run can be made in a folder, which need not be there; changes nothing.

    Raises:
        RunError: there is a run already and overwrite is off, or a folder of other things.
        FileError: the folder cannot be read, or a part of its path is a file.
    """
    if _is_run(path) and not overwrite:
        raise RunError(
            f"{path}: a run of that name exists. Give --name NAME for another, --overwrite to "
            "replace it, or --resume to go on with it"
        )
    try:
        others = [entry for entry in path.iterdir() if not is_temporary(entry)]
    except FileNotFoundError:
        return
    except OSError as error:
        raise explained(path, error) from error
    if not _is_run(path) and any(entry.name != LOCK_NAME for entry in others):
        raise RunError(f"{path}: not empty, and not a run. Give --name NAME, or empty it")


def _is_run(path: Path) -> bool:
    return (path / records.FILE_NAME).exists()


def _empty(path: Path) -> None:
    """Removes what is in a run's folder; the record last, so that half empty it is still a run."""
    record = path / records.FILE_NAME
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry not in (record, path / LOCK_NAME):
            entry.unlink()
    record.unlink()


def model_of(path: Path) -> Path:
    """The Keras model of a run that has one.

    Raises:
        RunError: there is no run, or it was stopped before it had a model.
    """
    record, model = records.load(path), RunFolder(path).model
    if not model.exists():
        remedy = "train --resume" if record.training else "quantize --resume"
        raise RunError(f"{path}: has no model yet; finish it with kq {remedy}")
    return model


@contextmanager
def reopen(path: Path) -> Iterator[RunFolder]:
    """Opens a run that was stopped, and holds it, see `lock.locked`.

    What a killed process left half-written is removed.

    Raises:
        RunError: there is no run, or another process works on it.
        FileError: the system refuses.
    """
    records.load(path)
    with locked(path):
        sweep(path)
        yield RunFolder(path)

"""The state of an unfinished training, in one file that is complete or absent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_quant.errors import RunError
from keras_quant.files import atomic_write
from keras_quant.runs.history import Epoch

FILE_NAME = "checkpoint.npz"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """Everything that training needs to go on after an epoch.

    Attributes:
        weights: the model's, in Keras' order.
        best_weights: those of the epoch with the best validation accuracy.
        optimizer: the optimizer's variables, in its order.
        history: one row each finished epoch.
    """

    weights: Sequence[np.ndarray]
    best_weights: Sequence[np.ndarray]
    optimizer: Sequence[np.ndarray]
    history: tuple[Epoch, ...]


def save(checkpoint: Checkpoint, folder: Path) -> None:
    """Writes checkpoint.npz into a run's folder. Raises: FileError."""
    arrays = {
        f"{kind}_{index:05d}": np.asarray(value)
        for kind in ("weights", "best_weights", "optimizer")
        for index, value in enumerate(getattr(checkpoint, kind))
    }
    rows = [{name: getattr(row, name) for name in Epoch.__slots__} for row in checkpoint.history]
    arrays["history"] = np.frombuffer(json.dumps(rows).encode(), np.uint8)
    with atomic_write(folder / FILE_NAME, "wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def load(folder: Path) -> Checkpoint | None:
    """Reads a run's checkpoint; None where it has none yet.

    Raises:
        RunError: the file is broken.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in sorted(file.files)}
        rows = json.loads(arrays.pop("history").tobytes())
        history = tuple(Epoch(**row) for row in rows)
    except Exception as error:  # numpy, zipfile and json each have errors of their own
        raise RunError(f"{path}: broken ({error}); train again with --overwrite") from error
    parts = {
        kind: [value for name, value in arrays.items() if name.rpartition("_")[0] == kind]
        for kind in ("weights", "best_weights", "optimizer")
    }
    return Checkpoint(**parts, history=history)

"""The epochs of a run, a row each, as history.csv holds them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_quant.errors import RunError

FILE_NAME = "history.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One row of history.csv.

    Attributes:
        loss: of all outputs, each times its weight: cross entropies in nats, squared errors.
        score: of the last output, on training images as they come, augmented and in training.
        val_loss, val_score: the same on the validation images.
        metric: what the score is: "accuracy", a share, "psnr_db", or "elbo", in nats.
    """

    epoch: int
    loss: float
    score: float
    val_loss: float
    val_score: float
    learning_rate: float
    seconds: float
    metric: str = "accuracy"


def best(history: Sequence[Epoch]) -> Epoch:
    """The epoch of best validation score; the later one of equals."""
    return max(history, key=lambda row: (row.val_score, row.epoch))


NUMBERS = tuple(name for name in Epoch.__slots__ if name != "metric")
"""The fields that history.csv has, in its order."""


def columns(row: Epoch) -> list[str]:
    """Names of a row's numbers, with that of its metric in place of "score"."""
    return [name.replace("score", row.metric) for name in NUMBERS]


def to_csv(history: Sequence[Epoch]) -> str:
    """The text of history.csv: names, and a line an epoch, with six digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns(history[0]) if history else [])
    writer.writerows([f"{getattr(row, name):.6g}" for name in NUMBERS] for row in history)
    return text.getvalue()


def read(folder: Path) -> tuple[Epoch, ...]:
    """Reads a run's history.csv; () where it has none, or no epoch is finished.

    Raises:
        RunError: it is broken.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return ()
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            names, *rows = list(csv.reader(stream)) or [[]]
        return tuple(_epoch(names, row) for row in rows)
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{path}: broken ({error}); train again with --overwrite") from error


def _epoch(names: Sequence[str], row: Sequence[str]) -> Epoch:
    """Raises: ValueError: other columns, or what are no numbers."""
    metric = names[NUMBERS.index("score")] if len(names) == len(NUMBERS) else ""
    values = dict(zip(NUMBERS, map(float, row), strict=True))
    epoch = Epoch(**{**values, "epoch": int(values["epoch"])}, metric=metric)  # type: ignore[arg-type]
    if columns(epoch) != list(names):
        raise ValueError(f"its columns are {', '.join(names)}")
    return epoch

"""The epochs of a run, a row each, as history.csv holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One row of history.csv.

    Attributes:
        loss: of all outputs, each times its weight: cross entropies in nats, squared errors.
        score: of the last output, on training images as they come, augmented and in training.
        val_loss, val_score: the same on the validation images.
        metric: what the score is: "accuracy", a share, or "psnr_db".
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

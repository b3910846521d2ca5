"""The epochs of a run, a row each, as history.csv holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One row of history.csv; losses are cross entropies in nats, accuracies are shares."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    seconds: float


def best(history: Sequence[Epoch]) -> Epoch:
    """The epoch of best validation accuracy; the later one of equals."""
    return max(history, key=lambda row: (row.val_accuracy, row.epoch))

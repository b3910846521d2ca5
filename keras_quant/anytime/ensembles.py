"""Answers of several nets made one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from keras_quant.anytime.rules import probabilities


def _by_mean(logits: np.ndarray) -> np.ndarray:
    mean: np.ndarray = probabilities(logits).mean(axis=0)
    return mean


def _by_logits(logits: np.ndarray) -> np.ndarray:
    mean: np.ndarray = logits.astype(np.float64).mean(axis=0)
    return mean


def _by_vote(logits: np.ndarray) -> np.ndarray:
    classes = logits.shape[-1]
    votes = np.eye(classes)[logits.argmax(axis=-1)].sum(axis=0)
    # A tie goes to the class of the greater mean probability, which is less than two votes' half.
    scores: np.ndarray = votes + _by_mean(logits) / 2
    return scores


FUSIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": _by_mean,
    "logits": _by_logits,
    "vote": _by_vote,
}
"""How members' logits, (members, images, classes), become scores, (images, classes).

mean: of their probabilities; logits: of these; vote: one each, and on a tie the mean decides.
"""


def weighted_sum(logits: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """The sum of members' logits, each times its weight: the answer of boosted members.

    Friedman, "Greedy function approximation", 2001, algorithm 1: F = sum of rho_m * h_m.

    Args:
        logits: (members, images, classes).
        weights: one a member.
    Returns: float64 (images, classes) logits.
    """
    total: np.ndarray = np.tensordot(np.asarray(weights), logits.astype(np.float64), axes=1)
    return total


def combine(logits: np.ndarray, combination: str, weights: Sequence[float] = ()) -> np.ndarray:
    """The answers of an ensemble.

    Args:
        logits: (members, images, classes).
        combination: a key of FUSIONS, or "sum", of logits times weights.
        weights: one a member, where they are summed.
    Returns: float64 (images, classes) scores, the greatest of which is the answer.
    """
    if combination == "sum":
        return weighted_sum(logits, weights)
    return FUSIONS[combination](logits)

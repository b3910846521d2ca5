"""Answers of several nets made one, and how much the nets differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations

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


def disagreement(labels: np.ndarray) -> float:
    """The share of images on which two members differ, on average over all pairs.

    The disagreement measure of Kuncheva and Whitaker 2003, of answers in place of right and wrong.

    Args:
        labels: int (members, images), two members or more.
    """
    pairs = combinations(labels, 2)
    return float(np.mean([np.mean(first != second) for first, second in pairs]))


def any_right(labels: np.ndarray, truth: np.ndarray) -> float:
    """The share of images that one member or more answers rightly: what no fusion can pass."""
    return float((labels == truth).any(axis=0).mean())

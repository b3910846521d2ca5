"""How much the members of an ensemble differ: only members that err on other images help.

Measures of Kuncheva and Whitaker, "Measures of diversity in classifier ensembles and their
relationship with the ensemble accuracy", 2003. All but `disagreement` look at which images each
member answers rightly; those of pairs are means over all pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations

import numpy as np


def disagreement(labels: np.ndarray) -> float:
    """The share of images on which two members differ, on average over all pairs.

    Their disagreement measure, of answers in place of right and wrong.

    Args:
        labels: int (members, images), two members or more.
    """
    pairs = combinations(labels, 2)
    return float(np.mean([np.mean(first != second) for first, second in pairs]))


def any_right(labels: np.ndarray, truth: np.ndarray) -> float:
    """The share of images that one member or more answers rightly.

    Votes cannot pass it; means and sums can, as the class that all find second may win.
    """
    return float((labels == truth).any(axis=0).mean())


def q_statistic(right: np.ndarray) -> float | None:
    """Yule's Q of two members' right and wrong answers, from -1 to 1.

    0 where errors of one say nothing of the other's, 1 where both err on the same images, below 0
    where they err on others.

    Args:
        right: bool (members, images), two members or more.
    Returns: None where it is 0 / 0 for a pair: one member is always right or always wrong, say.
    """
    found = []
    for first, second in combinations(right, 2):
        same = float(np.sum(first & second)) * float(np.sum(~first & ~second))
        other = float(np.sum(first & ~second)) * float(np.sum(~first & second))
        if not same + other:
            return None
        found.append((same - other) / (same + other))
    return float(np.mean(found))


def kappa(right: np.ndarray) -> float | None:
    """Interrater agreement of all members' right and wrong answers.

    1 where all are right on the same images, 0 where they agree as often as by chance, below 0
    where they agree less.

    Args:
        right: bool (members, images), two members or more.
    Returns: None where all members are right, or wrong, on all images.
    """
    members = len(right)
    mean = float(right.mean())
    if mean in (0.0, 1.0):
        return None
    count = right.sum(axis=0)
    split = float(np.mean(count * (members - count))) / (members * (members - 1))
    return 1 - split / (mean * (1 - mean))


def double_fault(right: np.ndarray) -> float | None:
    """The share of images that two members answer wrongly."""
    return float(np.mean([np.mean(~first & ~second) for first, second in combinations(right, 2)]))


MEASURES: Mapping[str, Callable[[np.ndarray], float | None]] = {
    "Q statistic": q_statistic,
    "kappa": kappa,
    "double fault": double_fault,
}
"""Of bool (members, images), whether a member is right; the lower the more they differ."""

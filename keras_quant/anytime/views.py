"""Several views of one thing, by several cameras say: what an exit says of each becomes one answer.

DDNN, Teerapittayanon et al. 2017, section III.C: MP takes the largest score of each class over
the devices, AP the mean. (CC hands all scores to a layer of its own; that one is trained with the
net, and is not there.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

AVERAGE = "average"


def _largest(scores: np.ndarray) -> np.ndarray:
    most: np.ndarray = scores.max(axis=0)
    return most


def _mean(scores: np.ndarray) -> np.ndarray:
    mean: np.ndarray = scores.mean(axis=0, dtype=np.float32)
    return mean


AGGREGATIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "max": _largest,
    AVERAGE: _mean,
}
"""How the scores of views, float32 (views, classes), become those of the thing, (classes,)."""


def aggregated(scores: np.ndarray, name: str) -> np.ndarray:
    """One answer of several.

    Args:
        scores: float32 (views, classes); those of one view stay what they are.
        name: a key of AGGREGATIONS.
    """
    one: np.ndarray = scores[0] if len(scores) == 1 else AGGREGATIONS[name](scores)
    return one

"""How far two maps agree on where a model looks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SHARE = 0.2  # of the pixels, those with the largest values, that maps are compared by


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Figures of one image; None where a map is the same everywhere.

    Attributes:
        iou: pixels among the largest fifth of both maps, over those of either.
        rank_correlation: Spearman's, of all pixels.
    """

    iou: float | None
    rank_correlation: float | None


def overlap(first: np.ndarray, second: np.ndarray) -> Overlap:
    """Compares two maps.

    Args:
        first, second: reals (height, width).
    """
    from scipy.stats import spearmanr

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return Overlap(iou=None, rank_correlation=None)
    chosen = [largest(one) for one in (first, second)]
    correlation = float(spearmanr(first.reshape(-1), second.reshape(-1)).statistic)
    return Overlap(
        iou=float((chosen[0] & chosen[1]).sum() / (chosen[0] | chosen[1]).sum()),
        rank_correlation=correlation if math.isfinite(correlation) else None,
    )


def largest(values: np.ndarray) -> np.ndarray:
    """bool, of the shape of the map: its largest fifth; of equal values those that come first."""
    count = max(1, round(SHARE * values.size))
    chosen = np.zeros(values.size, bool)
    chosen[np.argsort(-values.reshape(-1), kind="stable")[:count]] = True
    return chosen.reshape(values.shape)

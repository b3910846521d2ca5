"""Which width each layer gets: a choice of the least harm within limits, solved exactly.

One binary variable for each layer and width, one of them 1 a layer; the harm is their weighted
sum, and so is each cost: a multiple-choice knapsack, as in HAWQ-V3 (Yao et al., ICML 2021). It is
solved by branch and cut, with HiGHS as SciPy brings it: that proves that nothing is better, and is
installed anyway. PuLP 4.2 brings no solver, and OR-Tools would be one more package for nothing
more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_TOLERANCE = 1e-6  # HiGHS takes a limit for met within so much of it, in units of its largest value
_MOST_REFUSED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a sum over the chosen widths may be at most.

    Attributes:
        values: by layer, by width: what each adds.
        most: the largest sum that is allowed; of numbers below 0 too.
    """

    values: Sequence[Sequence[float]]
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen.

    Attributes:
        places: for each layer, which of its widths.
        harm: the sum over them.
    """

    places: tuple[int, ...]
    harm: float


def choose(harms: Sequence[Sequence[float]], limits: Sequence[Limit]) -> Choice | None:
    """Chooses one width a layer, so that the sum of harms is the least within all limits.

    Args:
        harms: by layer, by width; layers may have different numbers of widths.
        limits: values of the same shape.
    Returns: None where nothing is within the limits, as far as is said below.

    A choice that is beyond a limit by less than the solver sees is ruled out, and no other; where
    there are more than 50 of these, the best is given that keeps so far off the limits.
    """
    shape = [len(row) for row in harms]
    refused: list[NDArray[np.float64]] = []
    margin = 0.0
    while (places := _solve(_flat(harms), shape, limits, refused, margin)) is not None:
        if all(total(limit.values, places) <= limit.most for limit in limits):
            return Choice(places=places, harm=total(harms, places))
        refused.append(_chosen(places, shape))
        if len(refused) >= _MOST_REFUSED:
            refused, margin = [], 2 * _TOLERANCE if not margin else 2 * margin
    return None


def total(values: Sequence[Sequence[float]], places: Sequence[int]) -> float:
    """The sum over chosen widths."""
    return float(sum(row[place] for row, place in zip(values, places, strict=True)))


def _solve(
    harms: NDArray[np.float64],
    shape: Sequence[int],
    limits: Sequence[Limit],
    refused: Sequence[NDArray[np.float64]],
    margin: float,
) -> tuple[int, ...] | None:
    """The best choice within all limits, give or take HiGHS' tolerance, that is not refused.

    Args:
        margin: how far to stay off the limits, in units of their largest value.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    owner = np.repeat(np.arange(len(shape)), shape)
    one_each = (owner == np.arange(len(shape))[:, np.newaxis]).astype(np.float64)
    constraints = [LinearConstraint(one_each, 1, 1)]
    for limit in limits:
        # From the least of each layer, and in units of the largest: tolerances are absolute.
        least = np.array([min(row) for row in limit.values])
        row = _flat(limit.values) - least[owner]
        scale = float(row.max()) or 1.0
        constraints.append(
            LinearConstraint(row / scale, -np.inf, (limit.most - least.sum()) / scale - margin)
        )
    constraints += [LinearConstraint(cut, -np.inf, len(shape) - 1) for cut in refused]
    found = milp(
        harms / (float(np.abs(harms).max()) or 1.0),
        integrality=np.ones(len(harms)),
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        return None
    return tuple(int(np.argmax(found.x[owner == layer])) for layer in range(len(shape)))


def _flat(rows: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    return np.array([value for row in rows for value in row], np.float64)


def _chosen(places: Sequence[int], shape: Sequence[int]) -> NDArray[np.float64]:
    """1 for each variable that is chosen, 0 for the others."""
    return np.concatenate(
        [np.arange(size) == place for place, size in zip(places, shape, strict=True)]
    )

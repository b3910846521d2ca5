"""Thresholds of exits, chosen on validation images: for an accuracy, or for a mean cost.

All combinations of candidates are judged at once. How many images leave at an exit under given
thresholds follows from counts of images whose surenesses lie below them, which are sums over a
table; so each combination costs a few additions, and not a pass over the images. With one early
exit the candidates are all surenesses that occur, so that the choice is the best that there is;
with more they are as many of them, at even ranks, as make MOST_COMBINATIONS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_quant.anytime.rules import NEVER
from keras_quant.errors import BudgetError

MOST_COMBINATIONS = 2**18


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choices:
    """What each combination of thresholds comes to; each early exit is an axis.

    Attributes:
        candidates: of each early exit, ascending; the lowest lets all images out, NEVER none.
        accuracy: share of images answered rightly, (candidates, ...).
        cost: mean of an image, likewise.
    """

    candidates: tuple[np.ndarray, ...]
    accuracy: np.ndarray
    cost: np.ndarray

    def thresholds(self, place: int) -> tuple[float, ...]:
        """Those of a combination, counted along the flattened table."""
        places = np.unravel_index(place, self.cost.shape)
        return tuple(
            float(values[index]) for values, index in zip(self.candidates, places, strict=True)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One combination of thresholds, and what it comes to on the images that chose it."""

    thresholds: tuple[float, ...]
    accuracy: float
    cost: float


def judge(
    sure: np.ndarray, correct: np.ndarray, costs: np.ndarray, *, most: int = MOST_COMBINATIONS
) -> Choices:
    """Judges all combinations of candidates.

    Args:
        sure: (exits, images), see `rules.sureness`.
        correct: bool (exits, images).
        costs: (exits,), of all that is computed up to each exit.
        most: combinations, about.
    """
    early, images = len(sure) - 1, sure.shape[1]
    each = max(2, int(round(most ** (1 / early), 9)))  # 1000 ** (1 / 3) is 9.99...
    candidates = tuple(_candidates(row, each) for row in sure[:early])
    # The last candidate that an image's answer is as sure as: it leaves at that and lower ones.
    reached = [
        np.searchsorted(values, row, side="right") - 1
        for values, row in zip(candidates, sure[:early], strict=True)
    ]
    right = np.zeros([len(values) for values in candidates])
    cost = np.zeros_like(right)
    ones = np.ones(images)
    for number in range(early + 1):
        for weights, total, times in ((correct[number], right, 1.0), (ones, cost, costs[number])):
            leaving = _staying(reached, candidates, weights, number)
            if number < early:
                leaving = leaving - _staying(reached, candidates, weights, number + 1)
            total += times * leaving
    return Choices(candidates=candidates, accuracy=right / images, cost=cost / images)


def cheapest(choices: Choices, accuracy: float) -> Choice:
    """The least mean cost at which so many images are answered rightly.

    Raises:
        BudgetError: no thresholds reach that accuracy.
    """
    found = choices.accuracy.ravel()
    enough = found >= accuracy
    if not enough.any():
        raise BudgetError(
            f"an accuracy of {accuracy:.2%} is asked for; on these images thresholds reach "
            f"{found.max():.2%} at most"
        )
    return _best(choices, np.lexsort((-found, choices.cost.ravel())), enough)


def most_accurate(choices: Choices, budget: float) -> Choice:
    """The greatest accuracy at a mean cost of at most a budget (Huang et al. 2018, budgeted batch).

    Raises:
        BudgetError: the first exit alone costs more.
    """
    cost = choices.cost.ravel()
    enough = cost <= budget * (1 + 1e-12)  # sums of costs round in their last bits
    if not enough.any():
        raise BudgetError(
            f"a mean cost of {budget:g} is asked for; where all images leave at the first exit it "
            f"is {cost.min():g} already"
        )
    return _best(choices, np.lexsort((cost, -choices.accuracy.ravel())), enough)


def front(choices: Choices, *, most: int = 50) -> tuple[Choice, ...]:
    """The combinations that none beats in both accuracy and cost, by rising cost.

    Args:
        most: how many are given, at even ranks, the cheapest and the most accurate among them.
    """
    accuracy = choices.accuracy.ravel()
    order = np.lexsort((-accuracy, choices.cost.ravel()))
    best = np.maximum.accumulate(accuracy[order])
    rises = np.concatenate([[True], best[1:] > best[:-1]])
    places = order[rises]
    if len(places) > most:
        places = places[np.rint(np.linspace(0, len(places) - 1, most)).astype(int)]
    return tuple(_choice(choices, int(place)) for place in places)


def _candidates(values: np.ndarray, most: int) -> np.ndarray:
    known = np.unique(values)
    if len(known) >= most:
        known = known[np.unique(np.rint(np.linspace(0, len(known) - 1, most - 1)).astype(int))]
    return np.append(known, NEVER)


def _staying(
    reached: list[np.ndarray], candidates: tuple[np.ndarray, ...], weights: np.ndarray, exits: int
) -> np.ndarray:
    """Sums of weights of the images that leave at none of the first exits, by their thresholds.

    Returns: shaped to be added to a table of all exits' candidates.
    """
    if not exits:
        return np.asarray(weights.sum(), np.float64)
    sizes = [len(values) for values in candidates[:exits]]
    flat = np.ravel_multi_index(tuple(reached[:exits]), sizes)
    table = np.bincount(flat, weights=weights, minlength=int(np.prod(sizes))).reshape(sizes)
    for axis in range(exits):  # an image stays where it reached less than the threshold
        table = np.cumsum(table, axis=axis)
        table = np.roll(table, 1, axis=axis)
        table[(slice(None),) * axis + (0,)] = 0
    return table.reshape(*sizes, *[1] * (len(candidates) - exits))


def _best(choices: Choices, order: np.ndarray, enough: np.ndarray) -> Choice:
    return _choice(choices, int(order[enough[order].argmax()]))


def _choice(choices: Choices, place: int) -> Choice:
    return Choice(
        thresholds=choices.thresholds(place),
        accuracy=float(choices.accuracy.flat[place]),
        cost=float(choices.cost.flat[place]),
    )

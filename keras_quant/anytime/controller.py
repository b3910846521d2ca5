"""A controller that chooses, image by image, what to run next: a stage, other bits, another net.

What can be run are pieces, files with a cost each. An *option* is a set of pieces that gives an
answer: an exit needs the stages up to it, an ensemble all of its members. The controller runs an
option, sees how sure its answer is, and either gives that answer or goes on to another option, for
which it runs the pieces that have not run yet. So what it does depends on the options that have run
(the *path*) and on the sureness of the last one, which stands for how difficult the image is.

Policies are chosen for the greatest mean of right - price * cost over recorded answers, by backward
induction: what an image comes to after a path is known before the path's own rule is chosen. A rule
is thresholds: the surest images end, less sure ones go on, the least sure to the dearest option; of
all thresholds it takes the best, by dynamic programming over the images in the order of their
sureness. A rule counts the images that come to its path, which earlier rules decide: so all rules
are chosen again until the mean does not rise any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keras_quant.anytime.rules import NEVER
from keras_quant.errors import BudgetError

LOOKS = 2
PRICES = 64
LEAST_SHARE = 0.01
"""Of the images that choose, about so many at least lie between two thresholds: what is true of
fewer is hardly true of other images."""

# Costs that differ by less than so much of the dearest are not told apart by prices: medians of
# latency scatter by more.
_SAME_COST = 1e-3
_ROUNDS = 8  # rules hardly change after the second
_NOTHING = 1e-12  # sums of values round in their last bits

Route = tuple[int, ...]
"""Options that have run, one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Options:
    """What can be run, and what each comes to on some images.

    Attributes:
        names: of the options.
        pieces: bool (options, pieces), which an option needs.
        sure: float (options, images), 0 to 1, see `rules.ease`.
        correct: bool (options, images).
    """

    names: tuple[str, ...]
    pieces: np.ndarray
    sure: np.ndarray
    correct: np.ndarray

    def cost(self, path: Sequence[int], costs: np.ndarray) -> float:
        """Of all pieces that the options of a path need, each once.

        Args:
            costs: (pieces,).
        """
        return float(self.pieces[list(path)].any(axis=0) @ costs)

    def own_costs(self, costs: np.ndarray) -> np.ndarray:
        """Of each option alone, (options,)."""
        alone: np.ndarray = self.pieces @ np.asarray(costs, np.float64)
        return alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What follows a path.

    Attributes:
        thresholds: falling; an image takes the first whose value its sureness reaches, and what
            follows the last one where it reaches none.
        then: one more than thresholds: the option to go on with, None to end.
    """

    thresholds: tuple[float, ...]
    then: tuple[int | None, ...]

    def choose(self, sure: np.ndarray) -> np.ndarray:
        """The place in `then` of each image, (images,)."""
        reached = sure >= np.asarray(self.thresholds, np.float64)[:, None]
        places: np.ndarray = np.concatenate([reached, np.ones((1, len(sure)), bool)]).argmax(axis=0)
        return places


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """A policy.

    Attributes:
        first: the option that every image begins with.
        rules: by path; a path without one ends.
    """

    first: int
    rules: Mapping[Route, Rule]

    def rule(self, path: Route) -> Rule:
        """What follows a path."""
        return self.rules.get(path, _END)

    def ended(self, sure: np.ndarray) -> dict[Route, np.ndarray]:
        """Which images end at each path.

        Args:
            sure: (options, images).
        Returns: by path, places of images; paths at which none ends are left out.
        """
        found = {}
        for path, images, places in self._walk(sure):
            ends = [option is None for option in self.rule(path).then]
            staying = images[np.asarray(ends)[places]]
            if len(staying):
                found[path] = staying
        return found

    def reached(self, sure: np.ndarray) -> dict[Route, np.ndarray]:
        """Which images come to each path, whether they end there or not."""
        return {path: images for path, images, _ in self._walk(sure)}

    def _walk(self, sure: np.ndarray) -> Iterator[tuple[Route, np.ndarray, np.ndarray]]:
        """Each path with the images that come to it, and the place in its rule that each takes."""
        waiting: list[tuple[Route, np.ndarray]] = [((self.first,), np.arange(sure.shape[1]))]
        while waiting:
            path, images = waiting.pop()
            rule = self.rule(path)
            places = rule.choose(sure[path[-1], images])
            yield path, images, places
            for place, option in enumerate(rule.then):
                going = images[places == place]
                if option is not None and len(going):
                    waiting.append(((*path, option), going))


_END = Rule(thresholds=(), then=(None,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What a controller comes to on images.

    Attributes:
        accuracy: share that it answers rightly.
        mean_cost: of an image.
        shares: of the images, by the option whose answer they get.
    """

    accuracy: float
    mean_cost: float
    shares: tuple[float, ...]


def play(controller: Controller, options: Options, costs: np.ndarray) -> Played:
    """Runs a controller on recorded answers.

    Args:
        costs: (pieces,).
    """
    images = options.sure.shape[1]
    right, cost, shares = 0, 0.0, np.zeros(len(options.names))
    for path, ended in controller.ended(options.sure).items():
        right += int(options.correct[path[-1], ended].sum())
        cost += len(ended) * options.cost(path, costs)
        shares[path[-1]] += len(ended)
    return Played(
        accuracy=right / images,
        mean_cost=cost / images,
        shares=tuple(float(share) for share in shares / images),
    )


def costs_paid(controller: Controller, options: Options, costs: np.ndarray) -> np.ndarray:
    """What each image costs, (images,).

    Args:
        costs: (pieces,).
    """
    paid = np.zeros(options.sure.shape[1])
    for path, ended in controller.ended(options.sure).items():
        paid[ended] = options.cost(path, costs)
    return paid


def fit(options: Options, costs: np.ndarray, *, price: float, looks: int = LOOKS) -> Controller:
    """The policy of the greatest mean of right - price * cost that these rounds come to.

    Args:
        costs: (pieces,).
        price: of a unit of cost, in right answers.
        looks: the most options that run for an image.
    """
    order = [int(place) for place in np.argsort(options.own_costs(costs), kind="stable")]
    found = [_fit_from(first, order, options, costs, price, looks) for first in order]
    _, best = max(found, key=lambda pair: pair[0])  # of equals the first, the cheapest
    return best


def controllers(
    options: Options,
    costs: np.ndarray,
    *,
    looks: int = LOOKS,
    prices: int = PRICES,
    on_price: Callable[[int], object] = lambda done: None,
) -> tuple[Controller, ...]:
    """Policies from the cheapest to the most accurate: of many prices, and each option alone.

    Args:
        costs: (pieces,).
        prices: how many, at even ratios, from one answer in all for the dearest option to all
            answers for the cheapest difference that counts, see _SAME_COST.
        on_price: told how many are done.
    """
    own = np.unique(options.own_costs(costs))
    dearest = float(own[-1]) or 1.0
    steps = np.diff(own, prepend=0.0)
    cheapest_step = min(steps[steps > _SAME_COST * dearest], default=dearest)
    least = 1 / (options.sure.shape[1] * dearest)
    found = []
    for price in np.geomspace(1 / cheapest_step, least, prices):
        found.append(fit(options, costs, price=float(price), looks=looks))
        on_price(len(found))
    alone = [Controller(first=place, rules={}) for place in range(len(options.names))]
    return tuple(_unlike([*alone, *found]))


def choose(
    known: Sequence[tuple[Controller, Played]],
    *,
    accuracy: float | None = None,
    budget: float | None = None,
) -> tuple[Controller, Played]:
    """The cheapest that reaches an accuracy, or the most accurate within a mean cost.

    Args:
        known: controllers, and what they come to on the images that choose.
        accuracy, budget: one of them.
    Returns: one of those that are known.
    Raises:
        BudgetError: none does.
    """
    if accuracy is not None:
        enough = [pair for pair in known if pair[1].accuracy >= accuracy]
        if not enough:
            most = max(one.accuracy for _, one in known)
            raise BudgetError(
                f"an accuracy of {accuracy:.2%} is asked for; on the validation images controllers "
                f"reach {most:.2%} at most"
            )
        return min(enough, key=lambda pair: (pair[1].mean_cost, -pair[1].accuracy))
    assert budget is not None
    within = [pair for pair in known if pair[1].mean_cost <= budget * (1 + _NOTHING)]
    if not within:
        least = min(one.mean_cost for _, one in known)
        raise BudgetError(
            f"a mean cost of {budget:g} is asked for; the cheapest option alone takes {least:g}"
        )
    return max(within, key=lambda pair: (pair[1].accuracy, -pair[1].mean_cost))


def oracle(options: Options, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What could be reached by who knows which options are right, and runs one an image.

    Each image gets the cheapest option that is right; where none is, or where no more right
    answers are wanted, the cheapest of all. No controller can be cheaper at an accuracy.

    Args:
        costs: (pieces,).
    Returns: mean costs, rising, and the accuracy at each, (counts,): of each count of right
        answers from what the cheapest option alone has on.
    """
    own = options.own_costs(costs)
    cheapest = np.where(options.correct, own[:, None], np.inf).min(axis=0)
    extra = np.sort(cheapest[np.isfinite(cheapest)] - own.min())
    images = options.correct.shape[1]
    free = int((extra <= 0).sum())
    mean = own.min() + np.concatenate([[0.0], np.cumsum(extra[free:])]) / images
    return mean, np.arange(free, len(extra) + 1) / images


def _fit_from(
    first: int, order: list[int], options: Options, costs: np.ndarray, price: float, looks: int
) -> tuple[float, Controller]:
    """The best policy that begins with an option, and what it comes to."""
    best = -np.inf, Controller(first=first, rules={})
    reached: dict[Route, np.ndarray] = {}
    least = max(1, round(LEAST_SHARE * options.sure.shape[1]))
    for _ in range(_ROUNDS):
        rules: dict[Route, Rule] = {}
        values: dict[Route, np.ndarray] = {}
        for path in _deepest_first((first,), order, looks):
            later = _after(path, order, looks)
            ending = options.correct[path[-1]] - price * options.cost(path, costs)
            longer = [(*path, option) for option in later]
            table = np.stack([ending, *(values[each] for each in longer)])
            sure = options.sure[path[-1]]
            counted = reached.get(path, slice(None))
            thresholds = _best_thresholds(sure[counted], table[:, counted], least=least)
            rules[path] = rule = Rule(thresholds=thresholds, then=(None, *later))
            values[path] = table[rule.choose(sure), np.arange(len(sure))]
        value = float(values[(first,)].mean())
        if value <= best[0] + _NOTHING:
            break
        controller = Controller(first=first, rules=rules)
        reached = controller.reached(options.sure)
        best = value, replace(controller, rules={path: rules[path] for path in reached})
    return best


def _deepest_first(path: Route, order: list[int], looks: int) -> Iterator[Route]:
    """All paths that go on from one, each behind those that go on from it."""
    for option in _after(path, order, looks):
        yield from _deepest_first((*path, option), order, looks)
    yield path


def _after(path: Route, order: list[int], looks: int) -> list[int]:
    """What may follow a path: dearer options, the cheapest first."""
    return order[order.index(path[-1]) + 1 :] if len(path) < looks else []


def _best_thresholds(sure: np.ndarray, values: np.ndarray, *, least: int = 1) -> tuple[float, ...]:
    """The falling thresholds that give images the greatest sum of values.

    Sorted by sureness, the images of each row are neighbours: the least sure belong to the last
    row. sums[row, n] is what the n least sure come to in a row; behind each row the best of the n
    least sure is that of the row below up to some image, and this row from there.

    Args:
        sure: (images,).
        values: (rows, images); the surest images take the first row.
        least: images between two thresholds that are tried, but for equally sure ones.
    Returns: (rows - 1,); of equally good ones those that give more images to the upper rows.
    """
    order = np.argsort(sure, kind="stable")
    sorted_sure = sure[order]
    sums = np.concatenate([np.zeros((len(values), 1)), values[:, order].cumsum(axis=1)], axis=1)
    # Images of one sureness cannot be told apart.
    ends = np.flatnonzero(np.concatenate([[True], sorted_sure[1:] > sorted_sure[:-1], [True]]))
    tried = np.searchsorted(ends, np.arange(0, len(sure) + least, least))
    ends = ends[np.unique(tried.clip(max=len(ends) - 1))]
    sums = sums[:, ends]
    best, begins = sums[-1], []
    for row in range(len(values) - 2, -1, -1):
        gain = best - sums[row]
        most = np.maximum.accumulate(gain)
        rises = np.concatenate([[True], most[1:] > most[:-1] + _NOTHING])
        begins.append(np.maximum.accumulate(np.where(rises, np.arange(len(gain)), 0)))
        best = sums[row] + most
    thresholds, end = [], len(ends) - 1
    for begin in reversed(begins):
        end = int(begin[end])
        thresholds.append(float(sorted_sure[ends[end]]) if ends[end] < len(sure) else NEVER)
    return tuple(thresholds)


def _unlike(found: Sequence[Controller]) -> Iterator[Controller]:
    """Each once."""
    seen = set()
    for one in found:
        key = (one.first, tuple(sorted(one.rules.items(), key=lambda item: item[0])))
        if key not in seen:
            seen.add(key)
            yield one

"""The best mix within budgets, or the least that can be reached."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from keras_quant.errors import BudgetError
from keras_quant.search.choose import Choice, Limit, choose
from keras_quant.search.costs import Costs

WIDEST = 8  # bits; what shares are of


def choose_within(
    costs: Costs,
    harms: Sequence[Sequence[float]],
    most: Mapping[str, float],
    score: Limit | None,
) -> Choice:
    """Chooses the widths that hurt least within all budgets.

    Args:
        harms: by layer, by width, as the costs have them.
        most: by quantity what is allowed.
        score: what the predicted score may lose; None where it may be any.
    Raises:
        BudgetError: nothing is within them, with the least that is.
    """
    given = [costs.cases(name, limit) for name, limit in most.items()]
    within = [list(itertools.chain(*case)) for case in itertools.product(*given)]
    gates = [] if score is None else [score]
    found = _best(harms, [[*case, *gates] for case in within])
    if found is not None:
        return found
    if score is not None and (nearest := _best(score.values, within)) is not None:
        lost = nearest.harm - score.most
        raise BudgetError(
            f"the predicted score within the budget is {lost:.4g} below --min-accuracy at "
            "best: allow a larger budget or a lower score"
        )
    raise BudgetError("; ".join(_unreachable(costs, most)))


def _best(harms: Sequence[Sequence[float]], cases: Sequence[Sequence[Limit]]) -> Choice | None:
    choices = [choose(harms, case) for case in cases]
    return min((one for one in choices if one), key=lambda one: one.harm, default=None)


def _unreachable(costs: Costs, most: Mapping[str, float]) -> list[str]:
    """The least that can be reached of each quantity that is allowed less."""
    narrow = dict.fromkeys(costs.layers, min(costs.widths))
    texts = []
    for name, limit in most.items():
        if name == "latency_ms":
            least = costs.total(name, costs.fastest())
        else:
            least = costs.total(name, narrow)
        if least > limit:
            texts.append(
                f"--budget {name}: {shown(name, limit)} cannot be met; the smallest reachable with "
                f"{listed(costs.widths)} bits is {shown(name, least)}"
                f"{_as_share(costs, name, least)}"
            )
    return texts or ["the budgets cannot be met together, though each alone can: allow one more"]


def _as_share(costs: Costs, quantity: str, value: float) -> str:
    full = widest(costs, quantity)
    return "" if full is None else f", {value / full:.3f} of 8 bits everywhere"


def shown(quantity: str, value: float) -> str:
    """An amount in its unit."""
    if quantity == "size":
        return f"{value / 1e3:,.2f} kB"
    if quantity == "bitops":
        return f"{value:,.0f} bit operations"
    return f"{value:,.1f} nJ (modelled)" if quantity == "energy" else f"{value:.4f} ms"


def widest(costs: Costs, quantity: str) -> float | None:
    """What 8 bits everywhere cost; None for latency that was not measured at 8."""
    known = costs.times is None or (costs.layers[0], WIDEST) in costs.times
    if quantity == "latency_ms" and not known:
        return None
    return costs.total(quantity, dict.fromkeys(costs.layers, WIDEST))


def listed(widths: Sequence[int], separator: str = ", ") -> str:
    """Widths as a text."""
    return separator.join(map(str, widths))

"""The integer program against all that there is to choose."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.search.choose import Limit, choose, total

numbers = st.integers(-50, 1000)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[float]], list[Limit]]:
    """Harms and limits of up to 5 layers of up to 4 widths; some can be met, some not."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))

    def table() -> list[list[float]]:
        return [[draw(numbers) / 7 for _ in range(size)] for size in shape]

    limits = []
    for _ in range(draw(st.integers(0, 2))):
        values = table()
        chosen = [draw(st.integers(0, size - 1)) for size in shape]
        limits.append(
            Limit(values=values, most=total(values, chosen) + draw(st.sampled_from([0, -1, 3])))
        )
    return table(), limits


@given(problems())
def test_nothing_within_the_limits_hurts_less(
    problem: tuple[list[list[float]], list[Limit]],
) -> None:
    harms, limits = problem
    allowed = [
        total(harms, places)
        for places in itertools.product(*(range(len(row)) for row in harms))
        if all(total(limit.values, places) <= limit.most for limit in limits)
    ]
    found = choose(harms, limits)
    if not allowed:
        assert found is None
        return
    assert found is not None
    assert all(total(limit.values, found.places) <= limit.most for limit in limits)
    assert found.harm == total(harms, found.places)
    assert found.harm == pytest.approx(min(allowed), abs=1e-9)


def test_a_limit_of_billions_is_held_to_the_last_unit() -> None:
    """A tolerance of 1e-6 would let 1,000 too many pass."""
    values = [[1_000_000_000.0, 999_999_999.0, 0.0]]
    found = choose([[0.0, 5.0, 9.0]], [Limit(values=values, most=999_999_999.5)])
    assert found is not None and found.places == (1,)


def test_many_choices_a_hair_beyond_a_limit_are_not_tried_one_by_one() -> None:
    """Of 2**20 that the solver takes for allowed one is; what keeps off the limit is given."""
    values = [[0.0, 1.0], *[[0.0, 1e-8]] * 20]
    harms = [[30.0, 0.0], *[[1.0, 0.0]] * 20]
    found = choose(harms, [Limit(values=values, most=1.0)])
    assert found is not None and total(values, found.places) <= 1.0
    assert found.harm == 30.0


def test_a_hundred_layers_are_solved_as_well_as_their_relaxation_allows() -> None:
    """Lagrange's multipliers bound what can be reached; 2 % is what a step of one layer is."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(100, 10_000, size=100)
    bits = np.array([2, 3, 4, 8])
    harms = rng.random((100, 1)) * 4.0**-bits
    values = sizes[:, np.newaxis] * bits
    found = choose(harms.tolist(), [Limit(values=values.tolist(), most=4.0 * sizes.sum())])
    assert found is not None
    bounds = [
        (harms + price * values).min(axis=1).sum() - price * 4.0 * sizes.sum()
        for price in np.geomspace(1e-12, 1e-2, 2000)
    ]
    assert max(bounds) <= found.harm + 1e-12
    assert found.harm <= max(bounds) * 1.02

"""Statistics of times, against values that can be known otherwise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from keras_quant.bench import statistics
from keras_quant.bench.statistics import (
    CONFIDENCE,
    LEAST_LOADS,
    Interval,
    count_outliers,
    difference,
    interval,
    paired_ratio,
    summarize,
    unpaired_ratio,
)
from keras_quant.bench.verdict import FASTER, NO_DIFFERENCE, SLOWER, compare

FLOAT64_ROUNDING = 1e-9
MILLISECOND = 1_000_000


def loads_of(*medians: float) -> list[list[np.ndarray]]:
    """One load a value, of two rounds with three samples, of which the value is the middle one."""
    return [[np.array([m / 2, m, m * 3])] * 2 for m in medians]


def test_summary_of_known_samples() -> None:
    samples = np.arange(1, 102) * MILLISECOND  # 1 to 101 ms: percentiles are whole numbers
    found = summarize([[samples], [samples]])
    assert (found.p10_ms, found.p50_ms, found.p90_ms, found.p99_ms) == (11, 51, 91, 100)
    assert (found.min_ms, found.max_ms, found.samples) == (1, 101, 202)
    assert found.mean_ms == Interval(value=51, low=51, high=51)
    assert (found.outliers, found.load_spread, found.round_spread) == (0, 0, 0)


def test_spreads_are_those_of_medians() -> None:
    one = [np.full(3, 100.0), np.full(3, 110.0)]
    other = [np.full(3, 120.0), np.full(3, 130.0)]
    found = summarize([one, other])
    assert found.load_spread == pytest.approx((125 - 105) / 115)
    assert found.round_spread == pytest.approx((122.5 - 107.5) / 115)


def test_outliers_lie_beyond_the_fences() -> None:
    # Quartiles 3 and 7, so the fences are at -3 and 13, and what lies on them is none.
    assert count_outliers(np.array([1, 2, 3, 4, 5, 6, 7, 8, 13])) == 0
    assert count_outliers(np.array([-3.1, 2, 3, 4, 5, 6, 7, 8, 13.1])) == 2


def test_interval_of_many_values_is_the_t_interval() -> None:
    values = np.random.default_rng(3).normal(10, 1, 200)
    found = interval(values.tolist())
    expected = stats.t.interval(CONFIDENCE, 199, values.mean(), stats.sem(values))
    # 20,000 draws tell where 0.5 % lie to about 0.05 of a standard error, which is 0.07.
    assert (found.low, found.high) == pytest.approx(expected, abs=0.02)


def test_tails_are_wider_for_few_values() -> None:
    # By hand: t of 0.5 % with 7 degrees of freedom is -3.4995; times sqrt(8 / 7) it is -3.7411,
    # below which the normal distribution has 9.16e-5.
    low, high = statistics._tails(8)
    assert (low, 1 - high) == pytest.approx((9.16e-5, 9.16e-5), rel=2e-3)
    assert statistics._tails(10**6)[0] == pytest.approx(0.005, rel=1e-4)


def test_interval_of_two_values_is_between_them() -> None:
    assert interval([1.0, 3.0]) == Interval(value=2, low=1, high=3)


values = st.lists(st.floats(-100, 100), min_size=2, max_size=20)


@given(values, st.floats(0.5, 4), st.floats(-10, 10))
def test_interval_moves_and_grows_with_its_values(
    given_values: list[float], factor: float, shift: float
) -> None:
    found = interval(given_values)
    moved = interval([value * factor + shift for value in given_values])
    assert moved.low == pytest.approx(found.low * factor + shift, abs=FLOAT64_ROUNDING * 1e3)
    assert moved.high == pytest.approx(found.high * factor + shift, abs=FLOAT64_ROUNDING * 1e3)
    assert min(given_values) - FLOAT64_ROUNDING <= found.low <= found.value
    assert found.value <= found.high <= max(given_values) + FLOAT64_ROUNDING


@given(values)
def test_a_difference_from_equal_values_is_that_of_the_others(group: list[float]) -> None:
    alone, found = interval(group), difference(group, [2.0] * len(group))
    reach = FLOAT64_ROUNDING + 0.2 * (max(group) - min(group))  # other draws
    assert found.value == pytest.approx(alone.value - 2, abs=FLOAT64_ROUNDING)
    assert (found.low, found.high) == pytest.approx((alone.low - 2, alone.high - 2), abs=reach)


def test_paired_ratio_is_exact_where_all_rounds_have_it() -> None:
    drifting = loads_of(10, 20, 40)
    found = paired_ratio([[r * 1.03 for r in load] for load in drifting], drifting)
    assert (found.value, found.low, found.high) == pytest.approx((1.03,) * 3)


def test_a_round_in_which_one_had_to_wait_changes_nothing() -> None:
    steady = [[np.array([10.0])] * 5 for _ in range(LEAST_LOADS)]
    waited = [[*load[:4], np.array([500.0])] for load in steady]
    found = paired_ratio(waited, steady)
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_unpaired_ratio_knows_how_far_loads_are_apart() -> None:
    found = unpaired_ratio(loads_of(10, 10, 10), loads_of(20, 20, 20))
    assert (found.value, found.low, found.high) == pytest.approx((0.5,) * 3)
    found = unpaired_ratio(loads_of(10, 11, 12, 10), loads_of(10, 12, 11, 10))
    assert found.low < 1 < found.high


def test_stretches_stand_for_loads_where_there_is_one() -> None:
    samples = np.random.default_rng(0).normal(100, 1, 1600)
    found = summarize([[samples * MILLISECOND]])
    expected = stats.t.interval(
        CONFIDENCE, statistics.BLOCKS - 1, samples.mean(), 1 / math.sqrt(len(samples))
    )
    assert (found.mean_ms.low, found.mean_ms.high) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(("factor", "word"), [(0.97, FASTER), (1.0, NO_DIFFERENCE), (1.03, SLOWER)])
def test_verdict_names_the_side(factor: float, word: str) -> None:
    random = np.random.default_rng(0)
    base = loads_of(*random.normal(100, 1, LEAST_LOADS))
    other = loads_of(*random.normal(100, 0.3, LEAST_LOADS) * factor)
    verdict = compare("a", "b", loads=other, other_loads=base, paired=False)
    assert verdict.word == word
    assert word in verdict.text()


def test_verdict_of_equal_files_is_no_difference_in_99_of_100() -> None:
    """Loads that differ by 2 %, as where memory comes to lie makes them."""
    random = np.random.default_rng(0)
    tries = 200
    found = [interval(random.normal(0, 0.02, LEAST_LOADS).tolist()) for _ in range(tries)]
    wrong = sum(not one.low <= 0 <= one.high for one in found)
    assert wrong <= 0.05 * tries


def test_gate_asks_for_more_than_the_share_and_for_evidence() -> None:
    base = loads_of(*[100.0] * LEAST_LOADS)
    slower = compare("a", "b", loads=loads_of(*[102.0] * LEAST_LOADS), other_loads=base)
    assert (slower.word, slower.exceeds(0.03), slower.exceeds(0.01)) == (SLOWER, False, True)
    wild = loads_of(*np.linspace(50, 200, LEAST_LOADS))
    assert not compare("a", "b", loads=wild, other_loads=base).exceeds(0.01)

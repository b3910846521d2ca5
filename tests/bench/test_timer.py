"""The timed loop, with a clock that only goes on when something is computed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from keras_quant.bench import timer
from keras_quant.bench.timer import time_calls, warm_up

MILLISECOND = 1_000_000


class Machine:
    """A clock, and a model that takes the times that it is given; the last one for ever."""

    def __init__(self, *milliseconds: float) -> None:
        self.now = 17
        self.called = 0
        self._left: Iterator[float] = iter(milliseconds)
        self._last = milliseconds[-1]

    def clock(self) -> int:
        return self.now

    def infer(self) -> None:
        self.called += 1
        self.now += int(next(self._left, self._last) * MILLISECOND)


def test_each_call_is_timed_by_itself() -> None:
    machine = Machine(1, 5, 2)
    found = time_calls(machine.infer, 3, clock=machine.clock)
    assert found == [1 * MILLISECOND, 5 * MILLISECOND, 2 * MILLISECOND]


def test_a_steady_model_is_warm_after_three_stretches() -> None:
    machine = Machine(10)
    found = warm_up(machine.infer, clock=machine.clock)
    assert (found.calls, found.seconds, found.stable) == (6, 0.06, True)
    assert found.call_ns == 10 * MILLISECOND


def test_a_cold_model_is_called_until_it_is_stable() -> None:
    machine = Machine(80, 60, 40, 30, 25, 25)
    found = warm_up(machine.infer, clock=machine.clock)
    assert (found.calls, found.stable) == (7, True)  # 25 three times
    assert machine.called == 7


def test_one_that_never_settles_is_given_up() -> None:
    machine = Machine(*[30, 60] * 200)
    found = warm_up(machine.infer, clock=machine.clock)
    assert not found.stable
    assert found.seconds == pytest.approx(timer.MOST_WARM_UP_NS / 1e9, abs=0.06)

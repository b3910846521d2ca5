"""The timed loop, and what comes before it; with any clock, so that tests need not wait.

It is sent to boards, too, together with `on_board`: so it needs no more than Python 3.6.
"""

import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    Clock = Callable[[], int]
    """Nanoseconds that never go back."""

WINDOW_NS = 20_000_000
"""Of one stretch of the warm-up: at a base clock of 1 kHz, 20 ticks of the scheduler."""

STABLE_SPREAD = 0.02
_STABLE_WINDOWS = 3
MOST_WARM_UP_NS = 3_000_000_000


class WarmUp(NamedTuple):
    """How a model got warm.

    Attributes:
        calls: how many it took.
        seconds: how long.
        stable: whether its last stretches took the same time, within STABLE_SPREAD; if not, it was
            given up after MOST_WARM_UP_NS.
        call_ns: median time of a call in the last stretch.
    """

    calls: int
    seconds: float
    stable: bool
    call_ns: float


def _rough_ns() -> int:
    """For Python 3.6, which has no perf_counter_ns: floats tell microseconds of a day's uptime."""
    return int(time.perf_counter() * 1e9)


now_ns: "Clock" = getattr(time, "perf_counter_ns", _rough_ns)


def warm_up(infer: "Callable[[], object]", *, clock: "Clock" = now_ns) -> WarmUp:
    """Calls until three stretches in a row have medians within STABLE_SPREAD.

    A stretch is as many calls as fit into WINDOW_NS, and at least one.
    """
    started = clock()
    medians = []  # type: list[float]
    calls = 0
    while True:
        samples = _window(infer, clock)
        calls += len(samples)
        medians.append(statistics.median(samples))
        last = medians[-_STABLE_WINDOWS:]
        spread = (max(last) - min(last)) / min(last) if min(last) else 0.0
        stable = len(last) == _STABLE_WINDOWS and spread <= STABLE_SPREAD
        elapsed = clock() - started
        if stable or elapsed >= MOST_WARM_UP_NS:
            return WarmUp(calls=calls, seconds=elapsed / 1e9, stable=stable, call_ns=medians[-1])


def time_calls(
    infer: "Callable[[], object]", calls: int, *, clock: "Clock" = now_ns
) -> "list[int]":
    """Times calls one after the other, reading the clock once between two of them.

    Returns: nanoseconds, one a call.
    """
    stamps = [0] * (calls + 1)
    stamps[0] = clock()
    for index in range(1, calls + 1):
        infer()
        stamps[index] = clock()
    return [stamps[index + 1] - stamps[index] for index in range(calls)]


def _window(infer: "Callable[[], object]", clock: "Clock") -> "list[int]":
    samples = []  # type: list[int]
    before = started = clock()
    while not samples or before - started < WINDOW_NS:
        infer()
        after = clock()
        samples.append(after - before)
        before = after
    return samples

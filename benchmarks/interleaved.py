"""Timing several functions of this process in turn; files are timed by `keras_quant.bench`.

Taken in turn (A B C A B C ...), neighbouring samples meet the same conditions, and the median of
their ratios holds where a ratio of two separate medians does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from results import Result

from keras_quant.bench.timer import time_calls

Samples = dict[str, np.ndarray]

UNITS_PER_SECOND = {"ms": 1e3, "s": 1.0}


def time_interleaved(
    functions: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 1,
    cpu: bool = False,
) -> Samples:
    """Times each function once a round.

    Args:
        warmup: rounds before the first that counts.
        cpu: count what processors do for this process, in all its threads, which others on the
            machine disturb less than they do wall time.
    Returns: for each name seconds a call, float64 (rounds,).
    """
    clock = time.process_time_ns if cpu else time.perf_counter_ns
    samples: dict[str, list[float]] = {name: [] for name in functions}
    for round_number in range(warmup + rounds):
        for name, function in functions.items():
            (time_ns,) = time_calls(function, 1, clock=clock)
            if round_number >= warmup:
                samples[name].append(time_ns / 1e9)
    return {name: np.array(seconds) for name, seconds in samples.items()}


def timing(
    figure: str,
    seconds: np.ndarray,
    *,
    unit: str = "ms",
    at_most: float | None = None,
    peer: str = "",
) -> Result:
    """Sums up the samples of one function.

    Args:
        seconds: (rounds,).
        at_most: the goal, in unit.
    """
    times = seconds * UNITS_PER_SECOND[unit]
    return Result(
        figure=figure,
        value=float(np.median(times)),
        unit=unit,
        best=float(times.min()),
        spread=_spread(times),
        at_most=at_most,
        peer=peer,
    )


def paired_ratio(
    samples: Samples,
    numerator: str,
    denominator: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Result:
    """Compares two functions: the median, over rounds, of the ratio of their times."""
    ratios = samples[numerator] / samples[denominator]
    return Result(
        figure=f"{numerator} / {denominator}",
        value=float(np.median(ratios)),
        unit="",
        best=float(samples[numerator].min() / samples[denominator].min()),
        spread=_spread(ratios),
        at_most=at_most,
        at_least=at_least,
    )


def _spread(values: np.ndarray) -> float:
    low, middle, high = np.percentile(values, (25, 50, 75))
    return float((high - low) / middle)

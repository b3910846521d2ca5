"""What samples of time say: percentiles, intervals, outliers.

Samples of one load of a file are no independent trials: where its weights and buffers came to lie
in memory decides over some percent of all of them. So intervals are those of the loads, each with
one value, and not of the many samples in them (Kalibera and Jones, "Rigorous benchmarking in
reasonable time", ISMM 2013, section 6).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit

Rounds = Sequence[np.ndarray]
"""The samples of one load, round by round: nanoseconds, (calls,) each."""

CONFIDENCE = 0.99
LEAST_LOADS = 8
"""With fewer, all loads of two equal files point the same way in more than 1 % of all tries:
2 * 2**-7 is 1.6 %, 2 * 2**-8 is 0.8 %."""

RESAMPLES = 20_000
BLOCKS = 16  # into which the samples of a single load are cut
_FENCE = 1.5  # Tukey, Exploratory Data Analysis, 1977: quartile distances beyond a quartile
_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate, and between which two values it lies with the probability CONFIDENCE."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the samples of one file came to.

    Attributes:
        samples: how many calls were timed.
        p10_ms, p50_ms, p90_ms, p99_ms: percentiles of all samples.
        min_ms, max_ms: the smallest and the largest sample.
        mean_ms: of the means of the loads, each load counted once.
        outliers: samples beyond Tukey's fences; they are counted, and nowhere left out.
        load_spread: between the medians of the loads, the largest less the smallest, as a share of
            the median.
        round_spread: of the medians of the rounds, the distance of their quartiles, as a share of
            the median.
    """

    samples: int
    p10_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    min_ms: float
    max_ms: float
    mean_ms: Interval
    outliers: int
    load_spread: float
    round_spread: float


def summarize(loads: Sequence[Rounds]) -> Summary:
    """Sums up the samples of one file.

    Args:
        loads: at least two, or one of at least two samples.
    """
    times = np.concatenate([rounds for load in loads for rounds in load]) / _NS_PER_MS
    p10, p50, p90, p99 = np.percentile(times, (10, 50, 90, 99)).tolist()
    of_loads = [float(np.median(np.concatenate(load))) / _NS_PER_MS for load in loads]
    of_rounds = [float(np.median(rounds)) / _NS_PER_MS for load in loads for rounds in load]
    low, high = np.percentile(of_rounds, (25, 75)).tolist()
    return Summary(
        samples=len(times),
        p10_ms=p10,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        min_ms=float(times.min()),
        max_ms=float(times.max()),
        mean_ms=interval([float(part.mean()) / _NS_PER_MS for part in _clusters(loads)]),
        outliers=count_outliers(times),
        load_spread=(max(of_loads) - min(of_loads)) / p50,
        round_spread=(high - low) / p50,
    )


def paired_ratio(numerator: Sequence[Rounds], denominator: Sequence[Rounds]) -> Interval:
    """Compares two files whose rounds were timed in turn.

    A load's value is the median over its rounds of the logarithm of the ratio of their medians: in
    one round both met the same machine, and a round in which one of them had to wait does not
    count more than another.

    Args:
        numerator, denominator: as many loads, at least two, and as many rounds in each.
    """
    logarithms = [
        float(
            np.median([_log_median(a) - _log_median(b) for a, b in zip(above, below, strict=True)])
        )
        for above, below in zip(numerator, denominator, strict=True)
    ]
    return _exponential(interval(logarithms))


def unpaired_ratio(numerator: Sequence[Rounds], denominator: Sequence[Rounds]) -> Interval:
    """Compares two files that were timed at different times: a load's value is its median."""
    above, below = (
        [_log_median(part) for part in _clusters(loads)] for loads in (numerator, denominator)
    )
    return _exponential(difference(above, below))


def interval(values: Sequence[float]) -> Interval:
    """The mean of independent values, and its bootstrap interval.

    An expanded percentile interval (Hesterberg, "What teachers should know about the bootstrap",
    The American Statistician 69, 2015, section 4.4), which is as wide as a t-interval where one of
    plain percentiles is too narrow for few values. It lies between the smallest and the largest.

    Args:
        values: at least two.
    """
    assert len(values) > 1
    given = np.asarray(values, np.float64)
    mean = float(given.mean())
    low, high = np.quantile(_resampled_means(given), _tails(len(given))).tolist()
    return Interval(value=mean, low=min(low, mean), high=max(high, mean))


def difference(above: Sequence[float], below: Sequence[float]) -> Interval:
    """The difference of the means of two groups of independent values, and its interval."""
    first, second = np.asarray(above, np.float64), np.asarray(below, np.float64)
    assert min(len(first), len(second)) > 1
    mean = float(first.mean() - second.mean())
    means = _resampled_means(first, seed=1) - _resampled_means(second, seed=2)
    low, high = np.quantile(means, _tails(min(len(first), len(second)))).tolist()
    return Interval(value=mean, low=min(low, mean), high=max(high, mean))


def count_outliers(values: np.ndarray) -> int:
    """Counts values beyond Tukey's fences, 1.5 quartile distances beyond the quartiles."""
    low, high = np.percentile(values, (25, 75)).tolist()
    reach = _FENCE * (high - low)
    return int(((values < low - reach) | (values > high + reach)).sum())


def _clusters(loads: Sequence[Rounds]) -> list[np.ndarray]:
    """What is taken for independent: loads; of a single one, stretches of its samples."""
    if len(loads) > 1:
        return [np.concatenate(load) for load in loads]
    samples = np.concatenate(loads[0])
    return [part for part in np.array_split(samples, BLOCKS) if len(part)]


def _tails(count: int) -> tuple[float, float]:
    """The percentiles that end an interval of so many values."""
    quantile = stdtrit(count - 1, (1 - CONFIDENCE) / 2)
    tail = float(ndtr(quantile * math.sqrt(count / (count - 1))))
    return tail, 1 - tail


def _resampled_means(values: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Means of RESAMPLES draws with replacement, the same each time."""
    random = np.random.default_rng(seed)
    means: np.ndarray = values[random.integers(0, len(values), (RESAMPLES, len(values)))].mean(1)
    return means


def _log_median(samples: np.ndarray) -> float:
    return math.log(float(np.median(samples)))


def _exponential(found: Interval) -> Interval:
    value, low, high = map(math.exp, (found.value, found.low, found.high))
    return Interval(value=value, low=low, high=high)

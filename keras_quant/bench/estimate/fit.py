"""Parameters that explain measured latencies, near what was held for likely before."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_quant.bench.estimate.fusion import FusedLayer
from keras_quant.bench.estimate.latency import Setting, describe_work, latencies_ms
from keras_quant.bench.estimate.parameters import (
    Fitted,
    Parameters,
    Spread,
    from_vector,
    to_vector,
)

SHARE = 0.9
"""Of measurements that were left out, within the interval of an estimate."""

# Standard deviations of log(measured) that are taken for noise: figures of many people, software
# versions and clocks; and figures of one board.
NOISE_ANYWHERE, NOISE_ON_A_BOARD = 0.15, 0.03
_LEAST_FACTOR = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A measured latency.

    Attributes:
        net: its name.
        board: its name.
        layers: of the net.
        latency_ms: of one call.
    """

    net: str
    board: str
    layers: tuple[FusedLayer, ...]
    setting: Setting
    latency_ms: float


def fit_parameters(
    observations: Sequence[Observation],
    guess: Parameters,
    guess_factors: Parameters,
    *,
    noise: float,
) -> Parameters:
    """Finds the most likely parameters.

    Least squares of the logarithms of estimate over measured, in units of `noise`, with the
    logarithms of the parameters normally distributed around the guess; residuals beyond one unit
    count less ("soft_l1" of `scipy.optimize.least_squares`), so that one odd figure moves little.

    Args:
        observations: at least one.
        guess: from where the search begins, and what is likely without any observation.
        guess_factors: by which factor each parameter may be off: one standard deviation.
        noise: standard deviation of the logarithm of a measurement.
    """
    from scipy.optimize import least_squares

    work = describe_work([(one.layers, one.setting) for one in observations])
    measured = np.log([one.latency_ms for one in observations])
    start, width = to_vector(guess), to_vector(guess_factors)

    def residuals(vector: np.ndarray) -> np.ndarray:
        off = (np.log(latencies_ms(work, from_vector(vector))) - measured) / noise
        return np.concatenate([off, (vector - start) / width])

    return from_vector(least_squares(residuals, start, loss="soft_l1").x)


def ratios(observations: Sequence[Observation], parameters: Parameters) -> np.ndarray:
    """Estimate over measured: float64 (observations,)."""
    work = describe_work([(one.layers, one.setting) for one in observations])
    measured = np.array([one.latency_ms for one in observations])
    found: np.ndarray = latencies_ms(work, parameters) / measured
    return found


def left_out(
    observations: Sequence[Observation],
    fit: Callable[[Sequence[Observation]], Parameters],
    group: Callable[[Observation], Hashable],
) -> np.ndarray:
    """Estimates each group with parameters that were fitted to all others.

    Returns: estimate over measured, float64 (observations,).
    """
    found = np.ones(len(observations))
    groups = [group(one) for one in observations]
    for name in dict.fromkeys(groups):
        held = [place for place, other in enumerate(groups) if other == name]
        rest = [one for one, other in zip(observations, groups, strict=True) if other != name]
        found[held] = ratios([observations[place] for place in held], fit(rest))
    return found


def spread_of(found: np.ndarray) -> Spread:
    """What left-out estimates say of the next one.

    Args:
        found: estimate over measured, (observations,).
    """
    off = np.abs(np.log(found))
    return Spread(
        share=SHARE,
        factor=max(_LEAST_FACTOR, float(np.exp(np.quantile(off, SHARE)))),
        median_error=float(np.median(np.abs(found - 1))),
        worst_factor=float(np.exp(off.max())),
        measurements=len(found),
    )


def fit_board(observations: Sequence[Observation], known: Fitted, *, origin: str) -> Fitted:
    """Fits the parameters anew, to one board; those of all boards are the guess.

    Args:
        observations: of at least two nets.
        origin: where they are from, in words.
    """

    def fit(some: Sequence[Observation]) -> Parameters:
        return fit_parameters(some, known.values, known.guess_factors, noise=NOISE_ON_A_BOARD)

    held = left_out(observations, fit, lambda one: one.net)
    return dataclasses.replace(
        known,
        origin=origin,
        values=fit(observations),
        guess=known.values,
        spread=spread_of(held),
    )

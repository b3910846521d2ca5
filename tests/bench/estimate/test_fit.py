"""Fits find what made the figures, and say how far off they are where they did not see them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keras_quant.bench.estimate.fit import (
    NOISE_ON_A_BOARD,
    Observation,
    fit_board,
    fit_parameters,
    left_out,
    ratios,
    spread_of,
)
from keras_quant.bench.estimate.fusion import FusedLayer
from keras_quant.bench.estimate.latency import describe_work, latencies_ms
from keras_quant.bench.estimate.parameters import (
    NAMES,
    Parameters,
    from_vector,
    load_fitted,
    to_vector,
)
from tests.bench.estimate.test_latency import a_layer, a_setting

KNOWN = load_fitted()
NO_EVIDENCE = 100.0  # standard deviation of the logarithm of a figure
FOUND_AGAIN = 0.01  # of an estimate, with hardly any weight on the guess


def a_net(seed: int) -> tuple[FusedLayer, ...]:
    """Layers of many shapes, so that each parameter matters to some net."""
    rng = np.random.default_rng(seed)
    layers = []
    for _ in range(6):
        rows, columns, depth = (int(2**x) for x in rng.uniform(4, 11, 3))
        taps = int(rng.choice([1, 9]))
        layers.append(
            a_layer(
                rows=rows,
                columns=columns,
                taps=taps,
                depth=taps * depth,
                macs=rows * columns * taps * depth,
                weights=columns * taps * depth,
                read=rows * depth,
                written=rows * columns,
            )
        )
        layers.append(a_layer(kind="depthwise", groups=columns, columns=1, macs=9 * rows * columns))
    return tuple(layers)


def observations(truth: Parameters, *, noise: float = 0.0, nets: int = 8) -> list[Observation]:
    rng = np.random.default_rng(0)
    found = []
    for board, precision in (("orin-nano", "fp16"), ("nano", "fp16"), ("agx-orin", "int8")):
        for net in range(nets):
            layers, setting = a_net(net), a_setting(board, precision)
            exact = float(latencies_ms(describe_work([(layers, setting)]), truth)[0])
            found.append(
                Observation(
                    net=str(net),
                    board=board,
                    layers=layers,
                    setting=setting,
                    latency_ms=exact * float(np.exp(noise * rng.normal())),
                )
            )
    return found


def test_logarithms_come_back_as_parameters() -> None:
    again = from_vector(to_vector(KNOWN.values))
    assert [getattr(again, name) for name in NAMES] == pytest.approx(
        [getattr(KNOWN.values, name) for name in NAMES]
    )


def test_what_made_the_figures_is_found_again() -> None:
    truth = dataclasses.replace(KNOWN.guess, tensor_efficiency=0.5, launch_us=9.0, tile_rounds=1.5)
    found = fit_parameters(observations(truth), KNOWN.guess, KNOWN.guess_factors, noise=1e-3)
    assert ratios(observations(truth), found) == pytest.approx(1, abs=FOUND_AGAIN)
    assert found.launch_us == pytest.approx(9.0, rel=0.1)


def test_without_evidence_the_guess_stays() -> None:
    truth = dataclasses.replace(KNOWN.guess, launch_us=20.0, memory_efficiency=0.3)
    found = fit_parameters(observations(truth), KNOWN.guess, KNOWN.guess_factors, noise=NO_EVIDENCE)
    assert to_vector(found) == pytest.approx(to_vector(KNOWN.guess), abs=0.01)


def test_one_odd_figure_moves_little() -> None:
    some = observations(KNOWN.guess)
    odd = [dataclasses.replace(some[0], latency_ms=5 * some[0].latency_ms), *some[1:]]
    found = fit_parameters(odd, KNOWN.guess, KNOWN.guess_factors, noise=0.15)
    assert np.abs(np.log(ratios(some, found))).max() < 0.15


def test_a_group_is_estimated_by_those_that_never_saw_it() -> None:
    some = observations(KNOWN.guess, nets=2)
    seen: list[set[str]] = []

    def fit(rest: list[Observation]) -> Parameters:
        seen.append({one.board for one in rest})
        return KNOWN.guess

    found = left_out(some, fit, lambda one: one.board)
    assert found == pytest.approx(1)
    assert seen == [
        {"nano", "agx-orin"},
        {"orin-nano", "agx-orin"},
        {"orin-nano", "nano"},
    ]


def test_a_spread_holds_the_share_of_what_was_left_out() -> None:
    found = np.exp(np.linspace(-1, 1, 41))
    spread = spread_of(found)
    inside = np.abs(np.log(found)) <= np.log(spread.factor) + 1e-9
    assert inside.mean() == pytest.approx(spread.share, abs=0.03)
    assert spread.worst_factor == pytest.approx(np.e) and spread.measurements == 41
    assert spread_of(np.ones(3)).factor > 1  # nobody is always right


def test_a_board_of_ones_own_is_met_on_nets_that_were_left_out() -> None:
    # A board whose launches take three times as long, and whose memory is slower than usual.
    values = KNOWN.values
    truth = dataclasses.replace(
        values, launch_us=3 * values.launch_us, memory_efficiency=0.7 * values.memory_efficiency
    )
    own = [one for one in observations(truth, noise=0.02, nets=6) if one.board == "orin-nano"]
    before = np.median(np.abs(ratios(own, values) - 1))
    fitted = fit_board(own, KNOWN, origin="mine")
    assert before > 0.1 > fitted.spread.median_error
    assert fitted.origin == "mine" and fitted.guess == values


def test_the_parameters_of_the_package_are_shares_and_times() -> None:
    values = KNOWN.values
    for name in NAMES:
        assert getattr(values, name) > 0
    for name in ("cuda", "tensor", "memory", "depthwise"):
        assert getattr(values, f"{name}_efficiency") < 1
    assert 1 < KNOWN.spread.factor < 2 and KNOWN.spread.median_error <= 0.25
    assert NOISE_ON_A_BOARD < 0.1

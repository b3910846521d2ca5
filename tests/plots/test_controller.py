"""The picture of a controller draws what was simulated, in seconds, and marks estimates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keras_quant.anytime.controller import Played
from keras_quant.jobs.simulate import OptionPoint, Simulated, Simulation
from keras_quant.plots.controller import controller_picture

OPTIONS = (
    OptionPoint(name="exit", cost=1.0, validation_accuracy=0.8, test_accuracy=0.8, share=0.7),
    OptionPoint(name="net", cost=3.0, validation_accuracy=0.9, test_accuracy=0.9, share=0.3),
)
PLAYED = Played(accuracy=0.88, mean_cost=1.6, shares=(0.7, 0.3))
PLACE = Simulated(
    place="a board",
    is_estimate=False,
    unit="ms",
    options=OPTIONS,
    validation=PLAYED,
    test=PLAYED,
    steps=(),
    front=((1.0, 0.8), (1.6, 0.88)),
    oracle=((1.0, 0.8), (1.2, 0.95)),
    oracle_cost=1.1,
    static=OPTIONS[1],
    static_at_cost=OPTIONS[0],
    speed_up=1.875,
    p99_cost=3.0,
)


def drawn(*places: Simulated) -> Simulation:
    return Simulation(
        dataset="d", rule="entropy", validation_images=9, test_images=9, places=places
    )


def test_every_kind_of_point_is_drawn() -> None:
    curve, shares = controller_picture(drawn(PLACE), title="t").axes
    lines = {line.get_label(): line.get_xydata() for line in curve.get_lines()}
    np.testing.assert_allclose(lines["one for all images"], [(1e-3, 80), (3e-3, 90)])
    np.testing.assert_allclose(lines["controllers"], [(1e-3, 80), (1.6e-3, 88)])
    np.testing.assert_allclose(lines["oracle"], [(1e-3, 80), (1.2e-3, 95)])
    np.testing.assert_allclose(lines["chosen"], [(1.6e-3, 88)])
    assert {"exit", "net"} <= {text.get_text() for text in curve.texts}
    np.testing.assert_allclose([bar.get_width() for bar in shares.patches], [30, 70])
    assert curve.get_xlabel() == "mean latency of an image [s], measured"


def test_an_estimate_looks_otherwise() -> None:
    axes = controller_picture(drawn(PLACE, replace(PLACE, is_estimate=True)), title="t").axes
    assert len(axes) == 4
    assert axes[2].get_xlabel() == "mean latency of an image [s], ESTIMATE"
    assert [bar.get_hatch() for bar in axes[3].patches] == ["///", "///"]

"""The picture of early exits draws what the record says, and says what is drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keras_quant.plots.anytime import exits_picture
from keras_quant.runs.exits import BudgetPoint, ExitPoint, ExitsRecord, SplitOutcome

TEST = SplitOutcome(split="test", images=50, accuracy=0.95, mean_cost=140.0, exit_shares=(0.8, 0.2))
RECORD = ExitsRecord(
    created="2026-01-01T00:00:00+00:00",
    kq_version="1",
    format="tflite",
    files=("a" * 64, "b" * 64),
    rule="entropy",
    thresholds=(0.75,),
    cost="MACs",
    accuracy=0.95,
    budget=None,
    validation=SplitOutcome(
        split="validation", images=50, accuracy=0.96, mean_cost=120.0, exit_shares=(0.9, 0.1)
    ),
    test=TEST,
    exits=(
        ExitPoint(answer="exit1_logits", cost=100.0, validation_accuracy=0.9, test_accuracy=0.89),
        ExitPoint(answer="logits", cost=300.0, validation_accuracy=0.97, test_accuracy=0.96),
    ),
    budgets=(
        BudgetPoint(thresholds=(0.1,), mean_cost=100.0, accuracy=0.89),
        BudgetPoint(thresholds=(0.75,), mean_cost=140.0, accuracy=0.95),
        BudgetPoint(thresholds=(2.0,), mean_cost=300.0, accuracy=0.96),
    ),
)


def test_both_settings_and_what_was_chosen_are_drawn() -> None:
    curve, shares = exits_picture(RECORD, title="a net").axes
    drawn = {line.get_label(): line.get_xydata() for line in curve.get_lines()}
    np.testing.assert_allclose(drawn["thresholds, by budget"], [(100, 89), (140, 95), (300, 96)])
    np.testing.assert_allclose(drawn["all images at one exit"], [(100, 89), (300, 96)])
    np.testing.assert_allclose(drawn["chosen"], [(140, 95)])
    np.testing.assert_allclose([bar.get_height() for bar in shares.patches], [80, 20])


def test_axes_carry_names_and_units() -> None:
    curve, shares = exits_picture(RECORD, title="a net").axes
    assert curve.get_xlabel() == "mean cost of an image [MACs]"
    assert curve.get_ylabel() == "test accuracy [%]"
    assert shares.get_ylabel() == "test images that end there [%]"


def test_ticks_of_costs_differ() -> None:
    exits = (
        ExitPoint(answer="exit1_logits", cost=2e5, validation_accuracy=0.9, test_accuracy=0.89),
        ExitPoint(answer="logits", cost=1.7e6, validation_accuracy=0.97, test_accuracy=0.96),
    )
    figure = exits_picture(replace(RECORD, exits=exits), title="a net")
    figure.canvas.draw()
    ticks = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert len(set(ticks)) == len(ticks) > 2

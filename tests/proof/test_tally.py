from __future__ import annotations

import pytest

from keras_quant.proof.parity import FLOAT_CODE_TOLERANCE
from keras_quant.proof.tally import Tally


@pytest.mark.parametrize(
    ("tolerance", "different", "logits", "top1", "clean"),
    [
        (0.0, 0, 0.0, 1000, True),
        (0.0, 1, 0.0, 1000, False),
        (0.0, 0, 1e-4, 1000, False),
        (0.0, 0, 0.0, 999, False),
        (FLOAT_CODE_TOLERANCE, 10, 0.5, 999, True),
        (FLOAT_CODE_TOLERANCE, 11, 0.0, 1000, False),
        (FLOAT_CODE_TOLERANCE, 0, 0.0, 998, False),
    ],
)
def test_the_gate_opens(tolerance, different, logits, top1, clean) -> None:
    tally = Tally(images=1000, logit_difference=logits, top1=top1)
    tally.compared["conv"] = 10_000
    tally.different["conv"] = different
    assert tally.is_clean(tolerance, with_keras=False) == clean


@pytest.mark.parametrize(("keras_top1", "clean"), [(1000, True), (999, True), (998, False)])
def test_the_gate_opens_for_keras_within_a_thousandth(keras_top1: int, clean: bool) -> None:
    tally = Tally(images=1000, top1=1000, keras_top1=keras_top1)
    assert tally.is_clean(0.0, with_keras=True) == clean

"""What files answer, made comparable: logits, whether they end in a softmax or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keras_quant.anytime.rules import RULES, probabilities, sureness
from keras_quant.jobs.loaded import Loaded, last_logits

FLOAT32_ROUNDING = 1e-5
IMAGES = np.zeros((20, 8, 8, 1), np.uint8)
LOGITS = np.random.default_rng(0).normal(scale=3, size=(20, 10)).astype(np.float32)


def answered(*outputs: np.ndarray) -> np.ndarray:
    answers = {f"output{place}": output for place, output in enumerate(outputs)}
    loaded = Loaded(file=Path("net"), ask=lambda images, becomes: answers, kernels=())
    return last_logits(loaded, IMAGES, None)


def test_logits_of_the_last_output_are_given_as_they_are() -> None:
    assert np.array_equal(answered(-LOGITS, LOGITS), LOGITS)
    images = np.zeros((20, 8, 8, 1), np.float32)
    assert np.array_equal(answered(images), images)


@pytest.mark.parametrize("rule", RULES)
def test_a_softmax_is_as_sure_as_its_logits(rule: str) -> None:
    shares = probabilities(LOGITS).astype(np.float32)
    found = answered(shares)
    np.testing.assert_allclose(sureness(found, rule), sureness(LOGITS, rule), atol=FLOAT32_ROUNDING)


def test_a_share_of_0_is_a_small_one() -> None:
    shares = np.eye(10, dtype=np.float32)
    found = answered(shares)
    assert np.isfinite(found).all() and np.array_equal(probabilities(found).round(6), shares)

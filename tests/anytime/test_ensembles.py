"""Fusions by hand-computed answers."""

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.anytime.diversity import any_right
from keras_quant.anytime.ensembles import FUSIONS, weighted_sum
from keras_quant.anytime.rules import probabilities

EXACT = 1e-12
# One image: two members slightly for class 0, one strongly for class 1.
SPLIT = np.log(np.array([[[0.5, 0.4, 0.1]], [[0.5, 0.4, 0.1]], [[0.01, 0.98, 0.01]]]))


def test_votes_count_heads_and_means_count_how_sure_they_are() -> None:
    found = {name: int(fuse(SPLIT)[0].argmax()) for name, fuse in FUSIONS.items()}
    assert found == {"mean": 1, "logits": 1, "vote": 0}


def test_means_are_those_of_their_formulas() -> None:
    wanted = (SPLIT[0] + SPLIT[1] + SPLIT[2]) / 3
    np.testing.assert_allclose(FUSIONS["logits"](SPLIT), wanted, atol=EXACT)
    np.testing.assert_allclose(FUSIONS["mean"](SPLIT), [[1.01 / 3, 1.78 / 3, 0.07]], atol=1e-9)


def test_a_mean_may_be_right_where_no_member_is() -> None:
    two = np.log(np.array([[[0.5, 0.1, 0.4]], [[0.1, 0.5, 0.4]]]))
    assert any_right(two.argmax(axis=-1), np.array([2])) == 0
    assert FUSIONS["mean"](two)[0].argmax() == 2


def test_a_tie_of_votes_goes_to_the_surer_members() -> None:
    tied = np.log(np.array([[[0.6, 0.3, 0.1]], [[0.05, 0.9, 0.05]]]))
    assert FUSIONS["vote"](tied)[0].argmax() == 1
    assert FUSIONS["vote"](tied)[0].max() < 2  # and never as much as one vote more


@pytest.mark.parametrize("fusion", FUSIONS)
def test_members_that_agree_change_nothing(fusion: str) -> None:
    logits = np.random.default_rng(0).normal(size=(1, 20, 4))
    same = np.repeat(logits, 3, axis=0)
    np.testing.assert_array_equal(FUSIONS[fusion](same).argmax(-1), logits[0].argmax(-1))


def test_probabilities_add_up_to_one_however_large_logits_are() -> None:
    assert probabilities(np.array([1e4, 1e4, -1e4])).tolist() == [0.5, 0.5, 0.0]


def test_a_sum_weighs_each_members_logits() -> None:
    logits = np.array([[[1.0, 0.0]], [[0.0, 3.0]]])
    np.testing.assert_array_equal(weighted_sum(logits, (0.5, 0.1)), [[0.5, 3 * 0.1]])

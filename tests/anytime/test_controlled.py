"""What the controller runs is what it was simulated to run, each piece once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.anytime.controlled import (
    Begin,
    ControlledRunner,
    PieceAnswer,
    begin_stages,
    joined,
    together,
)
from keras_quant.anytime.controller import Controller, Options, Rule, costs_paid, fit, play
from keras_quant.anytime.ensembles import FUSIONS
from keras_quant.anytime.rules import ease, probabilities, sureness
from keras_quant.anytime.runner import LoadedStage
from tests.anytime.served import FILES, FakeStage

SUM_ROUNDING = 1e-9
PARTS = ((0, 0), (0, 1), (1, 0))
NEEDS = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]], bool)
COSTS = np.array([1.0, 2.0, 5.0])


def nets(logits: np.ndarray, ran: list[tuple[int, int]]) -> list[Begin]:
    """Two nets, of two pieces and of one; an image is its place."""

    def begin(net: int) -> Begin:
        def answers(image: np.ndarray) -> Iterator[PieceAnswer]:
            for piece in range(2 - net):
                ran.append((net, piece))
                place = PARTS.index((net, piece))
                yield PieceAnswer(logits=logits[place, image[:, 0].astype(int)])

        return answers

    return [begin(0), begin(1)]


@given(seed=st.integers(0, 2**32 - 1), price=st.floats(0.001, 0.3), looks=st.integers(1, 3))
def test_it_answers_and_costs_as_it_was_simulated(seed: int, price: float, looks: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(3, 30, 4)) * np.array([1, 2, 4])[:, None, None]
    truth = rng.integers(0, 4, 30)
    logits[:, np.arange(30), truth] += 1
    options = Options(
        names=("a", "b", "c"),
        pieces=NEEDS,
        sure=sureness(logits, "max"),
        correct=logits.argmax(axis=-1) == truth,
    )
    controller = fit(options, COSTS, price=price, looks=looks)
    ran: list[tuple[int, int]] = []
    runner = ControlledRunner(
        controller, nets(logits, ran), [(part,) for part in PARTS], rule="max"
    )
    paid = costs_paid(controller, options, COSTS)
    right = 0
    for place in range(30):
        ran.clear()
        answer = runner.run(np.full((1, 1), place))
        assert len(set(ran)) == len(ran)
        assert sum(COSTS[PARTS.index(piece)] for piece in ran) == pytest.approx(paid[place])
        right += answer.label == truth[place]
    played = play(controller, options, COSTS)
    assert right / 30 == pytest.approx(played.accuracy, abs=SUM_ROUNDING)
    assert paid.mean() == pytest.approx(played.mean_cost, abs=SUM_ROUNDING)


def test_nets_that_are_put_together_answer_by_their_mean_probability() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 2, 4))
    rules = {(0,): Rule(thresholds=(2.0,), then=(None, 1))}
    ran: list[tuple[int, int]] = []
    runner = ControlledRunner(
        Controller(first=0, rules=rules), nets(logits, ran), [((0, 0),), ((0, 1), (1, 0))]
    )
    answer = runner.run(np.ones((1, 1)))
    mean = FUSIONS["mean"](logits[1:, 1:])
    np.testing.assert_allclose(probabilities(answer.logits), mean[0])
    assert answer.path == (0, 1) and ran == [(0, 0), (0, 1), (1, 0)]


def test_all_pieces_are_warm_whatever_the_first_image_needs() -> None:
    ran: list[tuple[int, int]] = []
    logits = np.zeros((3, 2, 4))
    alone = [(part,) for part in PARTS]
    ControlledRunner(Controller(first=0, rules={}), nets(logits, ran), alone).warm_up(
        np.ones((1, 1))
    )
    assert sorted(ran) == sorted(PARTS)


def test_zeros_of_what_a_stage_hands_on_are_counted() -> None:
    stage = LoadedStage.of(FILES[0], FakeStage(0))
    last = LoadedStage.of(FILES[2], FakeStage(2))
    images = np.array([[-1, -1, 2, -1, 0], [0, 1, 2, 3, 4]], np.float32)
    known = {"image": images}
    stage.run(known)
    np.testing.assert_array_equal(stage.zeros(known), [0.6, 0.0])
    assert last.zeros(known) is None
    found = list(begin_stages([stage], {"image": images}))
    both = joined([*found, *found])
    np.testing.assert_array_equal(both.zeros(), [0.6, 0.0] * 2)
    assert len(both.logits) == 4 and together(found) is found[0]


def test_an_image_is_easy_by_zeros_or_by_the_lack_of_them() -> None:
    logits, zeros = np.array([[4.0, 0.0], [0.0, 0.0]]), np.array([0.25, 1.0])
    assert ease(logits, zeros, "zeros").tolist() == [0.25, 1.0]
    assert ease(logits, zeros, "activity").tolist() == [0.75, 0.0]
    for rule, wanted in (("max", "max"), ("zeros", "entropy"), ("activity", "entropy")):
        found = ease(logits, None, rule)
        np.testing.assert_array_equal(found, sureness(logits, wanted))

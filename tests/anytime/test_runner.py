"""When the runner stops: on a clock that the stages move themselves."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.anytime.rules import sureness
from keras_quant.anytime.runner import AnytimeRunner, LoadedStage, Reply, all_answers, profile
from keras_quant.errors import PeerError, UsageError
from keras_quant.runners import RunnerInfo
from keras_quant.runs.stages import Port

MS = 1e-3
IMAGE = {"image": np.zeros((1, 2), np.float32)}
TIMES = st.lists(st.floats(0.01, 50), min_size=2, max_size=5)
ROUNDING_MS = 1e-6


class FakeStage:
    """Takes so long, and answers with one class."""

    info = RunnerInfo(name="fake", kernels=(), versions={})

    def __init__(self, number: int, clock: FakeClock, took_ms: float, *, fails: bool = False):
        self._number, self._clock, self._took_ms, self._fails = number, clock, took_ms, fails

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self._clock.now += self._took_ms * MS
        if self._fails:
            raise KeyboardInterrupt
        given = inputs["image"] if self._number == 0 else inputs[f"codes{self._number - 1}"]
        logits = np.full((len(given), 3), -1.0, np.float32)
        logits[:, self._number % 3] = self._number + 1
        return {f"answer{self._number}": logits, f"codes{self._number}": given}


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def stages(
    times_ms: Sequence[float], clock: FakeClock, *, failing: int | None = None
) -> list[LoadedStage]:
    return [
        LoadedStage(
            runner=FakeStage(number, clock, took_ms, fails=number == failing),
            inputs=("image",) if number == 0 else (f"codes{number - 1}",),
            answer=Port(name=f"answer{number}", dtype="float32", shape=(3,)),
        )
        for number, took_ms in enumerate(times_ms)
    ]


@given(times=TIMES, deadline=st.floats(0.01, 200))
def test_an_answer_is_never_later_than_the_deadline_and_one_stage(
    times: list[float], deadline: float
) -> None:
    clock = FakeClock()
    answer = AnytimeRunner(stages(times, clock), deadline_ms=deadline, clock=clock).run(IMAGE)
    assert answer.elapsed_ms <= deadline + times[answer.exit] + ROUNDING_MS
    ended = np.cumsum(times)[answer.exit]
    assert answer.reason == "last" or ended >= deadline - ROUNDING_MS


@given(times=TIMES, deadline=st.floats(0.01, 200))
def test_an_answer_is_in_time_where_stages_take_what_is_expected(
    times: list[float], deadline: float
) -> None:
    clock = FakeClock()
    if deadline < times[0]:
        with pytest.raises(UsageError, match="is the shortest possible"):
            AnytimeRunner(stages(times, clock), deadline_ms=deadline, expected_ms=times)
        return
    runner = AnytimeRunner(
        stages(times, clock), deadline_ms=deadline, expected_ms=times, clock=clock
    )
    answer = runner.run(IMAGE)
    assert answer.elapsed_ms <= deadline + ROUNDING_MS
    if answer.reason == "deadline":  # and one more stage would have been late
        assert np.cumsum(times)[answer.exit + 1] > deadline - ROUNDING_MS


def test_without_a_deadline_the_last_stage_answers() -> None:
    clock = FakeClock()
    answer = AnytimeRunner(stages([1, 2, 4], clock), clock=clock).run(IMAGE)
    assert (answer.exit, answer.reason, answer.label) == (2, "last", 2)
    assert answer.elapsed_ms == pytest.approx(7)


def test_an_answer_that_is_sure_ends_the_image() -> None:
    clock = FakeClock()
    first = float(sureness(np.array([1.0, -1.0, -1.0]), "max"))
    for threshold, wanted in ((first, 0), (np.nextafter(first, 2), 1)):
        runner = AnytimeRunner(
            stages([1, 1, 1], clock), rule="max", thresholds=(threshold, 0.0), clock=clock
        )
        answer = runner.run(IMAGE)
        assert (answer.exit, answer.reason) == (wanted, "sure")


def test_the_best_answer_outlives_an_interrupt_within_a_stage() -> None:
    clock = FakeClock()
    runner = AnytimeRunner(stages([1, 1, 1], clock, failing=2), clock=clock)
    assert runner.best is None
    with pytest.raises(KeyboardInterrupt):
        runner.run(IMAGE)
    assert runner.best is not None and runner.best.exit == 1


def test_an_interrupt_from_another_thread_ends_behind_the_stage() -> None:
    clock = FakeClock()
    made = stages([1, 1, 1], clock)
    runner = AnytimeRunner(made, clock=clock)
    first = made[0].runner.run

    def interrupted(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        thread = threading.Thread(target=runner.interrupt)
        thread.start()
        thread.join()
        return first(inputs)

    made[0].runner.run = interrupted  # type: ignore[method-assign]
    assert runner.run(IMAGE).reason == "interrupted"
    made[0].runner.run = first  # type: ignore[method-assign]
    assert runner.run(IMAGE).reason == "last"


class FakeBeyond:
    """Takes so long as is expected of it, or has no answer."""

    expected_ms = 5.0

    def __init__(self, clock: FakeClock, *, lost: bool = False) -> None:
        self._clock, self._lost = clock, lost
        self.within_ms: list[float] = []

    def ask(self, known: Mapping[str, np.ndarray], *, within_ms: float) -> Reply:
        self.within_ms.append(within_ms)
        self._clock.now += self.expected_ms * MS
        if self._lost:
            raise PeerError("gone", sent_bytes=7)
        logits = np.array([0.0, 0.0, 1.0], np.float32)
        return Reply(logits=logits, exit=4, reason="last", took_ms=1.0, sent_bytes=(9,))


@pytest.mark.parametrize(
    ("deadline_ms", "wanted"), [(6.9, (1, "deadline", ())), (7.1, (4, "last", (9,)))]
)
def test_stages_elsewhere_are_asked_where_their_answer_is_expected_in_time(
    deadline_ms: float, wanted: tuple[int, str, tuple[int, ...]]
) -> None:
    clock = FakeClock()
    beyond = FakeBeyond(clock)
    runner = AnytimeRunner(
        stages([1, 1], clock), deadline_ms=deadline_ms, beyond=beyond, clock=clock
    )
    answer = runner.run(IMAGE)
    assert (answer.exit, answer.reason, answer.sent_bytes) == wanted
    assert answer.elapsed_ms <= deadline_ms
    assert beyond.within_ms == pytest.approx([deadline_ms - 2] if wanted[0] == 4 else [])


@pytest.mark.parametrize("deadline_ms", [7.1, None])
def test_the_best_answer_from_here_outlives_stages_elsewhere(deadline_ms: float | None) -> None:
    clock = FakeClock()
    beyond = FakeBeyond(clock, lost=True)
    runner = AnytimeRunner(
        stages([1, 1], clock), deadline_ms=deadline_ms, beyond=beyond, clock=clock
    )
    answer = runner.run(IMAGE)
    assert (answer.exit, answer.reason, answer.note) == (1, "peer lost", "gone")
    assert answer.sent_bytes == (7,) and answer.elapsed_ms == pytest.approx(7)
    assert runner.best is answer


def test_a_deadline_may_be_of_one_image() -> None:
    clock = FakeClock()
    runner = AnytimeRunner(stages([1, 1, 1], clock), deadline_ms=50, clock=clock)
    assert runner.run(IMAGE, deadline_ms=0.5).exit == 0
    assert runner.run(IMAGE).exit == 2


def test_codes_of_an_answer_are_what_they_stand_for() -> None:
    clock = FakeClock()
    (stage,) = stages([1], clock)
    port = Port(name="answer0", dtype="int8", shape=(3,), scale=0.5, zero_point=-1)
    coded = LoadedStage(runner=stage.runner, inputs=stage.inputs, answer=port)
    np.testing.assert_array_equal(coded.run(dict(IMAGE)), [[1.0, 0.0, 0.0]])


def test_probabilities_become_logits_of_the_same_softmax() -> None:
    clock = FakeClock()
    (stage,) = stages([1], clock)
    port = Port(name="answer0", dtype="float32", shape=(3,), scale=0.5, zero_point=-1)
    made = LoadedStage(runner=stage.runner, inputs=("image",), answer=port, probabilities=True)
    np.testing.assert_allclose(np.exp(made.run(dict(IMAGE))), [[1.0, 0.0, 0.0]], atol=1e-6)


def test_each_exit_answers_all_images() -> None:
    found = all_answers(stages([1, 1], FakeClock()), {"image": np.zeros((4, 2), np.float32)})
    assert found.shape == (2, 4, 3)
    np.testing.assert_array_equal(found.argmax(axis=-1), [[0] * 4, [1] * 4])


def test_a_profile_is_of_each_stage_by_itself() -> None:
    clock = FakeClock()
    times = profile(stages([1, 3], clock), IMAGE, calls=10, clock=clock)
    assert [one.p50_ms for one in times] == pytest.approx([1, 3])
    assert [one.p99_ms for one in times] == pytest.approx([1, 3])


@pytest.mark.parametrize("wrong", [{"thresholds": (0.5,)}, {"expected_ms": (1.0,)}])
def test_as_many_thresholds_as_early_exits_are_needed(wrong: dict[str, tuple[float]]) -> None:
    with pytest.raises(UsageError, match="3 stages need 2 thresholds and 3 times"):
        AnytimeRunner(stages([1, 1, 1], FakeClock()), **wrong)

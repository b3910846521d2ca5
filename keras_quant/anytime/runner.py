"""Runs stages until an answer is sure, the time is over, or somebody asks to stop.

Before each stage its expected time is added to what has passed; where that is beyond the deadline,
the answer that is there is given. So an answer is late by one stage at most, and by nothing where
stages keep to what is expected of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_quant.anytime.rules import NEVER, as_logits, sureness
from keras_quant.errors import UsageError
from keras_quant.runners import Runner
from keras_quant.runs.stages import Port, StageFile

MS = 1e3
SURE, DEADLINE, INTERRUPTED, LAST = "sure", "deadline", "interrupted", "last"

Clock = Callable[[], float]
"""Gives seconds from any beginning."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedStage:
    """A stage that can be run.

    Attributes:
        runner: takes and gives codes as the file stores them.
        inputs: names of what it takes.
        answer: the output that holds one number a class.
        probabilities: whether these are; their logarithms are logits of the same softmax.
    """

    runner: Runner
    inputs: tuple[str, ...]
    answer: Port
    probabilities: bool = False

    @classmethod
    def of(cls, file: StageFile, runner: Runner) -> LoadedStage:
        """A stage as its record describes it."""
        answer = next(port for port in file.outputs if port.name == file.answer)
        return cls(
            runner=runner,
            inputs=tuple(port.name for port in file.inputs),
            answer=answer,
            probabilities=file.probabilities,
        )

    def run(self, known: dict[str, np.ndarray]) -> np.ndarray:
        """Computes the stage; what it gives is put beside what is known.

        Returns: float32 (images, classes) logits.
        """
        known |= self.runner.run({name: known[name] for name in self.inputs})
        stored, answer = known[self.answer.name], self.answer
        values = np.asarray(stored, np.float32)
        if answer.scale is not None:
            values = (values - np.float32(answer.zero_point or 0)) * np.float32(answer.scale)
        if self.probabilities:
            values = as_logits(values)
        return values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """What is known of an image.

    Attributes:
        logits: float32 (classes,).
        exit: at which exit they came, from 0 on.
        sureness: see `rules.sureness`.
        elapsed_ms: from the beginning to the answer.
        reason: why no more was computed: SURE, DEADLINE, INTERRUPTED or LAST; "" while more is.
    """

    logits: np.ndarray
    exit: int
    sureness: float
    elapsed_ms: float
    reason: str = ""

    @property
    def label(self) -> int:
        """The class of the largest logit."""
        return int(self.logits.argmax())


class AnytimeRunner:
    """Answers one image at a time, as well as there is time.

    `best` may be read by other threads, and after an exception such as KeyboardInterrupt.
    """

    def __init__(
        self,
        stages: Sequence[LoadedStage],
        *,
        deadline_ms: float | None = None,
        expected_ms: Sequence[float] | None = None,
        rule: str = "entropy",
        thresholds: Sequence[float] | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        """Takes stages that are loaded.

        Args:
            deadline_ms: when an answer is needed, from the call of `run`; None for any time.
            expected_ms: how long each stage takes, see `profile`; None for not known: then a stage
                is begun whenever the deadline has not passed.
            rule: a key of `rules.RULES`.
            thresholds: of all stages but the last, see `rules.exits_taken`; None for stopping at
                none.
        Raises:
            UsageError: the deadline is shorter than the first stage, or there are not as many
                thresholds or times as stages.
        """
        self._stages, self._rule, self._clock = tuple(stages), rule, clock
        self._deadline_ms = float("inf") if deadline_ms is None else deadline_ms
        self._expected_ms = tuple(expected_ms or (0.0,) * len(stages))
        early = len(stages) - 1
        self._thresholds = (NEVER,) * early if thresholds is None else tuple(thresholds)
        if len(self._thresholds) != early or len(self._expected_ms) != len(stages):
            raise UsageError(
                f"{len(stages)} stages need {early} thresholds and {len(stages)} times; given are "
                f"{len(self._thresholds)} and {len(self._expected_ms)}"
            )
        if not self._deadline_ms >= self._expected_ms[0] or self._deadline_ms <= 0:
            raise UsageError(
                f"a deadline of {self._deadline_ms:g} ms is shorter than the first stage: "
                f"{self._expected_ms[0]:.3g} ms is the shortest possible here, and "
                "more where other processes run too"
            )
        self._stop = threading.Event()
        self._best: Answer | None = None

    @property
    def best(self) -> Answer | None:
        """The best answer so far to the image that came last; None before the first."""
        return self._best

    def interrupt(self) -> None:
        """Ends the image that is computed now, behind the stage that is; from any thread."""
        self._stop.set()

    def run(self, inputs: Mapping[str, np.ndarray]) -> Answer:
        """Answers an image.

        Args:
            inputs: by name, (1, *shape), as the first stage takes them.
        """
        *_, last = self.answers(inputs)
        return last

    def answers(self, inputs: Mapping[str, np.ndarray]) -> Iterator[Answer]:
        """Gives each answer to an image when it is there, as `run`; the last one has a reason."""
        self._best = None
        self._stop.clear()
        started, known = self._clock(), dict(inputs)
        for number, stage in enumerate(self._stages):
            self._best = self._answer(number, stage.run(known)[0], started)
            yield self._best
            if self._best.reason:
                return

    def _answer(self, number: int, logits: np.ndarray, started: float) -> Answer:
        sure = float(sureness(logits, self._rule))
        elapsed_ms = (self._clock() - started) * MS
        return Answer(
            logits=logits,
            exit=number,
            sureness=sure,
            elapsed_ms=elapsed_ms,
            reason=self._reason(number, sure, elapsed_ms),
        )

    def _reason(self, number: int, sure: float, elapsed_ms: float) -> str:
        if number == len(self._stages) - 1:
            return LAST
        if sure >= self._thresholds[number]:
            return SURE
        if self._stop.is_set():
            return INTERRUPTED
        next_ms = elapsed_ms + self._expected_ms[number + 1]
        too_late = elapsed_ms >= self._deadline_ms or next_ms > self._deadline_ms
        return DEADLINE if too_late else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """How long a stage took, in ms, over some calls."""

    p50_ms: float
    p99_ms: float


def profile(
    stages: Sequence[LoadedStage],
    inputs: Mapping[str, np.ndarray],
    *,
    rule: str = "entropy",
    calls: int = 100,
    clock: Clock = time.perf_counter,
) -> tuple[StageTimes, ...]:
    """Times each stage on an image, with all that an AnytimeRunner does beside it.

    All of them in turn; a tenth of the calls warms up before.

    Args:
        inputs: by name, (1, *shape).
        rule: as the runner has it.
    """
    runner = AnytimeRunner(stages, rule=rule, clock=clock)
    ends_ms = [
        [answer.elapsed_ms for answer in runner.answers(inputs)] for _ in range(calls + calls // 10)
    ]
    counted = np.diff(ends_ms, axis=1, prepend=0.0)[calls // 10 :]
    return tuple(
        StageTimes(p50_ms=float(half), p99_ms=float(most))
        for half, most in zip(*np.percentile(counted, (50, 99), axis=0), strict=True)
    )


def all_answers(stages: Sequence[LoadedStage], inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """What every exit answers to images.

    Args:
        inputs: by name, (images, *shape).
    Returns: float32 (exits, images, classes).
    """
    known = dict(inputs)
    return np.stack([stage.run(known) for stage in stages])

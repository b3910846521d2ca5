"""Runs stages until an answer is sure, the time is over, or somebody asks to stop.

Before each stage its expected time is added to what has passed; where that is beyond the deadline,
the answer that is there is given. So an answer is late by one stage at most, and by nothing where
stages keep to what is expected of them.

The stages here may not be all: those behind them, in another process or on another machine, are
asked where the last answer here is not sure, and where their answer is expected in time. When the
deadline passes before it comes, or they are lost, the best answer from here is given.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from keras_quant.anytime.rules import NEVER, as_logits, sureness
from keras_quant.anytime.views import AVERAGE, Aggregate, aggregated
from keras_quant.errors import PeerError, UsageError
from keras_quant.runners import Runner
from keras_quant.runs.stages import Port, StageFile

MS = 1e3
SURE, DEADLINE, INTERRUPTED, LAST = "sure", "deadline", "interrupted", "last"
LOST, NO_REPLY = "peer lost", "no reply"
REASONS = (SURE, DEADLINE, INTERRUPTED, LAST, LOST, NO_REPLY)

Clock = Callable[[], float]
"""Gives seconds from any beginning."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedStage:
    """A stage that can be run.

    Attributes:
        runner: takes and gives codes as the file stores them.
        inputs: names of what it takes.
        answer: the output that holds one number a class.
        handed: the other outputs, which later stages take.
        probabilities: whether the answer's are; their logarithms are logits of the same softmax.
    """

    runner: Runner
    inputs: tuple[str, ...]
    answer: Port
    handed: tuple[Port, ...] = ()
    probabilities: bool = False

    @classmethod
    def of(cls, file: StageFile, runner: Runner) -> LoadedStage:
        """A stage as its record describes it."""
        answer = next(port for port in file.outputs if port.name == file.answer)
        return cls(
            runner=runner,
            inputs=tuple(port.name for port in file.inputs),
            answer=answer,
            handed=tuple(port for port in file.outputs if port.name != file.answer),
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

    def zeros(self, known: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """The share of zeros in what the stage handed on, (images,); None where it is nothing.

        Args:
            known: with what `run` put there.
        """
        if not self.handed:
            return None
        count = sum(math.prod(port.shape) for port in self.handed)
        found = sum(
            (known[port.name].reshape(len(known[port.name]), -1) == (port.zero_point or 0)).sum(1)
            for port in self.handed
        )
        return np.asarray(found / count, np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """What is known of an image.

    Attributes:
        logits: float32 (classes,).
        exit: at which exit they came, from 0 on.
        sureness: see `rules.sureness`.
        elapsed_ms: from the beginning to the answer.
        reason: why no more was computed: SURE, DEADLINE, INTERRUPTED or LAST; LOST or NO_REPLY
            where stages elsewhere were asked in vain; "" while more is computed.
        sent_bytes: to the stages elsewhere, headers too; one number a machine that was sent to.
        note: what went wrong elsewhere, in words.
    """

    logits: np.ndarray
    exit: int
    sureness: float
    elapsed_ms: float
    reason: str = ""
    sent_bytes: tuple[int, ...] = ()
    note: str = ""

    @property
    def label(self) -> int:
        """The class of the largest logit."""
        return int(self.logits.argmax())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reply:
    """What stages elsewhere answer; see `Answer`.

    Attributes:
        exit: counted from the first of all stages.
        took_ms: from where the request was read there to where the reply was written.
    """

    logits: np.ndarray
    exit: int
    reason: str
    took_ms: float
    sent_bytes: tuple[int, ...]
    note: str = ""


class Beyond(Protocol):
    """Stages behind those here, see `peer.Peer`."""

    @property
    def expected_ms(self) -> float:
        """How long it takes until their first answer is here."""
        ...

    def ask(self, known: Mapping[str, np.ndarray], *, within_ms: float) -> Reply:
        """Hands on what they need, and waits for what they answer.

        Args:
            known: what the stages here were given and gave, by name, (views, *shape).
            within_ms: when the answer has to be here.
        Raises:
            PeerError: there is none by then.
        """
        ...


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
        aggregate: Aggregate = AVERAGE,
        first: int = 0,
        beyond: Beyond | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        """Takes stages that are loaded.

        Args:
            deadline_ms: when an answer is needed, from the call of `run`; None for any time.
            expected_ms: how long each stage takes, see `profile`; None for not known: then a stage
                is begun whenever the deadline has not passed.
            rule: a key of `rules.RULES`.
            thresholds: of all stages but the last, see `rules.exits_taken`; None for stopping at
                none. Where there are stages beyond, of the last one here too.
            aggregate: how the views of one image become one answer. Layers that were learned are
                of all exits of the net, those elsewhere too.
            first: at which exit the first of these stages is.
            beyond: the stages behind these.
        Raises:
            UsageError: the deadline is shorter than the first stage, or there are not as many
                thresholds or times as stages.
        """
        self._stages, self._rule, self._clock = tuple(stages), rule, clock
        self._deadline_ms = float("inf") if deadline_ms is None else deadline_ms
        self._expected_ms = tuple(expected_ms or (0.0,) * len(stages))
        self._aggregate, self._first, self._beyond = aggregate, first, beyond
        early = len(stages) - 1 if beyond is None else len(stages)
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

    def run(self, inputs: Mapping[str, np.ndarray], *, deadline_ms: float | None = None) -> Answer:
        """Answers an image.

        Args:
            inputs: by name, (views, *shape), as the first stage takes them: one, or several views
                of the same thing, whose answers become one.
            deadline_ms: of this image, in place of the runner's.
        Raises:
            DataError: what makes views one answer was learned for other views or classes.
        """
        *_, last = self.answers(inputs, deadline_ms=deadline_ms)
        return last

    def answers(
        self, inputs: Mapping[str, np.ndarray], *, deadline_ms: float | None = None
    ) -> Iterator[Answer]:
        """Gives each answer to an image when it is there, as `run`; the last one has a reason."""
        self._best = None
        self._stop.clear()
        deadline_ms = self._deadline_ms if deadline_ms is None else deadline_ms
        started, known = self._clock(), dict(inputs)
        for number, stage in enumerate(self._stages):
            self._best = self._answer(number, stage.run(known), started, deadline_ms)
            yield self._best
            if self._best.reason:
                return
        if self._beyond is not None and self._best is not None:
            self._best = self._asked(self._beyond, known, self._best, started, deadline_ms)
            yield self._best

    def _answer(self, number: int, views: np.ndarray, started: float, deadline_ms: float) -> Answer:
        exit_number = self._first + number
        logits = aggregated(views, self._aggregate, exit_number=exit_number)
        sure = float(sureness(logits, self._rule))
        elapsed_ms = self._since(started)
        return Answer(
            logits=logits,
            exit=exit_number,
            sureness=sure,
            elapsed_ms=elapsed_ms,
            reason=self._reason(number, sure, elapsed_ms, deadline_ms),
        )

    def _reason(self, number: int, sure: float, elapsed_ms: float, deadline_ms: float) -> str:
        is_last_here = number == len(self._stages) - 1
        if is_last_here and self._beyond is None:
            return LAST
        if sure >= self._thresholds[number]:
            return SURE
        if self._stop.is_set():
            return INTERRUPTED
        if is_last_here and self._beyond is not None:
            expected_ms = self._beyond.expected_ms
        else:
            expected_ms = self._expected_ms[number + 1]
        too_late = elapsed_ms >= deadline_ms or elapsed_ms + expected_ms > deadline_ms
        return DEADLINE if too_late else ""

    def _asked(
        self,
        beyond: Beyond,
        known: Mapping[str, np.ndarray],
        best: Answer,
        started: float,
        deadline_ms: float,
    ) -> Answer:
        """The answer from elsewhere; the best from here where there is none."""
        try:
            reply = beyond.ask(known, within_ms=deadline_ms - self._since(started))
        except PeerError as error:
            elapsed_ms = self._since(started)
            unanswered = DEADLINE if elapsed_ms >= deadline_ms else NO_REPLY
            return replace(
                best,
                elapsed_ms=elapsed_ms,
                reason=unanswered if error.timed_out else LOST,
                sent_bytes=(error.sent_bytes,) if error.sent_bytes else (),
                note=str(error),
            )
        return Answer(
            logits=reply.logits,
            exit=reply.exit,
            sureness=float(sureness(reply.logits, self._rule)),
            elapsed_ms=self._since(started),
            reason=reply.reason,
            sent_bytes=reply.sent_bytes,
            note=reply.note,
        )

    def _since(self, started: float) -> float:
        return (self._clock() - started) * MS


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
    aggregate: Aggregate = AVERAGE,
    calls: int = 100,
    pause_s: float = 0.0,
    clock: Clock = time.perf_counter,
) -> tuple[StageTimes, ...]:
    """Times each stage on an image, with all that an AnytimeRunner does beside it.

    All of them in turn; a tenth of the calls warms up before.

    Args:
        inputs: by name, (views, *shape).
        rule, aggregate: as the runner has them.
        pause_s: between images, as they will come: behind a pause caches hold other things, and a
            stage takes longer than in one call after the other.
    """
    runner = AnytimeRunner(stages, rule=rule, aggregate=aggregate, clock=clock)
    ends_ms = []
    for _ in range(calls + calls // 10):
        ends_ms.append([answer.elapsed_ms for answer in runner.answers(inputs)])
        if pause_s:
            time.sleep(pause_s)
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

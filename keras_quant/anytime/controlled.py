"""Runs what a controller chooses, image by image: a stage, another net, several together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from keras_quant.anytime.controller import Controller, Route
from keras_quant.anytime.ensembles import FUSIONS
from keras_quant.anytime.rules import SPARSITY_RULES, as_logits, ease
from keras_quant.anytime.runner import MS, Clock, LoadedStage


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PieceAnswer:
    """What a file answers to images.

    Attributes:
        logits: float32 (images, classes).
        zeros: gives the share of zeros in what it hands on, (images,), counted when asked for;
            None where it hands on nothing.
    """

    logits: np.ndarray
    zeros: Callable[[], np.ndarray | None] = lambda: None

    def ease(self, rule: str) -> np.ndarray:
        """How easy the images are, (images,), see `rules.ease`."""
        return ease(self.logits, self.zeros() if rule in SPARSITY_RULES else None, rule)


Begin = Callable[[np.ndarray], Iterator[PieceAnswer]]
"""A net: from images to the answer of each of its pieces, which runs when it is asked for."""

Part = tuple[int, int]
"""A net, and one of its pieces."""


def begin_stages(
    stages: Sequence[LoadedStage], inputs: dict[str, np.ndarray]
) -> Iterator[PieceAnswer]:
    """Runs stages, each when its answer is asked for.

    Args:
        inputs: by name, (images, *shape), as the first takes them.
    """
    known = dict(inputs)
    for stage in stages:
        yield PieceAnswer(logits=stage.run(known), zeros=partial(stage.zeros, known))


def joined(batches: Sequence[PieceAnswer]) -> PieceAnswer:
    """One answer of those of some batches; zeros are counted, so that codes need not be kept."""
    found = [zeros for zeros in (one.zeros() for one in batches) if zeros is not None]
    zeros = np.concatenate(found) if found else None
    return PieceAnswer(logits=np.concatenate([one.logits for one in batches]), zeros=lambda: zeros)


def together(answers: Sequence[PieceAnswer]) -> PieceAnswer:
    """The answer of several nets: the mean of their probabilities; of one, what it is."""
    if len(answers) == 1:
        return answers[0]
    mean = FUSIONS["mean"](np.stack([one.logits for one in answers]))
    return PieceAnswer(logits=as_logits(mean))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ControlledAnswer:
    """What is answered to an image.

    Attributes:
        logits: float32 or float64 (classes,).
        path: options that were run, the last of which gave the answer.
        ease: of the image, by the last, see `rules.ease`.
        elapsed_ms: from the beginning to the answer.
    """

    logits: np.ndarray
    path: Route
    ease: float
    elapsed_ms: float

    @property
    def label(self) -> int:
        """The class of the largest logit."""
        return int(self.logits.argmax())


class ControlledRunner:
    """Answers one image at a time, with as much as the controller finds that it needs."""

    def __init__(
        self,
        controller: Controller,
        nets: Sequence[Begin],
        options: Sequence[Sequence[Part]],
        *,
        rule: str = "entropy",
        clock: Clock = time.perf_counter,
    ) -> None:
        """Takes nets that are loaded.

        Args:
            controller: of these options.
            options: what each is made of: one piece, or the pieces whose answers are put together.
            rule: that the controller was fitted with, see `rules.ease`.
        """
        self._controller, self._nets = controller, tuple(nets)
        self._options = tuple(map(tuple, options))
        self._rule, self._clock = rule, clock

    def warm_up(self, image: np.ndarray) -> None:
        """Runs every piece: what runs for the first time takes longer.

        Args:
            image: (1, *shape), as the nets take it.
        """
        for begin in self._nets:
            for _ in begin(image):
                pass

    def run(self, image: np.ndarray) -> ControlledAnswer:
        """Answers an image.

        Args:
            image: (1, *shape), as the nets take it.
        """
        started = self._clock()
        running = _Running(self._nets, image)
        path: Route = (self._controller.first,)
        while True:
            answer = together([running.answer(part) for part in self._options[path[-1]]])
            easy = answer.ease(self._rule)
            rule = self._controller.rule(path)
            then = rule.then[int(rule.choose(easy)[0])]
            if then is None:
                return ControlledAnswer(
                    logits=answer.logits[0],
                    path=path,
                    ease=float(easy[0]),
                    elapsed_ms=(self._clock() - started) * MS,
                )
            path = (*path, then)


class _Running:
    """The nets on one image, of which each piece runs once, and only those that are needed."""

    def __init__(self, nets: Sequence[Begin], image: np.ndarray) -> None:
        self._nets, self._image = nets, image
        self._begun: dict[int, Iterator[PieceAnswer]] = {}
        self._known: dict[int, list[PieceAnswer]] = {}

    def answer(self, part: Part) -> PieceAnswer:
        net, piece = part
        if net not in self._begun:
            self._begun[net], self._known[net] = self._nets[net](self._image), []
        known = self._known[net]
        while len(known) <= piece:
            known.append(next(self._begun[net]))
        return known[piece]

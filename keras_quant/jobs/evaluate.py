"""How well a run, a Keras file, a TFLite or an ONNX file answers images."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from keras_quant.data import Dataset, Split
from keras_quant.errors import DataError, ModelError, UsageError
from keras_quant.jobs.loaded import Answers, Loaded, load_file
from keras_quant.jobs.paths import dataset_of, files_of, record_around
from keras_quant.jobs.predicted import predict_note
from keras_quant.jobs.preprocess import (
    Say,
    declare,
    guessing_warning,
    tried_on,
    without_labels,
)
from keras_quant.model.metrics import Scores, metrics_of
from keras_quant.model.tasks import CLASSIFICATION, VARIATIONAL, find_tasks, last_classifier
from keras_quant.preprocessing import Preprocessing
from keras_quant.proof.distance import Distance
from keras_quant.runners.batches import IMAGES_AT_ONCE

SPLITS = ("test", "validation", "train")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputEvaluation:
    """What one output is worth.

    Attributes:
        name: as the first file calls it, so a run's model.
        task: what it is for, see model.tasks; None where labels and images do not fit.
        scores: the mean of each metric of the task.
        agreement: share of images on which the largest value is the first file's; None for the
            first file, and for other than vectors.
        difference: root mean square of what it differs from the first file's, as a share of that;
            None for the first file.
    """

    name: str
    task: str | None
    scores: dict[str, float]
    agreement: float | None
    difference: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One file's answers to one split.

    Attributes:
        file: what was run.
        kernels: what computed the answers.
        images: how many.
        outputs: what they are worth, in the model's order.
        seconds: time for all images.
        preprocess: what became of pixels in front of it; None for images of floats.
        warning: that it is no better than a guess; "" where it is.
    """

    file: Path
    kernels: tuple[str, ...]
    images: int
    outputs: tuple[OutputEvaluation, ...]
    seconds: float
    preprocess: Preprocessing | None
    warning: str = ""

    @property
    def accuracy(self) -> float | None:
        """That of the last classifier among the outputs, the whole net's; None without one."""
        found = (output.scores.get("accuracy") for output in reversed(self.outputs))
        return next((value for value in found if value is not None), None)

    @property
    def negative_elbo_nats(self) -> float | None:
        """What the outputs of a variational autoencoder add up to; None for other models."""
        if tuple(output.task for output in self.outputs) != VARIATIONAL:
            return None
        return sum(output.scores["loss"] for output in self.outputs)

    @property
    def agreement(self) -> float | None:
        """The least agreement of an output with the first file's; None where none has one."""
        found = [output.agreement for output in self.outputs if output.agreement is not None]
        return min(found, default=None)


def evaluate(
    path: Path,
    *,
    dataset: str | None = None,
    preprocess: str | None = None,
    split: str = "test",
    trust: bool = False,
    say: Say = lambda text: None,
) -> tuple[Evaluation, ...]:
    """Evaluates a run's model.keras and exported files, or one .keras, .h5 or exported file.

    All files are asked for the same images before the next ones, so that no answers are kept.

    Args:
        dataset: name or path; None means the dataset of the run that the path belongs to.
        preprocess: what pixels become, see `preprocessing.parse_preprocessing`; None means what
            the file or its run says, or else the model's first layers.
        split: one of SPLITS.
        trust: load a Keras file that holds code (see model.files.load_model).
        say: is told what is not usual of the input, of answers that are mere guesses, and where
            Keras' own predict answers otherwise.
    Raises:
        UsageError: no such split, or no dataset known.
        RunError, ModelError, DataError: the path or the data is broken, or does not fit.
    """
    check_split(split)
    files = files_of(path)
    data = dataset_of(path, dataset)
    run = record_around(path)
    judged = []
    for file in files:
        loaded = load_file(file, data, trust=trust)
        declared = declare(
            data,
            asked=None if loaded.takes_pixels else preprocess,
            recorded=loaded.recorded or (run.dataset.preprocess if run else None),
            model=loaded.model,
            say=say,
        )
        data = dataclasses.replace(data, notes=())  # said once
        judged.append(_Judged(loaded=loaded, data=declared, has_peers=len(files) > 1))
    if not data.has_labels:
        say(f"{without_labels(data)}: files are compared with the first one")
    part = getattr(data, split)
    for one in judged:
        if note := predict_note(one.loaded, part.x, one.data.preprocessing):
            say(note)
    for start in range(0, len(part), IMAGES_AT_ONCE):
        rows = slice(start, start + IMAGES_AT_ONCE)
        first: Answers | None = None
        for one in judged:
            answers = one.add(part.at(rows), first)
            first = answers if first is None else first
    return tuple(one.evaluation(part, say) for one in judged)


def check_split(split: str) -> None:
    """Raises: UsageError: there is no such split."""
    if split not in SPLITS:
        raise UsageError(f"split {split!r} is not known; splits are {', '.join(SPLITS)}")


@dataclass(slots=True, kw_only=True, eq=False)
class _Judged:
    """A file, and what its answers so far came to.

    Attributes:
        data: with what becomes of pixels in front of the file.
        has_peers: whether other files are compared with it, or it with them.
        tasks: by output, once one batch was answered.
        names: of outputs, as the first file calls them.
        distances: from the first file's outputs, in their order; none of the first file.
        best: of each image, the class that the last classifier among the outputs gives it.
    """

    loaded: Loaded
    data: Dataset
    has_peers: bool
    tasks: dict[str, str | None] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    scores: Scores = field(default_factory=Scores)
    distances: list[Distance] = field(default_factory=list)
    best: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, part: Split, first: Answers | None) -> Answers:
        """Asks for some images; first: the first file's answers to them."""
        started = time.perf_counter()
        answers = self.loaded.ask(part.x, self.data.preprocessing)
        self.seconds += time.perf_counter() - started
        if not self.tasks:
            self._begin(answers, is_first=first is None)
        wanted = self.data.reals(part.wanted)
        targets = {
            name: part.y if task == CLASSIFICATION else wanted
            for name, task in self.tasks.items()
            if task
        }
        self.scores.add(answers, targets)
        self.names = tuple(answers if first is None else first)
        if first is not None:
            self._compare(answers, first)
        place = last_classifier(tuple(self.tasks.values()))
        if place is not None:
            self.best += answers[tuple(self.tasks)[place]].argmax(axis=-1).tolist()
        return answers

    def _begin(self, answers: Answers, *, is_first: bool) -> None:
        """Finds out what the outputs are for."""
        data = self.data
        shapes = [array.shape[1:] for array in answers.values()]
        self.tasks = dict(zip(answers, find_tasks(shapes, data), strict=True))
        needs_task = is_first and (data.has_labels or not self.has_peers)
        if needs_task and not any(self.tasks.values()):
            given = ", ".join(map(str, shapes))
            labels = f"{data.num_classes} classes" if data.has_labels else "no labels"
            raise DataError(
                f"{self.loaded.file}: puts out {given}; dataset {data.name} has "
                f"{labels}, and images of {data.input_shape}. Name the data that "
                "it was trained on with --dataset"
            )
        judge = partial(metrics_of, num_classes=data.num_classes, span=data.span)
        self.scores = Scores(metrics={n: judge(task) for n, task in self.tasks.items() if task})

    def _compare(self, answers: Answers, first: Answers) -> None:
        if len(answers) != len(first):
            raise ModelError(
                f"{self.loaded.file}: has {len(answers)} outputs ({', '.join(answers)}); the "
                f"run's model has {len(first)} ({', '.join(first)}). Export it again"
            )
        self.distances = self.distances or [Distance() for _ in first]
        pairs = zip(answers.values(), first.values(), strict=True)
        for distance, (found, expected) in zip(self.distances, pairs, strict=True):
            distance.add(found, expected)

    def evaluation(self, part: Split, say: Say) -> Evaluation:
        """Sums up, and says where answers are mere guesses."""
        means = self.scores.means()
        found: Sequence[Distance | None] = self.distances or [None] * len(self.tasks)
        warning = ""
        if self.best:
            answers = np.array(self.best)
            warning = guessing_warning(answers, part.y, self.data, self._others(part))
        if warning:
            say(f"warning: {self.loaded.file}: {warning}")
        return Evaluation(
            file=self.loaded.file,
            kernels=self.loaded.kernels,
            images=len(part),
            outputs=tuple(
                OutputEvaluation(
                    name=called,
                    task=task,
                    scores=means.get(name, {}),
                    agreement=distance.agreement if distance else None,
                    difference=distance.relative if distance else None,
                )
                for called, (name, task), distance in zip(
                    self.names, self.tasks.items(), found, strict=True
                )
            ),
            seconds=self.seconds,
            preprocess=self.data.preprocessing,
            warning=warning,
        )

    def _others(self, part: Split) -> Callable[[Preprocessing], float] | None:
        """Accuracy of a file under another preprocessing, where that makes a difference to it."""
        place = last_classifier(tuple(self.tasks.values()))
        if self.loaded.takes_pixels or place is None:
            return None
        name = tuple(self.tasks)[place]
        return tried_on(part.x, part.y, lambda x, becomes: self.loaded.ask(x, becomes)[name])

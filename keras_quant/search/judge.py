"""What a model's answers to held-out images are worth, beside those of the float model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from keras_quant.data import Dataset, Split
from keras_quant.model.metrics import Scores, metrics_of
from keras_quant.model.tasks import CLASSIFICATION, VARIATIONAL, find_tasks
from keras_quant.proof.distance import Distance, furthest
from keras_quant.runners.batches import IMAGES_AT_ONCE
from keras_quant.search.record import Outcome

Answer = Callable[[np.ndarray], tuple[np.ndarray, ...]]

_METRICS = ("accuracy", "PSNR")


class Judge:
    """Asks models about the same images, batch by batch, and compares them with the first.

    Attributes:
        metric: what a score is; "" where nothing says what answers should be.
        baseline: what the first model's answers are worth.
    """

    def __init__(self, dataset: Dataset, part: Split, answer: Answer) -> None:
        """Takes the images and their labels, and the float model, whose answers it keeps."""
        self._dataset, self._part, self._batches = dataset, part, Batches(dataset, part)
        self._expected: list[tuple[np.ndarray, ...]] = [answer(x) for x in self._batches]
        shapes = [output.shape[1:] for output in self._expected[0]]
        tasks = find_tasks(shapes, dataset)
        self._tasks = {str(place): task for place, task in enumerate(tasks) if task}
        judge = partial(metrics_of, num_classes=dataset.num_classes, span=dataset.span)
        self._metrics = {name: judge(task) for name, task in self._tasks.items()}
        known = {title for metrics in self._metrics.values() for title in metrics}
        usual = next((title for title in _METRICS if title in known), "")
        self.metric = "ELBO" if tuple(tasks) == VARIATIONAL else usual
        kept = iter(self._expected)
        self.baseline = self(lambda reals: next(kept))

    def __call__(self, answer: Answer) -> Outcome:
        """Judges a model."""
        scores = Scores(metrics=self._metrics)
        distances = [Distance() for _ in self._expected[0]]
        for place, reals in enumerate(self._batches):
            answers = answer(reals)
            part = self._part.at(slice(place * IMAGES_AT_ONCE, (place + 1) * IMAGES_AT_ONCE))
            wanted = self._dataset.reals(part.wanted)
            targets = {
                name: part.y if task == CLASSIFICATION else wanted
                for name, task in self._tasks.items()
            }
            scores.add({str(i): output for i, output in enumerate(answers)}, targets)
            for distance, found, expected in zip(
                distances, answers, self._expected[place], strict=True
            ):
                distance.add(found, expected)
        means = scores.means() if self._tasks else {}
        losses = [values["loss"] for values in means.values()]
        judged = [values[self.metric] for values in means.values() if self.metric in values]
        last = judged[-1] if judged else None
        loss = sum(losses) if losses else None
        return Outcome(
            loss=loss,
            score=-loss if self.metric == "ELBO" and loss is not None else last,
            distance=furthest(distances),
        )


class Batches:
    """The images of a split as a model takes them, float32 (IMAGES_AT_ONCE, ...) at a time."""

    def __init__(self, dataset: Dataset, part: Split) -> None:
        self._data, self._part = dataset, part

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self._part), IMAGES_AT_ONCE):
            yield self._data.reals(self._part.x[start : start + IMAGES_AT_ONCE])

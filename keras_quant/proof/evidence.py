"""What files are proven on: images, what Keras answers to them, and what the answers should be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from keras_quant.calibration.collect import CALIBRATION_IMAGES
from keras_quant.data import Dataset
from keras_quant.graph.ir import Graph
from keras_quant.graph.passes.pixels import takes_pixels
from keras_quant.model.logits import AnswerFunction, GivenAnswers
from keras_quant.model.metrics import Metric, metrics_of
from keras_quant.model.outputs import output_names
from keras_quant.model.tasks import CLASSIFICATION, find_tasks
from keras_quant.pixels import normalize
from keras_quant.preprocessing import RAW, Preprocessing
from keras_quant.runners.batches import IMAGES_AT_ONCE
from keras_quant.tf import keras

Answers = tuple[np.ndarray, ...]
"""By output, in the model's order, (images, *shape)."""

ELEMENTS_AT_ONCE = 2**23  # of their inputs: 32 MB; 55 images of 224x224


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What files are proven on.

    Attributes:
        images: uint8 or float32 (images, height, width, channels), of the test set.
        labels: int (images,); NO_LABEL where the data have none.
        wanted: as images, what these are to become where images are the answer.
        keras: the answers of the model, with the biases that its files have, to some images as it
            takes them.
        given: the answers of the model that was given, before its biases were moved; None where
            none was.
        source: likewise of the float model that it was made of; None where nobody asked.
        output_names: what the model calls its outputs, see `model.outputs`.
        tasks: what each output is for, see `model.tasks`; None where labels and images do not fit.
        metrics: what each output is judged by, by name; none where it has no task.
        calibration: training images, over which the range of int8 logits is measured.
        class_names: in the order of the logits, for what files say of themselves.
        scheme: how the model was quantized, likewise.
        preprocessing: what becomes of pixels in front of the model; None for images of floats.
    """

    images: np.ndarray
    labels: np.ndarray
    wanted: np.ndarray
    keras: Callable[[np.ndarray], Answers]
    given: Callable[[np.ndarray], Answers] | None
    source: Callable[[np.ndarray], Answers] | None
    output_names: tuple[str, ...]
    tasks: tuple[str | None, ...]
    metrics: tuple[dict[str, Metric], ...]
    calibration: np.ndarray
    class_names: tuple[str, ...] = ()
    scheme: str = ""
    preprocessing: Preprocessing | None = None

    @property
    def has_pixels(self) -> bool:
        """Whether images are 8-bit pixels; else they are floats."""
        return self.images.dtype == np.uint8

    @property
    def is_noisy(self) -> bool:
        """Whether noise was added to the images."""
        return self.wanted is not self.images

    @property
    def labels_of_first(self) -> tuple[str, ...]:
        """Names of the first output's values; () where these are no classes."""
        return self.class_names if self.tasks[0] == CLASSIFICATION else ()

    def taken_by(self, graph: Graph) -> Preprocessing | None:
        """What becomes of pixels in front of a graph; some take the pixels themselves."""
        return RAW if self.preprocessing and takes_pixels(graph) else self.preprocessing

    def inputs(self, graph: Graph, images: np.ndarray) -> dict[str, np.ndarray]:
        """Some images as a graph takes them, by the name of its input."""
        return {graph.inputs[0]: normalize(images, self.taken_by(graph))}

    def reals(self) -> Iterator[np.ndarray]:
        """Gives the images as the model takes them, part by part, none of which is kept."""
        for rows in self._parts():
            yield normalize(self.images[rows], self.preprocessing)

    def batches(self) -> Iterator[Batch]:
        """Gives the images with all that belongs to them, part by part."""
        for rows, reals in zip(self._parts(), self.reals(), strict=True):
            wanted = normalize(self.wanted[rows], self.preprocessing)
            yield Batch(
                images=self.images[rows],
                keras=self.keras(reals),
                given=None if self.given is None else self.given(reals),
                source=None if self.source is None else self.source(reals),
                targets=tuple(
                    self.labels[rows] if task == CLASSIFICATION else wanted for task in self.tasks
                ),
            )

    def _parts(self) -> list[slice]:
        size = int(np.prod(self.images.shape[1:]))
        count = max(1, min(IMAGES_AT_ONCE, ELEMENTS_AT_ONCE // size))
        return [slice(start, start + count) for start in range(0, len(self.images), count)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Some images, and what belongs to them.

    Attributes:
        images: as they are in the data.
        keras: the model's answers.
        given: those of the model that was given; None where it is the same.
        source: those of the float model; None where nobody asked.
        targets: by output, what its metrics take.
    """

    images: np.ndarray
    keras: Answers
    given: Answers | None
    source: Answers | None
    targets: tuple[np.ndarray, ...]


def gather(
    model: keras.Model,
    data: Dataset,
    *,
    images: int = 0,
    scheme: str = "",
    before: Sequence[np.ndarray] | None = None,
    source: keras.Model | None = None,
) -> Evidence:
    """Gathers what a model's files are proven on.

    Args:
        model: of one input; with the biases that its files have.
        images: how many test images; 0 means all.
        before: the model's weights before its biases were moved; None where none was.
        source: the float model that it was made of, to be compared with it; None for not.
    """
    answers, test = AnswerFunction(model), data.test.at(slice(images or None))
    shapes = [output.shape[1:] for output in model.outputs]
    tasks = find_tasks(shapes, data)
    judge = partial(metrics_of, num_classes=data.num_classes, span=data.span)
    return Evidence(
        images=test.x,
        labels=test.y,
        wanted=test.wanted,
        keras=answers,
        given=None if before is None else GivenAnswers(model, answers, before),
        source=None if source is None else AnswerFunction(source),
        output_names=output_names(model),
        tasks=tasks,
        metrics=tuple(judge(task) if task else {} for task in tasks),
        calibration=data.train.x[:CALIBRATION_IMAGES],
        class_names=data.class_names,
        scheme=scheme,
        preprocessing=data.preprocessing,
    )

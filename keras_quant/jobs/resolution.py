"""What smaller images cost and buy: a trained model on resized images, and on their middles."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_quant.anytime.smaller import WAYS
from keras_quant.data import Dataset, Split
from keras_quant.data.images import Size
from keras_quant.data.resize import sides
from keras_quant.errors import DataError, KerasQuantError, UsageError, close_names
from keras_quant.graph.costs.cost import cost
from keras_quant.jobs.accuracy import Classifier, load_classifiers, right_answers
from keras_quant.lower import lower
from keras_quant.model.logits import AnswerFunction
from keras_quant.model.rebuild import rebuild
from keras_quant.runs.progress import Progress
from keras_quant.tf import keras

DEFAULT_SHARES = (7 / 8, 3 / 4, 5 / 8, 1 / 2)  # of each side, where no sizes are asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A model on images that were made smaller.

    Attributes:
        way: a key of WAYS; "whole" for the images as they are.
        size: (height, width) of what is left of an image.
        macs: multiply-accumulates that the model then computes.
    """

    way: str
    size: Size
    accuracy: float
    macs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What a model cannot be built for.

    Attributes:
        way: a key of WAYS.
        size: (height, width) of what is left of an image.
        reason: which layer does not take it.
    """

    way: str
    size: Size
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolutionRun:
    """One model.

    Attributes:
        points: first the whole images.
        refused: the sizes that the model cannot be built for, in each way.
    """

    run: str
    points: tuple[Point, ...]
    refused: tuple[Refused, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolutionStudy:
    """What smaller images cost and buy.

    Attributes:
        images: test images that each accuracy is of.
    """

    dataset: str
    images: int
    runs: tuple[ResolutionRun, ...]


def scale_inputs(
    paths: Sequence[Path],
    *,
    sizes: Sequence[int] = (),
    ways: Sequence[str] = tuple(WAYS),
    dataset: str | None = None,
    images: int = 1000,
    trust: bool = False,
    progress: Progress,
) -> ResolutionStudy:
    """Asks models for images that were made smaller in several ways. Nothing is trained again.

    All models are loaded and looked at before the first is asked.

    Args:
        paths: of runs, or Keras files.
        sizes: of the shorter side, in pixels; () means DEFAULT_SHARES of it.
        ways: keys of WAYS.
        dataset: name or path of images with labels; None means each run's own.
        images: of the test images so many, at even distances; 0 means all.
    Raises:
        UsageError: there is no such way, a size is none, or runs are of different data.
        DataError: models take no images, or do not tell their classes apart.
    """
    unknown = [way for way in ways if way not in WAYS]
    if unknown or not ways:
        near = close_names(unknown[0], WAYS) if unknown else ""
        raise UsageError(f"--ways: no way {', '.join(unknown)}{near}; some of {', '.join(WAYS)}")
    loaded = load_classifiers(paths, dataset, images=images, trust=trust, progress=progress)
    wanted = [_wanted(each, sizes) for each in loaded]
    models = [_Models(each.model) for each in loaded]
    return ResolutionStudy(
        dataset=loaded[0].data.name,
        images=len(loaded[0].data.test),
        runs=tuple(
            _scaled_run(each, built, [(way, size) for way in ways for size in left], progress)
            for each, built, left in zip(loaded, models, wanted, strict=True)
        ),
    )


def _scaled_run(
    asked: Classifier, models: _Models, tries: Sequence[tuple[str, Size]], progress: Progress
) -> ResolutionRun:
    data, shown = asked.data, asked.data.test
    height, width, _ = data.input_shape
    points, refused = [_point("whole", (height, width), shown, models.own, data)], []
    with progress.bar(f"asking {asked.path.name}", len(tries)) as show:
        for number, (way, size) in enumerate(tries, start=1):
            made = WAYS[way].make(shown.x, size)
            try:
                built = models.of(size) if WAYS[way].rebuilt else models.own
                points.append(_point(way, size, dataclasses.replace(shown, x=made), built, data))
            except KerasQuantError as error:
                refused.append(Refused(way=way, size=size, reason=str(error)))
            show(number, "")
    return ResolutionRun(run=str(asked.path), points=tuple(points), refused=tuple(refused))


def _wanted(asked: Classifier, sizes: Sequence[int]) -> list[Size]:
    """The (height, width) of what is to be left of a model's images.

    Raises:
        DataError: it takes no images.
        UsageError: a size is none of theirs.
    """
    shape = asked.data.input_shape
    if len(shape) != 3:
        raise DataError(f"{asked.path}: takes vectors of {shape}; images can be made smaller")
    whole: Size = shape[0], shape[1]
    return [sides(size, whole) for size in _asked(sizes, whole)]


def _asked(sizes: Sequence[int], whole: Size) -> list[int]:
    """The shorter sides to try, checked."""
    side = min(whole)
    asked = list(sizes) or [round(share * side) for share in DEFAULT_SHARES]
    wrong = [size for size in asked if not 1 <= size < side]
    if wrong:
        raise UsageError(
            f"--sizes: {', '.join(map(str, wrong))}; 1 to {side - 1} pixels are allowed, as the "
            f"images have {whole[0]}x{whole[1]}"
        )
    return list(dict.fromkeys(asked))


class _Models:
    """A model, and its like for other sizes, built once each, with what they compute."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._built: dict[Size, tuple[AnswerFunction, int]] = {}
        self.own = self._with_macs(model)

    def of(self, size: Size) -> tuple[AnswerFunction, int]:
        """Raises: ModelError: its layers do not take images of that size."""
        if size not in self._built:
            shape = (*size, self._model.input_shape[-1])
            self._built[size] = self._with_macs(rebuild(self._model, input_shape=shape))
        return self._built[size]

    @staticmethod
    def _with_macs(model: keras.Model) -> tuple[AnswerFunction, int]:
        return AnswerFunction(model), cost(lower(model)).macs


def _point(
    way: str, size: Size, part: Split, built: tuple[AnswerFunction, int], data: Dataset
) -> Point:
    answer, macs = built
    accuracy = right_answers(answer, data, part) / len(part)
    return Point(way=way, size=size, accuracy=accuracy, macs=macs)

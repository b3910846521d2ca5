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
from keras_quant.jobs.accuracy import load_classifier, one_dataset, right_answers
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
class ResolutionRun:
    """One model.

    Attributes:
        points: first the whole images.
        refused: by way, why the model cannot be built for other sizes; {} where it can.
    """

    run: str
    points: tuple[Point, ...]
    refused: dict[str, str]


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
    found = [
        _scaled_run(
            path, sizes, ways, dataset=dataset, images=images, trust=trust, progress=progress
        )
        for path in paths
    ]
    return ResolutionStudy(
        dataset=one_dataset(name for _, name, _ in found),
        images=found[0][2],
        runs=tuple(one for one, _, _ in found),
    )


def _scaled_run(
    path: Path,
    sizes: Sequence[int],
    ways: Sequence[str],
    *,
    dataset: str | None,
    images: int,
    trust: bool,
    progress: Progress,
) -> tuple[ResolutionRun, str, int]:
    model, data = load_classifier(path, dataset, trust=trust, progress=progress)
    if len(data.input_shape) != 3:
        raise DataError(f"{path}: takes vectors of {data.input_shape}; images can be made smaller")
    whole: Size = data.input_shape[0], data.input_shape[1]
    wanted = [sides(size, whole) for size in _asked(sizes, whole)]
    shown = data.test.spread(images or len(data.test))
    models = _Models(model)
    points, refused = [], {}
    tries = [(way, size) for way in ways for size in wanted]
    points.append(_point("whole", whole, shown, models.own, data))
    with progress.bar(f"asking {path.name}", len(tries)) as show:
        for number, (way, size) in enumerate(tries, start=1):
            made = WAYS[way].make(shown.x, size)
            try:
                built = models.of(size) if WAYS[way].rebuilt else models.own
                points.append(_point(way, size, dataclasses.replace(shown, x=made), built, data))
            except KerasQuantError as error:
                refused[way] = f"{size[0]}x{size[1]}: {error}"
            show(number, "")
    return (
        ResolutionRun(run=str(path), points=tuple(points), refused=refused),
        data.name,
        len(shown),
    )


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

"""Layers that make the scores of several views one answer, learned for a run's stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_quant.anytime.concat import MOST_STEPS, concat_of, learn, recorded
from keras_quant.anytime.protocol import MOST_VIEWS
from keras_quant.anytime.rules import RULES, sureness
from keras_quant.anytime.runner import all_answers
from keras_quant.anytime.thresholds import judge
from keras_quant.anytime.views import AGGREGATIONS, CONCAT, Aggregate, Concat, aggregated
from keras_quant.data.dataset import NO_LABEL
from keras_quant.data.every import NamedImages
from keras_quant.data.split import stratified_split
from keras_quant.errors import DataError, RunError, UsageError
from keras_quant.jobs.anytime import (
    Asked,
    Opened,
    Recorded,
    check_asked,
    check_exits,
    choose,
    costs_of,
    described,
    open_stages,
)
from keras_quant.jobs.named_images import are_a_datasets
from keras_quant.jobs.views import read_views
from keras_quant.runners.batches import IMAGES_AT_ONCE
from keras_quant.runs import concat
from keras_quant.runs.concat import ConcatExit, ConcatRecord
from keras_quant.runs.progress import Progress

HELD_OUT = 0.4
"""Share of the things that no layer is learned from: half of them choose thresholds, half judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcatSettings:
    """How layers are learned.

    Attributes:
        views: paths, each the same things as the images, in the same order.
        form: a key of FORMATS; None means the first that there are stages of.
        asked: for which thresholds.
        seed: of the split of things.
    """

    views: tuple[str, ...]
    form: str | None = None
    asked: Asked = Asked()
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Things:
    """Some things, as the stages answer to them.

    Attributes:
        scores: float32 (exits, views, things, classes).
        labels: int (things,).
    """

    scores: np.ndarray
    labels: np.ndarray

    def at(self, rows: np.ndarray) -> _Things:
        return _Things(scores=self.scores[:, :, rows], labels=self.labels[rows])

    def answers(self, how: Aggregate) -> np.ndarray:
        """Of all views together, float32 (exits, things, classes)."""
        return np.stack(
            [
                [
                    aggregated(each[:, thing], how, exit_number=place)
                    for thing in range(len(self.labels))
                ]
                for place, each in enumerate(self.scores)
            ]
        )

    def right(self, scores: np.ndarray) -> np.ndarray:
        """Whether scores, (..., things, classes), give the right class: bool (..., things)."""
        right: np.ndarray = scores.argmax(axis=-1) == self.labels
        return right


def learn_concat(
    run: Path, images: str, settings: ConcatSettings, *, progress: Progress
) -> ConcatRecord:
    """Learns a layer for each exit of a run, and chooses thresholds for what they answer.

    Args:
        images: a path; its labels count.
    Returns: the record, as written into the run.
    Raises:
        UsageError: options that do not go together, or names of datasets.
        BudgetError: no thresholds reach what is asked for.
        RunError: the run has no stages.
        DataError: things have no labels, or views are of others, or there are too few.
    """
    _check(images, settings)
    opened = open_stages(run, settings.form)
    check_exits(opened, opened.classes, "the last exit")
    first, views = read_views(run, images, settings.views, opened=opened, progress=progress)
    parts = _parts(images, first, opened, settings.seed)
    costs = len(views) * costs_of(opened, settings.asked, progress)
    things = _Things(scores=_answered(opened, views, progress), labels=first.y)
    learned, validation, test = map(things.at, parts)
    layers = _layers(opened, learned, progress)
    asked = settings.asked
    known = {}
    for part, each in (("validation", validation), ("test", test)):
        answers = each.answers(layers)
        known[part] = sureness(answers, asked.rule), each.right(answers)
    sure, correct = known["validation"]
    chosen, wanted = choose(judge(sure, correct, costs), correct, costs, asked)
    record = ConcatRecord(
        **described(opened, asked, chosen, wanted, known, costs),
        images=(images, *settings.views),
        views=len(views),
        classes=opened.classes,
        learned=len(learned.labels),
        seed=settings.seed,
        exits=_exits(opened, test, known["test"][1], costs),
        layers=tuple(map(recorded, layers.layers)),
    )
    concat.save(record, run)
    return record


def learned_concat(run: Path, record: ConcatRecord, known: Recorded) -> Concat:
    """The layers of a record, for the stages that they were learned for.

    Raises:
        RunError: the run has other stages now, or the record's rule is none.
    """
    path = run / concat.FILE_NAME
    if record.files != tuple(file.sha256 for file in known.files):
        raise RunError(
            f"{path}: was learned for other stages ({record.format}). Learn it again: kq anytime "
            f"concat {run} IMAGES --view IMAGES --format {known.format}"
        )
    (classes,) = next(p.shape for p in known.files[-1].outputs if p.name == known.files[-1].answer)
    if record.classes != classes:
        raise RunError(
            f"{path}: is of {record.classes} classes; the stages tell {classes} apart. "
            f"{concat.REMEDY}"
        )
    if record.rule not in RULES:
        raise RunError(f"{path}: rule {record.rule!r} is none of {', '.join(RULES)}")
    return concat_of(record)


def _check(images: str, settings: ConcatSettings) -> None:
    problems = check_asked(settings.asked)
    named = [name for name in (images, *settings.views) if are_a_datasets(name)]
    if named:
        problems.append(
            f"{', '.join(named)}: a dataset that is known by name has images to train on and to "
            "judge by, and no others. Give a folder, an .npz or an .npy file of images that the "
            "net was not trained on"
        )
    if not settings.views:
        problems.append("one view is given; give the others with --view")
    if len(settings.views) >= MOST_VIEWS:
        problems.append(f"{len(settings.views) + 1} views are given; {MOST_VIEWS} are allowed")
    if problems:
        raise UsageError("; ".join(problems))


def _parts(images: str, first: NamedImages, opened: Opened, seed: int) -> list[np.ndarray]:
    """The places of things to learn from, to choose thresholds on, and to judge by."""
    labels, classes = first.y, opened.classes
    if (labels == NO_LABEL).any():
        raise DataError(
            f"{images}: {int((labels == NO_LABEL).sum())} of its {len(labels)} images have no "
            f"label of the {classes} classes that the net tells apart. Give a folder with a folder "
            "a class, or an .npz file with labels"
        )
    kept, held = stratified_split(labels, HELD_OUT, seed=seed)
    chosen, judged = stratified_split(labels[held], 0.5, seed=seed)
    missing = sorted({*range(classes)} - {*labels[kept].tolist()})
    if missing or not len(chosen) or not len(judged):
        names = first.class_names or range(classes)
        lacking = ", ".join(str(names[one]) for one in missing)
        what = f"of class {lacking} there is none" if missing else f"there are {len(labels)}"
        raise DataError(
            f"{images}: {1 - HELD_OUT:.0%} of the things are learned from, and {what}. Give some "
            "of each class, and five or more of all"
        )
    return [kept, held[chosen], held[judged]]


def _answered(opened: Opened, views: Sequence[np.ndarray], progress: Progress) -> np.ndarray:
    """What all exits answer to all views, float32 (exits, views, things, classes)."""
    found = []
    for number, images in enumerate(views, start=1):
        with progress.bar(f"answering view {number}", len(images)) as show:
            batches = []
            for start in range(0, len(images), IMAGES_AT_ONCE):
                inputs = opened.inputs(images[start : start + IMAGES_AT_ONCE])
                batches.append(all_answers(opened.loaded, inputs))
                show(min(start + IMAGES_AT_ONCE, len(images)), "")
        found.append(np.concatenate(batches, axis=1))
    return np.stack(found, axis=1)


def _layers(opened: Opened, things: _Things, progress: Progress) -> Concat:
    layers = []
    with progress.bar("learning", len(opened.files)) as show:
        for file, scores in zip(opened.files, things.scores, strict=True):
            try:
                found = learn(scores, things.labels)
            except DataError as error:
                raise DataError(f"{opened.folder / file.file}: {error}") from None
            layers.append(found.layer)
            show(len(layers), file.answer)
            if not found.converged:
                progress.say(
                    f"{file.answer}: its layer is kept as it is after {MOST_STEPS} steps, which "
                    "is not yet the best"
                )
    return Concat(layers=tuple(layers))


def _exits(
    opened: Opened, test: _Things, by_concat: np.ndarray, costs: np.ndarray
) -> tuple[ConcatExit, ...]:
    alone = test.right(test.scores).mean(axis=-1)
    together = {name: test.right(test.answers(name)).mean(axis=-1) for name in AGGREGATIONS}
    together[CONCAT] = by_concat.mean(axis=-1)
    return tuple(
        ConcatExit(
            answer=file.answer,
            cost=float(costs[place]),
            views=tuple(map(float, alone[place])),
            together={name: float(shares[place]) for name, shares in together.items()},
        )
        for place, file in enumerate(opened.files)
    )

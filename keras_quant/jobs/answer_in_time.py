"""Images answered one by one from the stages of a run, each within a deadline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_quant.anytime.rules import RULES
from keras_quant.anytime.runner import Answer, AnytimeRunner, StageTimes, profile
from keras_quant.data.catalog import DATASETS
from keras_quant.data.dataset import NO_LABEL
from keras_quant.data.every import NamedImages, read_every
from keras_quant.data.view import view_of
from keras_quant.errors import DataError, RunError
from keras_quant.jobs.anytime import Opened, check_shape, open_stages
from keras_quant.jobs.paths import dataset_of, record_around
from keras_quant.runs import exits
from keras_quant.runs.exits import ExitsRecord
from keras_quant.runs.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageAnswer:
    """What a run answered to an image.

    Attributes:
        image: its file, from the folder on; or its place, as in test[12].
        label: the class of the largest logit.
        class_name: what that class is called.
        right: whether it is the image's; None without a label.
        exit: at which exit the answer came, from 0 on.
        sureness, elapsed_ms, reason, logits: see `runner.Answer`.
    """

    image: str
    label: int
    class_name: str
    right: bool | None
    exit: int
    sureness: float
    elapsed_ms: float
    reason: str
    logits: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnytimeAnswers:
    """What a run answered within a deadline.

    Attributes:
        format: of its stages.
        rule, thresholds: what ended images early; None for nothing but the deadline.
        stage_times: of each stage, with the messages to the process that it runs in.
        answers: of each image.
        accuracy: share of them that is right; None without labels.
        late_ms: by how much the latest was late; 0 where none was.
    """

    format: str
    deadline_ms: float
    rule: str | None
    thresholds: tuple[float, ...] | None
    stage_times: tuple[StageTimes, ...]
    answers: tuple[ImageAnswer, ...]
    accuracy: float | None
    late_ms: float


def run_anytime(
    run: Path,
    *,
    deadline_ms: float,
    form: str | None = None,
    images: str | None = None,
    count: int = 0,
    use_thresholds: bool = True,
    progress: Progress,
) -> AnytimeAnswers:
    """Answers images one by one, each within a deadline.

    Args:
        images: a path, all images of which are answered; or a dataset's name, None for the run's:
            its test images are.
        count: the first so many; 0 means all.
        use_thresholds: end images early as the run's exits.json says, where it has one.
    Raises:
        UsageError: the deadline is shorter than the first stage.
        DataError: there are no images, or stages take others.
    """
    record = exits.load(run) if use_thresholds and (run / exits.FILE_NAME).exists() else None
    opened = open_stages(run, form or (record.format if record else None))
    chosen = None if record is None else _for_stages(record, run, opened)
    shown = _images(run, images, opened, progress)
    rule = chosen.rule if chosen else "entropy"
    times = profile(opened.loaded, opened.inputs(shown.x[:1]), rule=rule)
    runner = AnytimeRunner(
        opened.loaded,
        deadline_ms=deadline_ms,
        expected_ms=[one.p99_ms for one in times],
        rule=rule,
        thresholds=chosen.thresholds if chosen else None,
    )
    answers: list[ImageAnswer] = []
    total = min(count or len(shown.x), len(shown.x))
    with progress.bar("answering", total) as show:
        for place in range(total):
            answer = runner.run(opened.inputs(shown.x[place : place + 1]))
            answers.append(_image_answer(answer, shown, place))
            show(place + 1, "")
    judged = [answer.right for answer in answers if answer.right is not None]
    return AnytimeAnswers(
        format=opened.format,
        deadline_ms=deadline_ms,
        rule=chosen.rule if chosen else None,
        thresholds=chosen.thresholds if chosen else None,
        stage_times=times,
        answers=tuple(answers),
        accuracy=float(np.mean(judged)) if judged else None,
        late_ms=max(0.0, *(answer.elapsed_ms - deadline_ms for answer in answers)),
    )


def _images(run: Path, images: str | None, opened: Opened, progress: Progress) -> NamedImages:
    """The images to answer, with labels where these are of the classes that the stages tell apart.

    Raises:
        DataError: there are none, or stages take others.
    """
    shape = opened.files[0].inputs[0].shape
    if images is None or view_of(images).base in DATASETS:
        data = dataset_of(run, images)
        found = NamedImages(
            names=tuple(f"test[{place}]" for place in range(len(data.test))),
            x=data.test.x,
            y=data.test.y,
            class_names=data.class_names,
            num_classes=data.num_classes,
        )
    else:
        size = (shape[0], shape[1]) if len(shape) == 3 else None
        found = read_every(Path(images), image_size=size, say=progress.say)
    where = images or "the run's data"
    check_shape(opened, found.x.shape[1:], where)
    if not len(found.x):
        raise DataError(f"{where}: there are no images to answer")
    classes = opened.classes
    if found.num_classes not in (0, classes):
        progress.say(
            f"{where}: has {found.num_classes} classes, and the net tells {classes} apart: what is "
            "right is not told"
        )
    if found.num_classes == classes:
        return found
    return replace(found, y=np.full(len(found.x), NO_LABEL), class_names=_known_classes(run))


def _known_classes(run: Path) -> tuple[str, ...]:
    """What the classes of a run are called, where its data are known by name."""
    record = record_around(run)
    known = None if record is None else DATASETS.get(view_of(record.dataset.name).base)
    return () if known is None else known.class_names


def _image_answer(answer: Answer, shown: NamedImages, place: int) -> ImageAnswer:
    label, truth = answer.label, int(shown.y[place])
    return ImageAnswer(
        image=shown.names[place],
        label=label,
        class_name=shown.class_names[label] if shown.class_names else str(label),
        right=None if truth == NO_LABEL else label == truth,
        exit=answer.exit,
        sureness=answer.sureness,
        elapsed_ms=answer.elapsed_ms,
        reason=answer.reason,
        logits=answer.logits,
    )


def _for_stages(record: ExitsRecord, run: Path, opened: Opened) -> ExitsRecord:
    """The record, where its thresholds were chosen for these stages."""
    if record.files != tuple(file.sha256 for file in opened.files):
        raise RunError(
            f"{run / exits.FILE_NAME}: its thresholds were chosen for other stages "
            f"({record.format}). Choose them again: kq anytime thresholds {run} --format "
            f"{opened.format}; or give --no-thresholds"
        )
    if record.rule not in RULES:
        raise RunError(
            f"{run / exits.FILE_NAME}: rule {record.rule!r} is none of {', '.join(RULES)}"
        )
    return record

"""A controller that was chosen, run on images, each file in a process of its own."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_quant.anytime import priority
from keras_quant.anytime.controlled import ControlledAnswer, ControlledRunner, Part
from keras_quant.anytime.controller import Controller, Rule
from keras_quant.anytime.rules import RULES, SPARSITY_RULES
from keras_quant.data.dataset import NO_LABEL
from keras_quant.data.every import NamedImages
from keras_quant.errors import RunError
from keras_quant.jobs.ensembles import check_format
from keras_quant.jobs.named_images import images_to_answer
from keras_quant.jobs.paths import dataset_of
from keras_quant.jobs.pieces import Net, open_net
from keras_quant.runs import controllers, records
from keras_quant.runs.controllers import ControllerRecord
from keras_quant.runs.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlledImage:
    """What was answered to an image.

    Attributes:
        image: its file, from the folder on; or its place, as in test[12].
        label: the class of the largest logit.
        class_name: what that class is called.
        right: whether it is the image's; None without a label.
        ran: names of the options that were run, the last of which answered.
        ease, elapsed_ms: see `controlled.ControlledAnswer`.
    """

    image: str
    label: int
    class_name: str
    right: bool | None
    ran: tuple[str, ...]
    ease: float
    elapsed_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Controlled:
    """What a controller answered.

    Attributes:
        simulated: the controller, and what it was said to come to.
        answers: of each image.
        accuracy: share of them that is right; None without labels.
        shares: of the images, by the name of the option whose answer they got.
        mean_cost: of an image by the costs on record, in their unit: of what did run.
        mean_ms, p50_ms, p99_ms: measured, with the messages to the processes of the files.
    """

    simulated: ControllerRecord
    answers: tuple[ControlledImage, ...]
    accuracy: float | None
    shares: Mapping[str, float]
    mean_cost: float
    mean_ms: float
    p50_ms: float
    p99_ms: float


def control(
    file: Path,
    *,
    images: str | None = None,
    count: int = 0,
    realtime: bool = False,
    progress: Progress,
) -> Controlled:
    """Runs the controller of a file on images, one by one.

    Nets that take fewer pixels are given images that are averaged when they are asked: that counts
    in what is measured.

    Args:
        images: a path, all images of which are answered; or a dataset's name, None for that of the
            runs: its test images are.
        count: the first so many; 0 means all.
        realtime: run before all other processes, see `anytime.priority`.
    Raises:
        UsageError: the system does not allow a priority.
        RunError: the file is broken, or a run is not there, or has other files.
        DataError: there are no images, or the runs take others.
    """
    with priority.realtime() if realtime else contextlib.nullcontext():
        return _control(file, images, count, progress)


def _control(file: Path, images: str | None, count: int, progress: Progress) -> Controlled:
    record = controllers.load(file)
    runner, runs = open_controller(file, record)
    first = records.load(runs[0]).dataset
    shown = images_to_answer(
        runs[0],
        images,
        shape=record.input_shape or first.input_shape,
        classes=first.num_classes,
        data=dataset_of(runs[0], None, whole=True) if images is None else None,
        taker=file,
        progress=progress,
    )
    runner.warm_up(shown.x[:1])
    total = min(count or len(shown.x), len(shown.x))
    found: list[ControlledAnswer] = []
    with progress.bar("answering", total) as show:
        for place in range(total):
            found.append(runner.run(shown.x[place : place + 1]))
            show(place + 1, "")
    return _summed_up(record, found, shown)


def open_controller(
    file: Path, record: ControllerRecord
) -> tuple[ControlledRunner, tuple[Path, ...]]:
    """Loads all files of a controller, each in a child process.

    Returns: what runs it, and the runs of the files.
    Raises:
        RunError: a run is not there, or has other files than the controller was fitted to.
    """
    check_format(record.format)
    if record.rule not in (*RULES, *SPARSITY_RULES):
        raise RunError(
            f"{file}: rule {record.rule!r} is none of {', '.join((*RULES, *SPARSITY_RULES))}"
        )
    names = tuple(dict.fromkeys(piece.run for piece in record.pieces))
    runs = tuple(controllers.run_of(file, name) for name in names)
    nets = [open_net(run, record.format, name) for run, name in zip(runs, names, strict=True)]
    _check_files(file, record, nets)
    parts = [(place, piece) for place, net in enumerate(nets) for piece in range(len(net.pieces))]
    options: list[list[Part]] = [[parts[one] for one in each.pieces] for each in record.options]
    controller = Controller(
        first=record.first,
        rules={
            rule.after: Rule(thresholds=rule.thresholds, then=rule.then) for rule in record.rules
        },
    )
    begins = [net.begin for net in nets]
    return ControlledRunner(controller, begins, options, rule=record.rule), runs


def _check_files(file: Path, record: ControllerRecord, nets: list[Net]) -> None:
    found = [(net.name, piece.sha256) for net in nets for piece in net.pieces]
    wanted = [(piece.run, piece.sha256) for piece in record.pieces]
    if found != wanted:
        unlike = sorted({run for run, _ in {*found} ^ {*wanted}}) or [run for run, _ in wanted]
        raise RunError(
            f"{file}: was fitted to other files than those of {', '.join(unlike)} now. Choose it "
            "again: kq anytime simulate RUN RUN --save FILE"
        )


def _summed_up(
    record: ControllerRecord, found: list[ControlledAnswer], shown: NamedImages
) -> Controlled:
    names = [option.name for option in record.options]
    answers = tuple(_image(one, shown, place, names) for place, one in enumerate(found))
    judged = [one.right for one in answers if one.right is not None]
    times = np.array([one.elapsed_ms for one in answers])
    half, most = np.percentile(times, (50, 99))
    counts = Counter(one.ran[-1] for one in answers)
    return Controlled(
        simulated=record,
        answers=answers,
        accuracy=float(np.mean(judged)) if judged else None,
        shares={name: counts[name] / len(answers) for name in names},
        mean_cost=float(np.mean([_cost(record, one.path) for one in found])),
        mean_ms=float(times.mean()),
        p50_ms=float(half),
        p99_ms=float(most),
    )


def _cost(record: ControllerRecord, path: tuple[int, ...]) -> float:
    """Of all pieces that options of a path need: of a run, all up to the last of them."""
    last = [piece for option in path for piece in record.options[option].pieces]
    needed = {
        place
        for end in last
        for place in range(end + 1)
        if record.pieces[place].run == record.pieces[end].run
    }
    return sum(record.pieces[place].cost for place in needed)


def _image(
    answer: ControlledAnswer, shown: NamedImages, place: int, names: list[str]
) -> ControlledImage:
    label, truth = answer.label, int(shown.y[place])
    return ControlledImage(
        image=shown.names[place],
        label=label,
        class_name=shown.class_names[label] if shown.class_names else str(label),
        right=None if truth == NO_LABEL else label == truth,
        ran=tuple(names[option] for option in answer.path),
        ease=answer.ease,
        elapsed_ms=answer.elapsed_ms,
    )

"""Images answered one by one from the stages of a run, each within a deadline.

Those stages that are not here are asked of another machine. An image may be several views of one
thing, whose answers become one.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_quant.anytime.connection import parse_address, wrong_timeout
from keras_quant.anytime.peer import Peer, Trip
from keras_quant.anytime.priority import realtime
from keras_quant.anytime.protocol import MOST_VIEWS, Ending
from keras_quant.anytime.rules import NEVER, RULES
from keras_quant.anytime.runner import Answer, AnytimeRunner, StageTimes, profile
from keras_quant.anytime.views import AVERAGE, CONCAT, NAMES, Aggregate, Concat
from keras_quant.data.dataset import NO_LABEL
from keras_quant.data.every import NamedImages
from keras_quant.errors import RunError, UsageError, close_names
from keras_quant.jobs.anytime import Opened, Recorded, open_stages, recorded_stages
from keras_quant.jobs.concat import learned_concat
from keras_quant.jobs.views import read_views
from keras_quant.runs import concat, exits
from keras_quant.runs.concat import ConcatRecord
from keras_quant.runs.exits import ExitsRecord
from keras_quant.runs.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class AnytimeSettings:
    """How images are answered.

    Attributes:
        deadline_ms: of each.
        form: a key of FORMATS; None means the first that there are stages of.
        count: the first so many images; 0 means all.
        use_thresholds: end images early as the run's exits.json says, where it has one; with
            CONCAT as its concat.json says.
        next_address: HOST:PORT of the machine that goes on where the stages here end.
        timeout_ms: the longest that it is waited for.
        views: further images, each the same things as the first ones, in the same order.
        aggregate: how the answers to views become one, one of `views.NAMES`.
        realtime: run before all other processes, see `anytime.priority`.
    """

    deadline_ms: float
    form: str | None = None
    count: int = 0
    use_thresholds: bool = True
    next_address: str | None = None
    timeout_ms: float = 1000.0
    views: tuple[str, ...] = ()
    aggregate: str = AVERAGE
    realtime: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageAnswer:
    """What a run answered to an image.

    Attributes:
        image: its file, from the folder on; or its place, as in test[12].
        label: the class of the largest logit.
        class_name: what that class is called.
        right: whether it is the image's; None without a label.
        exit: at which exit the answer came, from 0 on.
        sureness, elapsed_ms, reason, logits, sent_bytes: see `runner.Answer`.
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
    sent_bytes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What went from one machine to the next.

    Attributes:
        images: that were sent.
        mean_bytes: of all images that were answered, headers too; those that ended before count 0.
    """

    images: int
    mean_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """The stages on other machines.

    Attributes:
        address: of the next machine.
        first: the stage that it goes on with, from 1 on.
        trip: how long it takes until its first answer is here.
        codes_bytes: that the codes of an image are packed into, all views.
        raw_bytes: of its pixels, or floats, as they were given, all views.
        ways: to the next machine, from that to the one behind it, and so on.
    """

    address: str
    first: int
    trip: Trip
    codes_bytes: int
    raw_bytes: int
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnytimeAnswers:
    """What a run answered within a deadline.

    Attributes:
        format: of its stages.
        rule, thresholds: what ended images early; None for nothing but the deadline.
        views: of each image.
        stage_times: of each stage here, with the messages to the process that it runs in.
        answers: of each image.
        accuracy: share of them that is right; None without labels.
        late_ms: by how much the latest was late; 0 where none was.
        elsewhere: None where all stages are here.
        notes: what went wrong on other machines, and for how many images.
    """

    format: str
    deadline_ms: float
    rule: str | None
    thresholds: tuple[float, ...] | None
    views: int
    stage_times: tuple[StageTimes, ...]
    answers: tuple[ImageAnswer, ...]
    accuracy: float | None
    late_ms: float
    elsewhere: Elsewhere | None
    notes: Mapping[str, int]


def run_anytime(
    run: Path, settings: AnytimeSettings, *, images: str | None = None, progress: Progress
) -> AnytimeAnswers:
    """Answers images one by one, each within a deadline.

    Args:
        images: a path, all images of which are answered; or a dataset's name, None for the run's:
            its test images are.
    Raises:
        UsageError: the deadline is shorter than the first stage, or settings are out of range, or
            the system does not allow a priority.
        RunError: there is no such run, or it has no stages, or what was chosen or learned is of
            others.
        DataError: there are no images, or stages take others, or views are not of the same things.
        PeerError: the next machine cannot be reached at first, or has another net or other layers.
    """
    _check(settings)
    with realtime() if settings.realtime else contextlib.nullcontext():
        return _run(run, settings, images, progress)


def _run(
    run: Path, settings: AnytimeSettings, images: str | None, progress: Progress
) -> AnytimeAnswers:
    known, chosen, aggregate = _known(run, settings)
    peer = None if settings.next_address is None else _connected(known, chosen, aggregate, settings)
    opened = open_stages(run, known.format, part=slice(None if peer is None else peer.first - 1))
    shown, views = read_views(run, images, settings.views, opened=opened, progress=progress)
    rule = chosen.rule if chosen else "entropy"
    first = _inputs(opened, views, 0)
    times = profile(opened.loaded, first, rule=rule, aggregate=aggregate)
    trip = None if peer is None else peer.profile(first, behind=opened.loaded)
    early = len(opened.loaded) if peer is not None else len(opened.files) - 1
    runner = AnytimeRunner(
        opened.loaded,
        deadline_ms=settings.deadline_ms,
        expected_ms=[one.p99_ms for one in times],
        rule=rule,
        thresholds=chosen.thresholds[:early] if chosen else None,
        aggregate=aggregate,
        beyond=peer,
    )
    found = []
    total = min(settings.count or len(shown.x), len(shown.x))
    with progress.bar("answering", total) as show:
        for place in range(total):
            found.append(runner.run(_inputs(opened, views, place)))
            show(place + 1, "")
    answers = tuple(_image_answer(answer, shown, place) for place, answer in enumerate(found))
    judged = [answer.right for answer in answers if answer.right is not None]
    return AnytimeAnswers(
        format=opened.format,
        deadline_ms=settings.deadline_ms,
        rule=chosen.rule if chosen else None,
        thresholds=chosen.thresholds if chosen else None,
        views=len(views),
        stage_times=times,
        answers=answers,
        accuracy=float(np.mean(judged)) if judged else None,
        late_ms=max(0.0, *(answer.elapsed_ms - settings.deadline_ms for answer in answers)),
        elsewhere=None if peer is None or trip is None else _elsewhere(peer, trip, views, answers),
        notes=Counter(answer.note for answer in found if answer.note),
    )


def _check(settings: AnytimeSettings) -> None:
    problems = []
    if not settings.deadline_ms > 0:
        problems.append(f"--deadline-ms is {settings.deadline_ms:g}; a number above 0 is allowed")
    if settings.aggregate not in NAMES:
        problems.append(
            f"--aggregate {settings.aggregate!r} is not known"
            f"{close_names(settings.aggregate, NAMES)}; known are {', '.join(NAMES)}"
        )
    problems += wrong_timeout(settings.timeout_ms)
    if len(settings.views) >= MOST_VIEWS:
        problems.append(f"{len(settings.views) + 1} views are given; {MOST_VIEWS} are allowed")
    if problems:
        raise UsageError("; ".join(problems))


def _known(
    run: Path, settings: AnytimeSettings
) -> tuple[Recorded, ExitsRecord | ConcatRecord | None, Aggregate]:
    """The stages of a run, what ends images early, and what makes views one answer."""
    if settings.aggregate == CONCAT:
        learned = concat.load(run)
        known = recorded_stages(run, settings.form or learned.format)
        layers = learned_concat(run, learned, known)
        if learned.views != len(settings.views) + 1:
            raise UsageError(
                f"--aggregate {CONCAT}: {run / concat.FILE_NAME} was learned for {learned.views} "
                f"views. Give --view {learned.views - 1} times, and not {len(settings.views)}; or "
                f"learn it again: kq anytime concat {run} IMAGES --view IMAGES"
            )
        return known, learned if settings.use_thresholds else None, layers
    record = _thresholds_of(run) if settings.use_thresholds else None
    known = recorded_stages(run, settings.form or (record.format if record else None))
    return known, None if record is None else _for_stages(record, run, known), settings.aggregate


def _connected(
    known: Recorded,
    chosen: ExitsRecord | ConcatRecord | None,
    aggregate: Aggregate,
    settings: AnytimeSettings,
) -> Peer:
    """The next machine, which has the same net."""
    assert settings.next_address is not None
    never = (NEVER,) * (len(known.files) - 1)
    peer = Peer(
        parse_address(settings.next_address, "--next"),
        known.format,
        known.files,
        Ending(
            rule=chosen.rule if chosen else "entropy",
            thresholds=chosen.thresholds if chosen else never,
            aggregate=settings.aggregate,
            concat=aggregate.sha256 if isinstance(aggregate, Concat) else "",
        ),
        timeout_s=settings.timeout_ms / 1e3,
    )
    peer.connect()
    return peer


def _elsewhere(
    peer: Peer, trip: Trip, views: Sequence[np.ndarray], answers: Sequence[ImageAnswer]
) -> Elsewhere:
    most = max(len(answer.sent_bytes) for answer in answers)
    sent = [
        [answer.sent_bytes[way] for answer in answers if len(answer.sent_bytes) > way]
        for way in range(most)
    ]
    return Elsewhere(
        address=str(peer.address),
        first=peer.first,
        trip=trip,
        codes_bytes=peer.view_bytes * len(views),
        raw_bytes=sum(images[0].nbytes for images in views),
        ways=tuple(Way(images=len(one), mean_bytes=sum(one) / len(answers)) for one in sent),
    )


def _inputs(opened: Opened, views: Sequence[np.ndarray], place: int) -> dict[str, np.ndarray]:
    """One image, (views, *shape)."""
    each = [opened.inputs(images[place : place + 1]) for images in views]
    if len(each) == 1:
        return each[0]
    return {opened.input: np.concatenate([one[opened.input] for one in each])}


def _thresholds_of(run: Path) -> ExitsRecord | None:
    return exits.load(run) if (run / exits.FILE_NAME).exists() else None


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
        sent_bytes=answer.sent_bytes,
    )


def _for_stages(record: ExitsRecord, run: Path, opened: Recorded) -> ExitsRecord:
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

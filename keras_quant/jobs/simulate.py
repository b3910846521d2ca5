"""A controller simulated on the answers of runs and on latencies of several places.

Every option is asked for all validation and test images once, averaged to as many pixels as it
takes. Then nothing is run any more: in each place controllers are fitted to the validation images
with what pieces cost there, one is chosen, and it is played on the test images, beside the oracle
and each option alone.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_quant.anytime.controlled import PieceAnswer, together
from keras_quant.anytime.controller import (
    LOOKS,
    PRICES,
    Controller,
    Options,
    Played,
    choose,
    controllers,
    costs_paid,
    oracle,
    play,
)
from keras_quant.anytime.rules import RULES, SPARSITY_RULES, unknown_rule
from keras_quant.data import Dataset, Split
from keras_quant.errors import DataError, RunError, UsageError
from keras_quant.jobs.begin import now
from keras_quant.jobs.ensembles import check_format, named_twice
from keras_quant.jobs.paths import dataset_of
from keras_quant.jobs.pieces import (
    UNITS,
    Costs,
    Net,
    answers_of,
    check_estimated,
    estimated_costs,
    measured_costs,
    open_net,
    recorded_costs,
)
from keras_quant.runs import controllers as kept
from keras_quant.runs.controllers import ControllerRecord, OptionRecord, PieceRecord, RuleRecord
from keras_quant.runs.progress import Progress
from keras_quant.version import __version__

MOST_OPTIONS = 12
"""Of which there are 298 paths of three."""

SUM_ROUNDING = 1e-12
"""What means of costs may differ by, as they are summed in another order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSettings:
    """What is simulated.

    Attributes:
        form: a key of FORMATS.
        times: records of `kq bench`, a place each.
        boards: of which latency is estimated, a place each.
        unit: a key of `pieces.UNITS`.
        rule: how easy an image is, see `rules.ease`.
        accuracy: share of the validation images to be answered rightly, at the least mean cost;
            None means that of the most accurate option, where no budget is given.
        budget: mean cost not to be passed, as a share of the dearest option's.
        looks: the most options that run for an image.
        fuse: the first two runs, three, ... as ensembles are options too.
        save: where the controller is to be written, of the only place; None for nowhere.
    """

    form: str = "tflite"
    times: tuple[Path, ...] = ()
    boards: tuple[str, ...] = ()
    unit: str = "ms"
    rule: str = "entropy"
    accuracy: float | None = None
    budget: float | None = None
    looks: int = LOOKS
    fuse: bool = False
    save: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionPoint:
    """An option, where all images get its answer.

    Attributes:
        share: of the test images that the controller gives its answer.
    """

    name: str
    cost: float
    validation_accuracy: float
    test_accuracy: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What the controller does behind some options.

    Attributes:
        after: that have run, in order.
        at_least: how sure the last one has to be, 0 to 1.
        then: the option to go on with; "" to give the answer.
    """

    after: tuple[str, ...]
    at_least: float
    then: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What came of it in one place; costs are means of an image, in a unit.

    Attributes:
        place: that costs are of; an estimate says so.
        options: by cost.
        validation, test: what the controller comes to.
        steps: what it does.
        front: what other controllers come to on the test images, from the cheapest on: those that
            no other beats on the validation images.
        oracle: what no controller passes: mean cost and accuracy on the test images.
        oracle_cost: at the controller's accuracy.
        static: the cheapest option at least as accurate as the controller on the test images;
            where there is none, the most accurate.
        static_at_cost: the most accurate option that costs no more than the controller; None where
            there is none.
        speed_up: cost of `static` over the controller's.
        p99_cost: of the controller, on the test images.
    """

    place: str
    is_estimate: bool
    unit: str
    options: tuple[OptionPoint, ...]
    validation: Played
    test: Played
    steps: tuple[Step, ...]
    front: tuple[tuple[float, float], ...]
    oracle: tuple[tuple[float, float], ...]
    oracle_cost: float
    static: OptionPoint
    static_at_cost: OptionPoint | None
    speed_up: float
    p99_cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """All places.

    Attributes:
        validation_images, test_images: how many.
    """

    dataset: str
    rule: str
    validation_images: int
    test_images: int
    places: tuple[Simulated, ...]


def simulate(
    runs: Sequence[Path], settings: SimulationSettings, *, progress: Progress
) -> Simulation:
    """Fits controllers to what runs answer, and plays them.

    Args:
        runs: with stages, each exit of which is an option, or with one file.
    Raises:
        UsageError: settings out of range.
        BudgetError: no controller reaches what they ask for.
        RunError: a run was not exported in that format.
        DataError: runs have other images or classes.
    """
    _check(runs, settings)
    data = _data(runs)
    nets = [
        open_net(run, settings.form, name) for run, name in zip(runs, _names(runs), strict=True)
    ]
    _check_count(nets, settings)
    known = {
        part: _options(nets, split, data, part, settings, progress)
        for part, split in (("validation", data.validation), ("test", data.test))
    }
    found = [
        (costs, *_simulated(costs, known["validation"], known["test"], settings, progress))
        for costs in _places(nets, settings, progress)
    ]
    if settings.save is not None:
        ((costs, place, controller),) = found
        record = _record(runs, nets, costs, place, controller, data, settings)
        kept.save(record, settings.save)
    return Simulation(
        dataset=data.name,
        rule=settings.rule,
        validation_images=len(data.validation),
        test_images=len(data.test),
        places=tuple(one[1] for one in found),
    )


def _record(
    runs: Sequence[Path],
    nets: Sequence[Net],
    costs: Costs,
    place: Simulated,
    controller: Controller,
    data: Dataset,
    settings: SimulationSettings,
) -> ControllerRecord:
    assert settings.save is not None
    folder = settings.save.resolve().parent
    owned = [(run, piece) for run, net in zip(runs, nets, strict=True) for piece in net.pieces]
    return ControllerRecord(
        created=now(),
        kq_version=__version__,
        dataset=data.name,
        input_shape=data.input_shape,
        format=settings.form,
        rule=settings.rule,
        place=place.place,
        is_estimate=place.is_estimate,
        unit=place.unit,
        pieces=tuple(
            PieceRecord(
                name=piece.name,
                run=os.path.relpath(run.resolve(), folder),
                sha256=piece.sha256,
                cost=float(cost),
            )
            for (run, piece), cost in zip(owned, costs.each, strict=True)
        ),
        options=tuple(
            OptionRecord(name=name, pieces=parts)
            for name, parts in _made_of(nets, fuse=settings.fuse)
        ),
        first=controller.first,
        rules=tuple(
            RuleRecord(after=path, thresholds=rule.thresholds, then=rule.then)
            for path, rule in controller.rules.items()
        ),
        validation_accuracy=place.validation.accuracy,
        test_accuracy=place.test.accuracy,
        mean_cost=place.test.mean_cost,
        p99_cost=place.p99_cost,
    )


def _places(
    nets: Sequence[Net], settings: SimulationSettings, progress: Progress
) -> Iterator[Costs]:
    pieces = [piece for net in nets for piece in net.pieces]
    for path in settings.times:
        yield recorded_costs(path, pieces, settings.unit)
    for board in settings.boards:
        yield estimated_costs(nets, board)
    if not settings.times and not settings.boards:
        yield measured_costs(pieces, settings.form, settings.unit, progress)


def _simulated(
    costs: Costs,
    validation: Options,
    test: Options,
    settings: SimulationSettings,
    progress: Progress,
) -> tuple[Simulated, Controller]:
    with progress.bar(f"fitting controllers, {costs.place}", PRICES) as show:
        found = controllers(
            validation, costs.each, looks=settings.looks, on_price=lambda done: show(done, "")
        )
    played = [(one, play(one, validation, costs.each)) for one in found]
    dearest = float(test.own_costs(costs.each).max())
    chosen, on_validation = choose(
        played,
        accuracy=_wanted(validation, settings),
        budget=None if settings.budget is None else settings.budget * dearest,
    )
    result = play(chosen, test, costs.each)
    options = _points(test, validation, costs, result)
    oracle_costs, oracle_accuracies = oracle(test, costs.each)
    static = as_accurate(options, result.accuracy)
    place = int(np.searchsorted(oracle_accuracies, result.accuracy - 1e-12))
    simulated = Simulated(
        place=costs.place,
        is_estimate=costs.is_estimate,
        unit=UNITS[settings.unit],
        options=options,
        validation=on_validation,
        test=result,
        steps=tuple(_steps(chosen, test.names)),
        front=_front(played, test, costs.each),
        oracle=tuple(zip(oracle_costs.tolist(), oracle_accuracies.tolist(), strict=True)),
        oracle_cost=float(oracle_costs[place]),
        static=static,
        static_at_cost=no_dearer(options, result.mean_cost),
        speed_up=static.cost / result.mean_cost,
        p99_cost=float(np.percentile(costs_paid(chosen, test, costs.each), 99)),
    )
    return simulated, chosen


def as_accurate(options: Sequence[OptionPoint], accuracy: float) -> OptionPoint:
    """The cheapest option of some accuracy on the test images, else the most accurate."""
    enough = [one for one in options if one.test_accuracy >= accuracy]
    if enough:
        return min(enough, key=lambda one: one.cost)
    return max(options, key=lambda one: one.test_accuracy)


def no_dearer(options: Sequence[OptionPoint], cost: float) -> OptionPoint | None:
    """The most accurate option on the test images that costs no more; None where there is none."""
    within = [one for one in options if one.cost <= cost * (1 + SUM_ROUNDING)]
    return max(within, key=lambda one: one.test_accuracy, default=None)


def _wanted(validation: Options, settings: SimulationSettings) -> float | None:
    if settings.accuracy is None and settings.budget is None:
        return float(validation.correct.mean(axis=1).max())
    return settings.accuracy


def _points(
    test: Options, validation: Options, costs: Costs, result: Played
) -> tuple[OptionPoint, ...]:
    own = test.own_costs(costs.each)
    return tuple(
        OptionPoint(
            name=test.names[place],
            cost=float(own[place]),
            validation_accuracy=float(validation.correct[place].mean()),
            test_accuracy=float(test.correct[place].mean()),
            share=result.shares[place],
        )
        for place in np.argsort(own, kind="stable").tolist()
    )


def _steps(controller: Controller, names: Sequence[str]) -> Iterator[Step]:
    """Its rules, the first option's first; those that nothing goes on with are left out."""
    if not controller.rules:
        yield Step(after=(names[controller.first],), at_least=0.0, then="")
    for path, rule in sorted(controller.rules.items(), key=lambda item: (len(item[0]), item[0])):
        above = float("inf")
        for threshold, option in zip((*rule.thresholds, 0.0), rule.then, strict=True):
            if threshold < above and threshold <= 1:
                then = "" if option is None else names[option]
                yield Step(after=tuple(names[one] for one in path), at_least=threshold, then=then)
                above = threshold


def _front(
    played: Sequence[tuple[Controller, Played]], test: Options, costs: np.ndarray
) -> tuple[tuple[float, float], ...]:
    order = sorted(played, key=lambda pair: (pair[1].mean_cost, -pair[1].accuracy))
    front, best = [], -1.0
    for controller, on_validation in order:
        if on_validation.accuracy > best:
            best = on_validation.accuracy
            one = play(controller, test, costs)
            front.append((one.mean_cost, one.accuracy))
    return tuple(front)


def _options(
    nets: Sequence[Net],
    split: Split,
    data: Dataset,
    part: str,
    settings: SimulationSettings,
    progress: Progress,
) -> Options:
    """What each exit of each net answers, and with `fuse` the first nets together."""
    pieces = [one for net in nets for one in answers_of(net, split, part, progress)]
    _check_classes(nets, pieces, data)
    made_of = _made_of(nets, fuse=settings.fuse)
    answers = [together([pieces[place] for place in parts]) for _, parts in made_of]
    needs = _needs(nets)
    return Options(
        names=tuple(name for name, _ in made_of),
        pieces=np.stack([needs[list(parts)].any(axis=0) for _, parts in made_of]),
        sure=np.stack([one.ease(settings.rule) for one in answers]),
        correct=np.stack([one.logits.argmax(axis=-1) == split.y for one in answers]),
    )


def _made_of(nets: Sequence[Net], *, fuse: bool) -> list[tuple[str, tuple[int, ...]]]:
    """Each option: its name, and the places of the pieces whose answers are put together."""
    pieces = [piece for net in nets for piece in net.pieces]
    alone: list[tuple[str, tuple[int, ...]]] = [
        (piece.name, (place,)) for place, piece in enumerate(pieces)
    ]
    if not fuse:
        return alone
    lasts = tuple(int(end) - 1 for end in np.cumsum([len(net.pieces) for net in nets]))
    counts = range(2, len(nets) + 1)
    return [*alone, *((f"first {count} together", lasts[:count]) for count in counts)]


def _needs(nets: Sequence[Net]) -> np.ndarray:
    """Of each piece, which pieces have to run for its answer: those of its net up to it."""
    owner = np.repeat(np.arange(len(nets)), [len(net.pieces) for net in nets])
    places = np.arange(len(owner))
    needs: np.ndarray = (owner[:, None] == owner) & (places[None] <= places[:, None])
    return needs


def _names(runs: Sequence[Path]) -> list[str]:
    """What runs are called: by their folders, or by their paths where two are alike."""
    counts = Counter(run.name for run in runs)
    return [run.name if counts[run.name] == 1 else str(run) for run in runs]


def _data(runs: Sequence[Path]) -> Dataset:
    """The data of all runs; with all pixels, where a run takes fewer.

    Raises:
        RunError: there is no such run.
        DataError: they have no labels, or runs have other validation images: a controller that is
            fitted to what one was trained on would trust that one too much.
    """
    missing = [str(run) for run in runs if not run.is_dir()]
    if missing:
        raise RunError(f"{', '.join(missing)}: no such run folder")
    first, *others = (dataset_of(run, None, whole=True) for run in runs)
    if not first.has_labels:
        raise DataError(f"{first.name} has no labels, and a controller is judged by right answers")
    for run, other in zip(runs[1:], others, strict=True):
        if not all(
            np.array_equal(ours.x, theirs.x)
            for ours, theirs in ((first.validation, other.validation), (first.test, other.test))
        ):
            raise DataError(
                f"{run}: its validation or test images are not those of {runs[0]}: a controller is "
                "fitted to images that no run was trained on. Give runs of one dataset, with or "
                "without +16px, with equal --seed and --validation-fraction"
            )
    return first


def _check(runs: Sequence[Path], settings: SimulationSettings) -> None:
    problems = unknown_rule(settings.rule, (*RULES, *SPARSITY_RULES))
    places = len(settings.times) + len(settings.boards)
    if settings.save is not None and places > 1:
        problems.append(
            f"--save keeps one controller, and {places} places are asked for: give one --times or "
            "--board"
        )
    if settings.save is not None and not settings.save.resolve().parent.is_dir():
        problems.append(f"--save {settings.save}: there is no folder {settings.save.parent}")
    if settings.unit not in UNITS:
        problems.append(f"--cost {settings.unit!r} is not known; costs are {', '.join(UNITS)}")
    if settings.accuracy is not None and settings.budget is not None:
        problems.append("--accuracy and --budget ask for different controllers: give one of them")
    for option, share in (("--accuracy", settings.accuracy), ("--budget", settings.budget)):
        if share is not None and not 0 < share <= 1:
            problems.append(f"{option} is {share:g}; a share above 0, up to 1, is allowed")
    if not 1 <= settings.looks <= 4:
        problems.append(f"--looks is {settings.looks}; 1 to 4 is allowed")
    problems += named_twice(runs)
    if problems:
        raise UsageError("; ".join(problems))
    check_format(settings.form)
    for board in settings.boards:
        check_estimated(board, settings.unit)


def _check_count(nets: Sequence[Net], settings: SimulationSettings) -> None:
    count = sum(len(net.pieces) for net in nets) + (len(nets) - 1) * settings.fuse
    if not 2 <= count <= MOST_OPTIONS:
        raise UsageError(
            f"{count} exits, nets and ensembles in all; 2 to {MOST_OPTIONS} are allowed: with one "
            "there is nothing to choose"
        )


def _check_classes(nets: Sequence[Net], answers: Sequence[PieceAnswer], data: Dataset) -> None:
    owners = [net.name for net in nets for _ in net.pieces]
    for name, answer in zip(owners, answers, strict=True):
        if answer.logits.shape[1:] != (data.num_classes,):
            raise DataError(
                f"{name}: gives {' x '.join(map(str, answer.logits.shape[1:]))} values an image; "
                f"{data.name} has {data.num_classes} classes"
            )

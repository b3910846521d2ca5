"""A run's stages, loaded; and thresholds at which images end early, chosen for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_quant.anytime.rules import exits_taken, outcome, sureness, unknown_rule
from keras_quant.anytime.runner import LoadedStage, all_answers
from keras_quant.anytime.thresholds import (
    Choice,
    Choices,
    cheapest,
    front,
    judge,
    most_accurate,
)
from keras_quant.bench.measure import Settings, measure
from keras_quant.data import Dataset, Split
from keras_quant.errors import DataError, RunError, UsageError
from keras_quant.jobs.begin import now
from keras_quant.jobs.candidates import candidate
from keras_quant.jobs.ensembles import check_format
from keras_quant.jobs.paths import dataset_of
from keras_quant.pixels import normalize
from keras_quant.preprocessing import Preprocessing
from keras_quant.proof.formats import FORMATS
from keras_quant.proof.record import digest
from keras_quant.runners.batches import IMAGES_AT_ONCE
from keras_quant.runners.child import ChildRunner
from keras_quant.runs import RunFolder, exits, records, stages
from keras_quant.runs.exits import BudgetPoint, ExitPoint, ExitsRecord, SplitOutcome
from keras_quant.runs.progress import Progress
from keras_quant.runs.stages import StageFile
from keras_quant.version import __version__

COSTS = ("macs", "ms")
RUNTIMES = {"tflite": "litert", "onnx": "onnxruntime"}
"""What measures the stages of a format, see `bench.runtimes`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opened:
    """A run's stages, loaded.

    Attributes:
        folder: that they lie in.
        format: a key of FORMATS.
        files: all of them, as recorded.
        loaded: those that were asked for, each in a child process.
        preprocess: what becomes of pixels in front of the first; None for floats as they are.
        takes_pixels: whether the first takes pixels whatever becomes of them.
    """

    folder: Path
    format: str
    files: tuple[StageFile, ...]
    loaded: tuple[LoadedStage, ...]
    preprocess: Preprocessing | None
    takes_pixels: bool

    @property
    def input(self) -> str:
        """The name of the first stage's input."""
        return self.files[0].inputs[0].name

    def inputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Some images as the stages take them."""
        if self.takes_pixels and images.dtype == np.uint8:
            return {self.input: images}
        return {self.input: normalize(images, self.preprocess)}

    @property
    def classes(self) -> int:
        """How many the last stage tells apart."""
        last = self.files[-1]
        (classes,) = next(port.shape for port in last.outputs if port.name == last.answer)
        return classes

    def macs(self) -> np.ndarray:
        """Multiply-accumulates up to each exit."""
        return np.cumsum([float(file.macs) for file in self.files])


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A run's stages, as its stages.json tells of them; see `Opened`."""

    folder: Path
    format: str
    files: tuple[StageFile, ...]
    preprocess: Preprocessing | None


def recorded_stages(run: Path, form: str | None = None) -> Recorded:
    """What is on record of the stages of a run.

    Args:
        form: a key of FORMATS; None means the first that is there.
    Raises:
        RunError: there is no such run, or it was exported without stages.
        UsageError: there are none of that format, or no such format.
    """
    folder = RunFolder(run).export / stages.FOLDER
    if not (folder / stages.FILE_NAME).exists():
        records.load(run)
        raise RunError(
            f"{run}: has no stages. Write them first: kq export {run} --stages; its model needs "
            "early exits (kq train --exits LAYER,LAYER)"
        )
    if form is not None:
        check_format(form)
    record = stages.load(folder)
    name = form or next(iter(record.formats), "")
    if name not in record.formats:
        raise UsageError(
            f"{folder} has stages of {', '.join(record.formats) or 'no format'}. Write them: kq "
            f"export {run} --stages --to {name or 'tflite'}"
        )
    return Recorded(
        folder=folder,
        format=name,
        files=record.formats[name].stages,
        preprocess=record.preprocess,
    )


def open_stages(run: Path, form: str | None = None, *, part: slice = slice(None)) -> Opened:
    """Loads the stages of a run.

    Args:
        form: a key of FORMATS; None means the first that is there.
        part: those that are to be loaded; the files of others need not be there.
    Raises:
        RunError: there is no such run, it was exported without stages, or files are others than
            those that were proven.
        UsageError: there are none of that format.
    """
    known = recorded_stages(run, form)
    files = known.files[part]
    runner = FORMATS[known.format].runner
    runners = [ChildRunner(runner, _checked(known.folder, file)) for file in files]
    return Opened(
        folder=known.folder,
        format=known.format,
        files=known.files,
        loaded=tuple(map(LoadedStage.of, files, runners)),
        preprocess=known.preprocess,
        takes_pixels=runners[0].info.takes_pixels,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which thresholds are asked for.

    Attributes:
        rule: a key of `rules.RULES`.
        accuracy: share of the validation images to be answered rightly, at the least mean cost;
            None means that of the last exit, where no budget is given.
        budget: mean cost of an image that is not to be passed, at the greatest accuracy; as a
            share of all stages' cost where it is 1 or less.
        cost: one of COSTS.
    """

    rule: str = "entropy"
    accuracy: float | None = None
    budget: float | None = None
    cost: str = "macs"

    @property
    def unit(self) -> str:
        """Of costs, as records name it."""
        return "MACs" if self.cost == "macs" else "ms"


def choose_thresholds(
    run: Path,
    asked: Asked,
    *,
    form: str | None = None,
    dataset: str | None = None,
    progress: Progress,
) -> ExitsRecord:
    """Chooses thresholds of a run's stages on its validation images, and judges them on its test.

    Returns: the record, as written into the run.
    Raises:
        UsageError: options that do not go together, or ask for what no thresholds reach.
        DataError: the images have no labels, or other classes.
    """
    if problems := check_asked(asked):
        raise UsageError("; ".join(problems))
    opened = open_stages(run, form)
    data = dataset_of(run, dataset)
    _check_classes(opened, data)
    costs = costs_of(opened, asked, progress)
    known = {
        name: _answered(opened, split, asked.rule, name, progress)
        for name, split in (("validation", data.validation), ("test", data.test))
    }
    sure, correct = known["validation"]
    choices = judge(sure, correct, costs)
    chosen, wanted = choose(choices, correct, costs, asked)
    record = ExitsRecord(
        **described(opened, asked, chosen, wanted, known, costs),
        exits=tuple(
            ExitPoint(
                answer=file.answer,
                cost=float(one_cost),
                validation_accuracy=float(known["validation"][1][place].mean()),
                test_accuracy=float(known["test"][1][place].mean()),
            )
            for place, (file, one_cost) in enumerate(zip(opened.files, costs, strict=True))
        ),
        budgets=tuple(_budget_point(one, *known["test"], costs) for one in front(choices)),
    )
    exits.save(record, run)
    return record


def described(
    opened: Opened,
    asked: Asked,
    chosen: Choice,
    wanted: float,
    known: Mapping[str, tuple[np.ndarray, np.ndarray]],
    costs: np.ndarray,
) -> dict[str, Any]:
    """The fields of a `ChosenThresholds`.

    Args:
        wanted: the accuracy that they were chosen for, or the budget.
        known: of "validation" and "test", how sure each exit is and whether it is right, both
            (exits, images).
        costs: (exits,), of an image up to each.
    """
    return {
        "created": now(),
        "kq_version": __version__,
        "format": opened.format,
        "files": tuple(file.sha256 for file in opened.files),
        "rule": asked.rule,
        "thresholds": chosen.thresholds,
        "cost": asked.unit,
        "accuracy": wanted if asked.budget is None else None,
        "budget": None if asked.budget is None else wanted,
        **{part: _split_outcome(part, chosen, *known[part], costs) for part in known},
    }


def check_asked(asked: Asked) -> list[str]:
    """What is wrong with what is asked for, a text each."""
    accuracy, budget = asked.accuracy, asked.budget
    problems = unknown_rule(asked.rule)
    if asked.cost not in COSTS:
        problems.append(f"--cost {asked.cost!r} is not known; costs are {', '.join(COSTS)}")
    if accuracy is not None and budget is not None:
        problems.append("--accuracy and --budget ask for different thresholds: give one of them")
    if accuracy is not None and not 0 < accuracy <= 1:
        problems.append(f"--accuracy is {accuracy:g}; a share above 0, up to 1, is allowed")
    if budget is not None and not 0 < budget < float("inf"):
        problems.append(f"--budget is {budget:g}; a number above 0 is allowed")
    return problems


def costs_of(opened: Opened, asked: Asked, progress: Progress) -> np.ndarray:
    """The cost of an image up to each exit, (exits,)."""
    if asked.cost == "macs":
        return opened.macs()
    return np.cumsum(_measured_ms(opened, progress))


def choose(
    choices: Choices, correct: np.ndarray, costs: np.ndarray, asked: Asked
) -> tuple[Choice, float]:
    """The thresholds that are asked for.

    Args:
        correct: bool (exits, images).
        costs: (exits,).
    Returns: these, and the accuracy or the budget that was to be kept.
    Raises:
        BudgetError: no thresholds keep it.
    """
    if asked.budget is not None:
        wanted = asked.budget * float(costs[-1]) if asked.budget <= 1 else asked.budget
        return most_accurate(choices, wanted), wanted
    wanted = float(correct[-1].mean()) if asked.accuracy is None else asked.accuracy
    return cheapest(choices, wanted), wanted


def _checked(folder: Path, file: StageFile) -> Path:
    """The path of a stage that is the one which was proven."""
    path = folder / file.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(
            f"{path}: cannot be read: {error.strerror}. Export the run again with --stages"
        ) from None
    if digest(content) != file.sha256:
        raise RunError(
            f"{path}: is not the file that {stages.FILE_NAME} says was proven. Export the run "
            "again with --stages"
        )
    return path


def check_shape(opened: Opened, given: tuple[int, ...], name: str) -> None:
    """Raises: DataError: stages take images of another shape than those of that name."""
    shape = tuple(opened.files[0].inputs[0].shape)
    if shape != tuple(given):
        raise DataError(f"{opened.folder}: stages take {shape}; images of {name} are {given}")


def _check_classes(opened: Opened, data: Dataset) -> None:
    check_shape(opened, data.input_shape, data.name)
    if not data.has_labels:
        raise DataError(
            f"{data.name} has no labels, and thresholds are chosen by what is answered rightly: "
            "give images with labels"
        )
    check_exits(opened, data.num_classes, data.name)


def check_exits(opened: Opened, wanted: int, name: str) -> None:
    """Raises: DataError: an exit tells other classes apart than what has that name."""
    for file in opened.files:
        (classes,) = next(port.shape for port in file.outputs if port.name == file.answer)
        if classes != wanted:
            raise DataError(
                f"{opened.folder / file.file}: tells {classes} classes apart; {name} has {wanted}"
            )


def _answered(
    opened: Opened, split: Split, rule: str, name: str, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """How sure each exit is of each image, and whether it is right, (exits, images)."""
    if not len(split):
        raise DataError(f"there are no {name} images to answer")
    sure, correct = [], []
    with progress.bar(f"answering {name} images", len(split)) as show:
        for start in range(0, len(split), IMAGES_AT_ONCE):
            rows = slice(start, start + IMAGES_AT_ONCE)
            logits = all_answers(opened.loaded, opened.inputs(split.x[rows]))
            sure.append(sureness(logits, rule))
            correct.append(logits.argmax(axis=-1) == split.y[rows])
            show(min(rows.stop, len(split)), "")
    return np.concatenate(sure, axis=1), np.concatenate(correct, axis=1)


def _measured_ms(opened: Opened, progress: Progress) -> list[float]:
    """The median latency of each stage, one image and one thread, measured in turn."""
    if opened.format not in RUNTIMES:
        raise UsageError(
            f"--cost ms: stages of {opened.format} are not measured here, but on a board; give "
            f"--cost macs, or --format {' or '.join(RUNTIMES)}"
        )
    runtime = RUNTIMES[opened.format]
    found, _ = measure(
        [candidate(opened.folder / file.file, runtime, name=file.file) for file in opened.files],
        Settings(),
        say=progress.say,
    )
    by_name = {one.name: one.summary.p50_ms for one in found}
    return [by_name[file.file] for file in opened.files]


def _split_outcome(
    split: str, chosen: Choice, sure: np.ndarray, correct: np.ndarray, costs: np.ndarray
) -> SplitOutcome:
    """What thresholds come to on images.

    Args:
        split: what these are called.
        sure: (exits, images).
        correct: bool (exits, images).
        costs: (exits,).
    """
    taken = exits_taken(sure, np.array(chosen.thresholds))
    found = outcome(correct, taken, costs)
    return SplitOutcome(
        split=split,
        images=found.images,
        accuracy=found.accuracy,
        mean_cost=found.mean_cost,
        exit_shares=found.exit_shares,
    )


def _budget_point(
    chosen: Choice, sure: np.ndarray, correct: np.ndarray, costs: np.ndarray
) -> BudgetPoint:
    found = outcome(correct, exits_taken(sure, np.array(chosen.thresholds)), costs)
    return BudgetPoint(
        thresholds=chosen.thresholds, mean_cost=found.mean_cost, accuracy=found.accuracy
    )

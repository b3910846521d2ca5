"""exits.json: when an early answer of a run's stages is enough, and what that buys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keras_quant.errors import RunError
from keras_quant.files import read_record, write_json

FILE_NAME = "exits.json"
FORMAT_VERSION = 1
_REMEDY = "Choose them again: kq anytime thresholds RUN"


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitOutcome:
    """What thresholds come to on images.

    Attributes:
        split: "validation" or "test".
        images: how many.
        accuracy: share of them that is answered rightly.
        mean_cost: of an image.
        exit_shares: share of the images that ends at each exit.
    """

    split: str
    images: int
    accuracy: float
    mean_cost: float
    exit_shares: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitPoint:
    """One exit, where all images end at it: a point of the anytime curve (Huang et al. 2018).

    Attributes:
        answer: name of the output.
        cost: of all stages up to it.
        validation_accuracy, test_accuracy: of its answers.
    """

    answer: str
    cost: float
    validation_accuracy: float
    test_accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetPoint:
    """Thresholds that none beat on the validation images: a point of the budgeted curve.

    Attributes:
        thresholds: of all exits but the last.
        mean_cost, accuracy: on the test images.
    """

    thresholds: tuple[float, ...]
    mean_cost: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenThresholds:
    """Thresholds of a run's stages, how they were chosen, and what they come to.

    Attributes:
        format: of the stages that answered.
        files: SHA-256 of their files, in order.
        rule: a key of `anytime.rules.RULES`.
        thresholds: of all exits but the last; 2 is never.
        cost: what costs are: "MACs", or "ms" of stages measured one image at a time.
        accuracy: what was asked for; None where a budget was.
        budget: likewise.
        validation: of what the thresholds were chosen on.
        test: of what nothing was chosen on.
    """

    created: str
    kq_version: str
    format: str
    files: tuple[str, ...]
    rule: str
    thresholds: tuple[float, ...]
    cost: str
    accuracy: float | None
    budget: float | None
    validation: SplitOutcome
    test: SplitOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitsRecord(ChosenThresholds):
    """Thresholds of the answers to one view.

    Attributes:
        exits: each by itself.
        budgets: each best trade-off between accuracy and mean cost.
    """

    exits: tuple[ExitPoint, ...]
    budgets: tuple[BudgetPoint, ...]
    format_version: int = FORMAT_VERSION


def save(record: ExitsRecord, run: Path) -> Path:
    """Writes a record into a run's folder. Raises: FileError."""
    path = run / FILE_NAME
    write_json(path, record)
    return path


def load(run: Path) -> ExitsRecord:
    """Reads a run's record.

    Raises:
        RunError: it is missing, broken, or of a newer format.
    """
    path = run / FILE_NAME
    if not path.exists():
        raise RunError(f"{run}: has no {FILE_NAME}. {_REMEDY}")
    return read_record(
        path, ExitsRecord, remedy=_REMEDY, format_version=FORMAT_VERSION, problems_of=_problems
    )


def _problems(record: ExitsRecord) -> Iterator[str]:
    """What the fields do not say together."""
    if len(record.thresholds) != len(record.exits) - 1:
        yield (
            f"thresholds: {len(record.thresholds)} for {len(record.exits)} exits; one less than "
            "exits is needed"
        )

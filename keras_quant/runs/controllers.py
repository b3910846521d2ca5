"""controller.json: a controller that was chosen, with the files that it runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keras_quant.errors import RunError
from keras_quant.files import read_record, write_json

FORMAT_VERSION = 1
_REMEDY = "Choose it again: kq anytime simulate RUN RUN --save FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceRecord:
    """A file that may be run.

    Attributes:
        run: that it is of: a path from the folder of the record on, or an absolute one.
        sha256: of its content.
        cost: of an image, in the record's unit.
    """

    name: str
    run: str
    sha256: str
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionRecord:
    """What gives an answer.

    Attributes:
        pieces: places of those whose answers are put together; mostly one.
    """

    name: str
    pieces: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRecord:
    """What follows the options of a path; see `anytime.controller.Rule`.

    Attributes:
        after: the path, places of options.
        then: places of options, None to answer.
    """

    after: tuple[int, ...]
    thresholds: tuple[float, ...]
    then: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerRecord:
    """A controller, and what it came to when it was simulated.

    Attributes:
        input_shape: of an image with all its pixels, which nets that take fewer are given averaged;
            () in files that are older than such nets.
        format: of the files.
        rule: see `anytime.rules.ease`.
        place, is_estimate, unit: of the costs.
        pieces: of each run in the order of its stages.
        first: place of the option that every image begins with.
        validation_accuracy, test_accuracy: that it reached.
        mean_cost, p99_cost: of a test image.
    """

    created: str
    kq_version: str
    dataset: str
    format: str
    rule: str
    place: str
    is_estimate: bool
    unit: str
    pieces: tuple[PieceRecord, ...]
    options: tuple[OptionRecord, ...]
    first: int
    rules: tuple[RuleRecord, ...]
    validation_accuracy: float
    test_accuracy: float
    mean_cost: float
    p99_cost: float
    input_shape: tuple[int, ...] = ()
    format_version: int = FORMAT_VERSION


def save(record: ControllerRecord, path: Path) -> None:
    """Writes a record. Raises: FileError."""
    write_json(path, record)


def load(path: Path) -> ControllerRecord:
    """Reads a record.

    Raises:
        RunError: it is missing, broken, or of a newer format.
    """
    return read_record(
        path,
        ControllerRecord,
        remedy=_REMEDY,
        format_version=FORMAT_VERSION,
        problems_of=_problems,
    )


def run_of(path: Path, run: str) -> Path:
    """A run that the record in a file names.

    Raises:
        RunError: it is not there.
    """
    found = path.parent / run
    if not found.is_dir():
        raise RunError(f"{path}: its run {found} is not there. Copy it there, or choose again")
    return found


def _problems(record: ControllerRecord) -> Iterator[str]:
    """What the fields do not say together."""
    options, pieces = range(len(record.options)), range(len(record.pieces))
    if min(record.input_shape, default=1) < 1:
        yield f"input_shape: is {list(record.input_shape)}; sides are 1 or more"
    for option in record.options:
        if not option.pieces or not set(option.pieces) <= set(pieces):
            yield f"options: {option.name!r} is made of pieces that are not there"
    if record.first not in options:
        yield f"first: is {record.first}; options are 0 to {len(options) - 1}"
    for place, rule in enumerate(record.rules):
        named = {*rule.after, *(one for one in rule.then if one is not None)}
        if not rule.after or not named <= set(options):
            yield f"rules[{place}]: names options that are not there"
        if len(rule.then) != len(rule.thresholds) + 1:
            yield f"rules[{place}]: has {len(rule.thresholds)} thresholds for {len(rule.then)} ways"
        if any(option in rule.after for option in rule.then):
            yield f"rules[{place}]: goes on with an option that has run"

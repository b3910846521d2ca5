"""ensemble.json: which runs are one ensemble, and how their answers become one."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_quant.errors import RunError
from keras_quant.files import make_folder, read_record, write_json
from keras_quant.runs import records
from keras_quant.version import __version__

FILE_NAME = "ensemble.json"
FORMAT_VERSION = 1
COMBINATIONS = ("mean", "logits", "vote", "sum")
"""The mean of probabilities, or of logits; votes; or the sum of logits, each times a weight."""
_REMEDY = "Make it again: kq anytime train-ensemble"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleMember:
    """One of the runs.

    Attributes:
        run: its path from the ensemble's folder, with / in it.
        created: when the run was begun, as its record says: one that is trained anew is another.
        weight: of its logits in a sum.
    """

    run: str
    created: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleRecord:
    """An ensemble.

    Attributes:
        kind: how its members were trained, one of `train_ensemble.KINDS`.
        combination: one of COMBINATIONS.
    """

    created: str
    kq_version: str
    kind: str
    combination: str
    members: tuple[EnsembleMember, ...]
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Combined:
    """Runs, and how their answers become one.

    Attributes:
        weights: of each run's logits, where they are summed.
    """

    runs: tuple[Path, ...]
    combination: str = "mean"
    weights: tuple[float, ...] = ()


def save(
    folder: Path,
    runs: Sequence[Path],
    *,
    kind: str,
    combination: str,
    weights: Sequence[float],
    created: str,
) -> Path:
    """Writes an ensemble's folder.

    Args:
        runs: finished ones.
        weights: one a run.
        created: local time with offset, ISO 8601.
    Returns: the file.
    Raises:
        RunError: a run is gone.
        FileError: the system refuses.
    """
    members = tuple(
        EnsembleMember(
            run=Path(os.path.relpath(run, folder)).as_posix(),
            created=records.load(run).created,
            weight=weight,
        )
        for run, weight in zip(runs, weights, strict=True)
    )
    record = EnsembleRecord(
        created=created,
        kq_version=__version__,
        kind=kind,
        combination=combination,
        members=members,
    )
    path = make_folder(folder) / FILE_NAME
    write_json(path, record)
    return path


def is_ensemble(path: Path) -> bool:
    """Whether a path is an ensemble's folder."""
    return (path / FILE_NAME).is_file()


def load(folder: Path) -> Combined:
    """Reads an ensemble's folder.

    Returns: its runs, as paths that can be opened.
    Raises:
        RunError: the file is missing, broken, or of a newer format; or a run is gone, or was
            trained anew since: the others were not trained to go with that one.
    """
    path = folder / FILE_NAME
    record = read_record(
        path, EnsembleRecord, remedy=_REMEDY, format_version=FORMAT_VERSION, problems_of=_problems
    )
    runs = tuple(Path(os.path.normpath(folder / member.run)) for member in record.members)
    changed = [
        str(run)
        for run, member in zip(runs, record.members, strict=True)
        if records.load(run).created != member.created
    ]
    if changed:
        raise RunError(
            f"{path}: {', '.join(changed)}: trained anew since this ensemble was made. {_REMEDY} "
            "--overwrite"
        )
    return Combined(
        runs=runs,
        combination=record.combination,
        weights=tuple(member.weight for member in record.members),
    )


def _problems(record: EnsembleRecord) -> Iterator[str]:
    """What the fields do not say together."""
    if record.combination not in COMBINATIONS:
        yield f"combination: is {record.combination!r}; allowed are {', '.join(COMBINATIONS)}"
    if len(record.members) < 2:
        yield f"members: {len(record.members)} is named; an ensemble has two or more"
    for place, member in enumerate(record.members):
        if not math.isfinite(member.weight):
            yield f"members[{place}].weight: is {member.weight}; a finite number is needed"

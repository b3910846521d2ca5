"""Records of arrays with one row a channel: picked, replaced and joined, all fields alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """A record whose arrays all have channels as their first axis, as those within it have.

    What else it holds is the same for all channels.
    """


Record = TypeVar("Record", bound=Rows)


def select_rows(record: Record, index: np.ndarray | slice) -> Record:
    """The rows at the given positions, or where a mask (channels,) bool is true."""
    if isinstance(index, np.ndarray) and index.dtype == bool and index.all():
        return record
    return _combined(lambda rows: rows[0][index], [record])


def replace_rows(record: Record, index: np.ndarray, part: Record) -> Record:
    """The record with the rows at the given positions, or of a mask, replaced by another's."""

    def put(rows: Sequence[np.ndarray]) -> np.ndarray:
        values: np.ndarray = rows[0].copy()
        values[index] = rows[1]
        return values

    return _combined(put, [record, part])


def concatenate_rows(records: Sequence[Record]) -> Record:
    """The rows of records one after the other."""
    return records[0] if len(records) == 1 else _combined(np.concatenate, records)


def _combined(
    combine: Callable[[Sequence[np.ndarray]], np.ndarray], records: Sequence[Record]
) -> Record:
    made = {}
    for field in fields(records[0]):
        values = [getattr(record, field.name) for record in records]
        if isinstance(values[0], np.ndarray):
            made[field.name] = combine(values)
        elif isinstance(values[0], Rows):
            made[field.name] = _combined(combine, values)
        else:
            made[field.name] = values[0]
    return type(records[0])(**made)

"""In what runs differ, field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keras_quant.json_codec import to_json
from keras_quant.runs.records import RunRecord

_UNLIKE = ("command", "created", "figures")  # differ anyway, or are shown by name


def differences(records: Sequence[RunRecord]) -> list[tuple[str, list[object]]]:
    """Lists what is not the same in all records: figures first, then settings and machines.

    Args:
        records: two or more.
    Returns: a field's name, as in "training.epochs", and its value in each record; None where a
        record has none.
    """
    return [
        (name, values)
        for read in (_figures, _settings)
        for name, values in _rows([read(record) for record in records])
        if any(value != values[0] for value in values)
    ]


def _rows(columns: Sequence[Mapping[str, object]]) -> Iterator[tuple[str, list[object]]]:
    for name in dict.fromkeys(name for column in columns for name in column):
        yield name, [column.get(name) for column in columns]


def _figures(record: RunRecord) -> dict[str, object]:
    return {
        ", ".join(filter(None, (figure.name, figure.notes))): f"{figure.value:,.6g} {figure.unit}"
        for figure in record.figures
    }


def _settings(record: RunRecord) -> dict[str, object]:
    plain = {
        name: value for name, value in json.loads(to_json(record)).items() if name not in _UNLIKE
    }
    return dict(_leaves(plain, ""))


def _leaves(value: Any, name: str) -> Iterator[tuple[str, object]]:
    """What is no mapping, by dotted names; lists are written on one line."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        yield name, json.dumps(value, ensure_ascii=False) if value else None
    else:
        yield name, value

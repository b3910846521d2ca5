"""JSON of dataclasses, both ways; reading is strict and reports all problems at once."""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

from keras_quant.errors import shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Record = TypeVar("_Record", bound="DataclassInstance")

_NEEDED = {
    bool: "true or false",
    tuple: "a list",
    float: "a number",
    int: "a whole number",
    str: "a text",
}


def to_json(value: object) -> str:
    """Gives indented JSON of dataclasses, mappings, sequences, numpy values and paths.

    JSON has neither NaN nor infinity: null stands for them.

    Raises:
        TypeError: value holds something else.
    """
    return json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)


def from_plain(
    content: Mapping[str, Any], kind: type[_Record], problems: list[str], *, where: str = ""
) -> _Record | None:
    """Turns a JSON object into a dataclass.

    Fields may be annotated with dataclasses, tuple[X, ...], Mapping[str, X], X | None, Any,
    str, int and float.

    Args:
        content: what json.loads gave.
        kind: the dataclass.
        problems: gets a line "field: what is wrong" for each unknown field, missing field
            and value of another type.
        where: what stands before the names of fields in these lines.
    Returns: the record; None where problems were added.
    """
    before = len(problems)
    prefix = f"{where}." if where else ""
    kinds = typing.get_type_hints(kind)
    known = {entry.name: entry for entry in fields(kind)}
    for name in sorted(content.keys() - known.keys()):
        problems.append(f"{prefix}{name}: unknown field; known are {', '.join(known)}")
    for name, entry in known.items():
        required = entry.default is MISSING and entry.default_factory is MISSING
        if required and name not in content:
            problems.append(f"{prefix}{name}: missing")
    values = {
        name: _decode(content[name], kinds[name], f"{prefix}{name}", problems)
        for name in known
        if name in content
    }
    return kind(**values) if len(problems) == before else None


def _plain(value: Any) -> Any:
    """The same value in the types that the json module knows."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy arrays and scalars, without importing numpy
        return _plain(value.tolist())
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _decode(value: Any, kind: Any, where: str, problems: list[str]) -> Any:
    """Turns JSON into a value of an annotated type; collects what does not fit."""
    if kind is Any:
        return value
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, dict):
        return from_plain(value, kind, problems, where=where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else _decode(value, arguments[0], where, problems)
    if origin is tuple and isinstance(value, list):
        return tuple(
            _decode(item, arguments[0], f"{where}[{index}]", problems)
            for index, item in enumerate(value)
        )
    if origin is Mapping and isinstance(value, dict):
        return {
            key: _decode(item, arguments[1], f"{where}.{key}", problems)
            for key, item in value.items()
        }
    if kind is float and type(value) in (int, float):
        try:
            return float(value)
        except OverflowError:  # a whole number of more than 308 digits
            problems.append(f"{where}: is {shown(value)}; that is beyond any float")
            return None
    if kind in (bool, int, str) and type(value) is kind:
        return value
    problems.append(
        f"{where}: is {shown(value)}; {_NEEDED.get(origin or kind, 'an object')} is needed"
    )
    return None

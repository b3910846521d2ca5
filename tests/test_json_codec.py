from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_quant.errors import shown
from keras_quant.json_codec import from_plain, to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    size_bytes: int
    share: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    name: str
    inner: Inner
    parts: tuple[Inner, ...] = ()
    sizes: Mapping[str, int] | None = None
    scale: float | None = None
    options: Any = None


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Inner(size_bytes=3), {"size_bytes": 3, "share": 0.5}),
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.int8([[1], [2]]), [[1], [2]]),
        (np.bool_(True), True),
        (Path("a") / "b", str(Path("a") / "b")),
        ({1: (None, True, "ü")}, {"1": [None, True, "ü"]}),
        ([float("nan"), float("inf"), np.array([np.nan])], [None, None, [None]]),
    ],
)
def test_value_becomes_plain_json(value: object, plain: object) -> None:
    assert json.loads(to_json(value)) == plain


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="object has no JSON form"):
        to_json(object())


def test_dataclass_survives_the_round_trip() -> None:
    record = Outer(
        name="a",
        inner=Inner(size_bytes=1),
        parts=(Inner(size_bytes=2), Inner(size_bytes=3)),
        sizes={"train": 7},
        scale=1.0,
        options={"alpha": [1]},
    )
    problems: list[str] = []
    assert from_plain(json.loads(to_json(record)), Outer, problems) == record
    assert problems == []


def test_all_problems_are_told_with_their_place() -> None:
    content = {
        "nme": "a",
        "inner": {"size_bytes": 1.5, "share": True},
        "parts": [{"size_bytes": 1}, {}, 7],
        "sizes": {"train": "many"},
        "scale": [],
    }
    problems: list[str] = []
    assert from_plain(content, Outer, problems) is None
    assert problems == [
        "nme: unknown field; known are name, inner, parts, sizes, scale, options",
        "name: missing",
        "inner.size_bytes: is 1.5; a whole number is needed",
        "inner.share: is True; a number is needed",
        "parts[1].size_bytes: missing",
        "parts[2]: is 7; an object is needed",
        "sizes.train: is 'many'; a whole number is needed",
        "scale: is []; a number is needed",
    ]


def test_true_and_false_are_no_numbers_and_come_back() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Switch:
        on: bool

    problems: list[str] = []
    assert from_plain({"on": True}, Switch, problems) == Switch(on=True) and not problems
    assert from_plain({"on": 1}, Switch, problems) is None
    assert problems == ["on: is 1; true or false is needed"]


def test_a_long_value_is_quoted_in_part() -> None:
    @dataclass(frozen=True)
    class Named:
        name: int

    problems: list[str] = []
    assert from_plain({"name": "x" * 100_000}, Named, problems) is None
    assert problems == [f"name: is '{'x' * 199}... (100,002 characters); a whole number is needed"]


def test_a_whole_number_beyond_any_float_is_told() -> None:
    problems: list[str] = []
    content = {"name": "a", "inner": {"size_bytes": 10**400}, "scale": 10**400}
    assert from_plain(content, Outer, problems) is None
    assert problems == [f"scale: is {shown(10**400)}; that is beyond any float"]

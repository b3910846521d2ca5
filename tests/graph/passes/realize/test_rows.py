from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_quant.graph.passes.realize.rows import (
    Rows,
    concatenate_rows,
    replace_rows,
    select_rows,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inner(Rows):
    b: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outer(Rows):
    a: np.ndarray
    name: str
    inner: Inner


def record(*values: int) -> Outer:
    rows = np.array(values)
    return Outer(a=rows, name="same", inner=Inner(b=10 * rows))


def values_of(made: Outer) -> list[int]:
    assert made.name == "same"
    np.testing.assert_array_equal(made.inner.b, 10 * made.a)
    return made.a.tolist()


def test_rows_are_selected_by_position_slice_and_mask() -> None:
    of = record(5, 6, 7)
    assert values_of(select_rows(of, np.array([2, 0]))) == [7, 5]
    assert values_of(select_rows(of, slice(1, None))) == [6, 7]
    assert values_of(select_rows(of, np.array([True, False, True]))) == [5, 7]


def test_all_rows_of_a_mask_are_the_record_itself() -> None:
    of = record(5, 6)
    assert select_rows(of, np.array([True, True])) is of


def test_replacing_rows_leaves_the_record_as_it_was() -> None:
    of = record(5, 6, 7)
    assert values_of(replace_rows(of, np.array([2, 0]), record(8, 9))) == [9, 6, 8]
    assert values_of(replace_rows(of, np.array([False, True, False]), record(8))) == [5, 8, 7]
    assert values_of(of) == [5, 6, 7]


def test_rows_are_joined_in_order() -> None:
    assert values_of(concatenate_rows([record(5), record(), record(6, 7)])) == [5, 6, 7]

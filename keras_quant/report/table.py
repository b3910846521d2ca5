"""Tables of a report: cells that are shown in one way, and sorted in another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what is shown.
        value: what it is sorted by.
    """

    text: str
    value: float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of cells under headings; those in `numeric` are aligned to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: frozenset[int] = frozenset()


def text(value: str) -> Cell:
    """A cell that is sorted as it reads."""
    return Cell(text=value, value=value)


def number(value: float | None, form: str, factor: float = 1) -> Cell:
    """A number in some unit, or an empty cell, which is sorted below all."""
    if value is None:
        return Cell(text="", value=float("-inf"))
    scaled = value * factor if factor != 1 else value
    return Cell(text=format(scaled, form), value=scaled)

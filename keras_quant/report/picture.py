"""A picture of a report."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture, and what it is called; no two of a report have one name."""

    name: str
    title: str
    figure: Figure

"""How pictures look: readable at the width of a column, in grey, and by colour-blind readers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH, HEIGHT = 6.4, 3.8  # inches
FLOAT_COLOUR = "#000000"
# Okabe and Ito, "Color universal design", 2008: told apart by colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "oD^vPX"
LineStyle = Literal["-", "--", "-.", ":"]
LINES: tuple[LineStyle, ...] = ("-", "--", "-.", ":")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How one method is drawn: three things, any of which tells it from the others."""

    colour: str
    marker: str
    line: LineStyle


FLOAT_LOOK = Look(colour=FLOAT_COLOUR, marker="s", line=":")


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """How each method is drawn; "float" is black, the others in the order of their names."""
    others = sorted(set(methods) - {"float"})
    found = {"float": FLOAT_LOOK}
    for place, method in enumerate(others):
        found[method] = Look(
            colour=COLOURS[place % len(COLOURS)],
            marker=MARKERS[place % len(MARKERS)],
            line=LINES[place % len(LINES)],
        )
    return found


@contextmanager
def plain_texts() -> Iterator[None]:
    """Draws texts as they are: names may hold "$", between two of which matplotlib reads formulas.

    For what draws a figure (`@plain_texts()`), and what writes it, which makes the last texts.
    """
    with rc_context({"text.parse_math": False}):
        yield


def new_axes(title: str, *, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """A figure of one picture; it belongs to no window, and changes no setting of matplotlib."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize="medium")
    add_grid(axes)
    return figure, axes


def add_grid(axes: Axes, *, axis: Literal["both", "x", "y"] = "both") -> None:
    """Draws faint lines behind what is drawn, at the major ticks of an axis."""
    axes.grid(True, axis=axis, alpha=0.3)
    axes.set_axisbelow(True)

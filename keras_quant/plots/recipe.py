"""The table of a recipe as bars, a panel for each column."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from keras_quant.plots.style import COLOURS, WIDTH

if TYPE_CHECKING:
    from keras_quant.jobs.recipe import Results

_INCHES_A_ROW, _INCHES_A_PANEL = 0.28, 0.9


def draw_results(results: Results) -> Figure:
    """Draws a panel a column, with a bar a row; figures that there are none of have no bar."""
    rows, columns = list(results.rows), list(results.columns.items())
    height = 0.6 + len(columns) * (_INCHES_A_PANEL + _INCHES_A_ROW * len(rows))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(f"{results.title} ({results.scale})", fontsize="medium")
    for place, (name, unit) in enumerate(columns):
        axes = figure.add_subplot(len(columns), 1, place + 1)
        for at, row in enumerate(rows):
            value = results.rows[row][name]
            if value is None:
                continue
            axes.barh(at, value, color=COLOURS[0], height=0.7)
            axes.text(value, at, f" {value:,.4g}", va="center", fontsize=7)
        axes.set_yticks(range(len(rows)), rows, fontsize="small")
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(f"{name} ({unit})", fontsize="small")
        axes.margins(x=0.15)
        axes.grid(True, axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    return figure

"""The table of a recipe as bars, a panel for each column."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from keras_quant.jobs.recipe import headings
from keras_quant.plots.style import COLOURS, WIDTH, add_grid, plain_texts

if TYPE_CHECKING:
    from keras_quant.jobs.recipe import Results

_INCHES_A_ROW, _INCHES_A_PANEL = 0.28, 0.9


@plain_texts()
def draw_results(results: Results) -> Figure:
    """Draws a panel a column, with a bar for each row that has a figure there."""
    panels = []
    for name, label in zip(results.columns, headings(results.columns), strict=True):
        cells = {row: figures[name] for row, figures in results.rows.items()}
        bars = {row: value for row, value in cells.items() if value is not None}
        panels.append((label, bars))
    heights = [_INCHES_A_PANEL + _INCHES_A_ROW * len(bars) for _, bars in panels]
    figure = Figure(figsize=(WIDTH, 0.6 + sum(heights)), layout="constrained")
    figure.suptitle(f"{results.title} ({results.scale})", fontsize="medium")
    grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
    for place, (label, bars) in enumerate(panels):
        axes = figure.add_subplot(grid[place])
        axes.barh(range(len(bars)), list(bars.values()), color=COLOURS[0], height=0.7)
        for at, value in enumerate(bars.values()):
            axes.text(value, at, f" {value:,.4g}", va="center", fontsize=7)
        axes.set_yticks(range(len(bars)), list(bars), fontsize="small")
        axes.set_ylim(max(1, len(bars)) - 0.5, -0.5)
        axes.set_xlabel(label, fontsize="small")
        axes.margins(x=0.15)
        add_grid(axes, axis="x")
    return figure

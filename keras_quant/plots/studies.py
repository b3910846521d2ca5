"""What is left of a trained net's accuracy where it is given less: fewer links, fewer pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from keras_quant.anytime.smaller import WAYS
from keras_quant.plots.style import (
    COLOURS,
    FLOAT_COLOUR,
    HEIGHT,
    LINES,
    MARKERS,
    WIDTH,
    add_grid,
    plain_texts,
)

if TYPE_CHECKING:
    from keras_quant.jobs.cut import CutStudy
    from keras_quant.jobs.resolution import ResolutionStudy

_SPANS = (
    ("alone", "this one"),
    ("from_here", "this one and all deeper"),
    ("up_to_here", "this one and all before"),
)


@plain_texts()
def cut_picture(study: CutStudy, *, title: str) -> Figure:
    """Draws accuracy over the blocks: a panel each for one, for the deeper and the earlier ones."""
    figure = Figure(figsize=(WIDTH, HEIGHT + 0.6), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    panels = figure.subplots(1, len(_SPANS), sharey=True)
    for axes, (attribute, name) in zip(panels, _SPANS, strict=True):
        for place, run in enumerate(study.runs):
            values = [100 * getattr(block, attribute) for block in run.blocks]
            colour = COLOURS[place % len(COLOURS)]
            marker, line = MARKERS[place % len(MARKERS)], LINES[place % len(LINES)]
            label = Path(run.run).name
            axes.plot(range(1, len(values) + 1), values, line, color=colour, marker=marker,
                      label=label)  # fmt: skip
            axes.axhline(100 * run.accuracy, linestyle=line, color=colour, linewidth=0.8, alpha=0.6)
        axes.set_title(f"cut: {name}", fontsize="small")
        axes.set_xlabel("residual block")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        add_grid(axes)
    panels[0].set_ylabel("test accuracy [%]")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    return figure


@plain_texts()
def resolution_picture(study: ResolutionStudy, *, title: str) -> Figure:
    """Draws accuracy against multiply-accumulates, and against the pixels that are left."""
    figure = Figure(figsize=(WIDTH, HEIGHT + 0.6), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    by_cost, by_size = figure.subplots(1, 2, sharey=True)
    for number, run in enumerate(study.runs):
        whole = run.points[0]
        ways = [way for way in WAYS if any(point.way == way for point in run.points)]
        for way in ways:
            points = [whole, *(point for point in run.points if point.way == way)]
            accuracies = [100 * point.accuracy for point in points]
            place = list(WAYS).index(way)
            look = {
                "color": COLOURS[place % len(COLOURS)],
                "marker": MARKERS[number % len(MARKERS)],
                "linestyle": LINES[number % len(LINES)],
                "label": f"{Path(run.run).name}: {WAYS[way].title}",
            }
            if WAYS[way].rebuilt:
                by_cost.plot([point.macs for point in points], accuracies, **look)
            by_size.plot([min(point.size) for point in points], accuracies, **look)
        for axes, x in ((by_cost, whole.macs), (by_size, min(whole.size))):
            axes.plot([x], [100 * whole.accuracy], "s", color=FLOAT_COLOUR, markersize=4)
    by_cost.xaxis.set_major_formatter(EngFormatter())
    by_cost.set_xlabel("multiply-accumulates of an image")
    by_cost.set_ylabel("test accuracy [%]")
    by_size.set_xlabel("shorter side that is left [pixels]")
    for axes in (by_cost, by_size):
        add_grid(axes)
    handles, labels = by_size.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize="small")
    return figure

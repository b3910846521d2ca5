"""What a controller buys in one place or more: accuracy against mean cost, and what answers."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from keras_quant.jobs.simulate import Simulated, Simulation
from keras_quant.plots.anytime import mark_chosen
from keras_quant.plots.estimated import MARK
from keras_quant.plots.labels import label_points
from keras_quant.plots.style import COLOURS, FLOAT_COLOUR, HEIGHT, WIDTH, add_grid, plain_texts
from keras_quant.plots.tradeoff import pareto

_SCALES = {"ms": (1e-3, "s"), "mJ": (1e-3, "J")}
"""By unit, what makes it one that prefixes are written before."""


@plain_texts()
def controller_picture(simulation: Simulation, *, title: str) -> Figure:
    """Draws each place in a row.

    Left, over the mean cost of an image: each exit, net and ensemble where all images get its
    answer, with their Pareto front; controllers, and the one that was chosen; and the oracle.
    Controllers are fitted to validation images, and all accuracies are of the test images. Right:
    share of the test images that each answers under the controller. Of an estimate, points are
    hollow and bars hatched.
    """
    rows = len(simulation.places)
    figure = Figure(figsize=(1.35 * WIDTH, HEIGHT * rows), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    drawn = figure.subplots(rows, 2, width_ratios=(5, 2), squeeze=False)
    for (curve, shares), place in zip(drawn, simulation.places, strict=True):
        _draw_curve(curve, place)
        _draw_shares(shares, place)
    return figure


def _draw_curve(axes: Axes, place: Simulated) -> None:
    scale, unit = _SCALES[place.unit]
    options = [(scale * one.cost, 100 * one.test_accuracy) for one in place.options]
    front = [options[index] for index in pareto(options)]
    axes.plot(
        *zip(*front, strict=True), ":", color=FLOAT_COLOUR, linewidth=1, label="their Pareto front"
    )
    axes.plot(
        *zip(*options, strict=True),
        color=FLOAT_COLOUR,
        marker="s",
        linestyle="none",
        markerfacecolor="none" if place.is_estimate else FLOAT_COLOUR,
        label="one for all images",
    )
    axes.plot(*_scaled(place.front, scale), "-", color=COLOURS[0], marker=".", label="controllers")
    axes.plot(*_scaled(place.oracle, scale), "--", color=COLOURS[2], label="oracle")
    mark_chosen(axes, scale * place.test.mean_cost, place.test.accuracy)
    axes.set_title(place.place, fontsize="small")
    axes.xaxis.set_major_formatter(EngFormatter(unit=unit))
    what = "latency" if place.unit == "ms" else "energy"
    kind = MARK if place.is_estimate else "measured"
    axes.set_xlabel(f"mean {what} of an image [{unit}], {kind}")
    axes.set_ylabel("test accuracy [%]")
    add_grid(axes)
    axes.margins(x=0.1, y=0.12)
    axes.autoscale_view()  # names are placed within the limits
    axes.legend(fontsize="small", loc="best")
    label_points(axes, options, [one.name for one in place.options])


def _scaled(
    points: tuple[tuple[float, float], ...], scale: float
) -> tuple[list[float], list[float]]:
    return [scale * cost for cost, _ in points], [100 * accuracy for _, accuracy in points]


def _draw_shares(axes: Axes, place: Simulated) -> None:
    names = [one.name for one in reversed(place.options)]
    shares = [100 * one.share for one in reversed(place.options)]
    hatch = "///" if place.is_estimate else ""
    bars = axes.barh(names, shares, color=COLOURS[0], hatch=hatch, edgecolor="white", linewidth=0)
    axes.bar_label(bars, fmt="%.1f", fontsize="small", padding=2)
    axes.tick_params(axis="y", labelsize="small")
    axes.set_xlabel("test images answered [%]")
    axes.margins(x=0.2)

"""What early exits buy: accuracy against mean cost, and where images end."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from keras_quant.plots.style import COLOURS, FLOAT_COLOUR, HEIGHT, WIDTH, add_grid, plain_texts
from keras_quant.runs.exits import ExitsRecord


@plain_texts()
def exits_picture(record: ExitsRecord, *, title: str) -> Figure:
    """Draws both settings of MSDNet (Huang et al. 2018), beside a histogram of exits.

    Left, over the mean cost of an image: each exit where all images end at it (anytime), the best
    thresholds of every budget (budgeted batch), and those that were chosen. Thresholds are of the
    validation images, accuracies of the test images. Right: share of the test images an exit.
    """
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    curve, shares = figure.subplots(1, 2, width_ratios=(3, 1))
    _draw_curve(curve, record)
    _draw_shares(shares, record.test.exit_shares)
    return figure


def _draw_curve(axes: Axes, record: ExitsRecord) -> None:
    axes.plot(
        [one.mean_cost for one in record.budgets],
        [100 * one.accuracy for one in record.budgets],
        "-",
        color=COLOURS[0],
        marker=".",
        label="thresholds, by budget",
    )
    axes.plot(
        [one.cost for one in record.exits],
        [100 * one.test_accuracy for one in record.exits],
        ":",
        color=FLOAT_COLOUR,
        marker="s",
        label="all images at one exit",
    )
    mark_chosen(axes, record.test.mean_cost, record.test.accuracy)
    unit = "MACs" if record.cost == "MACs" else "ms, measured"
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.set_xlabel(f"mean cost of an image [{unit}]")
    axes.set_ylabel("test accuracy [%]")
    add_grid(axes)
    axes.legend(fontsize="small")


def mark_chosen(axes: Axes, cost: float, accuracy: float) -> None:
    """Marks what was chosen among points of accuracy against mean cost."""
    axes.plot(
        [cost],
        [100 * accuracy],
        color=COLOURS[1],
        marker="D",
        markersize=9,
        linestyle="none",
        label="chosen",
    )


def _draw_shares(axes: Axes, exit_shares: Sequence[float]) -> None:
    names = [str(number) for number in range(1, len(exit_shares) + 1)]
    bars = axes.bar(names, [100 * share for share in exit_shares], color=COLOURS[0])
    axes.bar_label(bars, fmt="%.1f", fontsize="small")
    axes.set_xlabel("exit")
    axes.set_ylabel("test images that end there [%]")
    axes.margins(y=0.12)

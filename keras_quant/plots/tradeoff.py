"""What quality costs: scores of runs against bits, size, operations, energy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from keras_quant.errors import UsageError
from keras_quant.plots.labels import label_points
from keras_quant.plots.style import FLOAT_COLOUR, FLOAT_LOOK, Look, looks, new_axes, plain_texts
from keras_quant.runs.index import Run

_SCORES = {
    "accuracy": "test accuracy [%]",
    "PSNR": "PSNR on test images [dB]",
    "ELBO": "ELBO on test images [nats]",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a run costs.

    Attributes:
        label: of the axis, with its unit.
        of: the cost of a run; None where it is not known.
        estimated: whether it is an estimate of what could be measured; its markers are hollow.
    """

    label: str
    of: Callable[[Run], float | None]
    estimated: bool = False


COSTS = {
    "size": Cost(label="exported file [kB]", of=lambda run: _kilo(run.size_bytes)),
    "weights": Cost(
        label="kernels at their logical bits [kB]", of=lambda run: _kilo(run.logical_bytes)
    ),
    "bitops": Cost(
        label="bit operations for one image [millions]",
        of=lambda run: None if run.bit_operations is None else run.bit_operations / 1e6,
    ),
    "energy": Cost(
        label="energy for one image [µJ], modelled for 45 nm",
        of=lambda run: _kilo(run.energy_nj),
    ),
}
"""What scores are drawn against, by name."""


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points no other beats: as cheap and better, or as good and cheaper.

    Args:
        points: (cost, score) each.
    Returns: their places, from the cheapest on.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front: list[int] = []
    for place in order:
        if not front or points[place][1] > points[front[-1]][1]:
            front.append(place)
    return front


@plain_texts()
def score_against_cost(runs: Sequence[Run], *, cost: Cost, title: str) -> Figure:
    """Draws scores against a cost, with the Pareto front through those that no other beats.

    Several seeds are one point, their mean, with a bar from the lowest to the highest.

    Args:
        runs: of one dataset and metric; those without a score or the cost are left out.
        cost: one of COSTS, `latency.measured_latency`, or `estimated.estimated_latency`.
    Raises:
        UsageError: none of the runs has both.
    """
    points = _points(runs, cost)
    if not points:
        raise UsageError(
            f"no run has both a score and what is to be drawn, {cost.label}; runs looked at: "
            f"{len(runs)}"
        )
    figure, axes = new_axes(title)
    look = looks([point.method for point in points])
    for method in dict.fromkeys(point.method for point in points):
        ours = [point for point in points if point.method == method]
        _draw_points(axes, ours, look[method], method, hollow=cost.estimated)
    places = [(point.cost, point.mean) for point in points]
    front = pareto(places)
    line = [places[place] for place in front]
    axes.plot(*zip(*line, strict=True), color="0.5", linewidth=1, zorder=1, label="Pareto front")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_formatter("")
    drawn = sum(len(point.scores) for point in points)
    left_out = f"\n{len(runs) - drawn} of {len(runs)} runs have none and are not drawn"
    axes.set_xlabel(cost.label + (left_out if drawn < len(runs) else ""))
    _finish(axes, next(run.metric for run in runs if run.metric))
    order = [*front, *(place for place in range(len(points)) if place not in front)]
    label_points(axes, [places[i] for i in order], [points[i].scheme for i in order])
    return figure


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """Runs that differ in the seed alone: their mean cost, and their scores."""

    method: str
    scheme: str
    cost: float
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.scores) / len(self.scores)


def _points(runs: Sequence[Run], price: Cost) -> list[_Point]:
    groups: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for run in runs:
        value = price.of(run)
        if value is not None and run.score is not None:
            key = (run.method, run.scheme, run.record.model.name)
            groups.setdefault(key, []).append((value, run.score))
    return [
        _Point(
            method=method,
            scheme=scheme,
            cost=sum(value for value, _ in pairs) / len(pairs),
            scores=tuple(score for _, score in pairs),
        )
        for (method, scheme, _), pairs in groups.items()
    ]


def _draw_points(
    axes: Axes, points: Sequence[_Point], look: Look, label: str, *, hollow: bool
) -> None:
    # The mean of equal scores is rounded, and then beyond them.
    reach = [
        (max(0.0, point.mean - min(point.scores)), max(0.0, max(point.scores) - point.mean))
        for point in points
    ]
    axes.errorbar(
        [point.cost for point in points],
        [point.mean for point in points],
        yerr=list(zip(*reach, strict=True)),
        marker=look.marker,
        linestyle="",
        color=look.colour,
        elinewidth=1,
        markerfacecolor="none" if hollow else look.colour,
        label=label,
    )


@plain_texts()
def score_against_bits(runs: Sequence[Run], *, title: str) -> Figure:
    """Draws scores against bit widths, a line a method; several seeds are a band and their mean.

    Args:
        runs: of one dataset and metric; those whose layers have bits by name are left out, and
            what is float throughout is a line.
    Raises:
        UsageError: none of the runs has a score and uniform bits.
    """
    known = [run for run in runs if run.score is not None and run.weight_bits is not None]
    known = [run for run in known if run.is_float or run.activation_bits is not None]
    widths = sorted({_widths(run) for run in known if not run.is_float})
    if not widths:
        raise UsageError(
            f"no run has both a score and one width for all layers; runs looked at: {len(runs)}"
        )
    figure, axes = new_axes(title)
    quantized = [run for run in known if not run.is_float]
    look = looks([run.method for run in quantized])
    for method in dict.fromkeys(run.method for run in quantized):
        by_width = {
            place: [run.score for run in quantized if (run.method, _widths(run)) == (method, width)]
            for place, width in enumerate(widths)
        }
        scores = {place: [s for s in found if s is not None] for place, found in by_width.items()}
        places = [place for place, found in scores.items() if found]
        means = [sum(scores[place]) / len(scores[place]) for place in places]
        drawn = look[method]
        axes.plot(
            places,
            means,
            marker=drawn.marker,
            linestyle=drawn.line,
            color=drawn.colour,
            label=method,
        )
        if any(len(scores[place]) > 1 for place in places):
            lows, highs = ([end(scores[place]) for place in places] for end in (min, max))
            axes.fill_between(places, lows, highs, color=drawn.colour, alpha=0.15, linewidth=0)
    floats = [run.score for run in known if run.is_float and run.score is not None]
    if floats:
        mean = sum(floats) / len(floats)
        axes.axhline(mean, color=FLOAT_COLOUR, linestyle=FLOAT_LOOK.line, label="float")
    axes.set_xticks(
        range(len(widths)), [f"w{weight}a{activation}" for weight, activation in widths]
    )
    axes.set_xlabel("bits of weights and activations")
    _finish(axes, known[0].metric)
    return figure


def _finish(axes: Axes, metric: str) -> None:
    axes.set_ylabel(_SCORES.get(metric, metric))
    axes.margins(x=0.12, y=0.15)
    axes.legend(fontsize="small", loc="best")


def _widths(run: Run) -> tuple[int, int]:
    assert run.weight_bits is not None and run.activation_bits is not None
    return run.weight_bits, run.activation_bits


def _kilo(value: float | None) -> float | None:
    return None if value is None else value / 1e3

"""Bars of latencies: measured ones are filled, and estimates hatched, not to be confused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from keras_quant.bench.estimate import records as estimates
from keras_quant.bench.records import Measurement
from keras_quant.bench.results import parse_name
from keras_quant.errors import UsageError
from keras_quant.plots.estimated import MARK
from keras_quant.plots.latency import measurements_of
from keras_quant.plots.style import COLOURS, new_axes, plain_texts
from keras_quant.runs.index import Run

_HATCHES = ("////", "\\\\\\\\", "....", "xxxx", "----", "oo")
_INCHES_A_BAR, _BAR = 0.2, 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One latency of a run.

    Attributes:
        way: how it was run, or would be: runtime, threads or board, precision, batch.
        latency_ms: median of the measured calls, or the estimate.
        interval_ms: of an estimate; None of a measurement.
    """

    way: str
    latency_ms: float
    interval_ms: tuple[float, float] | None = None


def bars_of(runs: Sequence[Run]) -> dict[str, list[Bar]]:
    """What is known of each run's latency, by its name; of a way twice, the first.

    Raises:
        RunError: a record is broken.
    """
    measured = measurements_of(runs)
    found = {}
    for run in runs:
        bars: dict[str, Bar] = {}
        for bar in (*_measured(measured[run.path]), *_estimated(run)):
            bars.setdefault(bar.way, bar)
        if bars:
            found[run.name] = list(bars.values())
    return found


@plain_texts()
def latency_bars(runs: Sequence[Run], *, title: str) -> Figure:
    """Draws the latencies of runs: a group a run, a bar for each way to run it.

    Raises:
        UsageError: none of the runs was measured or estimated.
        RunError: a record is broken.
    """
    groups = bars_of(runs)
    if not groups:
        raise UsageError(
            "no run was measured (kq bench RUN) or estimated (kq bench RUN --board NAME "
            f"--estimate); runs looked at: {len(runs)}"
        )
    ways = list(dict.fromkeys(bar.way for bars in groups.values() for bar in bars))
    count = sum(len(bars) + 1 for bars in groups.values())
    figure, axes = new_axes(title, height=1.6 + _INCHES_A_BAR * (count + len(ways)))
    place, ticks, drawn = 0.0, [], set()
    for bars in groups.values():
        ticks.append(place + (len(bars) - 1) / 2)
        for bar in bars:
            index = ways.index(bar.way)
            colour = COLOURS[index % len(COLOURS)]
            estimated = bar.interval_ms is not None
            axes.barh(
                place,
                bar.latency_ms,
                height=_BAR,
                facecolor="white" if estimated else colour,
                edgecolor=colour if estimated else "white",
                hatch=_HATCHES[index % len(_HATCHES)] if estimated else None,
                label=None if bar.way in drawn else bar.way,
            )
            reach = bar.latency_ms
            if bar.interval_ms is not None:
                low, high = bar.interval_ms
                reach = high
                axes.plot((low, high), (place, place), color="black", linewidth=1, marker="|")
            about = "≈" if estimated else ""
            axes.annotate(
                f"{about}{bar.latency_ms:.3g}",
                (reach, place),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
            drawn.add(bar.way)
            place += 1
        place += 1
    axes.set_yticks(ticks, list(groups), fontsize="small")
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("latency of one call [ms]; filled: measured; hatched: estimate, with interval")
    figure.legend(fontsize="x-small", loc="outside lower center", ncols=1)
    return figure


def _measured(measurements: Iterable[Measurement]) -> Iterable[Bar]:
    for one in measurements:
        where = "1 thread" if one.threads == 1 else f"{one.threads} threads"
        if one.runtime == "tensorrt":
            precision = parse_name(one.name)[1]
            where = f"{precision}, {'with copies' if one.kind == 'latency' else 'GPU alone'}"
        batch = "" if one.batch == 1 else f", batch {one.batch}"
        yield Bar(way=f"{one.runtime}, {where}{batch}", latency_ms=one.summary.p50_ms)


def _estimated(run: Run) -> Iterable[Bar]:
    for record in estimates.find(run.path).values():
        for one in record.estimates:
            batch = "" if one.batch == 1 else f", batch {one.batch}"
            yield Bar(
                way=f"{MARK}: {record.title}, {record.power_mode}, {one.precision}{batch}",
                latency_ms=one.estimate_ms,
                interval_ms=(one.low_ms, one.high_ms),
            )

"""What runs take: measured latencies, and apart from them estimated ones."""

from __future__ import annotations

from collections.abc import Sequence

from keras_quant.bench.estimate import records as estimates
from keras_quant.plots.bars import Bar, bars_of
from keras_quant.report.table import Cell, Table, number, text
from keras_quant.runs.index import Run


def speeds_table(runs: Sequence[Run]) -> Table:
    """Measured latencies, each with the speed-up over the float run that ran in the same way.

    Raises:
        RunError: a record is broken.
    """
    known = bars_of(runs)
    floats = [bar for run in runs if run.is_float for bar in known.get(run.name, ())]
    rows = [
        (
            *(text(run.name), text(run.scheme), text(bar.way), number(bar.latency_ms, ",.4g")),
            number(_speed_up(bar, floats), ".2f"),
        )
        for run in runs
        for bar in known.get(run.name, ())
        if bar.interval_ms is None
    ]
    return Table(
        title="Measured latency",
        columns=("run", "bits", "run by", "median of a call [ms]", "speed-up over float"),
        rows=tuple(rows),
        numeric=frozenset((3, 4)),
    )


def estimates_table(runs: Sequence[Run]) -> Table:
    """Estimated latencies on boards; none of these was measured.

    Raises:
        RunError: a record is broken.
    """
    rows: list[tuple[Cell, ...]] = [
        (
            *(text(run.name), text(run.scheme), text(f"{record.title}, {record.power_mode}")),
            *(text(one.precision), number(one.batch, "d"), number(one.estimate_ms, ",.3g")),
            text(f"{one.low_ms:,.3g} to {one.high_ms:,.3g}"),
            number(one.speed_up, ".2f"),
        )
        for run in runs
        for record in estimates.find(run.path).values()
        for one in record.estimates
    ]
    return Table(
        title="Estimated latency on Jetson boards: estimates, nothing was run on a board",
        columns=(
            *("run", "bits", "board", "precision", "batch", "estimate [ms]", "interval [ms]"),
            "speed-up over fp32, estimated",
        ),
        rows=tuple(rows),
        numeric=frozenset((4, 5, 7)),
    )


def _speed_up(bar: Bar, floats: Sequence[Bar]) -> float | None:
    """Over the float run; None where none ran in that way."""
    found = next((other for other in floats if other.way == bar.way), None)
    return None if found is None else found.latency_ms / bar.latency_ms

"""How measurements are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from keras_quant.cli.output import note, print_table

if TYPE_CHECKING:
    from keras_quant.bench.records import BenchRecord, Measurement


def note_noise(record: BenchRecord) -> None:
    """Says what made times uncertain."""
    for sentence in record.noise:
        note(f"uncertain: {sentence}")


def print_record(record: BenchRecord) -> None:
    """Prints a row a file, its operators where they are known, and the verdicts."""
    from keras_quant.jobs.bench import best_batches

    rows = [
        (
            *(one.name, one.runtime, one.threads, one.batch),
            *(f"{ms:.4g}" for ms in (one.summary.p10_ms, one.summary.p50_ms, one.summary.p90_ms)),
            f"{one.summary.p99_ms:.4g}",
            f"{one.summary.mean_ms.value:.4g}",
            f"{one.summary.mean_ms.low:.4g} to {one.summary.mean_ms.high:.4g}",
            f"{one.summary.outliers / one.summary.samples:.1%}",
            f"{one.images_per_s:,.0f}",
            None if one.energy_mj is None else f"{one.energy_mj:.3g}",
            None if one.load_ms is None else f"{one.load_ms:,.1f}",
            None if one.memory_peak_bytes is None else f"{one.memory_peak_bytes / 1e6:,.0f}",
            None if one.memory_added_bytes is None else f"{one.memory_added_bytes / 1e6:,.1f}",
        )
        for one in record.measurements
    ]
    columns = (
        *("file", "runtime", "threads", "batch", "p10 ms", "p50 ms", "p90 ms", "p99 ms"),
        *("mean ms", "mean, 99 %", "outliers", "images/s", "mJ", "load ms", "peak MB", "added MB"),
    )
    kept = [place for place in range(len(columns)) if any(row[place] is not None for row in rows)]
    print_table(
        [columns[place] for place in kept],
        [[row[place] for place in kept] for row in rows],
        title=_title(record),
    )
    print_table(
        ("runtime", "versions", "kernels"),
        list(
            dict.fromkeys(
                (
                    one.name,
                    ", ".join(f"{name} {version}" for name, version in one.versions.items()),
                    ", ".join(one.kernels),
                )
                for one in record.measurements
            )
        ),
    )
    for one in record.measurements:
        if one.operators:
            _print_operators(one)
    for verdict in record.verdicts:
        click.echo(verdict.text())
    for one in best_batches(record.measurements):
        speed = one.batch * 1e3 / one.summary.p50_ms
        click.echo(f"most images a second: {one.name}: {speed:,.0f} by its p50")
    for one in record.measurements:
        for text in one.notes:
            note(f"{one.name}: {text}")


def _print_operators(one: Measurement) -> None:
    """Prints a file's operators, in the order in which they run."""
    rows = [
        (
            *(found.name, found.op, found.types),
            None if found.time_us is None else f"{found.time_us:.4g}",
            None if found.share is None else f"{found.share:.1%}",
            found.why or None,
        )
        for found in one.operators
    ]
    columns = ("operator", "type", "computes", "us", "share", "why")
    kept = [place for place in range(len(columns)) if any(row[place] is not None for row in rows)]
    print_table(
        [columns[place] for place in kept],
        [[row[place] for place in kept] for row in rows],
        title=one.name,
    )
    if all(found.time_us is None for found in one.operators):
        note(f"{one.name}: {one.runtime} does not tell how long an operator takes")


def _title(record: BenchRecord) -> str:
    """The machine, in a line."""
    if record.machine.board:
        return ", ".join(f"{name} {text}" for name, text in record.machine.board.items())
    machine = record.machine.environment
    cores, flags = machine.get("cores", "unknown"), machine.get("cpu_instructions", "unknown")
    return f"{machine.get('cpu', 'unknown processor')}, {cores} cores ({flags})"

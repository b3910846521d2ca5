"""How estimates are made and shown: nowhere as measurements are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_quant.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from keras_quant.bench.estimate.records import Estimate, EstimateRecord, LayerEstimate
    from keras_quant.jobs.estimate import EstimateSettings


def run_estimate(
    targets: Sequence[Path],
    settings: EstimateSettings,
    *,
    layers: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Estimates, prints, and keeps a record: in each run, or where the user says.

    Args:
        layers: whether to show each layer.
        output: the record; None means in each run that was given.
    """
    from dataclasses import replace

    from keras_quant.bench.estimate import records
    from keras_quant.jobs.estimate import estimate_latency
    from keras_quant.runs import records as runs

    record = estimate_latency([str(one) for one in targets], settings, say=note)
    if output is not None:
        records.save(record, output)
        kept = [output]
    else:
        kept = []
        for target in targets:
            if (target / runs.FILE_NAME).is_file():
                own = tuple(one for one in record.estimates if one.name == str(target))
                path = target / records.file_name(record.board)
                records.save(replace(record, estimates=own), path)
                kept.append(path)
    print_json(record) if as_json else print_estimates(record, layers=layers)
    for path in kept:
        note(f"estimate, with each layer: {path}")
    if not kept:
        note("no record was written; --output FILE writes one")


def print_estimates(record: EstimateRecord, *, layers: bool) -> None:
    """Prints a row a net, precision and batch, and what the figures are worth."""
    from keras_quant.targets.jetson import find_board, find_mode

    board = find_board(record.board)
    bandwidth = board.bandwidth_gb_s(find_mode(record.board, record.power_mode))
    print_table(
        (
            *("net", "precision", "batch", "estimate, ms", "interval, ms", "images/s"),
            *("speed-up over fp32", "arithmetic", "memory", "launches"),
        ),
        [_row(one) for one in record.estimates],
        title=(
            f"ESTIMATE, nothing was run: {record.title} in mode {record.power_mode} (GPU "
            f"{record.gpu_mhz:g} MHz, {record.sms} SMs; memory {bandwidth:.1f} GB/s)"
        ),
    )
    for one in record.estimates if layers else ():
        _print_layers(one)
    spread = record.fitted.spread
    click.echo(
        f"interval: {spread.share:.0%} of {spread.measurements} latencies that were left out of "
        f"the fit lay within a factor of {spread.factor:.2f}; parameters: {record.fitted.origin}"
    )
    for text in dict.fromkeys(text for one in record.estimates for text in one.notes):
        note(text)


def _row(one: Estimate) -> tuple[object, ...]:
    shares = [_share(one.layers, bound) for bound in ("arithmetic", "memory")]
    return (
        *(one.name, one.precision, one.batch, f"{one.estimate_ms:.3g}"),
        f"{one.low_ms:.3g} to {one.high_ms:.3g}",
        f"{one.batch * 1e3 / one.estimate_ms:,.0f}",
        f"{one.speed_up:.2f}x",
        *(f"{share:.0%}" for share in (*shares, 1 - sum(shares))),
    )


def _share(layers: Sequence[LayerEstimate], of: str) -> float:
    """The share of the time that passes with arithmetic, or with memory, which hides the other."""
    total = sum(layer.time_us for layer in layers)
    by_arithmetic = of == "arithmetic"
    return (
        sum(
            max(layer.arithmetic_us, layer.memory_us)
            for layer in layers
            if (layer.arithmetic_us >= layer.memory_us) == by_arithmetic
        )
        / total
    )


def _print_layers(one: Estimate) -> None:
    print_table(
        ("layer", "precision", "us", "arithmetic us", "memory us", "launch us", "most of it"),
        [
            (
                *(layer.name, layer.precision),
                *(
                    f"{value:.3g}"
                    for value in (
                        *(layer.time_us, layer.arithmetic_us),
                        *(layer.memory_us, layer.launch_us),
                    )
                ),
                layer.bound,
            )
            for layer in one.layers
        ],
        title=f"estimate: {one.name}, {one.precision}, batch {one.batch}",
    )

"""kq compare: a run's files beside float files of the same model."""

from __future__ import annotations

from pathlib import Path

import click

from keras_quant.cli.output import json_option, note, print_json, print_table

LAYOUTS = ("table", "markdown", "csv")


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=Path)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Test images on which answers are compared.",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True, max=3600),
    default=5.0,
    show_default=True,
    help="Seconds of timed calls, of each file.",
)
@click.option(
    "--layout", type=click.Choice(LAYOUTS), default="table", show_default=True, help="Of the table."
)
@click.option("--trust", is_flag=True, help="Load a Keras file that holds code.")
@json_option
def compare(
    runs: tuple[Path, ...],
    images: int,
    duration: float,
    layout: str,
    trust: bool,
    as_json: bool,
) -> None:
    """Compare the files of runs with float files: error, speed, size.

    The float file is the run's model with its quantizers taken out, as TFLiteConverter and tf2onnx
    write it; both are measured in turn, as kq bench does, with one thread and one image a call.

    \b
    Examples:
      kq compare models/digits-cnn-w4a4
      kq compare models/base-w8a8 models/base-w4a4 --layout markdown
    """
    from dataclasses import replace

    from keras_quant.bench.measure import Settings
    from keras_quant.jobs import compare as job

    found = job.compare_runs(
        runs, Settings(duration_s=duration), images=images, trust=trust, say=note
    )
    if as_json:
        bare = [
            replace(one, before=replace(one.before, loads=()), after=replace(one.after, loads=()))
            for one in found
        ]
        print_json(bare)
    elif layout == "table":
        print_table(job.COLUMNS, job.rows_of(found))
    else:
        click.echo(job.as_markdown(found) if layout == "markdown" else job.as_csv(found))
    for one in found:
        note(one.verdict.text())

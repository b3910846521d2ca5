"""kq import-results: what a board measured becomes a record."""

from __future__ import annotations

from pathlib import Path

import click

from keras_quant.cli.measured import note_noise, print_record
from keras_quant.cli.options import OutputFile
from keras_quant.cli.output import json_option, note, print_json


@click.command(name="import-results")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--output", type=OutputFile(), help="The record [default: FOLDER/bench.json].")
@json_option
def import_results(folder: Path, output: Path | None, as_json: bool) -> None:
    """Make a record of what a bundle's bench.sh measured on a board.

    FOLDER is the bundle, copied back from the board, or its folder `results`. The logs of a run
    that failed or was stopped are refused. Of a bundle the engine's answers are compared too, and
    where prove.sh has run, the codes of every layer; exit code 3 means that they are others.

    \b
    Example:
      kq import-results models/digits-cnn-w4a4/export/tensorrt
    """
    from keras_quant.bench import records
    from keras_quant.jobs.bench import without_samples
    from keras_quant.jobs.board import import_results as read

    record = read(folder, say=note)
    path = output or folder / records.FILE_NAME
    records.save(record, path)
    print_json(without_samples(record)) if as_json else print_record(record)
    note(f"all samples: {path}")
    note_noise(record)

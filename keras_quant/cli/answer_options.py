"""What commands share that answer images one by one: which images, and a line for each answer."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import click

from keras_quant.cli.options import OutputFile
from keras_quant.cli.output import note, print_table

SHOWN = 20
"""Answers that are printed one by one."""

images_argument = click.argument("images", required=False)

named_option = click.option("--dataset", help="Name of a dataset, in place of IMAGES.")

csv_option = click.option(
    "--csv",
    "csv_path",
    type=OutputFile(),
    help="Write each answer to a file, one line an image.",
)


def images_named(images: str | None, dataset: str | None) -> str | None:
    """The images that IMAGES or --dataset names.

    Raises:
        UsageError: both do.
    """
    from keras_quant.errors import UsageError

    if images is not None and dataset is not None:
        raise UsageError("IMAGES and --dataset both name images: give one of them")
    return images or dataset


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Writes a line an answer. Raises: FileError."""
    from keras_quant.files import write_text

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())
    note(f"wrote {path}")


def print_answers(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a line an answer, or where those can be had, if there are many."""
    if len(rows) <= SHOWN:
        print_table(columns, rows)
    else:
        note(f"{len(rows):,} answers: --csv FILE writes each, and --json prints them")


def right_or_wrong(right: bool | None) -> str | None:
    """What a line says of an answer; None without a label."""
    return {None: None, True: "right", False: "wrong"}[right]

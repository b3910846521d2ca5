"""Options that studies of trained nets share."""

from __future__ import annotations

import click

dataset_option = click.option("--dataset", help="Images with labels [default: those of each run].")
images_option = click.option(
    "--images",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="So many test images, at even distances; 0 means all.",
)
trust_option = click.option("--trust", is_flag=True, help="Load a Keras file that holds code.")

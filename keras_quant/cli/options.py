"""Options that several commands take."""

from __future__ import annotations

import click

preprocess_option = click.option(
    "--preprocess",
    metavar="NAME",
    help="What pixels become in front of the model: unit (0 to 1), raw (0 to 255), tf (-1 to 1), "
    "caffe, torch, or 'mean=M std=S' in pixels [default: that of the run or file; else as the "
    "model's first layers say; else unit].",
)

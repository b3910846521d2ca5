"""Options of `kq bench` that ask for an estimate in place of a measurement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]

_OPTIONS = (
    click.option(
        "--estimate",
        "estimated",
        is_flag=True,
        help="With --board: estimate in place of measuring; nothing is run (docs/estimate.md).",
    ),
    click.option("--board", help="With --estimate: the Jetson; kq boards lists them."),
    click.option(
        "--power-mode",
        metavar="MODE",
        help="With --estimate: as nvpmodel calls it [default: the board's fastest].",
    ),
    click.option(
        "--precision",
        "precisions",
        metavar="LIST",
        help="With --estimate: some of fp32,fp16,int8 [default: all that the board has].",
    ),
    click.option(
        "--fit",
        "results",
        metavar="RESULTS",
        type=click.Path(path_type=Path),
        help="With --estimate: fit to records of at least 5 nets, measured on such a board "
        "(kq bench --host, kq import-results): one file, or a folder in which they lie.",
    ),
    click.option(
        "--trust", is_flag=True, help="With --estimate: load a Keras file that holds code."
    ),
)
OF_ESTIMATES = {
    "board": "board",
    "power_mode": "power-mode",
    "precisions": "precision",
    "results": "fit",
    "trust": "trust",
}
"""Parameters that mean nothing without --estimate, and their options."""


def estimate_options(command: Command) -> Command:
    """Adds them to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command

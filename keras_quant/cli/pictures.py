"""Pictures that a command draws beside what it prints; matplotlib is loaded where one is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_quant.cli.options import OutputFile
from keras_quant.cli.output import note

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_option(what: str) -> Callable[[Any], Any]:
    """The option for a picture, by what it shows."""
    return click.option(
        "--plot",
        "picture",
        type=OutputFile(makes_folder=True),
        help=f"Draw {what}: .png, .svg or .pdf.",
    )


def check_picture(path: Path | None) -> None:
    """Checks, before the work, that a picture's path ends with a kind of picture; None is none.

    Raises:
        UsageError: it does not.
    """
    if path is not None:
        from keras_quant.plots.draw import check_name

        check_name(path)


def write_picture(figure: Figure, path: Path) -> None:
    """Writes a picture, and says so."""
    from keras_quant.plots.draw import save

    save(figure, path)
    note(f"drew {path}")

"""What commands print: results to stdout, as a table or as JSON; notes to stderr."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from keras_quant.errors import KerasQuantWarning
from keras_quant.json_codec import to_json

if TYPE_CHECKING:
    from rich.table import Table

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document instead of a table."
)

# Wider than any table: a pipe has no edge at which something would have to be cut.
_PIPE_WIDTH = 100_000


def print_json(value: object) -> None:
    """Prints one JSON document to stdout; see `json_codec.to_json` for what it may hold."""
    click.echo(to_json(value))


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None
) -> None:
    """Prints a table to stdout, plain and uncut where stdout is not a terminal.

    Args:
        columns: headings.
        rows: one cell a column; whole numbers get thousands separators, None is a dash, and
            whatever else is shown by str. Columns of numbers are aligned to the right.
    """
    from rich.console import Console

    # Text in a notebook too, where rich would make HTML of it.
    console = Console(highlight=False, markup=False, emoji=False, force_jupyter=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    texts = [[_cell(value) for value in row] for row in rows]
    if title:
        console.print(title, style="bold")
    table = _table(columns, texts, framed=console.is_terminal)
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as plain:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in plain.get().splitlines()))


def as_share(value: float | None) -> str | None:
    """A share as a percentage; None stays a dash."""
    return None if value is None else f"{value:.2%}"


def as_score(metric: str, value: float | None) -> str | None:
    """What a metric of `model.metrics` came to, in its unit."""
    if value is None:
        return None
    if metric in ("accuracy", "top-5"):
        return f"{value:.2%}"
    unit = {"PSNR": " dB", "ELBO": " nats"}.get(metric, "")
    return f"{value:.4g}{unit}"


@contextlib.contextmanager
def warnings_noted() -> Iterator[None]:
    """Prints what the library warns of, each text once, on stderr."""
    noted: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if not issubclass(category, KerasQuantWarning):
            shown(message, category, *where, **more)
        elif str(message) not in noted:
            noted.add(str(message))
            note(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", KerasQuantWarning)
        shown, warnings.showwarning = warnings.showwarning, show
        yield


def note(text: str) -> None:
    """Writes a line for the reader, not part of the result, to stderr."""
    click.echo(text, err=True)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _table(columns: Sequence[str], texts: list[list[str]], *, framed: bool) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD if framed else None, pad_edge=False)
    for index, heading in enumerate(columns):
        numeric = all(row[index][:1] in "0123456789+-" for row in texts)
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in texts:
        table.add_row(*row)
    return table

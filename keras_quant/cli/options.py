"""Values of options that several commands read alike."""

from __future__ import annotations

import click


def parse_shape(
    ctx: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[int, ...] | None:
    """Reads "32,32,3" as a shape; None where the option was not given."""
    if text is None:
        return None
    sizes = text.split(",")
    if not all(size.strip().isdigit() and int(size) > 0 for size in sizes):
        raise click.BadParameter(f"{text!r} is no shape; write its sizes, as in 32,32,3")
    return tuple(int(size) for size in sizes)

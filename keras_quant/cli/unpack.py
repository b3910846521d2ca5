"""kq anytime unpack: the graph of each width, out of the file that holds them all."""

from __future__ import annotations

from pathlib import Path

import click

from keras_quant.cli.output import json_option, print_json, print_table


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--width", help="Of this one alone, as w4a4 or x0.5 [default: of all].")
@click.option(
    "--out",
    default=".",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder.",
)
@click.option("--overwrite", is_flag=True, help="Replace graphs that are there.")
@json_option
def unpack(file: Path, width: str | None, out: Path, overwrite: bool, as_json: bool) -> None:
    """Write the graphs of nested widths out of the one file that holds them.

    FILE is the widths.kqnested of a run of kq train --nested or --slim, or the folder of that run.
    Each graph is, to the byte, the model.kqgraph of its width's run; kq inspect and kq bench
    --estimate read it.

    \b
    Examples:
      kq anytime unpack models/cifar10-resnet20-nested/widths.kqnested --out graphs
      kq anytime unpack models/cifar10-resnet20-nested/widths.kqnested --width w4a4
    """
    from keras_quant.jobs.unpack import unpack as job

    paths = job(file, out, width=width, overwrite=overwrite)
    if as_json:
        print_json(paths)
        return
    rows = [(name, f"{path.stat().st_size / 1e3:,.1f}", str(path)) for name, path in paths.items()]
    print_table(("width", "kB", "graph"), rows, title=str(file))

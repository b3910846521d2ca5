"""kq report: one page about runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from keras_quant.cli.output import json_option, note, print_json
from keras_quant.cli.runs import find, parse_conditions, paths_argument, where_option


@click.command()
@paths_argument
@where_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the report [default: reports/NAME, after the first folder].",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("html", "md")),
    default="html",
    show_default=True,
    help="One page that holds all, or Markdown with pictures beside it.",
)
@click.option("--title", help="[default: the name of the first folder]")
@json_option
def report(
    paths: Sequence[Path],
    conditions: Sequence[str],
    out: Path | None,
    form: str,
    title: str | None,
    as_json: bool,
) -> None:
    """Write one page about runs: a summary, pictures, figures, the proof of each file.

    index.html needs nothing from elsewhere: it opens from the disk, sorts and filters its tables,
    and prints. It is made from the runs' records alone; all runs in models/ where none is named.

    \b
    Examples:
      kq report models/digits-cnn-sweep
      kq report models/ --where dataset=cifar10 --format md --out reports/cifar10
    """
    from keras_quant.errors import RunError
    from keras_quant.report.content import gather
    from keras_quant.report.write import write_report
    from keras_quant.runs.index import where

    found = find(paths)
    runs = where(found.runs, parse_conditions(conditions))
    if not runs:
        raise RunError("no run is left to report; kq runs list shows what there is")
    name = (paths[0] if paths else Path("models")).resolve().name
    content = gather(runs, title=title or name, problems=found.problems)
    page = write_report(content, out or Path("reports", name), form=form)
    note(f"wrote {page}: {len(runs)} runs")
    if as_json:
        print_json({"page": page, "runs": [run.path for run in runs]})

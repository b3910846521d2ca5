"""kq runs: lists, exports, compares and deletes runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_quant.cli.options import OutputFile
from keras_quant.cli.output import json_option, note, print_json, print_table

if TYPE_CHECKING:
    from keras_quant.runs.index import Found, Run

COLUMNS = (
    *("run", "model", "dataset", "method", "scheme", "status", "score"),
    *("agreement", "size (kB)", "weights (kB)", "created"),
)
paths_argument = click.argument(
    "paths", nargs=-1, metavar="[RUN|FOLDER]...", type=click.Path(path_type=Path)
)
where_option = click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="NAME=VALUE",
    help="Only these: model, dataset, method (also float, ptq), scheme, status or seed.",
)


@click.group()
def runs() -> None:
    """List runs, export them to TensorBoard, compare what they were made of, delete them.

    \b
    Examples:
      kq runs list models/ --where dataset=cifar10 --sort score
      kq runs compare models/base models/base-w4a4
      kq runs delete models/old
    """


@runs.command("list")
@paths_argument
@where_option
@click.option("--sort", help="By a column: name, created, score, size_bytes, bit_operations, ...")
@click.option(
    "--csv",
    "csv_path",
    type=OutputFile(),
    help="Write all figures to a file, one line a run.",
)
@json_option
def list_runs(
    paths: Sequence[Path],
    conditions: Sequence[str],
    sort: str | None,
    csv_path: Path | None,
    as_json: bool,
) -> None:
    """List runs and their main figures; models/ where no folder is named.

    The score is the accuracy, the PSNR, or a variational autoencoder's ELBO, on the test images,
    of the exported file. What was not measured is a dash.

    \b
    Example:
      kq runs list models/ --where method=ptq --sort score --csv runs.csv
    """
    from keras_quant.runs.index import sorted_by, where

    found = find(paths)
    chosen = where(found.runs, parse_conditions(conditions))
    if sort is not None:
        chosen = sorted_by(chosen, sort)
    if csv_path is not None:
        from keras_quant.files import write_text
        from keras_quant.runs.index import to_csv

        write_text(csv_path, to_csv(chosen))
        note(f"wrote {csv_path}")
    if as_json:
        print_json(chosen)
        return
    print_table(COLUMNS, [row(run) for run in chosen])


@runs.command()
@paths_argument
@where_option
@click.option(
    "--tensorboard",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for `tensorboard --logdir`; files of an earlier export in it are replaced.",
)
@json_option
def export(paths: Sequence[Path], conditions: Sequence[str], folder: Path, as_json: bool) -> None:
    """Write runs for TensorBoard's HParams page: settings beside figures.

    Needs the extra tensorboard. As CSV: kq runs list --csv FILE.

    \b
    Example:
      kq runs export models/sweep --tensorboard hparams
    """
    from keras_quant.runs.hparams import write_hparams
    from keras_quant.runs.index import where

    chosen = where(find(paths).runs, parse_conditions(conditions))
    files = write_hparams(chosen, folder)
    note(f"wrote {len(chosen)} runs: tensorboard --logdir {folder}")
    if as_json:
        print_json({"files": files, "runs": [run.path for run in chosen]})


@runs.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
def compare(paths: Sequence[Path], as_json: bool) -> None:
    """Show in what runs differ: settings, figures, versions, machines; a column a run.

    \b
    Example:
      kq runs compare models/base models/base-w4a4
    """
    from keras_quant.errors import UsageError
    from keras_quant.runs.compare import differences

    found = find(paths)
    if len(found.runs) < 2:
        raise UsageError(f"runs found: {len(found.runs)}; give two or more to compare")
    rows = differences([run.record for run in found.runs])
    if as_json:
        print_json({"runs": [run.path for run in found.runs], "differences": dict(rows)})
        return
    print_table(("", *(run.name for run in found.runs)), [(name, *values) for name, values in rows])


@runs.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def delete(paths: Sequence[Path], yes: bool, as_json: bool) -> None:
    """Delete runs, with their models, exports and records.

    A run that another process works on is not deleted.

    \b
    Example:
      kq runs delete models/old models/older --yes
    """
    from keras_quant.errors import RunError
    from keras_quant.runs.folder import delete as delete_run
    from keras_quant.runs.records import FILE_NAME

    for path in paths:
        if not (path / FILE_NAME).is_file():
            raise RunError(f"{path}: not a run folder: it has no {FILE_NAME}; nothing was deleted")
    if not yes:
        click.confirm(f"delete {', '.join(map(str, paths))}?", abort=True, err=True)
    for path in dict.fromkeys(paths):
        delete_run(path)
        note(f"deleted {path}")
    if as_json:
        print_json({"deleted": paths})


def find(paths: Sequence[Path]) -> Found:
    """Finds runs, and notes records that cannot be read."""
    from keras_quant.runs.index import find_runs

    found = find_runs(paths or [Path("models")])
    for problem in found.problems:
        note(f"warning: left out: {problem}")
    return found


def parse_conditions(texts: Sequence[str]) -> dict[str, str]:
    """Reads NAME=VALUE texts. Raises: UsageError: a text is none."""
    from keras_quant.errors import UsageError

    conditions = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--where {text!r}: write NAME=VALUE, as in dataset=cifar10")
        conditions[name] = value
    return conditions


def row(run: Run) -> tuple[object, ...]:
    """A run's cells, in the order of COLUMNS."""
    record = run.record
    return (
        *(run.name, record.model.name, record.dataset.name, run.method, run.scheme),
        *(record.status, score(run)),
        None if run.agreement is None else f"{run.agreement:.2f}%",
        None if run.size_bytes is None else f"{run.size_bytes / 1e3:,.1f}",
        None if run.logical_bytes is None else f"{run.logical_bytes / 1e3:,.1f}",
        record.created[:16].replace("T", " "),
    )


def score(run: Run) -> str | None:
    """What a run is worth, in its unit; None where that was not judged."""
    from keras_quant.runs.index import UNITS

    if run.score is None:
        return None
    unit = UNITS[run.metric]
    return f"{run.score:.2f}{unit}" if unit == "%" else f"{run.score:.2f} {unit}"

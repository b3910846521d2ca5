"""kq sweep: one model at many bit widths, by several methods."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_quant.cli.options import model_options_option, preprocess_option
from keras_quant.cli.output import json_option, note, print_json, print_table
from keras_quant.errors import KerasQuantError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from keras_quant.jobs.sweep import Status, SweepRecord
    from keras_quant.jobs.sweep_plan import SweepSettings
    from keras_quant.jobs.sweep_processes import Engine

DEFAULT_BITS = "2,3,4,8"
_MARKS = {"done": "green", "running": "cyan", "failed": "red", "left out": "red"}


class SweepError(KerasQuantError):
    """Some points of a sweep failed; the others are there."""


@click.command()
@click.option("--bits", help="As kq train takes them, by commas [default: 2,3,4,8].")
@click.option("--weight-bits", metavar="BITS,...", help="In place of --bits: bits of weights.")
@click.option(
    "--activation-bits",
    metavar="BITS,...",
    help="With --weight-bits: bits of activations; each with each of those.",
)
@click.option(
    "--methods",
    default="qkeras",
    show_default=True,
    help="Methods of kq train, by commas, and ptq, which is kq quantize.",
)
@click.option("--model", default="cnn", show_default=True, help="Zoo name, or FILE.py:FUNCTION.")
@model_options_option
@click.option(
    "--dataset", default="digits", show_default=True, help="Name, .npz file or image folder."
)
@preprocess_option
@click.option(
    "--seeds", default="0", show_default=True, help="By commas; the whole sweep is made for each."
)
@click.option("--float-epochs", default=20, show_default=True, help="Of the float run.")
@click.option("--epochs", default=10, show_default=True, help="Of each quantized training.")
@click.option(
    "--progressive/--from-float",
    default=True,
    show_default=True,
    help="Narrow widths start from the next wider one, or all from the float run.",
)
@click.option("--float", "float_options", default="", help="Further options of the float run.")
@click.option("--train", "train_options", default="", help="Further options of each training.")
@click.option("--latency", is_flag=True, help="Measure all TFLite files in turn, at the end.")
@click.option("--jobs", default=1, show_default=True, help="Points at a time.")
@click.option(
    "--engine",
    type=click.Choice(("local", "ray")),
    default="local",
    show_default=True,
    help="Where points run: on this machine, or on the nodes of a Ray cluster (extra ray).",
)
@click.option(
    "--address",
    help="With --engine ray: HOST:PORT of the cluster's head, or auto on one of its nodes "
    "[default: Ray on this machine].",
)
@click.option(
    "--resources",
    help="With --engine ray: what of a node each point holds, as in cpu=2,gpu=0.5; it computes "
    "with as many threads as processors [default: a share of this machine's, by --jobs].",
)
@click.option(
    "--out",
    default="models",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder.",
)
@click.option("--name", help="Of the sweep's folder [default: DATASET-MODEL-sweep].")
@click.option("--resume", is_flag=True, help="Go on with a sweep that was stopped.")
@json_option
def sweep(
    as_json: bool,
    out: Path,
    name: str | None,
    resume: bool,
    latency: bool,
    engine: str,
    address: str | None,
    resources: str | None,
    **options: Any,
) -> None:
    """Train and quantize a model at many bit widths, by several methods.

    One float run is trained. The widest quantized run of each method starts from it, and each
    narrower one from the next wider; ptq quantizes the float run without training. Every point is
    a run as kq train or kq quantize makes it, with its proven files, in one folder with
    sweep.json, logs/, and bench.json with --latency. A point that fails is recorded, and the sweep
    goes on. What is done is kept: --resume makes the rest. On a Ray cluster all nodes need this
    package, and this folder under the same path; a point whose node is lost goes on elsewhere.

    \b
    Examples:
      kq sweep --bits 2,4,8 --methods qkeras,ptq
      kq sweep --model resnet20 --dataset cifar10 --float-epochs 30 --epochs 12 --seeds 0,1,2 \\
        --train '--distill 0.5 --learning-rate 0.0003' --jobs 2
      kq sweep --weight-bits 2,4,8 --activation-bits 4,8 --methods lsq
      kq sweep --engine ray --address head:6379 --jobs 8 --resources cpu=4
      kq plot accuracy-bits models/digits-cnn-sweep
    """
    from keras_quant.cli.train_options import dataset_stem, plain_path
    from keras_quant.jobs.sweep import check
    from keras_quant.jobs.sweep import sweep as run_sweep

    settings = _settings(options)
    model = Path(settings.model.rpartition(":")[0] or settings.model).stem
    folder = plain_path(out, name or f"{dataset_stem(settings.dataset)}-{model}-sweep")
    check(settings, folder, resume=resume)
    started = _engine(engine, address, resources, settings)
    try:
        with _shown() as show:
            record = run_sweep(settings, folder, resume=resume, engine=started, show=show)
    finally:
        started.close()
    if latency:
        from keras_quant.jobs.sweep_latency import measure_latency

        note(f"all samples: {measure_latency(folder, say=note)}")
    _print(folder, record, as_json=as_json)


def _settings(options: dict[str, Any]) -> SweepSettings:
    from keras_quant.jobs.sweep_plan import SweepSettings

    return SweepSettings(
        model=options["model"],
        model_options=tuple(options["model_options"]),
        dataset=options["dataset"],
        preprocess=options["preprocess"] or "",
        bits=_bits(options["bits"], options["weight_bits"], options["activation_bits"]),
        methods=_parts(options["methods"]),
        seeds=_seeds(options["seeds"]),
        float_epochs=options["float_epochs"],
        epochs=options["epochs"],
        progressive=options["progressive"],
        float_options=_words("--float", options["float_options"]),
        train_options=_words("--train", options["train_options"]),
        jobs=options["jobs"],
    )


def _engine(
    name: str, address: str | None, resources: str | None, settings: SweepSettings
) -> Engine:
    from keras_quant.jobs.sweep_processes import ThisMachine, threads_of
    from keras_quant.jobs.sweep_ray import RayEngine, parse_resources

    if name == "ray":
        held = parse_resources(resources or "", cpu=threads_of(settings.jobs))
        return RayEngine(address, held)
    given = {"--address": address, "--resources": resources}
    if wrong := [option for option, value in given.items() if value is not None]:
        raise UsageError(f"{', '.join(wrong)} is for --engine ray; this is local")
    return ThisMachine()


def _bits(both: str | None, weights: str | None, activations: str | None) -> tuple[str, ...]:
    """The widths of --bits, or all pairs of those of weights and of activations.

    Raises:
        UsageError: one of a pair is missing, or all are given.
    """
    if weights is None and activations is None:
        return _parts(DEFAULT_BITS if both is None else both)
    if weights is None or activations is None or both is not None:
        raise UsageError(
            "--weight-bits and --activation-bits go together, in place of --bits: give both, as in "
            "--weight-bits 2,4 --activation-bits 4,8"
        )
    return tuple(f"w{w}a{a}" for w in _parts(weights) for a in _parts(activations))


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _seeds(text: str) -> tuple[int, ...]:
    parts = _parts(text)
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UsageError(f"--seeds {text!r}: write whole numbers, as in 0,1,2")
    return tuple(map(int, parts))


def _words(option: str, text: str) -> tuple[str, ...]:
    """Splits a text as a shell does."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: {error}") from error


@contextmanager
def _shown() -> Iterator[Callable[[Status], None]]:
    """Shows where a sweep stands: a live table on a terminal, a line a finished point elsewhere."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, highlight=False, emoji=False)
    if not console.is_terminal:
        yield _Lines().show
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda status: live.update(_table(status), refresh=True)


class _Lines:
    """Says what has changed."""

    def __init__(self) -> None:
        self._before: dict[str, str] = {}

    def show(self, status: Status) -> None:
        """Writes a line for each point whose state is another one."""
        for name, state in status.state.items():
            if state != "waiting" and self._before.get(name) != state:
                note(f"{state}: {name}  ({_sum(status)})")
        self._before = dict(status.state)


def _table(status: Status) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, title=_sum(status), title_justify="left")
    for heading in ("point", "state", ""):
        table.add_column(heading, no_wrap=True)
    for name, state in status.state.items():
        line = status.last_line.get(name, "")
        table.add_row(name, Text(state, style=_MARKS.get(state, "")), Text(line, style="dim"))
    return table


def _sum(status: Status) -> str:
    """How many points are done, and how long the rest takes."""
    done = sum(state != "waiting" and state != "running" for state in status.state.values())
    text = f"{done} of {len(status.state)} points"
    if status.seconds_left is None or done == len(status.state):
        return text
    minutes, seconds = divmod(round(status.seconds_left), 60)
    return f"{text}, about {minutes}:{seconds:02d} to go"


def _print(folder: Path, record: SweepRecord, *, as_json: bool) -> None:
    """What came out, and what did not.

    Raises:
        SweepError: points failed.
    """
    from keras_quant.cli.runs import COLUMNS, find, row

    failed = {name: result.error for name, result in record.results.items() if result.error}
    made = find([folder]).runs if any(folder.glob("*/run.json")) else ()
    if as_json:
        print_json({"sweep": folder, "record": record, "runs": made})
    else:
        print_table(COLUMNS, [row(run) for run in made])
        note(f"kq plot accuracy-bits {folder}    draws them")
    if failed:
        raise SweepError(_told(failed, folder))


def _told(failed: dict[str, str], folder: Path) -> str:
    lines = [f"{name}: {error}" for name, error in failed.items()]
    return "\n".join(
        [f"{len(failed)} points of {folder} failed; --resume tries them again", *lines]
    )

"""kq bench: how long files take, and which are faster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_quant.cli.estimate_options import OF_ESTIMATES, estimate_options
from keras_quant.cli.measured import note_noise, print_record
from keras_quant.cli.options import OutputFile, typed
from keras_quant.cli.output import json_option, note, print_json

if TYPE_CHECKING:
    from keras_quant.bench.records import BenchRecord

_OF_BOTH = ("batches", "profile", "input_shapes")
_OF_THIS_MACHINE = {
    "threads": "threads",
    "batches": "batch",
    "duration": "duration",
    "loads": "loads",
    "limit": "fail-if-slower",
    "profile": "profile",
    "input_shapes": "input-shape",
}
"""Parameters without a meaning for trtexec on a board, and their options."""
_OF_MEASURING = {
    **{name: option for name, option in _OF_THIS_MACHINE.items() if name not in _OF_BOTH},
    "runtimes": "runtime",
    "baseline": "baseline",
    "host": "host",
    "rebuild": "rebuild",
}
"""Parameters without a meaning for an estimate, and their options."""


def _counts(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    """Reads "1,2" as numbers, each once."""
    words = text.split(",") if text else []
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise click.BadParameter(f"{text!r} is no list of numbers above 0; write 1, or 1,2,4")
    return tuple(dict.fromkeys(int(word) for word in words))


def _share(ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """Reads "3%" as 0.03."""
    if text is None:
        return None
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = -1
    if not text.endswith("%") or not 0 <= share < float("inf"):
        raise click.BadParameter(f"{text!r} is no share; write 3%, or 0%")
    return share


def _shapes(
    ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """Reads "image=1x224x224x3", each name once; "224,224,3" has the name ""."""
    found = {}
    for text in texts:
        name, equals, shape = text.rpartition("=")
        sizes = shape.split("x" if equals else ",")
        if bool(name) != bool(equals) or not all(
            one.strip().isdecimal() and int(one) > 0 for one in sizes
        ):
            raise click.BadParameter(
                f"{text!r} is no shape; write NAME=1x224x224x3, or, with --estimate, 224,224,3"
            )
        if name in found:
            raise click.BadParameter(f"{name or text} comes twice")
        found[name] = tuple(map(int, sizes))
    return found


@click.command()
@click.argument("paths", metavar="ARTIFACT...", nargs=-1, required=True, type=Path)
@click.option(
    "--runtime",
    "runtimes",
    help="Some of litert, litert-compiled, litert-compiled-builtin, litert-compiled-reference, "
    "onnxruntime, keras, as in litert,onnxruntime [default: what fits a file]; with --host one of "
    "onnxruntime, litert.",
)
@click.option(
    "--threads",
    callback=_counts,
    default="1",
    show_default=True,
    help="Of the runtime: 1, or several, as in 1,2.",
)
@click.option(
    "--batch",
    "batches",
    callback=_counts,
    help="Images a call, as in 1,8,32 [default: what a file takes; 1 where it takes any].",
)
@click.option(
    "--input-shape",
    "input_shapes",
    multiple=True,
    callback=_shapes,
    metavar="NAME=1x224x224x3",
    help="With the batch, of an input in which a file leaves sizes open; with --estimate also "
    "H,W,C, of a zoo model or a Keras file.",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True, max=3600),
    default=10.0,
    show_default=True,
    help="Seconds of timed calls, of each file.",
)
@click.option(
    "--loads",
    type=click.IntRange(min=8),
    default=8,
    show_default=True,
    help="How often each file is loaded; fewer than 8 are no evidence.",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    help="A record that kq bench wrote: compare with it too.",
)
@click.option(
    "--fail-if-slower",
    "limit",
    callback=_share,
    metavar="SHARE",
    help="As in 3%: end with exit code 3 where a file is slower than in the baseline, or without "
    "one than the first ARTIFACT, by more than that.",
)
@click.option(
    "--profile", is_flag=True, help="Show each operator: time, types, and why it is slow."
)
@click.option(
    "--host",
    metavar="USER@BOARD",
    help="Measure on a board, over SSH (extra jetson): a bundle on its GPU by trtexec; with "
    "--runtime, files on its own processor.",
)
@click.option("--rebuild", is_flag=True, help="With --host: build the engine again.")
@click.option(
    "--output",
    type=OutputFile(),
    help="The record [default: bench.json in the run, or in the bundle that trtexec ran].",
)
@estimate_options
@json_option
def bench(
    paths: tuple[Path, ...],
    runtimes: str | None,
    threads: tuple[int, ...],
    batches: tuple[int, ...],
    input_shapes: dict[str, tuple[int, ...]],
    duration: float,
    loads: int,
    baseline: Path | None,
    limit: float | None,
    profile: bool,
    host: str | None,
    rebuild: bool,
    output: Path | None,
    estimated: bool,
    as_json: bool,
    **of_estimate: Any,
) -> None:
    """Measure how long files take, in turn, and say which are faster; or estimate it.

    ARTIFACTs are .tflite, .onnx and .keras files, runs, and bundles. Each is loaded again and
    again in a process of its own, in shuffled order, and timed in rounds A B C A B C; each pair
    gets a verdict with its interval of 99 %. docs/bench.md says how to read them. The record
    holds all samples and the machine; with --json it is printed without the samples.

    --board with --estimate says what a Jetson would take, from the graph alone: of a run, a Keras
    or ONNX file, or a name of the zoo. docs/estimate.md says how far off that may be.

    \b
    Examples:
      kq bench models/digits-cnn-w4a4 --runtime litert,onnxruntime
      kq bench ours.tflite theirs.tflite --threads 1,2 --batch 1,8 --output bench.json
      kq bench model.onnx --baseline bench.json --fail-if-slower 3%
      kq bench models/digits-cnn-w4a4/export/tensorrt --host user@board
      kq bench resnet50 mobilenet_v2 --board orin-nano --estimate
      kq bench models/digits-cnn-w4a4 --host user@board --runtime litert
    """
    from keras_quant.bench import records
    from keras_quant.bench.measure import Settings
    from keras_quant.errors import SpeedError, UsageError
    from keras_quant.jobs import bench as job
    from keras_quant.jobs.candidates import BenchSettings

    check_together(click.get_current_context().params)
    if estimated:
        of_estimate |= {"batches": batches or (1,), "shapes": input_shapes}
        _estimate(paths, of_estimate, layers=profile, output=output, as_json=as_json)
        return
    known = records.load(baseline) if baseline else None
    if host is not None and runtimes is None:
        _on_board(paths, host, known, rebuild=rebuild, output=output, as_json=as_json)
        return
    if limit is not None and baseline is None and len(paths) < 2 and not paths[0].is_dir():
        raise UsageError("--fail-if-slower compares: give --baseline, or several ARTIFACTs")
    path = output or _of_run(paths)
    settings = BenchSettings(
        runtimes=listed(runtimes),
        threads=threads,
        batches=batches,
        profile=profile,
        timing=Settings(duration_s=duration, loads=loads),
        input_shapes=input_shapes,
    )
    if host is None:
        record = job.bench(paths, settings, baseline=known, say=note)
    else:
        from keras_quant.jobs.board import bench_on_processor

        record = bench_on_processor(paths, host, settings, baseline=known, say=note)
    if path:
        records.save(record, path)
    print_json(job.without_samples(record)) if as_json else print_record(record)
    note(f"all samples: {path}" if path else "no record was written; --output FILE writes one")
    note_noise(record)
    if limit is not None:
        judged = job.judge(record, limit, against_baseline=known is not None)
        for verdict in judged.undecided:
            note(f"not decided: {verdict.text()}; a longer --duration may tell")
        if judged.slower:
            texts = "\n".join(verdict.text() for verdict in judged.slower)
            raise SpeedError(f"slower than allowed, by more than {limit:.4g} of the time:\n{texts}")


def listed(text: str | None) -> tuple[str, ...]:
    """The names between commas; () where nothing was given."""
    return tuple(filter(None, (text or "").split(",")))


def check_together(options: Mapping[str, Any]) -> None:
    """Refuses options of the current context's `kq bench` that do not go together.

    Args:
        options: of it, by the names of their parameters.
    Raises:
        UsageError: an option of a measurement for an estimate, or the other way round; or one that
            has no meaning without another.
    """
    from keras_quant.errors import UsageError
    from keras_quant.targets.jetson import BOARDS

    estimated, host = options["estimated"], options["host"]
    wrong = typed(_OF_MEASURING if estimated else OF_ESTIMATES)
    if wrong and estimated:
        raise UsageError(f"--estimate runs nothing; leave out {', '.join(wrong)}")
    if wrong:
        raise UsageError(
            f"{', '.join(wrong)} is for --estimate; to measure on a board give --host USER@BOARD"
        )
    if estimated:
        if options["board"] is None:
            raise UsageError(f"--estimate needs --board, one of {', '.join(BOARDS)}")
        return
    if options["rebuild"] and host is None:
        raise UsageError("--rebuild is for --host USER@BOARD, which builds an engine")
    if "" in options["input_shapes"]:
        raise UsageError("--input-shape H,W,C is for --estimate; write NAME=1x224x224x3")
    if host is not None and options["runtimes"] is not None:
        if options["profile"] or options["rebuild"]:
            raise UsageError("--profile and --rebuild have no meaning with --host and --runtime")
    elif host is not None:
        wrong = typed(_OF_THIS_MACHINE)
        if wrong or len(options["paths"]) != 1:
            what = ", ".join(wrong) or "several ARTIFACTs"
            raise UsageError(f"--host takes one bundle, whose bench.sh says how; leave out {what}")


def _estimate(
    paths: tuple[Path, ...],
    of_estimate: dict[str, Any],
    *,
    layers: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Estimates what a board would take."""
    from keras_quant.cli.estimated import run_estimate
    from keras_quant.jobs.estimate import EstimateSettings

    precisions, shapes = of_estimate.pop("precisions"), of_estimate.pop("shapes")
    settings = EstimateSettings(
        **of_estimate,
        precisions=listed(precisions),
        input_shape=shapes.pop("", None),
        input_shapes=shapes,
    )
    run_estimate(paths, settings, layers=layers, output=output, as_json=as_json)


def _on_board(
    paths: tuple[Path, ...],
    host: str,
    baseline: BenchRecord | None,
    *,
    rebuild: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Measures one bundle on a board."""
    from keras_quant.bench import records
    from keras_quant.jobs import bench as job
    from keras_quant.jobs.board import bench_on_board

    record = bench_on_board(paths[0], host, rebuild=rebuild, say=note)
    record = job.with_baseline(record, baseline)
    path = output or paths[0] / records.FILE_NAME
    records.save(record, path)
    print_json(job.without_samples(record)) if as_json else print_record(record)
    note(f"all samples: {path}")
    note_noise(record)


def _of_run(paths: tuple[Path, ...]) -> Path | None:
    """Where the record of a single run is kept."""
    from keras_quant.bench.records import FILE_NAME
    from keras_quant.runs import records

    if len(paths) == 1 and (paths[0] / records.FILE_NAME).is_file():
        return paths[0] / FILE_NAME
    return None

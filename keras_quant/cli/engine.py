"""kq engine: what a TensorRT engine consists of, and what takes its time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_quant.cli.options import OutputFile
from keras_quant.cli.output import json_option, note, print_json, print_table

if TYPE_CHECKING:
    from keras_quant.bench.engine import Engine


@click.command()
@click.argument("path", metavar="LAYERS.json", type=click.Path(path_type=Path))
@click.option(
    "--profile",
    type=click.Path(path_type=Path),
    help="The file of --exportProfile, which tells times [default: that of the bundle].",
)
@click.option(
    "--out",
    type=OutputFile(makes_folder=True),
    help="Draw the engine there: .svg, .png or .pdf.",
)
@json_option
def engine(path: Path, profile: Path | None, out: Path | None, as_json: bool) -> None:
    """Show the layers of a TensorRT engine: types, times, ONNX nodes, and what costs time.

    LAYERS.json is what trtexec --exportLayerInfo writes, of any version, of an engine that was
    built with --profilingVerbosity=detailed; or a bundle in which bench.sh has run.

    \b
    Examples:
      kq engine layers.json --profile profile.json --out engine.svg
      kq engine models/digits-cnn-w4a4/export/tensorrt
    """
    from keras_quant.bench.engine_costs import costs, totals
    from keras_quant.jobs.engine import read_engine

    found = read_engine(path, profile)
    if out is not None:
        from keras_quant.plots.draw import save
        from keras_quant.plots.engine import engine_picture

        save(engine_picture(found, title=f"{len(found.layers)} layers of {path.name}"), out)
    if as_json:
        print_json(
            {"engine": found, "totals": totals(found), "costs": costs(found), "picture": out}
        )
    else:
        _print(found)
        for sentence in costs(found):
            click.echo(sentence)
    untimed = [layer.name for layer in found.layers if layer.time_ms is None]
    if len(untimed) == len(found.layers):
        note("no times: give the file of trtexec --exportProfile with --profile")
    elif untimed:
        note(f"the profile tells no times of {len(untimed)} layers: {', '.join(untimed[:5])}")
    if out is not None:
        note(f"drew {len(found.layers)} layers: {out}")


def _print(found: Engine) -> None:
    from keras_quant.bench.engine_costs import short_name, totals

    rows = [
        (
            short_name(layer),
            layer.layer_type,
            layer.kind,
            layer.precision,
            layer.types,
            None if layer.time_ms is None else f"{layer.time_ms * 1e3:,.1f}",
            None if layer.share is None else f"{layer.share:.1%}",
            ", ".join(layer.onnx_nodes) or None,
        )
        for layer in found.layers
    ]
    columns = ("layer", "type", "kind", "computes in", "reads and gives", "us", "share")
    print_table((*columns, "ONNX nodes"), rows, title=f"inputs and outputs: {_io(found)}")
    click.echo()
    print_table(
        ("total", "layers", "us", "share"),
        [
            (
                total.kind,
                total.layers,
                None if total.time_ms is None else f"{total.time_ms * 1e3:,.1f}",
                None if total.share is None else f"{total.share:.1%}",
            )
            for total in totals(found)
        ],
    )
    click.echo()


def _io(found: Engine) -> str:
    return ", ".join(found.io_tensors) or "not told"

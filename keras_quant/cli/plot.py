"""kq plot: pictures of what runs came to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from keras_quant.cli.options import OutputFile
from keras_quant.cli.output import json_option, note, print_json
from keras_quant.cli.runs import find, parse_conditions, paths_argument, where_option

KINDS = (
    *("accuracy-bits", "accuracy-size", "accuracy-weights", "accuracy-bitops"),
    *("accuracy-energy", "accuracy-latency", "accuracy-estimate", "latency-bars"),
    *("training", "bits-of-layers", "sensitivity", "histograms", "confusion", "maps"),
)


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@paths_argument
@where_option
@click.option(
    "--out",
    type=OutputFile(makes_folder=True),
    help="The picture: .png, .svg or .pdf [default: reports/KIND.png].",
)
@click.option("--title", help="[default: model and dataset]")
@click.option("--board", help="accuracy-estimate: of which Jetson [default: that of most runs].")
@click.option(
    "--layer",
    "layers",
    multiple=True,
    metavar="PATTERN",
    help="Of histograms: only layers whose name matches.",
)
@json_option
def plot(
    kind: str,
    paths: Sequence[Path],
    conditions: Sequence[str],
    out: Path | None,
    title: str | None,
    layers: Sequence[str],
    board: str | None,
    as_json: bool,
) -> None:
    """Draw runs: what accuracy costs, how training went, which bits layers have.

    Figures come from the runs' records alone; all runs in models/ where none is named. Several
    seeds of a method are drawn as their mean and a band from the lowest to the highest.

    \b
    accuracy-bits     accuracy by bit width, a line a method
    accuracy-size     by the size of the exported file, with the Pareto front
    accuracy-weights  by the kernels at their logical bits
    accuracy-bitops   by bit operations for one image
    accuracy-energy   by energy for one image, modelled
    accuracy-latency  by latency, where kq bench or kq sweep --latency measured it
    accuracy-estimate by the latency on a Jetson, where kq bench --estimate estimated it
    latency-bars      latency by runtime and precision, measured, and hatched where estimated
    training          loss and accuracy by epoch
    bits-of-layers    bits of each layer's weights and inputs
    sensitivity       what each layer's kernel alone costs at few bits (kq sensitivity)
    histograms        weights and activations before and after rounding (kq explain)
    confusion         which classes are taken for which, float and quantized (kq explain)
    maps              class-activation maps of both, and how far they overlap (kq explain)

    \b
    Examples:
      kq plot accuracy-bits models/ --where model=resnet20
      kq plot accuracy-size models/sweep --out reports/size.svg
    """
    from keras_quant.errors import RunError
    from keras_quant.plots.draw import draw, save
    from keras_quant.runs.index import where

    runs = where(find(paths).runs, parse_conditions(conditions))
    if not runs:
        raise RunError("no run is left to draw; kq runs list shows what there is")
    picture = out or Path("reports", f"{kind}.png")
    save(draw(kind, runs, title=title, layers=layers, board=board), picture)
    note(f"drew {len(runs)} runs: {picture}")
    if as_json:
        print_json({"picture": picture, "runs": [run.path for run in runs]})

"""kq export: integer files of a run, proven."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_quant.cli.output import json_option, note, print_json, print_table

if TYPE_CHECKING:
    from keras_quant.emit import Format
    from keras_quant.export import Export


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--to", "targets", default="tflite", show_default=True, help="tflite, onnx, or both.")
@click.option("--dataset", help="Images to prove the files on [default: those of the run].")
@click.option("--out", type=click.Path(path_type=Path), help="Folder [default: RUN/export].")
@click.option(
    "--images",
    type=click.IntRange(min=0),
    default=500,
    show_default=True,
    help="Prove them on the first N test images; 0 means all.",
)
@click.option("--layers", is_flag=True, help="Show the codes compared layer by layer.")
@click.option("--float", "baselines", is_flag=True, help="Write float files of the model too.")
@click.option("--overwrite", is_flag=True, help="Replace an export that is there.")
@click.option("--trust", is_flag=True, help="Load a Keras file that holds code.")
@json_option
def export(
    path: Path,
    targets: str,
    dataset: str | None,
    out: Path | None,
    images: int,
    layers: bool,
    baselines: bool,
    overwrite: bool,
    trust: bool,
    as_json: bool,
) -> None:
    """Write a run, or a .keras file, as integer files and prove that they answer the same.

    Exit code 3 means that one does not; it then is called model.failed-parity.*, and the
    numbers are in parity.json beside it.

    \b
    Examples:
      kq export models/digits-cnn-w4a4 --to tflite,onnx --overwrite
      kq export model.keras --dataset cifar10 --out exported
    """
    formats = _formats(targets)
    from keras_quant.export import export_path
    from keras_quant.progress import Progress

    done = export_path(
        path,
        formats,
        dataset=dataset,
        out=out,
        images=images,
        baselines=baselines,
        overwrite=overwrite,
        trust=trust,
        progress=Progress(),
    )
    if as_json:
        print_json(done)
        return
    _print_proofs(done)
    if layers:
        _print_layers(done)
    if done[0].moved_channels:
        note(
            f"biases of {done[0].moved_channels:,} channels were moved to what integers can say, "
            f"by up to {done[0].largest_shift_steps:.1g} of an output step; Keras here is the "
            "moved model"
        )


def _formats(targets: str) -> list[Format]:
    """The formats that --to names, each once."""
    from keras_quant.emit import FORMATS
    from keras_quant.errors import UsageError, close_names

    names = dict.fromkeys(name.strip() for name in targets.split(","))
    problems = [
        f"--to {name!r} is not known{close_names(name, FORMATS)}; targets are {', '.join(FORMATS)}"
        for name in names
        if name not in FORMATS
    ]
    if problems:
        raise UsageError("\n".join(problems))
    return [FORMATS[name] for name in names]


def _print_proofs(exports: Sequence[Export]) -> None:
    """One row a file."""
    columns = (
        *("target", "kB", "images", "codes compared", "different", "top-1 reference"),
        *("top-1 Keras", "logit difference", "seconds", "kernels"),
    )
    rows = [
        (
            done.format,
            f"{done.size_bytes / 1e3:,.1f}",
            done.parity.images,
            done.parity.codes_compared,
            done.parity.codes_different,
            f"{done.parity.top1_agreement:.2%}",
            f"{done.parity.keras_top1_agreement or 0:.2%}",
            f"{done.parity.logit_difference:.1e}",
            f"{done.parity.seconds:.1f}",
            ", ".join(done.parity.kernels),
        )
        for done in exports
    ]
    print_table(columns, rows, title=str(exports[0].path.parent))


def _print_layers(exports: Sequence[Export]) -> None:
    """One row a layer, with each file's differing codes."""
    columns = ("layer", "codes compared", *(f"different, {done.format}" for done in exports))
    layers = zip(*(done.parity.layers for done in exports), strict=True)
    rows = [
        (same[0].node, same[0].codes_compared, *(layer.codes_different for layer in same))
        for same in layers
    ]
    print_table(columns, rows, title="layer by layer")

"""kq export: an integer file of a run, proven."""

from __future__ import annotations

from pathlib import Path

import click

from keras_quant.cli.output import json_option, note, print_json, print_table

TARGETS = ("tflite",)


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--to", "target", default="tflite", show_default=True, help="tflite.")
@click.option("--dataset", help="Images to prove the file on [default: those of the run].")
@click.option("--out", type=click.Path(path_type=Path), help="Folder [default: RUN/export].")
@click.option(
    "--images",
    type=click.IntRange(min=0),
    default=500,
    show_default=True,
    help="Prove it on the first N test images; 0 means all.",
)
@click.option("--overwrite", is_flag=True, help="Replace an export that is there.")
@click.option("--trust", is_flag=True, help="Load a Keras file that holds code.")
@json_option
def export(
    path: Path,
    target: str,
    dataset: str | None,
    out: Path | None,
    images: int,
    overwrite: bool,
    trust: bool,
    as_json: bool,
) -> None:
    """Write a run, or a .keras file, as an integer file and prove that it answers the same.

    Exit code 3 means that it does not; the file then is called model.failed-parity.tflite.

    \b
    Examples:
      kq export models/digits-cnn-w4a4 --to tflite --overwrite
      kq export model.keras --dataset cifar10 --out exported
    """
    from keras_quant.errors import UsageError, close_names

    if target not in TARGETS:
        raise UsageError(
            f"--to {target!r} is not known{close_names(target, TARGETS)}; targets are "
            f"{', '.join(TARGETS)}"
        )
    from keras_quant.export import export_path
    from keras_quant.progress import Progress

    done = export_path(
        path,
        dataset=dataset,
        out=out,
        images=images,
        overwrite=overwrite,
        trust=trust,
        progress=Progress(),
    )
    if as_json:
        print_json(done)
        return
    parity = done.parity
    rows = [
        ("size", f"{done.size_bytes / 1e3:,.1f} kB"),
        ("codes that differ", f"{parity.codes_different:,} of {parity.codes_compared:,}"),
        ("largest logit difference", f"{parity.logit_difference:.1e}"),
        ("top-1 agreement with the reference", f"{parity.top1_agreement:.2%}"),
        ("top-1 agreement with Keras", f"{parity.keras_top1_agreement or 0:.2%}"),
        ("images", f"{parity.images:,}"),
        ("kernels", ", ".join(parity.kernels)),
    ]
    print_table(("figure", "value"), rows, title=str(done.path))
    if done.moved_channels:
        note(
            f"biases of {done.moved_channels:,} channels were moved to what integers can say, by "
            f"up to {done.largest_shift_steps:.1g} of an output step; Keras here is the moved model"
        )

"""kq export: integer files of a run, proven."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_quant.cli.answers import print_answers
from keras_quant.cli.formats import choose_formats
from keras_quant.cli.options import preprocess_option
from keras_quant.cli.output import json_option, print_json, print_table
from keras_quant.cli.proofs import note_exceptions, print_proofs, print_runtimes
from keras_quant.targets.jetson import BOARDS

if TYPE_CHECKING:
    from keras_quant.proof.formats import Format
    from keras_quant.proof.write import Export

_OF_TARGETS = ("pack", "input_type", "head", "batch", "trt", "board", "dla", "fp16")
_OF_INTEGERS = ("layers", "baselines", "stages")  # without a meaning for plain kinds


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--to", "targets", default="tflite", show_default=True, help="Some of tflite,onnx,tensorrt."
)
@click.option(
    "--kind",
    default="integer",
    show_default=True,
    help="integer; or for tflite and onnx, within a tolerance: fp16 weights, dynamic (int8 "
    "weights, activations quantized at run time) or w8a16 (int16 activations, tflite only).",
)
@click.option("--dataset", help="Images to prove the files on [default: those of the run].")
@preprocess_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder [default: RUN/export].",
)
@click.option(
    "--images",
    type=click.IntRange(min=0),
    default=500,
    show_default=True,
    help="Prove them on the first N test images; 0 means all.",
)
@click.option("--layers", is_flag=True, help="Show the codes that differ layer by layer.")
@click.option("--float", "baselines", is_flag=True, help="Write float files of the model too.")
@click.option(
    "--stages", is_flag=True, help="Write a file for each output of a model with early exits."
)
@click.option("--pack", help="tflite: packed weights: none, fast (the default) or smallest.")
@click.option("--input", "input_type", help="tflite: float (the default), int8, or uint8 pixels.")
@click.option("--head", help="tflite: float logits (the default), or int8 ones.")
@click.option("--batch", help="tflite: images a call, or dynamic (the default).")
@click.option("--trt", help="tensorrt: version, as 8.2, 8.5, 8.6, 10.3, 10.13, 10.16, 11.4.")
@click.option("--board", help=f"tensorrt: Jetson module: {', '.join(BOARDS)}.")
@click.option("--dla", is_flag=True, default=None, help="tensorrt: for the board's DLA.")
@click.option(
    "--fp16",
    is_flag=True,
    default=None,
    help="tensorrt: a file of floats for fp16, also where the board has int8.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are not of an export.")
@click.option("--trust", is_flag=True, help="Load a Keras file that holds code.")
@json_option
def export(
    path: Path,
    targets: str,
    kind: str,
    dataset: str | None,
    preprocess: str | None,
    out: Path | None,
    images: int,
    layers: bool,
    baselines: bool,
    stages: bool,
    overwrite: bool,
    trust: bool,
    as_json: bool,
    **of_targets: Any,
) -> None:
    """Write a run, or a .keras file, as integer files and prove that they answer the same.

    model.tflite, model.onnx for x86, and tensorrt/: a folder with model.onnx and all that
    builds, compares and measures it on a board. The integer graph that all are written from is
    left as model.kqgraph.

    --stages cuts a model with early exits into RUN/export/stages/stage1.*, stage2.* and so on, each
    proven, and all of them one after the other; stages.json says what each hands to the next.

    Exit code 3 means that a file does not answer the same; it then is called
    model.failed-parity.*, and the numbers are in parity.json beside it.

    --kind fp16, dynamic and w8a16 write plain files of the float weights to export-KIND/. They
    round as they run, so their answers are held to the Keras model's within a tolerance.

    \b
    Examples:
      kq export models/digits-cnn-w4a4 --to tflite,onnx,tensorrt --overwrite
      kq export models/digits-cnn-w4a4 --to tflite --pack smallest --input uint8 --overwrite
      kq export models/digits-cnn-w4a4 --to tensorrt --board orin-nano
      kq export models/mnist-b_lenet-w4a8 --stages --to tflite,onnx
      kq export model.keras --dataset cifar10 --out exported
      kq export models/base --kind dynamic --to tflite,onnx
    """
    flags = {"layers": layers, "baselines": baselines, "stages": stages}
    formats = formats_of({**of_targets, **flags, "targets": targets, "kind": kind})
    if kind != "integer":
        from keras_quant.cli.plain import export_and_print

        names = [form.name for form in formats]
        export_and_print(
            path,
            kind,
            names,
            as_json=as_json,
            dataset=dataset,
            preprocess=preprocess,
            out=out,
            images=images,
            overwrite=overwrite,
            trust=trust,
        )
        return
    from keras_quant.jobs.export import export_path
    from keras_quant.runs.progress import Progress

    done = export_path(
        path,
        formats,
        dataset=dataset,
        preprocess=preprocess,
        out=out,
        images=images,
        baselines=baselines,
        stages=stages,
        overwrite=overwrite,
        trust=trust,
        progress=Progress(),
    )
    if as_json:
        print_json(done)
        return
    print_proofs(done.files)
    print_answers(done)
    print_runtimes(done.files)
    for same in [[file] for file in done.files] if stages else [done.files]:
        if layers:
            _print_layers(same)
    note_exceptions(done, formats)


def formats_of(options: Mapping[str, Any]) -> list[Format]:
    """What the options of `kq export` ask for.

    Args:
        options: by the names of their parameters.
    Raises:
        UsageError: targets, kinds or options that are not known, or do not go together.
    """
    formats = choose_formats(options["targets"], {name: options[name] for name in _OF_TARGETS})
    if (kind := options["kind"]) != "integer":
        from keras_quant.errors import UsageError
        from keras_quant.jobs.plain import check_kind

        given = [name for name in (*_OF_TARGETS, *_OF_INTEGERS) if options[name]]
        if given:
            spelled = {"input_type": "input", "baselines": "float"}
            names = ", ".join(f"--{spelled.get(name, name)}" for name in given)
            raise UsageError(f"{names} goes with integer files; leave it out with --kind {kind}")
        check_kind(kind, [form.name for form in formats])
    return formats


def _print_layers(files: Sequence[Export]) -> None:
    """One row a layer, with each file's differing codes."""
    columns = ("layer", "codes compared", *(f"different, {done.format}" for done in files))
    layers = zip(*(done.parity.layers for done in files), strict=True)
    rows = [
        (same[0].node, same[0].codes_compared, *(layer.codes_different for layer in same))
        for same in layers
    ]
    print_table(columns, rows, title="layer by layer")

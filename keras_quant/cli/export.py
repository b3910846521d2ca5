"""kq export: integer files of a run, proven."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_quant.cli.options import preprocess_option
from keras_quant.cli.output import json_option, note, print_json, print_table
from keras_quant.targets.jetson import BOARDS

if TYPE_CHECKING:
    from keras_quant.emit.tflite.options import TFLiteOptions
    from keras_quant.proof.formats import Format
    from keras_quant.proof.gate import Export
    from keras_quant.targets.tensorrt import TensorRTOptions


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--to", "targets", default="tflite", show_default=True, help="Some of tflite,onnx,tensorrt."
)
@click.option("--dataset", help="Images to prove the files on [default: those of the run].")
@preprocess_option
@click.option("--out", type=click.Path(path_type=Path), help="Folder [default: RUN/export].")
@click.option(
    "--images",
    type=click.IntRange(min=0),
    default=500,
    show_default=True,
    help="Prove them on the first N test images; 0 means all.",
)
@click.option("--layers", is_flag=True, help="Show the codes that differ layer by layer.")
@click.option("--float", "baselines", is_flag=True, help="Write float files of the model too.")
@click.option("--pack", help="tflite: packed weights: none, fast (the default) or smallest.")
@click.option("--input", "input_type", help="tflite: float (the default), int8, or uint8 pixels.")
@click.option("--head", help="tflite: float logits (the default), or int8 ones.")
@click.option("--batch", help="tflite: images a call, or dynamic (the default).")
@click.option("--trt", help="tensorrt: version, as 8.2, 8.5, 8.6, 10.3, 10.x or 11.")
@click.option("--board", help=f"tensorrt: Jetson module: {', '.join(BOARDS)}.")
@click.option("--dla", is_flag=True, default=None, help="tensorrt: for the board's DLA.")
@click.option("--overwrite", is_flag=True, help="Replace an export that is there.")
@click.option("--trust", is_flag=True, help="Load a Keras file that holds code.")
@json_option
def export(
    path: Path,
    targets: str,
    dataset: str | None,
    preprocess: str | None,
    out: Path | None,
    images: int,
    layers: bool,
    baselines: bool,
    overwrite: bool,
    trust: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Write a run, or a .keras file, as integer files and prove that they answer the same.

    model.tflite, model.onnx for x86, and tensorrt/: a folder with model.onnx and all that
    builds, compares and measures it on a board. The integer graph that all are written from is
    left as model.kqgraph.

    Exit code 3 means that a file does not answer the same; it then is called
    model.failed-parity.*, and the numbers are in parity.json beside it.

    \b
    Examples:
      kq export models/digits-cnn-w4a4 --to tflite,onnx,tensorrt --overwrite
      kq export models/digits-cnn-w4a4 --to tflite --pack smallest --input uint8 --overwrite
      kq export models/digits-cnn-w4a4 --to tensorrt --board orin-nano
      kq export model.keras --dataset cifar10 --out exported
    """
    formats = _formats(targets, settings)
    from keras_quant.jobs.export import export_path
    from keras_quant.runs.progress import Progress
    from keras_quant.targets.tensorrt import plan

    done = export_path(
        path,
        formats,
        dataset=dataset,
        preprocess=preprocess,
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
    _print_runtimes(done)
    if layers:
        _print_layers(done)
    for form in formats:
        if form.name == "tensorrt" and (reason := plan(form.options).reason):
            note(f"tensorrt/ holds a model of floats: {reason}")
            if form.options.dla:
                note("what is compared is the file in float32, without that rounding")
    for export in done:
        if export.parity.codes_tolerance:
            note(
                f"{export.format} is not exact for this model: up to "
                f"{100 * export.parity.codes_tolerance:g}% of its codes may differ; "
                f"{export.parity.codes_different:,} do"
            )
    if done[0].moved_channels:
        note(
            f"biases of {done[0].moved_channels:,} channels were moved to what integers can say, "
            f"by up to {done[0].largest_shift_steps:.1g} of an output step; Keras here is the "
            "moved model"
        )


def _formats(targets: str, settings: Mapping[str, Any]) -> list[Format]:
    """The formats that --to names, each once, with the options given for it."""
    from keras_quant.errors import UsageError, close_names
    from keras_quant.proof.formats import FORMATS
    from keras_quant.targets.tensorrt import plan

    names = dict.fromkeys(name.strip() for name in targets.split(","))
    problems = [
        f"--to {name!r} is not known{close_names(name, FORMATS)}; targets are {', '.join(FORMATS)}"
        for name in names
        if name not in FORMATS
    ]
    chosen = {name: value for name, value in settings.items() if value is not None}
    problems += [
        f"--{option.removesuffix('_type')} is for {target}; give it with --to {target}"
        for option in chosen
        if (target := _TARGET_OF[option]) not in names
    ]
    if problems:
        raise UsageError("\n".join(problems))
    tensorrt = _tensorrt_options(chosen)
    plan(tensorrt)  # tells what does not go together before anything is loaded
    options = {"tflite": _tflite_options(chosen), "tensorrt": tensorrt}
    return [FORMATS[name].with_options(options.get(name)) for name in names]


_TARGET_OF = {
    **dict.fromkeys(("pack", "input_type", "head", "batch"), "tflite"),
    **dict.fromkeys(("trt", "board", "dla"), "tensorrt"),
}


def _tflite_options(chosen: Mapping[str, Any]) -> TFLiteOptions:
    from keras_quant.emit.tflite.options import TFLiteOptions
    from keras_quant.errors import UsageError

    batch = chosen.get("batch", "dynamic")
    if batch != "dynamic" and not batch.isdecimal():
        raise UsageError(f"--batch is {batch!r}; a number of images, or dynamic, is allowed")
    given = {"pack": "pack", "input_type": "input", "head": "head"}
    return TFLiteOptions(
        batch=None if batch == "dynamic" else int(batch),
        **{field: chosen[option] for option, field in given.items() if option in chosen},
    )


def _tensorrt_options(chosen: Mapping[str, Any]) -> TensorRTOptions:
    from keras_quant.targets.tensorrt import TensorRTOptions

    return TensorRTOptions(
        version=chosen.get("trt"), board=chosen.get("board"), dla=chosen.get("dla", False)
    )


def _print_proofs(exports: Sequence[Export]) -> None:
    """One row a file."""
    columns = (
        *("target", "kB", "images", "codes compared", "different", "top-1 reference"),
        *("top-1 Keras", "logit difference", "seconds"),
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
            f"{done.parity.seconds:.2f}",
        )
        for done in exports
    ]
    print_table(columns, rows, title=str(exports[0].path.parent))


def _print_runtimes(exports: Sequence[Export]) -> None:
    """What computed each file's answers, in which version."""
    rows = [
        (
            done.format,
            ", ".join(f"{name} {version}" for name, version in done.parity.versions.items()),
            ", ".join(done.parity.kernels),
        )
        for done in exports
    ]
    print_table(("target", "versions", "kernels"), rows)


def _print_layers(exports: Sequence[Export]) -> None:
    """One row a layer, with each file's differing codes."""
    columns = ("layer", "codes compared", *(f"different, {done.format}" for done in exports))
    layers = zip(*(done.parity.layers for done in exports), strict=True)
    rows = [
        (same[0].node, same[0].codes_compared, *(layer.codes_different for layer in same))
        for same in layers
    ]
    print_table(columns, rows, title="layer by layer")

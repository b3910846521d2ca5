"""kq diagnose: where a quantized file goes wrong, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_quant.cli.options import preprocess_option, typed
from keras_quant.cli.output import json_option, note, print_json, print_table
from keras_quant.cli.pictures import write_picture

if TYPE_CHECKING:
    from keras_quant.diagnose.findings import Layer
    from keras_quant.jobs.diagnose import Diagnosis

_COLUMNS = ("layer", "operator", "computes in", "kernels", "values", "weights")
_OF_CODES = ("range used", "at ends", "outliers", "dead")
_OF_ERROR = ("SQNR (dB)", "drop (dB)", "cosine", "cut off")
_OF_FILES = {
    "float_model": "float",
    "dataset": "dataset",
    "preprocess": "preprocess",
    "split": "split",
    "images": "images",
    "out": "out",
}
"""Parameters without a meaning for Keras files, and their options."""
_TABLE, _PLOT = "layers.json", "sqnr.png"


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--float",
    "float_model",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="What is right: a run, a Keras file, a SavedModel, a float .tflite or .onnx file.",
)
@click.option("--dataset", help="Name or path of images [default: that of the run, if any].")
@preprocess_option
@click.option("--split", default="test", show_default=True, help="test, validation or train.")
@click.option("--images", default=64, show_default=True, help="How many, at most.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help=f"Write {_TABLE} there, and with --float {_PLOT}.",
)
@click.option("--trust", is_flag=True, help="Load a Keras file that holds code.")
@json_option
def diagnose(
    file: Path,
    float_model: Path | None,
    dataset: str | None,
    preprocess: str | None,
    split: str,
    images: int,
    out: Path | None,
    trust: bool,
    as_json: bool,
) -> None:
    """Find where a quantized .tflite or .onnx file goes wrong, layer by layer, and why.

    FILE may be anyone's. With --float, each tensor is compared with the layer that it stands for:
    SQNR is the energy of float's values over that of the error, and a layer breaks the file where
    it is below 20 dB and 6 dB or more below what the layer reads. Without --float, it says what
    the file alone tells; without images, of its operators and kernels only. Figures are of the
    values that the runtime gives operator by operator, in a child process.

    Of a .keras file of Keras 3, its conversion is looked at: each layer is computed by Keras 3 and
    as it is read here, on random inputs, and exit code 3 means that one differs by more than 1e-5.

    \b
    Examples:
      kq diagnose model_int8.tflite --float model.keras --dataset cifar10 --preprocess raw
      kq diagnose models/base-w8a8/export/model.onnx --float models/base --out reports/base
      kq diagnose published.onnx --dataset my_photos/ --preprocess torch
      kq diagnose keras3_model.keras
    """
    from keras_quant.model.suffixes import is_keras_model

    if is_keras_model(file):
        check_no_other_options()
        _check_conversion(file, trust=trust, as_json=as_json)
        return
    from keras_quant.jobs.diagnose import diagnose as diagnose_file
    from keras_quant.runs.progress import Progress

    found = diagnose_file(
        file,
        float_model=float_model,
        dataset=dataset,
        preprocess=preprocess,
        split=split,
        images=images,
        trust=trust,
        progress=Progress(),
    )
    if out is not None:
        _write(found, out)
    print_json(found) if as_json else _print(found)


def check_no_other_options() -> None:
    """Refuses options that have no meaning for a file of Keras 3."""
    from keras_quant.errors import UsageError

    if wrong := typed(_OF_FILES):
        raise UsageError(
            f"{', '.join(wrong)} is for .tflite and .onnx files; of a Keras file the conversion is "
            "looked at, on random inputs: leave it out"
        )


def _check_conversion(file: Path, *, trust: bool, as_json: bool) -> None:
    """Compares a file of Keras 3 with what is made of it here; a layer that differs fails."""
    from keras_quant.errors import ParityError
    from keras_quant.jobs.conversion import check_conversion

    found = check_conversion(file, trust=trust)
    if as_json:
        print_json(found)
    else:
        rows = [(one.name, one.kind, f"{one.difference:.1e}") for one in found.layers]
        print_table(("layer", "class", "difference"), rows, title=f"{file}: Keras {found.keras}")
    if found.unmatched:
        note(f"no layer here has the name of: {', '.join(found.unmatched)}")
    if found.first_different is not None:
        raise ParityError(
            f"{file}: from layer {found.first_different} on, it answers otherwise here than in "
            f"Keras {found.keras}: by more than {found.tolerance:g} of the layer's largest value"
        )


def _write(found: Diagnosis, folder: Path) -> None:
    from keras_quant.files import make_folder, write_json

    make_folder(folder)
    write_json(folder / _TABLE, found)
    note(f"wrote {folder / _TABLE}")
    if found.float_model is None:
        note("no picture: it is of the error from a float model, --float MODEL")
        return
    from keras_quant.plots.sqnr import sqnr_by_layer

    title = f"{found.file.name} from {found.float_model}"
    write_picture(sqnr_by_layer(found.layers, title=title), folder / _PLOT)


def _print(found: Diagnosis) -> None:
    has_float = found.float_model is not None
    columns = [*_COLUMNS]
    columns += _OF_ERROR if has_float else ()
    columns += _OF_CODES if found.images else ()
    rows = [
        _row(layer, has_float=has_float, has_images=bool(found.images)) for layer in found.layers
    ]
    images = f"{found.images:,} images" if found.images else "no images"
    print_table(columns, rows, title=f"{found.file}: {found.runtime}, {images}")
    if found.findings:
        click.echo()
        print_table(
            ("layer", "finding", "what", "remedy"),
            [(one.layer, one.kind, one.what, one.remedy) for one in found.findings],
        )
    click.echo()
    click.echo(_verdict(found))
    if found.unmatched:
        note(f"no layer of the float model was found for: {', '.join(found.unmatched)}")
    if found.unmatched_layers:
        note(f"nothing in the file was found for: {', '.join(found.unmatched_layers)}")
    if not found.images:
        note("nothing is known of values: give images with --dataset")
    for text in found.notes:
        note(text)


def _verdict(found: Diagnosis) -> str:
    if found.breaks_at is not None:
        return f"the file breaks at {found.breaks_at}"
    if found.float_model is None:
        return "findings: " + (f"{len(found.findings)}" if found.findings else "none")
    # What is well again behind it is a step on the way to a layer's values, and no loss.
    dropped = [one for one in found.layers if one.drop_db is not None and not one.heals]
    if not dropped:
        return "no layer could be compared with the float model"
    worst = max(dropped, key=lambda layer: layer.drop_db or 0)
    return f"no layer breaks the file; most is lost at {worst.name}, {worst.drop_db:.1f} dB"


def _row(layer: Layer, *, has_float: bool, has_images: bool) -> tuple[object, ...]:
    operator, error, codes = layer.operator, layer.error, layer.codes
    row: list[object] = [layer.name, operator.op, operator.computes, operator.library, layer.dtype]
    row.append(_weights(layer))
    if has_float:
        row += [
            _decibels(error.sqnr_db) if error else None,
            None if layer.drop_db is None else f"{layer.drop_db:.1f}",
            None if error is None or error.cosine is None else f"{error.cosine:.4f}",
            None if error is None or error.cut_off is None else f"{error.cut_off:.1%}",
        ]
    if has_images:
        row += [
            None if codes is None else f"{codes.used:.0%}",
            None if codes is None else f"{codes.at_ends:.1%}",
            None if codes is None or codes.outliers is None else f"{codes.outliers:.1f}",
            None if codes is None else f"{codes.dead}/{codes.channels}",
        ]
    return tuple(row)


def _weights(layer: Layer) -> str | None:
    kernel = layer.operator.kernel
    if kernel is None:
        return None
    if not kernel.scales:
        return kernel.dtype
    return f"{kernel.dtype}, {kernel.scales} scale{'s' * (kernel.scales > 1)}"


def _decibels(value: float | None) -> str | None:
    if value is None:
        return None
    from keras_quant.diagnose.findings import SAME_DB

    return f"{value:.1f}" if value < SAME_DB else "exact"

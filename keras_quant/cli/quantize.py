"""kq quantize: a float model becomes integers without training."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_quant.cli.answers import print_answers
from keras_quant.cli.formats import choose_formats
from keras_quant.cli.options import model_options_option, overrides_option, preprocess_option
from keras_quant.cli.output import json_option, note, print_json, print_table
from keras_quant.cli.proofs import note_exceptions, print_proofs
from keras_quant.methods import DEFAULT_METHOD, METHODS

if TYPE_CHECKING:
    from keras_quant.jobs.quantize_settings import QuantizeSettings
    from keras_quant.schemes.scheme import Scheme

DEFAULT_BITS = "w8a8"
# Options that are fields of QuantizeSettings as they are.
_FIELDS = (
    *("source", "parent", "weights", "dataset", "preprocess", "method", "calibrator", "images"),
    *("statistics", "trust", "equalize", "rounding", "bias", "rounding_steps", "qdrop", "seed"),
    *("max_drop", "data", "absorb", "reestimate_norms"),
)


@click.command()
@click.argument("source", metavar="MODEL")
@click.option("--from", "parent", type=click.Path(path_type=Path), help="Run with the weights.")
@click.option(
    "--weights",
    metavar="FILE",
    help="Of a model by name, also of keras.applications: .h5 or .weights.h5, or none for random.",
)
@model_options_option
@click.option(
    "--dataset",
    help="Name, .npz or .npy file or image folder, without labels too [default: that of the run].",
)
@preprocess_option
@click.option("--bits", help=f"Bits of weights and activations [default: {DEFAULT_BITS}].")
@click.option("--scheme", help="Preset or scheme file: bits by layer name or type.")
@overrides_option
@click.option("--power-of-two", is_flag=True, help="Scales of activations as in training.")
@click.option("--symmetric", is_flag=True, help="Activations without zero points.")
@click.option("--method", default=DEFAULT_METHOD, show_default=True, help=", ".join(METHODS) + ".")
@click.option(
    "--calibrator",
    default="least_squares",
    show_default=True,
    help="How scales of activations are chosen: least_squares, mse, minmax, moving_average, "
    "entropy, percentile or percentile:99.9.",
)
@click.option(
    "--equalize",
    default="none",
    show_default=True,
    help="Scale channels before: none, weights or activations.",
)
@click.option(
    "--absorb",
    is_flag=True,
    help="Move high biases of activations into what reads them before.",
)
@click.option(
    "--data",
    default="train",
    show_default=True,
    help="Calibrate on training images: train; or by what batch norms say alone: none.",
)
@click.option(
    "--rounding",
    default="nearest",
    show_default=True,
    help="Of kernels: nearest; descent, for some seconds more; adaround, learned layer by layer; "
    "or blocks, learned by residual blocks.",
)
@click.option(
    "--rounding-steps",
    type=int,
    help="Of each layer or block, if learned [default: 1000].",
)
@click.option(
    "--qdrop",
    default=0.0,
    show_default=True,
    help="Share of values taken unrounded while rounding is learned, as QDrop's 0.5.",
)
@click.option("--seed", default=0, show_default=True, help="Of what learned rounding draws.")
@click.option(
    "--bias",
    help="Correction: empirical, by what layers answer, which a rounding other than nearest has; "
    "or analytical, which is faster [default: empirical, but for several inputs and --data none].",
)
@click.option(
    "--max-drop",
    type=float,
    metavar="POINTS",
    help="Leave layers at 8 bits, worst first, until no more accuracy is lost, on training images "
    "that are held out.",
)
@click.option(
    "--reestimate-norms", is_flag=True, help="Measure batch-norm statistics again at the end."
)
@click.option(
    "--images", default=1024, show_default=True, help="Training images to calibrate on, at most."
)
@click.option(
    "--statistics",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Choose from the statistics.npz of an earlier run of the same model.",
)
@click.option(
    "--to", "targets", default="tflite", show_default=True, help="Some of tflite,onnx,tensorrt."
)
@click.option(
    "--out",
    default="models",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder.",
)
@click.option("--name", help="Name of the run [default: MODEL-SCHEME, with the dataset's name].")
@click.option("--overwrite", is_flag=True, help="Replace a run of that name.")
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
@click.option("--trust", is_flag=True, help="Load a Keras file that holds code.")
@json_option
def quantize(as_json: bool, targets: str, **options: Any) -> None:
    """Quantize a trained float model without training, export it and prove the files.

    MODEL is a run, a .keras or .h5 file of Keras 2 or 3, a SavedModel folder of Keras 2, or a zoo
    model, a name of keras.applications or FILE.py:FUNCTION with the weights of a run (--from) or
    of a file (--weights). Activations are calibrated on
    training images; the test images are looked at once, by the float model and the quantized one.
    Images need no labels: then no accuracy is shown, but how near the float model's answers the
    quantized one's are.

    What to try where it loses too much, in this order: --rounding descent; --equalize activations
    for nets with depthwise layers; --rounding adaround or blocks; --max-drop.

    Writes models/RUN/ as kq train does: run.json, scheme.yaml, statistics.npz, model.keras, and
    export/ with the files and their proofs.

    \b
    Examples:
      kq quantize models/base --to tflite,onnx,tensorrt
      kq quantize cnn.h5 --dataset cifar10 --preprocess raw
      kq quantize mobilenet.keras --dataset my_photos/ --preprocess tf
      kq quantize MobileNetV2 --weights mobilenet_v2.h5 --dataset my_photos/
      kq quantize models/base --bits w4a8 --statistics models/base-w8a8/statistics.npz
      kq quantize models/base --bits w4a4 --rounding blocks --max-drop 1
    """
    formats = choose_formats(targets, {})
    settings, path = settings_from(options)
    from keras_quant.jobs.quantize import quantize_run
    from keras_quant.runs.progress import Progress

    result = quantize_run(
        settings,
        path,
        formats,
        command=tuple(sys.argv),
        overwrite=options["overwrite"],
        resume=options["resume"],
        progress=Progress(),
    )
    if as_json:
        proofs = {export.format: export.parity for export in result.exported.files}
        print_json({"run": result.folder.path, "record": result.record, "parity": proofs})
        return
    from keras_quant.cli.summary import policy, quantized_summary

    print_table(("figure", "value"), quantized_summary(result), title=str(result.folder.path))
    print_proofs(result.exported.files)
    print_answers(result.exported)
    note_exceptions(result.exported, formats)
    for line in policy(result.record):
        note(line)


def settings_from(options: Mapping[str, Any]) -> tuple[QuantizeSettings, Path]:
    """What was typed, and the folder of the run.

    Raises:
        UsageError, SchemeError: options that contradict each other, or cannot be read.
    """
    from keras_quant.cli.train_options import dataset_stem, parse_options, plain_path
    from keras_quant.jobs.quantize_settings import QuantizeSettings

    scheme = _scheme(
        options["bits"],
        options["scheme"],
        options["overrides"],
        power_of_two=options["power_of_two"],
        symmetric=options["symmetric"],
    )
    settings = QuantizeSettings(
        scheme=scheme,
        model_options=parse_options(options["model_options"]),
        **{name: options[name] for name in _FIELDS},
    )
    name = options["name"]
    if name is None:
        data = [] if options["dataset"] is None else [dataset_stem(options["dataset"])]
        model = Path(settings.source.rpartition(":")[0] or settings.source)
        name = "-".join([*data, model.stem if model.suffix else model.name, scheme.name])
    return settings, plain_path(options["out"], name)


def _scheme(
    bits: str | None,
    scheme: str | None,
    overrides: Sequence[str],
    *,
    power_of_two: bool,
    symmetric: bool,
) -> Scheme:
    """The scheme that was asked for; what --bits says gets any scales, and zero points."""
    from keras_quant.cli.train_options import choose_scheme
    from keras_quant.errors import UsageError
    from keras_quant.schemes.bits import freed

    if scheme is not None:
        if power_of_two or symmetric:
            raise UsageError(
                "--power-of-two and --symmetric go with --bits; a scheme says power_of_two and "
                "symmetric itself, activation by activation"
            )
        return choose_scheme(bits=bits, scheme=scheme, overrides=overrides)
    chosen = choose_scheme(bits=bits or DEFAULT_BITS, scheme=None, overrides=overrides)
    return chosen if power_of_two else freed(chosen, symmetric=symmetric)

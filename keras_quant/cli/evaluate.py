"""kq evaluate: accuracy of a run, a Keras file or an exported file."""

from __future__ import annotations

from pathlib import Path

import click

from keras_quant.cli.options import preprocess_option
from keras_quant.cli.output import json_option, note, print_json, print_table


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--dataset", help="Name or path [default: that of the run].")
@preprocess_option
@click.option("--split", default="test", show_default=True, help="test, validation or train.")
@click.option("--trust", is_flag=True, help="Load a Keras file that holds code.")
@json_option
def evaluate(
    path: Path,
    dataset: str | None,
    preprocess: str | None,
    split: str,
    trust: bool,
    as_json: bool,
) -> None:
    """Measure the accuracy of a run, a .keras, .h5, .tflite or .onnx file.

    \b
    Examples:
      kq evaluate models/digits-cnn-w4a4
      kq evaluate model.tflite --dataset fashion_mnist
      kq evaluate published.h5 --dataset cifar10 --preprocess raw
    """
    from keras_quant.jobs.evaluate import evaluate as evaluate_path

    found = evaluate_path(
        path, dataset=dataset, preprocess=preprocess, split=split, trust=trust, say=note
    )
    if as_json:
        print_json(found)
        return
    print_table(
        ("file", "images", "accuracy", "agreement", "seconds", "kernels"),
        [
            (
                row.file,
                row.images,
                f"{row.accuracy:.2%}",
                None if row.agreement is None else f"{row.agreement:.2%}",
                f"{row.seconds:.2f}",
                ", ".join(row.kernels),
            )
            for row in found
        ],
    )

"""kq evaluate: what the answers of a run, a Keras file or an exported file are worth."""

from __future__ import annotations

from pathlib import Path

import click

from keras_quant.cli.options import preprocess_option
from keras_quant.cli.output import (
    as_score,
    as_share,
    json_option,
    note,
    print_json,
    print_table,
)


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
    """Measure the accuracy of a run, a SavedModel, a .keras, .h5, .tflite or .onnx file.

    Outputs of one number a class are judged by accuracy and loss, those that give the image back
    by PSNR, SSIM and loss.

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
    metrics = list(dict.fromkeys(m for row in found for out in row.outputs for m in out.scores))
    several = len(found[0].outputs) > 1
    print_table(
        (
            *("file", "images", *(("output",) if several else ()), *metrics),
            *("agreement", "difference", "seconds", "kernels"),
        ),
        [
            (
                *(row.file, row.images, *((output.name,) if several else ())),
                *(as_score(metric, output.scores.get(metric)) for metric in metrics),
                as_share(output.agreement),
                None if output.difference is None else f"{output.difference:.1e}",
                f"{row.seconds:.2f}",
                ", ".join(row.kernels),
            )
            for row in found
            for output in row.outputs
        ],
    )

"""kq evaluate: what the answers of a run, a Keras file or an exported file are worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from keras_quant.jobs.evaluate import Evaluation, OutputEvaluation


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
    _print(found)


def _print(found: Sequence[Evaluation]) -> None:
    """A row for each output of each file; of a variational autoencoder their sum, too."""
    metrics = list(dict.fromkeys(m for row in found for out in row.outputs for m in out.scores))
    several = len(found[0].outputs) > 1
    is_variational = found[0].negative_elbo_nats is not None
    headings = [f"{name} [nats]" if is_variational else name for name in metrics]
    print_table(
        (
            *("file", "images", *(("output",) if several else ()), *headings),
            *("agreement", "difference", "seconds", "kernels"),
        ),
        [
            (
                *(row.file, row.images, *((name,) if several else ())),
                *(as_score(metric, scores.get(metric)) for metric in metrics),
                as_share(output.agreement if output else None),
                f"{output.difference:.1e}" if output and output.difference is not None else None,
                f"{row.seconds:.2f}",
                ", ".join(row.kernels),
            )
            for row in found
            for name, scores, output in _named(row)
        ],
    )


def _named(row: Evaluation) -> Iterator[tuple[str, dict[str, float], OutputEvaluation | None]]:
    """The outputs of a file by name, with what they are worth."""
    for output in row.outputs:
        yield output.name, output.scores, output
    if (total := row.negative_elbo_nats) is not None:
        yield "together: negative ELBO", {"loss": total}, None

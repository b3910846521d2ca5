"""kq train: the main job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_quant.cli.options import (
    first_last_option,
    model_options_option,
    overrides_option,
    preprocess_option,
    sums_option,
)
from keras_quant.cli.output import json_option, note, print_json, print_table
from keras_quant.methods import DEFAULT_METHOD, METHODS

if TYPE_CHECKING:
    from keras_quant.jobs.nested import NestedResult


@click.command()
@click.option(
    "--model",
    help="Zoo name, FILE.py:FUNCTION, or Keras file [default: that of --from, with its options and "
    "exits; else cnn].",
)
@model_options_option
@click.option(
    "--exits",
    metavar="LAYER,LAYER,...",
    help="Hang an early exit on each of these layers; of a model with one output, of classes.",
)
@click.option(
    "--dataset",
    help="Name, .npz file or image folder; +noise25, +elbo or +16px behind it, see kq datasets "
    "[default: that of --from, else digits].",
)
@preprocess_option
@click.option("--bits", help="Bits of weights and activations: 4, w4a8, w1a4, wta4 (ternary).")
@click.option("--scheme", help="Preset or scheme file: bits by layer name or type.")
@first_last_option
@sums_option
@overrides_option
@click.option(
    "--method",
    default=DEFAULT_METHOD,
    show_default=True,
    help=f"{', '.join(METHODS)}, or float; a rule of a scheme may name another.",
)
@click.option("--epochs", default=20, show_default=True, help="Passes over the training images.")
@click.option("--batch-size", default=128, show_default=True, help="Images a batch.")
@click.option("--optimizer", default="adam", show_default=True, help="adam or sgd.")
@click.option(
    "--learning-rate", default=1e-3, show_default=True, help="The highest of the schedule."
)
@click.option("--weight-decay", default=0.0, show_default=True, help="Decoupled; kernels only.")
@click.option(
    "--schedule", default="cosine", show_default=True, help="cosine, step, constant or triangle."
)
@click.option("--warmup", default=0.0, show_default=True, help="Epochs of linear warm-up.")
@click.option("--early-stopping", "patience", default=0, help="Epochs without gain; 0 is off.")
@click.option(
    "--augment/--no-augment", default=None, help="Flips and crops [default: on for CIFAR]."
)
@click.option(
    "--validation-fraction",
    type=float,
    help="Of the training images [default: that of --from on the same dataset, else 0.1].",
)
@click.option(
    "--precision",
    default="float32",
    show_default=True,
    help="float32, or bf16: products of bfloat16, sums and weights of float32; faster where the "
    "processor has avx512_bf16, or on a GPU.",
)
@click.option("--from", "parent", type=click.Path(path_type=Path), help="Run to start from.")
@click.option(
    "--distill",
    metavar="SHARE|RUN|FILE",
    help="Learn a teacher's answers beside the labels: the parent's with a share of 0 to 1, or "
    "those of a run or Keras file, of several (RUN,RUN,...) or of an ensemble.",
)
@click.option(
    "--distill-share", type=float, help="Of a named teacher's answers in the loss [default: 0.9]."
)
@click.option(
    "--progressive",
    metavar="BITS,BITS,...",
    help="In place of --bits: a run for each, from the weights of the last, as in 4,3,2.",
)
@click.option(
    "--nested",
    metavar="BITS,BITS,...",
    help="In place of --bits: one training of these widths, whose kernels are cut from 8-bit ones, "
    "and a run for each, as in 8,4,2.",
)
@click.option(
    "--slim",
    metavar="SHARE,SHARE,...",
    help="One training of nets of the first channels of each layer, and a run for each, as in "
    "0.25,0.5,1.",
)
@click.option(
    "--accumulate",
    default=1,
    show_default=True,
    help="Batches whose gradients are averaged for one update.",
)
@click.option(
    "--freeze-oscillations", is_flag=True, help="Hold weights that waver between codes (lsq)."
)
@click.option(
    "--keep-clusters", is_flag=True, help="Weights of a kernel that begin equal stay equal."
)
@click.option("--keep-zeros", is_flag=True, help="Pruned weights stay 0: those that begin as 0.")
@click.option(
    "--reestimate-norms", is_flag=True, help="Measure batch-norm statistics again at the end."
)
@click.option(
    "--loss-weights",
    metavar="W,W,...",
    help="Of the losses of several outputs, in their order [default: 1 each].",
)
@click.option(
    "--self-distill",
    type=float,
    default=0.0,
    metavar="SHARE",
    help="Exits learn the last one's answers beside the labels, with a share of 0 to 1.",
)
@click.option(
    "--orthogonal",
    is_flag=True,
    help="Of several outputs: no step for a later one undoes one for an earlier.",
)
@click.option(
    "--seed", default=0, show_default=True, help="Same seed, threads and machine: same result."
)
@click.option(
    "--split-seed",
    type=int,
    help="Chooses the validation images [default: as of --from on the same dataset, else --seed].",
)
@click.option(
    "--bootstrap", is_flag=True, help="Train on images drawn with replacement, as bagging does."
)
@click.option("--threads", default=0, show_default=True, help="Of TensorFlow; 0 is one a core.")
@click.option(
    "--strategy",
    help="Train on all GPUs of this machine (mirrored), or in several processes (multiworker), "
    "which share every batch.",
)
@click.option(
    "--workers",
    metavar="HOST:PORT,...",
    help="Of multiworker: all processes, the one that writes the run first [default: TF_CONFIG].",
)
@click.option("--worker", type=int, metavar="K", help="Which of --workers this is, from 0.")
@click.option(
    "--worker-timeout",
    "worker_timeout_seconds",
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for all workers.",
)
@click.option("--trust", is_flag=True, help="Load a Keras file that holds code.")
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard logs into the run.")
@click.option(
    "--out",
    default="models",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder.",
)
@click.option("--name", help="Name of the run [default: DATASET-MODEL-SCHEME].")
@click.option("--overwrite", is_flag=True, help="Replace a run of that name.")
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
@json_option
def train(as_json: bool, **options: Any) -> None:
    """Train a quantized model, export it as TFLite and prove the file.

    Writes models/RUN/: run.json, scheme.yaml, statistics.npz, history.csv, model.keras; in its
    folder export/ model.tflite, model.kqgraph (the integer graph) and parity.json.

    \b
    Examples:
      kq train --bits 4
      kq train --model resnet20 --dataset cifar10 --method float --name float
      kq train --bits w2a4 --from models/float
      kq train --bits 4 --model net.keras --dataset photos/ --learning-rate 1e-4
      kq train --model lenet5 --dataset mnist --exits pool1 --bits w4a8
      kq train --bits 8 --model unet_small --dataset cifar10+noise25
      kq train --method lsq --progressive 4,3,2 --from models/float --reestimate-norms
      kq train --slim 0.25,0.5,1 --bits 8 --model resnet20 --dataset cifar10
      kq train --nested 8,4,2 --self-distill 0.5 --model resnet20 --dataset cifar10
      kq train --strategy multiworker --workers a:2222,b:2222 --worker 0
    """
    from keras_quant.cli.train_options import asked_from

    asked = asked_from(options)
    settings, path = asked.settings, asked.path
    from keras_quant.jobs.nested import train_nested
    from keras_quant.jobs.progressive import train_progressively
    from keras_quant.jobs.train import train as train_run
    from keras_quant.runs.progress import Progress

    same: dict[str, Any] = {
        "command": tuple(sys.argv),
        "overwrite": options["overwrite"],
        "resume": options["resume"],
        "progress": Progress(),
    }
    if asked.widths:
        _print_nested(train_nested(settings, asked.widths, path, **same), path, as_json=as_json)
        return
    if asked.stages:
        results = train_progressively(settings, asked.stages, **same)
        if as_json:
            print_json([_as_dict(result) for result in results])
            return
        for result in results:
            _print(result)
        return
    trained = train_run(settings, path, **same)
    if trained is None:
        said = "this worker is done; the first one writes the run"
        if as_json:
            print_json({"run": path, "record": None, "parity": None, "note": said})
        note(said)
        return
    if as_json:
        print_json(_as_dict(trained))
        return
    _print(trained)


def _print_nested(result: NestedResult | None, path: Path, *, as_json: bool) -> None:
    if result is None:
        if as_json:
            print_json(None)
        note(f"{path}: is finished, and so is each width")
        return
    if as_json:
        widths = [_as_dict(width) for width in result.widths]
        sizes = {name: getattr(result, name) for name in ("file", "file_bytes", "graph_bytes")}
        print_json({"run": result.joint, "widths": widths, **sizes})
        return
    for width in result.widths:
        _print(width)
    if result.file is not None:
        note(
            f"{result.file}: all widths in {result.file_bytes / 1e3:,.1f} kB, each kernel once; "
            f"their graphs apart take {result.graph_bytes / 1e3:,.1f} kB"
        )


def _as_dict(result: Any) -> dict[str, Any]:
    return {
        "run": result.folder.path,
        "record": result.record,
        "parity": result.export.parity,
    }


def _print(result: Any) -> None:
    from keras_quant.cli.summary import policy, summary

    print_table(("figure", "value"), summary(result), title=str(result.folder.path))
    for line in policy(result.record):
        note(line)

"""Exactness of every bit width: codes of each target's file, and top-1 agreement with Keras.

A float model is trained once (or taken from --run), then calibrated and lowered at each of
w1 to w8, wt (ternary) and a1 to a8 without further training: exactness does not depend on how
good a model is. Each file is proven on the whole test set. Biases are snapped as `kq train`
does.

Goal: 0 codes differ at every width in TFLite and ONNX; top-1 agreement with Keras is 100.00 %.
TensorRT's file is run in ONNX Runtime without optimizations, whose sums are floats.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from quantized import fake_quantized
from results import argument_parser
from trainings import finished_run

from keras_quant.cli.output import print_table
from keras_quant.data import load_dataset
from keras_quant.files import write_json
from keras_quant.jobs.export import stored_limits
from keras_quant.jobs.train_settings import TrainSettings
from keras_quant.lower import lower_exactly
from keras_quant.methods import DEFAULT_METHOD, METHODS
from keras_quant.model.files import load_model
from keras_quant.model.logits import AnswerFunction
from keras_quant.pixels import normalize
from keras_quant.preprocessing import UNIT
from keras_quant.proof.formats import FORMATS
from keras_quant.proof.parity import Parity, prove_all
from keras_quant.runs import RunFolder
from keras_quant.schemes.bits import scheme_from_bits
from keras_quant.tf import keras

WEIGHTS = ("1", "t", "2", "3", "4", "5", "6", "7", "8")
ACTIVATIONS = ("1", "2", "3", "4", "5", "6", "7", "8")
CALIBRATION_IMAGES = 512


def main() -> None:
    """Trains a float model where none is given, and proves each width."""
    parser = argument_parser(__doc__)
    parser.add_argument("--dataset", default="digits", help="name or path")
    parser.add_argument("--model", default="resnet8", help="name of the zoo")
    parser.add_argument("--epochs", type=int, default=5, help="of the float model")
    parser.add_argument("--run", type=Path, help="finished float run to take instead")
    parser.add_argument("--bits", nargs="*", help="widths, as w4a4 [default: all 72]")
    parser.add_argument(
        "--method", default=DEFAULT_METHOD, help=f"one of {', '.join(METHODS)}; not trained"
    )
    parser.add_argument("--to", nargs="*", default=list(FORMATS), help="targets")
    arguments = parser.parse_args()
    dataset = load_dataset(arguments.dataset)
    with tempfile.TemporaryDirectory() as temporary:
        run = arguments.run or Path(temporary) / "float"
        if arguments.run is None:
            settings = TrainSettings(
                scheme=scheme_from_bits("float"),
                model=arguments.model,
                dataset=arguments.dataset,
                epochs=arguments.epochs,
            )
            finished_run(settings, run)
        source = load_model(RunFolder(run).model)
    widths = arguments.bits or [f"w{w}a{a}" for w in WEIGHTS for a in ACTIVATIONS]
    calibration, test = dataset.train.x[:CALIBRATION_IMAGES], dataset.test.x
    rows = [
        row
        for bits in widths
        for row in _proven(
            source, bits, calibration, test, targets=arguments.to, method=arguments.method
        )
    ]
    title = f"{arguments.dataset}, {source.name}, {arguments.method}, {len(test):,} test images"
    _print(title, rows)
    if arguments.json is not None:
        write_json(arguments.json, {f"{bits} {name}": proof for bits, name, proof, _ in rows})


Row = tuple[str, str, Parity, int]  # width, target, proof, channels whose bias was moved


def _proven(
    source: keras.Model,
    bits: str,
    calibration: np.ndarray,
    test: np.ndarray,
    *,
    targets: list[str],
    method: str,
) -> list[Row]:
    """The proofs of one width's files."""
    formats = [FORMATS[name] for name in targets]
    model = fake_quantized(source, bits, calibration, method)
    snap = lower_exactly(model, limits=stored_limits(formats))
    reals = normalize(test, UNIT)
    proofs = prove_all(
        snap.graph,
        [(form, form.definition.emit(snap.graph)) for form in formats],
        {snap.graph.inputs[0]: reals},
        keras=dict(zip(snap.graph.outputs, AnswerFunction(model)(reals), strict=True)),
    )
    return [(bits, name, proof, snap.moved) for name, proof in zip(targets, proofs, strict=True)]


def _print(title: str, rows: list[Row]) -> None:
    columns = (
        "bits",
        "target",
        "codes compared",
        "codes different",
        "difference",
        "top-1 reference",
    )
    cells = [
        (
            bits,
            name,
            parity.codes_compared,
            parity.codes_different,
            f"{parity.difference:.1e}",
            f"{parity.top1_agreement:.2%}",
            f"{parity.keras_top1_agreement or 0:.2%}",
            moved,
        )
        for bits, name, parity, moved in rows
    ]
    print_table((*columns, "top-1 Keras", "channels moved"), cells, title=title)


if __name__ == "__main__":
    main()

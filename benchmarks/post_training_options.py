"""What each option of `kq quantize` buys on one model, beside TFLiteConverter and ONNX Runtime.

python benchmarks/post_training_options.py net.keras --dataset cifar10 --bits w8a8,w4a8,w4a4
python benchmarks/post_training_options.py net.keras --dataset photos.npz --only "w8a8*"

Each line is a cell, measured once and kept in --out FILE; a second call measures what is missing.
Answers of our rows are those of the Keras model before biases are moved to what integers can say;
those of the peers come from their files. All are calibrated on the same images.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from keras_quant.calibration.collect import Statistics, collect
from keras_quant.calibration.data_free import imagine
from keras_quant.calibration.quantize import quantize
from keras_quant.data import Dataset
from keras_quant.jobs.calibration import calibration_images, pixels_of
from keras_quant.jobs.paths import dataset_of
from keras_quant.jobs.preprocess import declare
from keras_quant.jobs.remedies import Remedies, equalized, repaired
from keras_quant.model.files import load_model
from keras_quant.model.inputs import image_size, with_input_shape
from keras_quant.model.logits import AnswerFunction
from keras_quant.prepare import Plan, plan
from keras_quant.prepare.adjust.absorb import absorb_biases
from keras_quant.prepare.adjust.correct_bias import kernel_inputs
from keras_quant.prepare.adjust.learn import Learning
from keras_quant.proof.baseline import float_onnx
from keras_quant.runs.progress import Progress
from keras_quant.schemes.bits import freed, scheme_from_bits
from keras_quant.tf import keras, tf

BATCH = 50
DATA_FREE = "--data none"
# The name of a row: the calibrator, and what is done against errors.
DROPPED = Learning(drop=0.5)
OURS: dict[str, tuple[str, Remedies]] = {
    "least_squares": ("least_squares", Remedies()),
    "minmax": ("minmax", Remedies()),
    "moving_average": ("moving_average", Remedies()),
    "percentile": ("percentile", Remedies()),
    "percentile:99.9": ("percentile:99.9", Remedies()),
    "entropy": ("entropy", Remedies()),
    "--equalize activations": ("least_squares", Remedies(equalize="activations")),
    "--equalize activations --bias empirical": (
        "least_squares",
        Remedies(equalize="activations", bias="empirical"),
    ),
    "--bias empirical": ("least_squares", Remedies(bias="empirical")),
    "--rounding descent": ("least_squares", Remedies(rounding="descent")),
    "--equalize activations --rounding descent": (
        "least_squares",
        Remedies(equalize="activations", rounding="descent"),
    ),
    "--rounding adaround": ("least_squares", Remedies(rounding="adaround")),
    "--rounding blocks": ("least_squares", Remedies(rounding="blocks")),
    "--rounding blocks --qdrop 0.5": (
        "least_squares",
        Remedies(rounding="blocks", learning=DROPPED),
    ),
    "--equalize activations --rounding adaround": (
        "least_squares",
        Remedies(equalize="activations", rounding="adaround"),
    ),
    "--equalize weights": ("least_squares", Remedies(equalize="weights")),
    DATA_FREE: ("least_squares", Remedies()),
    f"{DATA_FREE} --equalize weights --absorb": ("least_squares", Remedies(equalize="weights")),
}
# By bits: TFLiteConverter's integer files have no other kernels than those of 8 bits.
PEERS = {
    "w8a8": ("TFLiteConverter int8", "ORT MinMax", "ORT Entropy", "ORT Percentile"),
    "w4a8": ("ORT MinMax", "ORT Entropy", "ORT Percentile"),
}
FOUR_BIT_OPSET = 21  # the first that has int4 in QuantizeLinear


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One row.

    Attributes:
        accuracy: share of the labels; None without labels.
        agreement: share of images with the float model's top-1.
        rms: root mean square of the difference as a share of the float answers'.
        seconds: from the float model to the quantized one.
    """

    accuracy: float | None
    agreement: float
    rms: float
    seconds: float


Answers = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Measures what is missing, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--preprocess")
    parser.add_argument("--bits", default="w8a8,w4a8,w4a4")
    parser.add_argument("--images", type=int, default=512, help="to calibrate on")
    parser.add_argument("--test", type=int, default=10_000, help="test images, at even distances")
    parser.add_argument("--only", default="*", help="patterns of rows, 'w4a8 --rounding*;w8a8*'")
    parser.add_argument("--out", type=Path, default=Path("post_training_options.json"))
    given = parser.parse_args()
    known = json.loads(given.out.read_text()) if given.out.exists() else {}
    bench = _Bench(given)
    rows = dict(bench.rows(given.bits.split(",")))
    wanted = [n for pattern in given.only.split(";") for n in fnmatch.filter(rows, pattern)]
    wanted = list(dict.fromkeys(("float as it comes", *wanted)))
    for name in wanted:
        key = f"{given.model.stem} {given.images}/{given.test} {name}"
        if key not in known:
            known[key] = asdict(bench.measure(rows[name]))
            given.out.write_text(json.dumps(known, indent=1))
            print(key, known[key], flush=True)
    print_table(known)


class _Bench:
    """A model and its images."""

    def __init__(self, given: argparse.Namespace) -> None:
        source = load_model(given.model)
        data = dataset_of(given.model, given.dataset, image_size(source))
        self.source = with_input_shape(source, data.input_shape)
        self.data: Dataset = declare(data, asked=given.preprocess, model=source)
        self.x = calibration_images(self.data, given.images)
        places = np.arange(given.test) * len(self.data.test) // given.test
        self.test = self.data.test.x[np.unique(places)]
        self.labels = self.data.test.y[np.unique(places)] if self.data.has_labels else None
        self._float: np.ndarray | None = None
        self._known: Statistics | None = None

    def rows(self, widths: list[str]) -> Iterator[tuple[str, Callable[[], Answers]]]:
        yield "float as it comes", lambda: _keras(self.source)
        for bits in widths:
            for option in OURS:
                yield f"{bits} {option}", lambda bits=bits, option=option: self.ours(bits, option)
        for bits, peers in PEERS.items():
            for peer in peers:
                yield f"{bits} {peer}", lambda bits=bits, peer=peer: self.peer(bits, peer)

    def measure(self, make: Callable[[], Answers]) -> Cell:
        if self._float is None:
            self._float = self._answers(_keras(self.source))
        begin = time.perf_counter()
        answer = make()
        seconds = time.perf_counter() - begin
        found, wanted = self._answers(answer), self._float
        best = found.argmax(axis=1)
        return Cell(
            accuracy=None if self.labels is None else float(np.mean(best == self.labels)),
            agreement=float(np.mean(best == wanted.argmax(axis=1))),
            rms=float(np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2))),
            seconds=seconds,
        )

    def ours(self, bits: str, option: str) -> Answers:
        calibrator, remedies = OURS[option]
        scheme, quiet = freed(scheme_from_bits(bits)), Progress(quiet=True)
        source, planned = self.source, plan(self.source, scheme)
        if remedies.equalize != "none":
            source = equalized(planned, source, self.data, remedies.equalize, quiet).model
            planned = plan(source, scheme)
        if "--absorb" in option:
            source = absorb_biases(planned, source).model
        if option.startswith(DATA_FREE):
            statistics = imagine(planned, source, pixels_of(self.data))
        else:
            statistics = self._statistics(planned, source)
        model = quantize(source, scheme, statistics, calibrator=calibrator, post_training=True)
        repaired(planned, source, model, self.data, remedies, quiet)
        return _keras(model)

    def _statistics(self, planned: Plan, source: keras.Model) -> Statistics:
        """Those of the model as it comes are collected once: they do not depend on bits."""
        if source is self.source and self._known is not None:
            return self._known
        names = kernel_inputs(planned)
        found = collect(planned, source, self.x, reals=self.data.reals, per_channel=names)
        self._known = found if source is self.source else self._known
        return found

    def peer(self, bits: str, name: str) -> Answers:
        reals = self.data.reals(self.x)
        kind = name.partition(" ")[2]
        if kind == "int8":
            return _tflite(self.source, reals)
        return _ort(self.source, reals, kind, four_bits=bits == "w4a8")

    def _answers(self, answer: Answers) -> np.ndarray:
        starts = range(0, len(self.test), BATCH)
        return np.concatenate([answer(self.data.reals(self.test[s : s + BATCH])) for s in starts])


def _keras(model: keras.Model) -> Answers:
    function = AnswerFunction(model)
    return lambda reals: function(reals)[0]


def _tflite(source: keras.Model, reals: np.ndarray) -> Answers:
    from ai_edge_litert.interpreter import Interpreter

    converter = tf.lite.TFLiteConverter.from_keras_model(source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([x[np.newaxis]] for x in reals)
    runner = Interpreter(model_content=converter.convert(), num_threads=2)
    runner.allocate_tensors()
    given, answer = runner.get_input_details()[0], runner.get_output_details()[0]

    def run(batch: np.ndarray) -> np.ndarray:
        found = []
        for image in batch:
            runner.set_tensor(given["index"], image[np.newaxis])
            runner.invoke()
            found.append(runner.get_tensor(answer["index"]).copy())
        return np.concatenate(found)

    return run


def _ort(source: keras.Model, reals: np.ndarray, method: str, *, four_bits: bool) -> Answers:
    import onnx.version_converter
    import onnxruntime
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        plain, ready, quantized = (Path(folder) / f"{n}.onnx" for n in ("float", "ready", "int8"))
        content = float_onnx(source)
        if four_bits:
            model = onnx.load_from_string(content)
            newer = onnx.version_converter.convert_version(model, FOUR_BIT_OPSET)
            content = newer.SerializeToString()
        plain.write_bytes(content)
        quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
        name = onnxruntime.InferenceSession(str(ready)).get_inputs()[0].name
        # Its histograms take batches of one size alone, microsoft/onnxruntime#18792.
        size = next(size for size in range(BATCH, 0, -1) if len(reals) % size == 0)
        batches = iter([{name: reals[s : s + size]} for s in range(0, len(reals), size)])

        class Reader:
            def get_next(self) -> dict[str, np.ndarray] | None:
                return next(batches, None)

        quantize_static(
            str(ready),
            str(quantized),
            Reader(),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt4 if four_bits else QuantType.QInt8,
            calibrate_method=CalibrationMethod[method],
        )
        session = onnxruntime.InferenceSession(str(quantized))
    return lambda batch: np.asarray(session.run(None, {name: batch})[0])


def print_table(known: dict[str, dict[str, float | None]]) -> None:
    """Prints all cells that there are, those of one model and width together."""
    columns = ("model", "bits", "options", "accuracy", "agreement", "rms", "seconds")
    rows = [columns, ("---",) * len(columns)]
    for key, cell in known.items():
        model, _, bits, option = key.split(" ", 3)
        shares = [cell[name] for name in ("accuracy", "agreement", "rms")]
        texts = ["-" if share is None else f"{100 * share:.2f} %" for share in shares]
        rows.append((model, bits, option, *texts, f"{cell['seconds']:.0f}"))
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()

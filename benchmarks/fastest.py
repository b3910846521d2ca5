"""Our fastest file of a network beside the fastest int8 file that others make of it.

All files of a network are timed in one interleaved run, on LiteRT and on ONNX Runtime, with one
image and one thread: ours of w8a8 and w4a4 (TFLite with float ends and with int8 ends, ONNX for
x86), TFLiteConverter's int8 files (float ends, int8 ends), ONNX Runtime's quantize_static, and
float files. Weights are untrained: kernels take as long for any values.

Goal: the median call of our fastest file takes at most 1.00 times as long as that of the fastest
int8 file of others. What the best float file takes beside ours is shown too, and how many products
(MACs) a second that is. "pointwise" is no network, but what kernels reach where nothing but
products is left to do: the limit of the others.

Networks are done one at a time. With --out, files and records are kept in OUT/NETWORK, and a
network whose record is there is not measured again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnx_latency
import tflite_latency
from networks import Case
from quantized import fake_quantized
from results import Result, argument_parser, publish

from keras_quant.bench import records
from keras_quant.bench.measure import Settings
from keras_quant.bench.records import BenchRecord, Measurement
from keras_quant.bench.verdict import compare
from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.emit.tflite.ends import with_asked_ends
from keras_quant.emit.tflite.options import TFLiteOptions
from keras_quant.emit.tflite.packing import stored_limits
from keras_quant.errors import UsageError, close_names
from keras_quant.files import atomic_path, make_folder
from keras_quant.graph.costs.cost import cost
from keras_quant.jobs.bench import bench
from keras_quant.jobs.candidates import BenchSettings
from keras_quant.lower import lower, lower_exactly
from keras_quant.preprocessing import UNIT
from keras_quant.proof.baseline import float_onnx
from keras_quant.tf import keras
from keras_quant.zoo import build

GOAL = 1.00
BITS = ("w8a8", "w4a4")
CHANNELS = 256  # of the pointwise convolutions: weights of a layer are 64 kB in int8
ENDS = TFLiteOptions(input="int8", head="int8")

CASES = (
    Case(model="pointwise", size=28),
    Case(model="cnn"),
    Case(model="resnet20"),
    Case(model="resnet56"),
    Case(model="vgg16"),
    Case(model="mobilenet_v2", size=224, classes=1000, images=8, seconds=5),
    Case(model="resnet50", size=224, classes=1000, images=8, seconds=10),
)


def main() -> None:
    """Measures and prints."""
    parser = argument_parser(__doc__)
    names = [case.model for case in CASES]
    parser.add_argument("--nets", default=",".join(names), help="some of them, as in cnn,resnet20")
    parser.add_argument("--out", type=Path, help="keep files and records there, and go on")
    parser.add_argument("--seconds", type=float, help="of timed calls, of each file")
    arguments = parser.parse_args()
    asked = arguments.nets.split(",")
    for name in asked:
        if name not in names:
            raise UsageError(f"--nets: no {name!r}{close_names(name, names)}; {', '.join(names)}")
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for case in CASES:
            if case.model in asked:
                where = (arguments.out or Path(folder)) / case.model
                record = _measured(case, where, arguments.seconds or case.seconds)
                found = _results(case, record, products=_products(case))
                publish(f"{case.model} {case.size}x{case.size}", found, None)
                results += found
    publish("our fastest file beside others", [r for r in results if r.met is not None], None)
    if arguments.json is not None:
        publish("all", results, arguments.json)


def _measured(case: Case, folder: Path, seconds: float) -> BenchRecord:
    """The record of a network; measured now, where there is none."""
    kept = folder / records.FILE_NAME
    if kept.is_file():
        return records.load(kept)
    make_folder(folder)
    paths = _written(case, folder)
    settings = BenchSettings(timing=Settings(duration_s=seconds))
    record = bench(paths, settings, say=partial(print, flush=True))
    records.save(record, kept)
    return record


def _written(case: Case, folder: Path) -> list[Path]:
    """Writes the files that are not there yet; one that is there is whole."""
    shape = _shape(case)
    images = np.random.default_rng(0).integers(0, 256, (case.images, *shape), np.uint8)
    makers = _makers(_build(case, shape), images)
    for name, make in makers.items():
        path = folder / name
        if not path.is_file():
            print(f"writing {path}", flush=True)
            with atomic_path(path) as temporary:
                temporary.write_bytes(make())
    return [folder / name for name in makers]


def _makers(source: keras.Model, images: np.ndarray) -> Mapping[str, Callable[[], bytes]]:
    """By name of the file what makes it; ours begin with "our"."""
    return {
        **{f"our-{bits}.tflite": partial(_our_tflite, source, images, bits) for bits in BITS},
        **{
            f"our-{bits}-int8-ends.tflite": partial(_our_tflite, source, images, bits, ENDS)
            for bits in BITS
        },
        **{
            f"our-{bits}.onnx": partial(onnx_latency.our_file, source, images, bits)
            for bits in BITS
        },
        "converter-int8.tflite": lambda: tflite_latency.int8_converter(source, images).convert(),
        "converter-int8-ends.tflite": lambda: tflite_latency.int8_at_both_ends(
            source, images
        ).convert(),
        "quantize_static-int8.onnx": lambda: onnx_latency.statically_quantized(
            float_onnx(source), images
        ),
        "float.tflite": lambda: tflite_latency.converter(source).convert(),
        "float.onnx": lambda: float_onnx(source),
    }


def _our_tflite(
    source: keras.Model, images: np.ndarray, bits: str, options: TFLiteOptions | None = None
) -> bytes:
    options = options or TFLiteOptions()
    model = fake_quantized(source, bits, images)
    snap = lower_exactly(model, limits=partial(stored_limits, options=options))
    reals = {snap.graph.inputs[0]: images.astype(np.float32) / 255}
    return emit_tflite(with_asked_ends(snap.graph, reals, UNIT, options=options), options=options)


def _products(case: Case) -> int:
    """MACs an image."""
    return cost(lower(_build(case, _shape(case)))).macs


def _shape(case: Case) -> tuple[int, int, int]:
    return (case.size, case.size, CHANNELS if case.model == "pointwise" else 3)


def _results(case: Case, record: BenchRecord, *, products: int) -> list[Result]:
    """Each file's median, and our fastest beside the fastest of others and of floats."""
    ours = [one for one in record.measurements if one.name.startswith("our-")]
    floats = [one for one in record.measurements if one.name.startswith("float")]
    peers = [one for one in record.measurements if one not in (*ours, *floats)]
    our, peer, real = (min(group, key=_median) for group in (ours, peers, floats))
    noise = record.noise
    notes = f"{noise[0]} ({len(noise)} such warnings)" if noise else "a quiet machine"
    return [
        *(
            Result(
                figure=one.name,
                value=_median(one),
                unit="ms",
                peer=f"{one.runtime}, {', '.join(one.kernels)}",
            )
            for one in record.measurements
        ),
        _ratio(f"{case.model}: our fastest / int8 of others", our, peer, at_most=GOAL, notes=notes),
        _ratio(f"{case.model}: float / our fastest", real, our, notes=notes),
        *(
            Result(
                figure=f"{case.model}: {kind}, GMAC a second",
                value=products / _median(one) / 1e6,
                unit="",
                peer=f"{one.name}, {products / 1e6:.1f} M MACs",
            )
            for kind, one in (("float", real), ("ours", our))
        ),
    ]


def _ratio(
    figure: str, one: Measurement, other: Measurement, *, notes: str, at_most: float | None = None
) -> Result:
    """Two files that were timed in turn, with the interval of their ratio."""
    found = compare(one.name, other.name, loads=one.samples(), other_loads=other.samples()).ratio
    return Result(
        figure=figure,
        value=found.value,
        unit="",
        spread=(found.high - found.low) / found.value,
        at_most=at_most,
        peer=f"{one.name} / {other.name}, {found.low:.3f} to {found.high:.3f}; {notes}",
    )


def _median(one: Measurement) -> float:
    return one.summary.p50_ms


def _build(case: Case, shape: tuple[int, int, int]) -> keras.Model:
    own = {"vgg16": vgg16, "pointwise": pointwise}.get(case.model)
    return own(shape, case.classes) if own else build(case.model, shape, case.classes)


def pointwise(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Eight convolutions of 1x1 with as many channels as the input has, and a head."""
    inputs = x = keras.Input(input_shape, name="image")
    for _ in range(8):
        x = keras.layers.Conv2D(CHANNELS, 1, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(num_classes, name="logits")(x))


def vgg16(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """VGG-16 for small images: 13 convolutions of 3x3 with batch norms.

    Simonyan and Zisserman 2015, configuration D, with one hidden dense layer of 512.
    """
    inputs = x = keras.Input(input_shape, name="image")
    for filters, layers in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(layers):
            x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.ReLU()(keras.layers.Dense(512)(keras.layers.Flatten()(x)))
    return keras.Model(inputs, keras.layers.Dense(num_classes, name="logits")(x))


if __name__ == "__main__":
    main()

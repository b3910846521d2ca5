"""Files of a model that TF-MOT quantized: ours beside those of TF-MOT's own route.

A small residual net on Fashion-MNIST is trained in float, quantized by
`tfmot.quantization.keras.quantize_model`, and trained on, as TF-MOT's guide has it. From the .h5
file that Keras saves of it come our three files, proven, and by the guide's route a TFLite file:
TFLiteConverter with Optimize.DEFAULT. All are held to the Keras model as it was trained, on the
whole test set: whose class they give, and the codes of the 10 logits, of which TF-MOT's last
quantizer makes 256 each. Latency is of one image on one thread, the two TFLite files in turn.

Goal: no more of our logits' codes are other than the Keras model's than of the converter's file.
The time has none: where an addition joins ranges of their own, ours adds in floats, which is exact.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from interleaved import paired_ratio, time_interleaved, timing
from results import Result, argument_parser, publish
from tflite_latency import invocation

from keras_quant.data.load import load_dataset
from keras_quant.jobs.export import stored_limits
from keras_quant.lower import lower_exactly
from keras_quant.methods.tfmot.door import tfmot
from keras_quant.model.files import load_model
from keras_quant.proof.formats import FORMATS
from keras_quant.runners import Runner
from keras_quant.runners.litert import LiteRTRunner
from keras_quant.tf import keras, tf

SEED = 0
OURS, THEIRS, MOVED = "ours, {}", "TFLiteConverter", "Keras, biases moved by us"


def main() -> None:
    """Trains, writes, measures and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--epochs", type=int, default=2, help="in float, and as many quantized")
    parser.add_argument("--images", type=int, default=60_000, help="to train on")
    parser.add_argument("--rounds", type=int, default=400, help="of latency")
    arguments = parser.parse_args()
    data = load_dataset("fashion_mnist")
    x, y = as_reals(data.train.x[: arguments.images]), data.train.y[: arguments.images]
    images, labels = as_reals(data.test.x), data.test.y
    model = trained(x, y, epochs=arguments.epochs)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        files, runners, moved = written(model, Path(folder))
    logits = model.predict(images, batch_size=500, verbose=0)
    scale = float(logits_scale(model))
    results.append(Result(figure="accuracy: Keras", value=share(logits, labels), unit="%"))
    answers = {MOVED: moved.predict(images, batch_size=500, verbose=0)}
    answers |= {name: answered(runner, images) for name, runner in runners.items()}
    theirs = other_codes(answers[THEIRS], logits, scale)
    for name, found in answers.items():
        goal = theirs if name.startswith("ours") else None
        results += compared(name, found, logits, labels, scale=scale, at_most=goal)
    for name, content in files.items():
        size = len(content) / 1e6
        results.append(Result(figure=f"size: {name}", value=size * 1000, unit="kB"))
    results += latencies(files, rounds=arguments.rounds)
    publish("a model that TF-MOT quantized, Fashion-MNIST", results, arguments.json)


def as_reals(images: np.ndarray) -> np.ndarray:
    """Pixels as float32 in [0, 1]."""
    return (images / np.float32(255)).astype(np.float32)


def small_net() -> keras.Model:
    """Convolutions with and without batch norm, a depthwise one, an addition, an average."""
    layers = keras.layers
    x = inputs = keras.Input((28, 28, 1), name="image")
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x)
    x = before = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.Add()([layers.BatchNormalization()(x), before]))
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.Conv2D(32, 1, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, name="logits")(x))


def trained(x: np.ndarray, y: np.ndarray, *, epochs: int) -> keras.Model:
    """The model, trained in float and then quantized, by nothing but TF-MOT and Keras."""
    keras.utils.set_random_seed(SEED)
    model = small_net()
    fit(model, x, y, rate=2e-3, epochs=epochs)
    quantized = tfmot.quantization.keras.quantize_model(model)
    fit(quantized, x, y, rate=5e-4, epochs=epochs)
    return quantized


def fit(model: keras.Model, x: np.ndarray, y: np.ndarray, *, rate: float, epochs: int) -> None:
    """Trains a model that gives logits."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)


def written(
    model: keras.Model, folder: Path
) -> tuple[dict[str, bytes], dict[str, Runner], keras.Model]:
    """All files, what runs them, and the Keras model whose biases were moved for ours."""
    model.save(folder / "model.h5")
    loaded = load_model(folder / "model.h5")
    formats = [FORMATS[name] for name in ("tflite", "onnx", "tensorrt")]
    graph = lower_exactly(loaded, limits=stored_limits(formats)).graph
    files, runners = {}, {}
    for form in formats:
        name = OURS.format(form.name)
        files[name] = form.definition.emit(graph)
        runners[name] = form.definition.runner(files[name])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    files[THEIRS] = converter.convert()
    runners[THEIRS] = LiteRTRunner(files[THEIRS])
    return files, runners, loaded


def answered(runner: Runner, images: np.ndarray) -> np.ndarray:
    """A file's logits."""
    name = runner.inputs[0]
    parts = [runner.run({name: images[at : at + 500]}) for at in range(0, len(images), 500)]
    return np.concatenate([next(iter(part.values())) for part in parts])


def logits_scale(model: keras.Model) -> Any:
    """The step of the codes of the logits."""
    (aware,) = model.layers[-1]._quantize_activations
    ranges = aware._post_activation_vars
    return (ranges["max_var"] - ranges["min_var"]) / 255


def share(logits: np.ndarray, labels: np.ndarray) -> float:
    """Images of the label's class, in percent."""
    return 100 * float(np.mean(logits.argmax(1) == labels))


def agreement(found: np.ndarray, logits: np.ndarray) -> float:
    """Images of the same class, in percent."""
    return share(found, logits.argmax(1))


def compared(
    name: str,
    found: np.ndarray,
    logits: np.ndarray,
    labels: np.ndarray,
    *,
    scale: float,
    at_most: float | None,
) -> list[Result]:
    """What a file's answers are beside the Keras model's."""
    steps = np.abs(np.rint((found.astype(np.float64) - logits) / scale))
    others = other_codes(found, logits, scale)
    return [
        Result(figure=f"accuracy: {name}", value=share(found, labels), unit="%"),
        Result(figure=f"top-1 as Keras: {name}", value=agreement(found, logits), unit="%"),
        Result(figure=f"other codes than Keras: {name}", value=others, unit="%", at_most=at_most),
        Result(figure=f"the furthest: {name}", value=float(steps.max()), unit="codes"),
    ]


def other_codes(found: np.ndarray, logits: np.ndarray, scale: float) -> float:
    """Logits whose code is another one, in percent."""
    steps = np.rint((found.astype(np.float64) - logits) / scale)
    return 100 * float(np.mean(steps != 0))


def latencies(files: dict[str, bytes], *, rounds: int) -> list[Result]:
    """Of the two TFLite files, in turn."""
    ours = OURS.format("tflite")
    calls = {name: invocation(files[name]) for name in (ours, THEIRS)}
    samples = time_interleaved(calls, rounds=rounds, warmup=20, calls=10)
    results = [timing(f"latency: {name}", seconds) for name, seconds in samples.items()]
    return [*results, paired_ratio(samples, ours, THEIRS)]


if __name__ == "__main__":
    main()

"""Time of one training step: float, our models of several methods, QKeras and TF-MOT as they come.

Each model is traced once, then called with one batch of random images that lies in memory,
in turn. The peer is QKeras 0.9 without keras_quant: quantized_bits(4, 0, alpha="auto") on
kernels and quantized_relu(4, 2) on ReLUs. It quantizes less than ours does (no input, no
branches of additions), so that the comparison is in its favour. That of our tfmot method at 8 bits
is what quantize_model of TF-MOT 0.8 gives.

Goals (resnet20, batch 128): the default method and tfmot take at most 1.30 times as long as float,
lsq and pact, whose steps and bounds are learned, at most 1.05 times; dorefa is reported.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from interleaved import paired_ratio, time_interleaved, timing
from results import argument_parser, publish

from keras_quant.methods import DEFAULT_METHOD
from keras_quant.methods.layers import fused_kernels
from keras_quant.methods.qkeras.door import qkeras
from keras_quant.methods.readers import tuned_variables
from keras_quant.model.topology import layers_by_name
from keras_quant.tf import keras, tf
from keras_quant.training.optimizer_settings import OptimizerSettings
from keras_quant.training.optimizers import make_optimizer
from keras_quant.zoo import build

GOAL = 1.30
GOALS = {"lsq": 1.05, "pact": 1.05, "dorefa": None}
CLASSES = 10
FLOAT, OURS, STOCK = "float", "keras_quant w4a4", "stock QKeras w4a4"
OURS_TFMOT, STOCK_TFMOT = "keras_quant tfmot w8a8", "stock TF-MOT w8a8"


def main() -> None:
    """Measures and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--model", default="resnet20", help="name of the zoo")
    parser.add_argument("--batch-size", type=int, default=128, help="images a step")
    parser.add_argument("--input-size", type=int, default=32, help="height and width in pixels")
    parser.add_argument("--rounds", type=int, default=30, help="steps of each that count")
    parser.add_argument("--cpu", action="store_true", help="CPU time of all threads, not wall time")
    arguments = parser.parse_args()
    shape = (arguments.input_size, arguments.input_size, 3)
    source = build(arguments.model, shape, CLASSES)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (arguments.batch_size, *shape), np.uint8)
    labels = random.integers(0, CLASSES, arguments.batch_size)
    steps = steps_of(source, images, labels)
    samples = time_interleaved(steps, rounds=arguments.rounds, warmup=3, cpu=arguments.cpu)
    results = [timing(name, seconds) for name, seconds in samples.items()]
    for ours, stock in ((OURS, STOCK), (OURS_TFMOT, STOCK_TFMOT)):
        results.append(paired_ratio(samples, ours, FLOAT, at_most=GOAL))
        results.append(paired_ratio(samples, stock, FLOAT))
        results.append(paired_ratio(samples, ours, stock))
    for method, goal in GOALS.items():
        results.append(paired_ratio(samples, method, FLOAT, at_most=goal))
    kind = "CPU time of a training step" if arguments.cpu else "training step"
    title = f"{kind}, {arguments.model} {shape}, batch {arguments.batch_size}"
    publish(title, results, arguments.json)


def steps_of(
    source: keras.Model, images: np.ndarray, labels: np.ndarray
) -> dict[str, Callable[[], object]]:
    """Traces a training step of each kind, on one batch."""
    step = functools.partial(traced_step, images=images, labels=labels)
    # What was traced stays as it was, so the stock model comes before the repair of QKeras.
    assert qkeras.quantized_relu.__call__.__module__ == "qkeras.quantizers"
    stock = step(keras.models.clone_model(source, clone_function=stock_twin))
    from quantized import fake_quantized

    from keras_quant.methods.tfmot.door import tfmot

    steps = {STOCK: stock}
    steps[STOCK_TFMOT] = step(tfmot.quantization.keras.quantize_model(source))
    with fused_kernels():  # as keras_quant.training.loop does
        steps[OURS] = step(fake_quantized(source, "w4a4", images, DEFAULT_METHOD))
        steps[OURS_TFMOT] = step(fake_quantized(source, "w8a8", images, "tfmot"))
        for method in GOALS:
            steps[method] = step(fake_quantized(source, "w4a4", images, method))
    return {FLOAT: step(source), **steps}


def stock_twin(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Makes what a user of QKeras alone would write in place of a float layer."""
    config = layer.get_config()
    same = {key: config[key] for key in ("name", "use_bias") if key in config}
    quantizer = qkeras.quantized_bits(4, 0, alpha="auto")
    if isinstance(layer, keras.layers.ReLU):
        return qkeras.QActivation("quantized_relu(4,2)", name=layer.name)
    if isinstance(layer, keras.layers.Dense):
        return qkeras.QDense(layer.units, kernel_quantizer=quantizer, **same)
    if type(layer) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D):
        same |= {key: config[key] for key in ("kernel_size", "strides", "padding")}
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            return qkeras.QDepthwiseConv2D(depthwise_quantizer=quantizer, **same)
        return qkeras.QConv2D(layer.filters, kernel_quantizer=quantizer, **same)
    return type(layer).from_config(config)


def traced_step(
    model: keras.Model, *, images: np.ndarray, labels: np.ndarray
) -> Callable[[], object]:
    """Compiles a model as keras_quant.training.loop does, and runs one batch."""
    optimizer = make_optimizer(
        OptimizerSettings(),
        model.trainable_variables,
        steps_per_epoch=1000,
        epochs=1,
        tunings=tuned_variables(layers_by_name(model).values()),
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    x = tf.constant(images, tf.float32) / 255
    step = functools.partial(model.train_on_batch, x, tf.constant(labels))
    step()
    return step


if __name__ == "__main__":
    main()

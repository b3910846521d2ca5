"""Time of one training step: float, 4-bit models of several methods, and QKeras as it comes.

Each model is traced once, then called with one batch of random images that lies in memory,
in turn. The peer is QKeras 0.9 without keras_quant: quantized_bits(4, 0, alpha="auto") on
kernels and quantized_relu(4, 2) on ReLUs. It quantizes less than ours does (no input, no
branches of additions), so that the comparison is in its favour.

Goals (resnet20, batch 128): the default method takes at most 1.30 times as long as float, lsq and
pact, whose steps and bounds are learned, at most 1.05 times; dorefa is reported.
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
    results.append(paired_ratio(samples, OURS, FLOAT, at_most=GOAL))
    for method, goal in GOALS.items():
        results.append(paired_ratio(samples, method, FLOAT, at_most=goal))
    results.append(paired_ratio(samples, STOCK, FLOAT))
    results.append(paired_ratio(samples, OURS, STOCK))
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

    with fused_kernels():  # as keras_quant.training.loop does
        ours = {
            name: step(fake_quantized(source, "w4a4", images, method))
            for name, method in ((OURS, DEFAULT_METHOD), *((name, name) for name in GOALS))
        }
    return {FLOAT: step(source), **ours, STOCK: stock}


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

"""Time of one training step: float, our models of several methods, QKeras and TF-MOT as they come.

Each model is traced once, then called with one batch of random images that lies in memory,
in turn. The peer is QKeras 0.9 without keras_quant: quantized_bits(4, 0, alpha="auto") on
kernels and quantized_relu(4, 2) on ReLUs. It quantizes less than ours does (no input, no
branches of additions), so that the comparison is in its favour. That of our tfmot method at 8 bits
is what quantize_model of TF-MOT 0.8 gives.

Goals (resnet20, batch 128): the default method and tfmot take at most 1.30 times as long as float,
lsq and pact, whose steps and bounds are learned, at most 1.05 times; dorefa is reported.

With --bf16 float and ours are there in bfloat16 too (`kq train --precision bf16`). Goal, on a
processor that has instructions for it: at most 0.80 times as long as float in float32.

With --memory it is memory instead: each model in a process of its own, which builds it, gives what
it no longer needs back to the system (malloc_trim), and then traces and runs five steps. Counted is
by how much the most that it then held (VmHWM, proc(5)) exceeds what it held before the first step
(VmRSS): what steps take, tracing and activations included, without Python, TensorFlow and weights.

Goal: at most 1.25 times that of float.
"""

from __future__ import annotations

import ctypes
import functools
import gc
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context

import numpy as np
from interleaved import paired_ratio, time_interleaved, timing
from results import Result, argument_parser, publish
from stock import stock_model

from keras_quant.arithmetic import products_in_bfloat16
from keras_quant.bench.memory import reset_peak, status_bytes
from keras_quant.methods import DEFAULT_METHOD
from keras_quant.methods.layers import fused_kernels
from keras_quant.methods.readers import tuned_variables
from keras_quant.model.topology import layers_by_name
from keras_quant.tf import keras, tf
from keras_quant.training.optimizer_settings import OptimizerSettings
from keras_quant.training.optimizers import make_optimizer
from keras_quant.zoo import build

GOAL = 1.30
GOALS = {"lsq": 1.05, "pact": 1.05, "dorefa": None}
MEMORY_GOAL = 1.25
BFLOAT16_GOAL = 0.80
STEPS_OF_MEMORY = 5
CLASSES = 10
BFLOAT16 = " bf16"  # behind a name
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
    parser.add_argument("--bf16", action="store_true", help="ours in bfloat16 too")
    parser.add_argument("--memory", action="store_true", help="memory that steps take, not time")
    arguments = parser.parse_args()
    shape = (arguments.input_size, arguments.input_size, 3)
    place = f"{arguments.model} {shape}, batch {arguments.batch_size}"
    if arguments.memory:
        results = compare_memory(arguments.model, shape, arguments.batch_size)
        publish(f"memory of {STEPS_OF_MEMORY} training steps, {place}", results, arguments.json)
        return
    steps = steps_of(arguments.model, shape, arguments.batch_size, bfloat16=arguments.bf16)
    samples = time_interleaved(steps, rounds=arguments.rounds, warmup=3, cpu=arguments.cpu)
    kind = "CPU time of a training step" if arguments.cpu else "training step"
    publish(f"{kind}, {place}", compare_times(samples), arguments.json)


def compare_times(samples: Mapping[str, np.ndarray]) -> list[Result]:
    """Time of each, and of ours against float and against the peer."""
    results = [timing(name, seconds) for name, seconds in samples.items()]
    for mine, stock in ((OURS, STOCK), (OURS_TFMOT, STOCK_TFMOT)):
        results.append(paired_ratio(samples, mine, FLOAT, at_most=GOAL))
        results.append(paired_ratio(samples, stock, FLOAT))
        results.append(paired_ratio(samples, mine, stock))
    for method, goal in GOALS.items():
        results.append(paired_ratio(samples, method, FLOAT, at_most=goal))
    for name in samples:
        if name.endswith(BFLOAT16):
            results.append(paired_ratio(samples, name, FLOAT, at_most=BFLOAT16_GOAL))
    return results


def compare_memory(net: str, shape: tuple[int, ...], batch_size: int) -> list[Result]:
    """What steps of each add, and against float; see the module."""
    added = {}
    for name in (FLOAT, *MODELS):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            added[name] = process.submit(memory_of, name, net, shape, batch_size).result()
    results = [Result(figure=name, value=size / 1e6, unit="MB") for name, size in added.items()]
    for name in MODELS:
        stock = name in (STOCK, STOCK_TFMOT)
        results.append(
            Result(
                figure=f"{name} / {FLOAT}",
                value=added[name] / added[FLOAT],
                unit="",
                at_most=None if stock else MEMORY_GOAL,
            )
        )
    return results


def memory_of(name: str, net: str, shape: tuple[int, ...], batch_size: int) -> int:
    """Bytes that this process, which did nothing else, holds at most in steps beyond before."""
    source = build(net, shape, CLASSES)
    images, labels = random_batch(shape, batch_size)
    with nullcontext() if name in (FLOAT, STOCK, STOCK_TFMOT) else fused_kernels():
        model = source if name == FLOAT else MODELS[name](source, images)
        step = compiled_step(model, images=images, labels=labels)
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        reset_peak()
        before = status_bytes("VmRSS")
        for _ in range(STEPS_OF_MEMORY):
            step()
    peak = status_bytes("VmHWM")
    assert before is not None and peak is not None
    return peak - before


def random_batch(shape: tuple[int, ...], batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (batch_size, height, width, channels), and labels, int64 (batch_size,)."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (batch_size, *shape), np.uint8)
    return images, random.integers(0, CLASSES, batch_size)


def steps_of(
    net: str, shape: tuple[int, ...], batch_size: int, *, bfloat16: bool = False
) -> dict[str, Callable[[], object]]:
    """Traces a training step of each kind, on one batch; with bfloat16, of ours in that too."""
    source = build(net, shape, CLASSES)
    images, labels = random_batch(shape, batch_size)
    steps = {}
    for name, make in MODELS.items():
        # As keras_quant.training.loop does; nothing of the stock models knows of it.
        with fused_kernels():
            steps[name] = compiled_step(make(source, images), images=images, labels=labels)
            steps[name]()
    step = compiled_step(source, images=images, labels=labels)
    step()
    steps = {FLOAT: step, **steps}
    if bfloat16:
        for name in [name for name in steps if name not in (STOCK, STOCK_TFMOT)]:
            with fused_kernels(), products_in_bfloat16():
                model = build(net, shape, CLASSES)
                model = model if name == FLOAT else MODELS[name](model, images)
                step = compiled_step(model, images=images, labels=labels)
                step()
            steps[name + BFLOAT16] = functools.partial(_in_bfloat16, step)
    return steps


def _in_bfloat16(step: Callable[[], object]) -> object:
    with products_in_bfloat16():
        return step()


def stock_qkeras(source: keras.Model, images: np.ndarray) -> keras.Model:
    """What a user of QKeras alone would have; nothing may have repaired QKeras before."""
    return stock_model(source, bits=4, edges=False)


def stock_tfmot(source: keras.Model, images: np.ndarray) -> keras.Model:
    """What TF-MOT makes of it."""
    from keras_quant.methods.tfmot.door import tfmot

    return tfmot.quantization.keras.quantize_model(source)


def ours(source: keras.Model, images: np.ndarray, *, bits: str, method: str) -> keras.Model:
    """What keras_quant makes of it."""
    from quantized import fake_quantized  # which repairs QKeras

    return fake_quantized(source, bits, images, method)


MODELS: dict[str, Callable[[keras.Model, np.ndarray], keras.Model]] = {
    # What was traced stays as it was, so the stock model comes before the repair of QKeras.
    STOCK: stock_qkeras,
    STOCK_TFMOT: stock_tfmot,
    OURS: functools.partial(ours, bits="w4a4", method=DEFAULT_METHOD),
    OURS_TFMOT: functools.partial(ours, bits="w8a8", method="tfmot"),
    **{method: functools.partial(ours, bits="w4a4", method=method) for method in GOALS},
}


def compiled_step(
    model: keras.Model, *, images: np.ndarray, labels: np.ndarray
) -> Callable[[], object]:
    """Compiles a model as keras_quant.training.loop does; the first call traces its step."""
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
    return functools.partial(model.train_on_batch, x, tf.constant(labels))


if __name__ == "__main__":
    main()

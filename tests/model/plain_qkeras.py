"""Writes models with QKeras alone, and what they answer there: python plain_qkeras.py FOLDER.

keras_quant is not imported, so that what it changes in QKeras cannot change these answers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import qkeras
import tensorflow as tf
import tf_keras as keras

# QKeras 0.9 looks for it in a module of TensorFlow that no longer has it.
qkeras.qconvolutional.array_ops.stack = tf.stack

KERNELS = (
    "quantized_bits(4,0,1,alpha=1)", "quantized_bits(4,0,0,alpha=1)", "quantized_bits(4)",
    "quantized_bits(5,1,1,alpha=0.5)", "quantized_bits(4,0,1,alpha='auto')",
    "quantized_bits(4,0,1,alpha='auto_po2')", "quantized_bits(1,1,alpha=1)",
    "quantized_bits(3,0,keep_negative=False,alpha=1)", "quantized_bits(4,0,1,qnoise_factor=0.5)",
    "binary()", "binary(alpha=1)", "binary(alpha='auto')", "stochastic_binary(alpha='auto')",
    "ternary()", "ternary(alpha=1)", "ternary(alpha='auto_po2')",
    "stochastic_ternary(alpha='auto')", "quantized_po2(4)", "quantized_po2(3,1)",
)  # fmt: skip
ACTIVATIONS = (
    "quantized_relu(4,2)", "quantized_relu(8,3)", "quantized_relu(4,1,negative_slope=0.25)",
    "quantized_relu(4,1,use_sigmoid=1)", "quantized_relu(4,2,relu_upper_bound=1.5)",
    "quantized_relu(4,2,qnoise_factor=0.5)", "quantized_bits(4,1,1,alpha=1)",
    "quantized_bits(4,1,0,alpha=1)", "quantized_bits(4,1,1,alpha='auto')", "quantized_bits(1,0)",
    "quantized_bits(4,1,keep_negative=False,alpha=1)", "quantized_hswish(6,2,1)",
    "quantized_tanh(4)", "quantized_tanh(4,use_real_tanh=True)", "quantized_sigmoid(4)",
    "quantized_sigmoid(4,use_real_sigmoid=True)", "quantized_ulaw(4,1)", "quantized_relu_po2(4)",
    "binary()", "binary(alpha=1)", "ternary()", "ternary(alpha=1,threshold=0.5)", "hard_tanh",
)  # fmt: skip

L = keras.layers


def kernels() -> keras.Model:
    """Dense layers with each quantizer, other layers with some; each an output of its own."""
    image, sequence, vector = keras.Input((6, 6, 3)), keras.Input((6, 3)), keras.Input((7,))
    layers: dict[str, tuple[Callable, keras.Input]] = {
        "dense": (lambda q: qkeras.QDense(4, kernel_quantizer=q), vector),
        "conv1d": (lambda q: qkeras.QConv1D(4, 3, kernel_quantizer=q), sequence),
        "conv2d": (lambda q: qkeras.QConv2D(4, 3, kernel_quantizer=q), image),
        "transpose": (
            lambda q: qkeras.QConv2DTranspose(4, 3, strides=2, kernel_quantizer=q), image
        ),
        "depthwise": (lambda q: qkeras.QDepthwiseConv2D(3, depthwise_quantizer=q), image),
        "separable": (
            lambda q: qkeras.QSeparableConv2D(
                4, 3, depthwise_quantizer=q, pointwise_quantizer=q
            ),
            image,
        ),
    }  # fmt: skip
    outputs = {
        f"{kind}_{number}": make(quantizer)(given)
        for kind, (make, given) in layers.items()
        for number, quantizer in enumerate(KERNELS)
        if kind == "dense" or number % 4 == 1
    }
    return keras.Model([image, sequence, vector], outputs)


def activations() -> keras.Model:
    """Each activation as a layer, and fused into one, each an output of its own."""
    vector = keras.Input((64,))
    outputs = {}
    for number, text in enumerate(ACTIVATIONS):
        outputs[f"layer_{number}"] = qkeras.QActivation(text)(vector)
        dense = qkeras.QDense(4, kernel_quantizer="quantized_bits(4,0,1,alpha=1)", activation=text)
        # QKeras itself cannot load a function that is fused.
        if "(" in text and "hswish" not in text:
            outputs[f"fused_{number}"] = dense(vector)
    return keras.Model(vector, outputs)


def composed() -> keras.Model:
    """Layers of QKeras that hold a batch norm or an average."""
    image = keras.Input((6, 6, 3))
    quantizer = "quantized_bits(4,0,1,alpha='auto_po2')"
    outputs = {
        "norm": qkeras.QBatchNormalization()(image),
        "conv": qkeras.QConv2DBatchnorm(
            4, 3, kernel_quantizer=quantizer, bias_quantizer="quantized_bits(8,2,1,alpha=1)"
        )(image),
        "depthwise": qkeras.QDepthwiseConv2DBatchnorm(3, depthwise_quantizer=quantizer)(image),
        "average": qkeras.QAveragePooling2D(3, average_quantizer="quantized_bits(6,0,1,alpha=1)")(
            image
        ),
        "global": qkeras.QGlobalAveragePooling2D(activation="quantized_relu(4,1)")(image),
    }
    return keras.Model(image, outputs)


def ties() -> keras.Model:
    """Sums of halves that are rounded: the order of float32's additions decides."""
    image = keras.Input((6, 6, 3))
    quantizer = "quantized_bits(4,0,1,alpha=1)"
    x = qkeras.QActivation("quantized_relu(3,2)")(image)
    for _ in range(3):
        y = qkeras.QConv2D(3, 3, padding="same", kernel_quantizer=quantizer)(x)
        y = qkeras.QActivation("quantized_bits(3,1,1,alpha=1)")(y)
        x = qkeras.QActivation("quantized_relu(3,3)")(L.Add()([x, y]))
    return keras.Model(image, {"sum": x})


MODELS = {model.__name__: model for model in (kernels, activations, composed, ties)}


def given(model: keras.Model) -> list[np.ndarray]:
    """Inputs of a model, among them halves and quarters."""
    rng = np.random.default_rng(1)
    reals = [rng.normal(0, 2, (8, *tensor.shape[1:])) for tensor in model.inputs]
    return [np.where(np.abs(x) < 1, np.rint(4 * x) / 4, x).astype(np.float32) for x in reals]


def answers(model: keras.Model) -> dict[str, np.ndarray]:
    """What a model answers, computed one operation after the other, and by predict."""
    inputs = given(model)
    inputs = inputs if len(inputs) > 1 else inputs[0]
    eager = model(inputs, training=False)
    predicted = model.predict(inputs, verbose=0)
    return {f"eager_{name}": np.asarray(eager[name]) for name in eager} | {
        f"predict_{name}": np.asarray(predicted[name]) for name in predicted
    }


def _random_weights(model: keras.Model) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for weight in model.weights:
        positive = "variance" in weight.name or "gamma" in weight.name
        value = rng.uniform(0.1, 2, weight.shape) if positive else rng.normal(0, 0.5, weight.shape)
        yield value.astype(weight.dtype.as_numpy_dtype)


def main(folder: Path) -> None:
    for name, build in MODELS.items():
        model = build()
        model.set_weights(list(_random_weights(model)))
        for suffix in (".h5", ".keras"):
            model.save(folder / f"{name}{suffix}")
        np.savez(folder / f"{name}.npz", **answers(model))
    assert "keras_quant" not in sys.modules


if __name__ == "__main__":
    main(Path(sys.argv[1]))

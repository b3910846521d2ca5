#!/usr/bin/env bash
# TensorFlow 2.21.0 (Keras 3.15.1): int8 TFLite files with a MAXIMUM or a MINIMUM, run by LiteRT
# 2.3.0
#
# One would expect: max(x, x / 10) is a leaky ReLU, and min(x, 2 - x) a hat, up to a step or two.
#
# What it does: MAXIMUM and MINIMUM want their inputs and their output on one scale. The converter
# takes the range that was calibrated for the output and gives it to the inputs too, for all who
# read them: x is clipped to what the maximum can be before it is divided by 10, and 2 - x is
# computed of an x that ends at 1. Nothing is said. A LeakyReLU layer is right.
#
# Output seen:
#   max(x, x / 10) of -4, -2, 0, 2, 4: -0.03 -0.03 0.00 2.00 4.00
#   LeakyReLU(x) of -4, -2, 0, 2, 4: -0.40 -0.21 0.00 2.00 3.99
#   min(x, 2 - x) of -4, -2, 0, 2, 4: -4.00 -2.00 0.00 1.00 1.00 (the last are to be 0 and -2)
#
# Why it hurts: own activation functions, maxout and the joining of branches are written so. The
# loss looks like one of 8 bits, and no calibration data helps.
#
# Source: seen with minimum and maximum of boxes in
# https://github.com/tensorflow/tensorflow/issues/56739, closed as stale.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile \
  ai-edge-litert==2.3.0 keras==3.15.1 numpy==2.4.6 tensorflow==2.21.0

export TF_CPP_MIN_LOG_LEVEL=3
venv/bin/python - <<'PYTHON'
import sys

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

keras.config.disable_interactive_logging()
SHOWN = [-4, -2, 0, 2, 4]
x = np.linspace(-4, 4, 257, dtype=np.float32).reshape(1, 257)
FUNCTIONS = {
    "max(x, x / 10)": lambda x: keras.ops.maximum(x, x / 10),
    "LeakyReLU(x)": keras.layers.LeakyReLU(negative_slope=0.1),
    "min(x, 2 - x)": lambda x: keras.ops.minimum(x, 2 - x),
}


def in_int8(model):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: [[x]]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    interpreter = Interpreter(model_content=converter.convert())
    (answer,) = interpreter.get_signature_runner()(x=x).values()
    return answer


errors = {}
for name, function in FUNCTIONS.items():
    read = keras.Input(batch_shape=x.shape, name="x")
    model = keras.Model(read, function(read))
    exact, answer = np.array(model(x)), in_int8(model)
    errors[name] = np.abs(answer - exact).max()
    at = [np.argmin(np.abs(x[0] - value)) for value in SHOWN]
    print(f"{name} of -4, -2, 0, 2, 4:", *(f"{value:.2f}" for value in answer[0, at]))
right = errors.pop("LeakyReLU(x)")
same = right < 0.1 and min(errors.values()) > 0.2
sys.exit(0 if same else "changed: what reads the inputs of a MAXIMUM has all of their range")
PYTHON

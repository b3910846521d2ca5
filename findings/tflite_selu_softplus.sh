#!/usr/bin/env bash
# TensorFlow 2.21.0 (Keras 3.15.1): the activations selu, softplus and mish in TFLite files with
# int8 and int16 activations, run by LiteRT 2.3.0
#
# One would expect: within a step or two of Keras, as with silu or a sigmoid, and with 16 bits much
# closer than with 8.
#
# What it does: there is no operator for them, so the converter writes the formula out, with an EXP
# of all inputs. Its one scale has to reach e to the largest of them, and a step of it is wider than
# all that happens below zero: selu at 8 bits is zero there, a scaled ReLU. At 16 bits EXP is fine,
# but the LOG behind it is a table of 513 points, with lines between, over that same range:
# softplus becomes negative and mish large where they should be near zero. It is worse with 16 bits
# than with 8. silu has operators of its own.
#
# Output seen (error: the largest, of the function's range):
#   silu, float, of -6, -3, -1, 0, 6: -0.015 -0.142 -0.269 0.000 5.985; error 0.0%
#   silu, int8, of -6, -3, -1, 0, 6: -0.025 -0.147 -0.270 0.000 5.993; error 0.6%
#   silu, int16, of -6, -3, -1, 0, 6: -0.015 -0.142 -0.269 0.000 5.985; error 0.0%
#   selu, float, of -6, -3, -1, 0, 6: -1.754 -1.671 -1.111 0.000 6.304; error 0.0%
#   selu, int8, of -6, -3, -1, 0, 6: 0.000 0.000 0.000 0.000 6.320; error 21.8%
#   softplus, float, of -6, -3, -1, 0, 6: 0.002 0.049 0.313 0.693 6.002; error 0.0%
#   softplus, int8, of -6, -3, -1, 0, 6: 0.471 0.471 0.471 1.153 6.002; error 9.3%
#   softplus, int16, of -6, -3, -1, 0, 6: -1.434 -1.271 -0.210 0.663 6.002; error 24.0%
#   mish, float, of -6, -3, -1, 0, 6: -0.015 -0.146 -0.303 0.000 6.000; error 0.0%
#   mish, int8, of -6, -3, -1, 0, 6: -0.297 -0.297 -0.297 0.000 5.987; error 4.5%
#   mish, int16, of -6, -3, -1, 0, 6: 5.354 2.562 0.207 0.000 6.000; error 85.1%
#
# Why it hurts: all of them are built into Keras and convert without a word, and the usual advice
# for a net that loses with 8 bits, to take 16, makes it worse. elu (which stays float in a file of
# 8 bits), silu and gelu do not have this.
#
# Source: none found; LOG's table stands in LiteRT's kernels, in elementwise.cc.
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
OPERATORS = {
    "int8": tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
    "int16": tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
}
SHOWN = [-6, -3, -1, 0, 6]
x = np.linspace(-6, 6, 241, dtype=np.float32).reshape(1, 241)


def quantized(model, kind):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: [[x]]
    converter.target_spec.supported_ops = [OPERATORS[kind]]
    interpreter = Interpreter(model_content=converter.convert())
    (answer,) = interpreter.get_signature_runner()(x=x).values()
    return answer


errors = {}
for name, kinds in (
    ("silu", ["int8", "int16"]),
    ("selu", ["int8"]),  # at 16 bits the converter refuses it
    ("softplus", ["int8", "int16"]),
    ("mish", ["int8", "int16"]),
):
    read = keras.Input(batch_shape=x.shape, name="x")
    model = keras.Model(read, keras.layers.Activation(name)(read))
    exact = np.array(model(x))
    at = [np.argmin(np.abs(x[0] - value)) for value in SHOWN]
    for kind in ["float", *kinds]:
        answer = exact if kind == "float" else quantized(model, kind)
        error = errors[name, kind] = np.abs(answer - exact).max() / np.ptp(exact)
        values = " ".join(f"{value:.3f}" for value in answer[0, at])
        print(f"{name}, {kind}, of -6, -3, -1, 0, 6: {values}; error {error:.1%}")
same = max(errors["silu", "int8"], errors["silu", "int16"]) < 0.02
same = same and errors["selu", "int8"] > 0.1
same = same and all(errors[n, "int16"] > errors[n, "int8"] > 0.02 for n in ("softplus", "mish"))
sys.exit(0 if same else "changed: the formulas hold below zero, or 16 bits are better than 8")
PYTHON

#!/usr/bin/env bash
# LiteRT 2.3.0 on x86-64, with a file of TensorFlow 2.21.0's converter (Keras 3.15.1): int8 DIV
#
# One would expect: a numerator near zero over a large divisor gives a quotient near zero.
#
# What it does: it gives the largest or the smallest value that the output has. The kernel shifts
# by the leading zero bits of the numerator, the size of the divisor and the output's shift
# together. For numerators a few codes from zero that is 32 and more where the divisor is several
# times the smallest one, and what such a shift gives is not defined. LiteRT's own choice of kernels
# and the reference kernels do the same.
#
# Output seen (quotients of seven numerators, of the 255 how many are off by over 0.5):
#   AUTO: -0.024 to 0.024 over 0.5: -0.05 -0.03 -0.02 0.00 0.02 0.03 0.05; 0 of 255
#   AUTO: -0.024 to 0.024 over 8.0: -1.99 -1.99 -1.99 0.02 2.01 2.01 2.01; 7 of 255
#   BUILTIN_REF: -0.024 to 0.024 over 0.5: -0.05 -0.03 -0.02 0.00 0.02 0.03 0.05; 0 of 255
#   BUILTIN_REF: -0.024 to 0.024 over 8.0: -1.99 -1.99 -1.99 0.02 2.01 2.01 2.01; 7 of 255
#
# Why it hurts: layers that divide by a standard deviation or an energy answer right on most
# values, and with the largest possible error on the quietest.
#
# Source: none found.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile \
  ai-edge-litert==2.3.0 keras==3.15.1 numpy==2.4.6 tensorflow==2.21.0

export TF_CPP_MIN_LOG_LEVEL=3
venv/bin/python - <<'PYTHON'
import platform
import sys

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType

if platform.machine() != "x86_64":
    sys.exit("this is about x86-64")
keras.config.disable_interactive_logging()
NUMERATORS = np.linspace(-1, 1, 255)
DIVISORS = np.array([0.5, 1, 2, 4, 8])
exact = NUMERATORS[:, None] / DIVISORS
pairs = np.array([(n, d) for n in NUMERATORS for d in DIVISORS], np.float32)
values = {"numerator": pairs[:, :1], "divisor": pairs[:, 1:]}
read = [keras.Input(batch_shape=(len(pairs), 1), name=name) for name in values]
model = keras.Model(read, read[0] / read[1])

converter = tf.lite.TFLiteConverter.from_keras_model(model)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: [values]
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
file = converter.convert()

same = True
for kernels in ("AUTO", "BUILTIN_REF"):
    resolver = OpResolverType[kernels]
    interpreter = Interpreter(model_content=file, experimental_op_resolver_type=resolver)
    (answer,) = interpreter.get_signature_runner()(**values).values()
    quotients = answer.reshape(exact.shape)
    far = (np.abs(quotients - exact) > 0.5).sum(axis=0)
    middle = len(NUMERATORS) // 2
    for i in (0, -1):
        near_zero = " ".join(f"{n:.2f}" for n in quotients[middle - 3 : middle + 4, i])
        print(f"{kernels}: -0.024 to 0.024 over {DIVISORS[i]}: {near_zero}; {far[i]} of 255")
    same = same and far[0] == 0 and far[-1] > 0
sys.exit(0 if same else "changed: all quotients are about right")
PYTHON

#!/usr/bin/env bash
# tensorflow-model-optimization 0.8.1 with TensorFlow 2.21.0 and tf_keras 2.21.0:
# fix_input_output_range
#
# One would expect: fix_input_output_range(model, num_bits=4, ...), which is the example in its own
# documentation, rounds inputs and outputs to 16 values.
#
# What it does: they have 256, whatever num_bits says: FixedQuantizer keeps the number, saves it, and
# does not pass it on to the operation that rounds. So an input of 4 bits has a step that is 17 times
# too fine.
#
# Output seen:
#   num_bits=4: 256 values
#   num_bits=8: 256 values
#
# Why it hurts: the model was trained for an interface that the device does not have, and nothing
# that is printed or saved says so: the configuration in the file has num_bits 4. Round in front of
# the model yourself, with tf.quantization.fake_quant_with_min_max_args(x, num_bits=4).
#
# Source: none found.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile \
  numpy==2.4.6 tensorflow==2.21.0 tensorflow-model-optimization==0.8.1 tf_keras==2.21.0

export TF_CPP_MIN_LOG_LEVEL=3 TF_USE_LEGACY_KERAS=1
venv/bin/python - <<'PYTHON'
import sys
import warnings

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras
from tf_keras import layers

warnings.simplefilter("ignore")
quantization = tfmot.quantization.keras
model = tf_keras.Sequential(
    [layers.Input((8, 8, 1)), layers.MaxPooling2D(1), layers.Conv2D(1, 1), layers.Flatten()]
)
values = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 8, 8, 1)

found = {}
for bits in (4, 8):
    with quantization.quantize_scope():
        quantized = quantization.quantize_model(model)
        fixed = quantization.fix_input_output_range(quantized, bits, 0.0, 1.0, -4.0, 4.0)
    first = tf_keras.Model(fixed.inputs, fixed.layers[1].output)
    found[bits] = len(np.unique(np.asarray(first(values))))
    print(f"num_bits={bits}: {found[bits]} values")
sys.exit(0 if found == {4: 256, 8: 256} else "changed: how many values a fixed range has")
PYTHON

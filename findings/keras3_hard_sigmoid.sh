#!/usr/bin/env bash
# Keras 3.15.1 and tf_keras 2.21.0 (TensorFlow 2.21.0): hard_sigmoid in a file of Keras 2
#
# One would expect: an .h5 file of Keras 2 that Keras 3 loads without a word answers as it did.
#
# What it does: in Keras 2 hard_sigmoid is 0.2 x + 0.5, cut at 0 and 1; in Keras 3 it is x / 6 +
# 0.5. The file names the function, Keras 3 takes its own, and no warning is given.
#
# Output seen:
#   input  tf_keras  the same file in Keras 3
#    -2.5     0.000     0.083
#    -1.0     0.300     0.333
#     1.0     0.700     0.667
#     2.5     1.000     0.917
#   largest difference 0.083
#
# Why it hurts: squeeze-and-excite nets and gates trained in Keras 2 answer differently before
# anything is quantized, and a tool that goes between the two Kerases by the names in the config
# changes them.
#
# Source: the two formulas are in the documentation of each,
# https://keras.io/api/layers/activations/
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile \
  keras==3.15.1 numpy==2.4.6 tensorflow==2.21.0 tf_keras==2.21.0

export TF_CPP_MIN_LOG_LEVEL=3
venv/bin/python - <<'PYTHON'
import sys
import warnings

import keras
import numpy as np
import tf_keras

warnings.simplefilter("ignore")
tf_keras.utils.set_random_seed(0)
x = np.linspace(-4, 4, 17).astype(np.float32).reshape(17, 1)
layers = [tf_keras.Input((1,)), tf_keras.layers.Activation("hard_sigmoid")]
old = tf_keras.Sequential(layers)
old.save("model.h5")
answer = old.predict(x, verbose=0).ravel()
new = keras.saving.load_model("model.h5", compile=False).predict(x, verbose=0).ravel()
print("input  tf_keras  the same file in Keras 3")
for line in zip(x.ravel(), answer, new, strict=True):
    print("{:5.1f}  {:8.3f}  {:8.3f}".format(*line))
difference = float(np.abs(answer - new).max())
print(f"largest difference {difference:.3f}")
sys.exit(0 if 0.08 < difference < 0.09 else "changed: the difference, 0.083 before")
PYTHON

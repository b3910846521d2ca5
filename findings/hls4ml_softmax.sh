#!/usr/bin/env bash
# hls4ml 1.3.0 with Keras 3.15.1 and TensorFlow 2.21.0 (and a g++): softmax of values of few bits
#
# One would expect: a softmax of 6-bit values is a little coarser than one of 16 bits; the answers
# are between 0 and 1, and the largest stays the largest.
#
# What it does: with 6 bits the answers go from -32 to 28, and the class is that of Keras in 1 % of
# the samples. The table of exponentials is cut to 64 entries, one for each value, which a warning
# says. The table of reciprocals is cut with it: over the range of a sum, -128 to 128, each of its
# entries now covers 4, so the reciprocal of a sum of 1 to 4 is read at 0. With 8 bits answers sum
# to up to 1.99.
#
# Output seen:
#   ufixed<16,6>: answers 0.000 to 1.000, sums 0.99 to 1.24, top-1 as in Keras 100.0%
#   ufixed<8,3>: answers 0.000 to 1.000, sums 1.00 to 1.99, top-1 as in Keras 100.0%
#   ufixed<6,3>: answers -31.626 to 28.499, sums -77.13 to 126.99, top-1 as in Keras 1.0%
#
# Why it hurts: a low-bit Keras net that is exact up to its softmax is lost there. Without the
# softmax, or with Implementation argmax, it is not.
#
# Source: https://github.com/fastmachinelearning/hls4ml/issues/885 is about inputs of fewer bits
# than the table's 1024 entries, and closed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile \
  hls4ml==1.3.0 keras==3.15.1 numpy==2.4.6 tensorflow==2.21.0

export TF_CPP_MIN_LOG_LEVEL=3 KERAS_BACKEND=tensorflow
venv/bin/python - <<'PYTHON'
import sys

import hls4ml
import keras
import numpy as np

x = (np.random.default_rng(0).integers(0, 64, (300, 10)) / 8).astype(np.float32)
source = keras.Input((10,))
relu = keras.layers.ReLU(name="relu")(source)
model = keras.Model(source, keras.layers.Activation("softmax", name="softmax")(relu))
expected = model.predict(x, verbose=0)
found = {}
for precision in ("ufixed<16,6>", "ufixed<8,3>", "ufixed<6,3>"):
    config = hls4ml.utils.config_from_keras_model(model, granularity="name", backend="Vitis")
    config["LayerName"]["relu"]["Precision"]["result"] = precision
    project = hls4ml.converters.convert_from_keras_model(
        model, hls_config=config, output_dir="project", backend="Vitis"
    )
    project.compile()
    answer = project.predict(x)
    agreement = (answer.argmax(1) == expected.argmax(1)).mean()
    found[precision] = answer.min(), answer.max(), agreement
    sums = answer.sum(1)
    print(f"{precision}: answers {answer.min():.3f} to {answer.max():.3f}, "
          f"sums {sums.min():.2f} to {sums.max():.2f}, top-1 as in Keras {agreement:.1%}")
same = found["ufixed<16,6>"][2] > 0.99 and found["ufixed<6,3>"][2] < 0.2
same = same and found["ufixed<6,3>"][1] > 1 and found["ufixed<6,3>"][0] < 0
sys.exit(0 if same else "changed: 16 bits have lost the class, or 6 bits have kept it")
PYTHON

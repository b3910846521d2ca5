#!/usr/bin/env bash
# QKeras 0.9.0 with TensorFlow 2.21.0 and tf_keras 2.21.0: QAveragePooling2D and
# QGlobalAveragePooling2D with an average_quantizer
#
# One would expect: the average is quantized, so that it has the quantizer's levels and is off by
# half a step at most.
#
# What it does: the *reciprocal of the pool's size* is quantized, and the sum is multiplied by it.
# 1/49 rounds to 0 with 4 bits, so a global average over 7x7 answers 0 for every image; with 8 bits
# it rounds to 3/128, and every average is 14.8 % too large. Averages over 3x3 are 12.5 % too large
# with 4 bits. The answers themselves are not quantized.
#
# Output seen:
#   global, 7x7, quantized_bits(4,0,1,alpha=1): 0.000 to 0.000 of the average
#   global, 7x7, quantized_bits(8,0,1,alpha=1): 1.148 to 1.148 of the average
#   3x3, quantized_bits(4,0,1,alpha=1): 1.125 to 1.125 of the average
#   3x3, quantized_bits(8,0,1,alpha=1): 0.984 to 0.984 of the average
#
# Why it hurts: a float net that is rebuilt with QKeras layers loses its head, or starts with a
# gain that no other tool's average pooling has.
#
# Source: none found.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile \
  numpy==2.4.6 pyparsing==3.3.3 qkeras==0.9.0 tensorflow==2.21.0 tf_keras==2.21.0

export TF_CPP_MIN_LOG_LEVEL=3 TF_USE_LEGACY_KERAS=1
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
import qkeras
import tf_keras

x = np.random.default_rng(0).uniform(0, 1, (4, 7, 7, 16)).astype(np.float32)
POOLS = {
    "global, 7x7": (qkeras.QGlobalAveragePooling2D, tf_keras.layers.GlobalAveragePooling2D, ()),
    "3x3": (qkeras.QAveragePooling2D, tf_keras.layers.AveragePooling2D, (3,)),
}
gains = {}
for pool, (quantized, plain, arguments) in POOLS.items():
    average = np.array(plain(*arguments)(x))
    for bits in (4, 8):
        quantizer = f"quantized_bits({bits},0,1,alpha=1)"
        answer = np.array(quantized(*arguments, average_quantizer=quantizer)(x))
        ratio = answer / average
        gains[pool, bits] = float(ratio.mean())
        print(f"{pool}, {quantizer}: {ratio.min():.3f} to {ratio.max():.3f} of the average")
rounded = {
    ("global, 7x7", 4): 0.0, ("global, 7x7", 8): 49 * 3 / 128,
    ("3x3", 4): 9 / 8, ("3x3", 8): 9 * 14 / 128,
}
same = all(abs(gains[key] - rounded[key]) < 1e-5 for key in rounded)
sys.exit(0 if same else "changed: the averages are no longer sums times a rounded reciprocal")
PYTHON

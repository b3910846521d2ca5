#!/usr/bin/env bash
# QKeras 0.9.0 with TensorFlow 2.21.0 and tf_keras 2.21.0: quantized_ulaw
#
# One would expect: levels that lie closer together near zero, where most weights are; that is what
# mu-law is for. And a value that is quantized stays near itself.
#
# What it does: the value is rounded in equal steps, put through the compressing curve, and never
# expanded again. So levels are dense near 1 and none is near zero: with 4 bits, 7 levels, of which
# the smallest above zero is 0.752; with 8 bits 127, from 0.29. A weight of 0.05 becomes 0.462.
#
# Output seen:
#   4 bits: 7 levels, the smallest above zero 0.752
#       [-1.    -0.948 -0.876 -0.752  0.     0.752  0.875]
#   6 bits: 31 levels, the smallest above zero 0.510
#   8 bits: 127 levels, the smallest above zero 0.290
#   quantized_ulaw(8): root mean square error of normal weights of 0.2 is 0.4598
#   quantized_bits(8,0,1,alpha=1): root mean square error of normal weights of 0.2 is 0.0022
#   quantized_bits(2,0,1,alpha=1): root mean square error of normal weights of 0.2 is 0.1412
#   0.05 becomes [0.4619035]
#
# Why it hurts: `kernel_quantizer="quantized_ulaw(8)"` is further from the weights than 2 plain
# bits, scales nearly all of them up, and has half the levels of its 8 bits.
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

QUANTIZERS = (
    "quantized_ulaw(8)", "quantized_bits(8,0,1,alpha=1)", "quantized_bits(2,0,1,alpha=1)"
)
x = np.linspace(-2, 2, 40001).astype(np.float32)
smallest, counts = {}, {}
for bits in (4, 6, 8):
    levels = np.unique(np.array(qkeras.quantized_ulaw(bits)(x)))
    smallest[bits], counts[bits] = levels[levels > 0].min(), len(levels)
    print(f"{bits} bits: {len(levels)} levels, the smallest above zero {smallest[bits]:.3f}")
    if bits == 4:
        print("   ", levels.round(3))
random = np.random.default_rng(0).normal(0, 0.2, 10000).astype(np.float32)
errors = {
    text: float(np.sqrt(np.mean((np.array(qkeras.get_quantizer(text)(random)) - random) ** 2)))
    for text in QUANTIZERS
}
for text, error in errors.items():
    print(f"{text}: root mean square error of normal weights of 0.2 is {error:.4f}")
print("0.05 becomes", np.array(qkeras.quantized_ulaw(8)(np.float32([0.05]))))
same = counts == {4: 7, 6: 31, 8: 127} and smallest[4] > 0.7 and smallest[8] > 0.2
sys.exit(0 if same else "changed: the levels, or how close to zero they come")
PYTHON

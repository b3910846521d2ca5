#!/usr/bin/env bash
# QKeras 0.9.0 with TensorFlow 2.21.0 and tf_keras 2.21.0: quantized_relu_po2
#
# One would expect: a ReLU whose positive values are powers of two: 0 for what is negative.
#
# What it does: it has no 0. Negative inputs, and 0, give its smallest power of two, or, with a
# max_value, 2^-16, which is none of its exponents. So nothing is sparse behind it, and each
# channel adds a constant to the sums of the next layer.
#
# Output seen:
#   quantized_relu_po2(4): -2 -> 0.00390625, 0 -> 0.00390625, 0.3 -> 0.25
#   quantized_relu_po2(4,max_value=1): -2 -> 1.52588e-05, 0 -> 1.52588e-05, 0.3 -> 0.25
#
# Why it hurts: a shift-only implementation that gives 0 for negative values answers otherwise than
# the trained net, by the sum of these constants; and padding, which is 0, is a value that no
# activation has.
#
# Source: none found; the docstring says what happens "when x > 0".
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

given = np.array([-2, 0, 0.3], np.float32)
found = {}
for name in ("quantized_relu_po2(4)", "quantized_relu_po2(4,max_value=1)"):
    found[name] = np.array(qkeras.get_quantizer(name)(given))
    pairs = zip(given, found[name])
    print(f"{name}: " + ", ".join(f"{x:g} -> {y:g}" for x, y in pairs))
sys.exit(0 if all(y[0] == y[1] > 0 for y in found.values()) else "changed: it has a 0")
PYTHON

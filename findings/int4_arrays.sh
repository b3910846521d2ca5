#!/usr/bin/env bash
# ml_dtypes 0.6.0 with numpy 2.4.6 and onnx 1.23.2: arrays of int4
#
# One would expect: numpy sums an int8 array in int64 and takes its mean in float64, so sum() and
# mean() of an int4 array are right as well. onnx.numpy_helper.to_array gives such an array for the
# INT4 weights of a file.
#
# What it does: sum, mean and cumsum of an int4 array are computed in int4 and wrap beyond 7.
# Python's numbers promote it: 2 * a is right, which hides it.
#
# Output seen:
#   sum     int4 -3  int8 13
#   mean    int4 0  int8 3.25
#   cumsum  int4 [7 -2 5 -3]  int8 [ 7 14 21 13]
#   2 * a   int4 [ 14  14  14 -16]  int8 [ 14  14  14 -16]
#
# Why it hurts: folding an input's zero point into a bias takes the sum of each channel's weight
# codes. From the int4 weights of an ONNX file it is wrong, and so is every bias; astype(np.int32)
# comes first.
#
# Source: none found.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile ml_dtypes==0.6.0 numpy==2.4.6 onnx==1.23.2

venv/bin/python - <<'PYTHON'
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

tensor = helper.make_tensor("w", TensorProto.INT4, [4], [7, 7, 7, -8])
a = numpy_helper.to_array(tensor)
b = a.astype(np.int8)
found = {}
for name, of in {
    "sum": np.sum, "mean": np.mean, "cumsum": np.cumsum, "2 * a": lambda v: 2 * v
}.items():
    found[name] = np.array_equal(of(a), of(b))
    print(f"{name:7} int4 {of(a)}  int8 {of(b)}")
expected = {"sum": False, "mean": False, "cumsum": False, "2 * a": True}
sys.exit(0 if found == expected else "changed: which of these are right")
PYTHON

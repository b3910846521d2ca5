#!/usr/bin/env bash
# onnx 1.23.2, its ReferenceEvaluator (ONNX Runtime 1.32.0 beside it): QuantizeLinear far beyond its
# range
#
# One would expect: values beyond the range saturate, as the operator says: 127 for what is too
# large, whatever its size; infinity too.
#
# What it does: it rounds to int32 before it saturates. From 2^31 steps on numpy's cast wraps, so
# that large positive values, and infinity, become -128, the opposite end. ONNX Runtime saturates.
#
# Output seen:
#   1e+08 steps: reference 127, ONNX Runtime 127
#   3e+09 steps: reference -128, ONNX Runtime 127
#   inf steps: reference -128, ONNX Runtime 127
#   -3e+09 steps: reference -128, ONNX Runtime -128
#
# Why it hurts: masks of -1e9 and 1e9, and scales of channels that are nearly dead, reach that; who
# holds an exporter against the reference evaluator finds the exporter wrong.
#
# Source: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html ("saturate").
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0

venv/bin/python -W ignore - <<'PYTHON'
import sys

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

steps = np.array([1e8, 3e9, np.inf, -3e9], np.float32)
graph = helper.make_graph(
    [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])],
    "quantize",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
    [helper.make_tensor_value_info("y", TensorProto.INT8, [4])],
    [numpy_helper.from_array(np.float32(1), "scale"), numpy_helper.from_array(np.int8(0), "zero")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
(reference,) = ReferenceEvaluator(model).run(None, {"x": steps})
(runtime,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": steps})
for value, found, expected in zip(steps, reference, runtime):
    print(f"{value:g} steps: reference {found}, ONNX Runtime {expected}")
same = reference.tolist() == [127, -128, -128, -128] and runtime.tolist() == [127, 127, 127, -128]
sys.exit(0 if same else "changed: the reference evaluator saturates")
PYTHON

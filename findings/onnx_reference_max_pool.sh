#!/usr/bin/env bash
# onnx 1.23.2, its ReferenceEvaluator (ONNX Runtime 1.32.0 beside it): MaxPool of int8
#
# One would expect: MaxPool takes int8 since opset 12, so the reference evaluator takes it too;
# perhaps it pads with a wrong value.
#
# What it does: it raises ValueError, since it pads with NaN, also where there is nothing to pad.
# uint8 and float32 work, with a warning for uint8. ONNX Runtime takes all three.
#
# Output seen:
#   int8, pads 0: ValueError: cannot convert float NaN to integer
#   int8, pads 1: ValueError: cannot convert float NaN to integer
#   uint8, pads 0: equal
#   uint8, pads 1: equal
#   float32, pads 0: equal
#   float32, pads 1: equal
#
# Why it hurts: the reference evaluator is where one would look up what an integer file means, and
# an int8 Keras net with one MaxPooling2D cannot be run there.
#
# Source: https://onnx.ai/onnx/operators/onnx__MaxPool.html for the types.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0

venv/bin/python - <<'PYTHON'
import sys

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

TYPES = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}
found = {}
for dtype, code in TYPES.items():
    for pads in ([0, 0, 0, 0], [1, 1, 1, 1]):
        node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], pads=pads)
        graph = helper.make_graph(
            [node], "pool",
            [helper.make_tensor_value_info("x", code, [1, 2, 6, 6])],
            [helper.make_tensor_value_info("y", code, None)],
        )
        opset = [helper.make_opsetid("", 21)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=10)
        x = np.arange(72).reshape(1, 2, 6, 6).astype(dtype)
        session = ort.InferenceSession(model.SerializeToString())
        runtime = session.run(None, {"x": x})[0]
        try:
            answer = ReferenceEvaluator(model).run(None, {"x": x})[0]
            found[dtype, pads[0]] = "equal" if np.array_equal(answer, runtime) else "differs"
        except ValueError as error:
            found[dtype, pads[0]] = f"ValueError: {error}"
        print(f"{dtype}, pads {pads[0]}: {found[dtype, pads[0]]}")
raised = {dtype for (dtype, _), what in found.items() if what.startswith("ValueError")}
equal = {dtype for (dtype, _), what in found.items() if what == "equal"}
same = raised == {"int8"} and equal == {"uint8", "float32"}
sys.exit(0 if same else "changed: int8 is no longer the only type that cannot be pooled")
PYTHON

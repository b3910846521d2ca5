#!/usr/bin/env bash
# ONNX Runtime 1.32.0 (onnx 1.23.2): two pairs of QuantizeLinear and DequantizeLinear in a row
#
# One would expect: values are rounded to the grid of the first pair, and then to that of the
# second, as the file says. ONNX Runtime may take out what changes nothing.
#
# What it does: by default the two pairs become one, of the range that both have in common, in 255
# steps. A first grid that is coarser than 8 bits is lost.
#
# Output seen (images from 0 to 1, quantized to 4 bits and then to 8):
#   as the file says: 16 values; optimizations off: 16, up to 0.000 off
#   ONNX Runtime as it comes: 256 values, up to 0.035 off
#
# Why it hurts: codes of fewer bits are kept in 8-bit ones, and a quantizer of inputs or of a layer
# may be followed by that of the next. The net is then another than the one that was trained.
#
# Source: DoubleQDQPairsRemover; https://github.com/microsoft/onnxruntime/issues/25259 (closed).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0

venv/bin/python - <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

x = np.linspace(0, 1, 2001, dtype=np.float32)
constants = {"coarse": np.float32(1 / 15), "fine": np.float32(1 / 255), "zero": np.uint8(0)}
graph = helper.make_graph(
    [
        helper.make_node("QuantizeLinear", ["x", "coarse", "zero"], ["a"]),
        helper.make_node("DequantizeLinear", ["a", "coarse", "zero"], ["b"]),
        helper.make_node("QuantizeLinear", ["b", "fine", "zero"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "fine", "zero"], ["y"]),
    ],
    "pairs",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)],
    [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
)
opset = [helper.make_opsetid("", 17)]
model = helper.make_model(graph, opset_imports=opset, ir_version=8)
onnx.checker.check_model(model, full_check=True)


def answer(level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    file = model.SerializeToString()
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


exact = x
for step in (constants["coarse"], constants["fine"]):
    exact = np.clip(np.rint(exact / step), 0, 255) * step
off = answer(ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
default = answer(ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
values = [len(np.unique(one)) for one in (exact, off, default)]
errors = [np.abs(one - exact).max() for one in (off, default)]
as_said = f"{values[0]} values; optimizations off: {values[1]}, up to {errors[0]:.3f} off"
print(f"as the file says: {as_said}")
print(f"ONNX Runtime as it comes: {values[2]} values, up to {errors[1]:.3f} off")
same = values[:2] == [16, 16] and errors[0] < 1e-6 and values[2] > 100 and errors[1] > 0.02
sys.exit(0 if same else "changed: ONNX Runtime keeps both grids")
PYTHON

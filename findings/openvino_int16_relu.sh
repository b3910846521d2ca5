#!/usr/bin/env bash
# ONNX Runtime 1.32.0 and OpenVINO 2026.4.1 (onnx 1.23.2): a model whose activations ONNX Runtime's
# quantize_static has quantized to 16 bits, run by OpenVINO
#
# One would expect: 16-bit codes are nearly floats, so OpenVINO's answers are those of ONNX Runtime
# and of the float model, up to the error of the 8-bit weights.
#
# What it does: the ReLU is lost. quantize_static takes a Relu out of the file where the
# quantization behind it clips at zero anyway. OpenVINO removes 16-bit QuantizeLinear and
# DequantizeLinear pairs, on CPUs too, and computes in float between them; that they clip is lost
# with them. Neither says a word. With 8 bits both keep what clips.
#
# Output seen (largest error, of the largest answer of the float model):
#   8 bits: Conv Conv; ONNX Runtime 0.016, OpenVINO 0.016
#   16 bits: Conv Conv; ONNX Runtime 0.010, OpenVINO 0.920
#
# Why it hurts: whoever goes to 16 bits for more accuracy gets a net without its activation
# functions. Also lost: the upper end of a ReLU6, and any range that was trained or clipped.
#
# Source: OpenVINO's qdq_stripping.cpp; https://github.com/openvinotoolkit/openvino/pull/35902
# proposed to leave a Clamp behind and was closed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile \
  numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1

venv/bin/python - <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime as ort
import openvino
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

SHAPE = (1, 8, 16, 16)
random = np.random.default_rng(0)
ort.set_default_logger_severity(3)
kernels = [random.normal(size=(8, 8, 3, 3)).astype(np.float32) / 9 for _ in range(2)]
graph = helper.make_graph(
    [
        helper.make_node("Conv", ["x", "kernel0"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "kernel1"], ["y"]),
    ],
    "net",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 8, 12, 12))],
    [numpy_helper.from_array(kernel, f"kernel{i}") for i, kernel in enumerate(kernels)],
)
opset = [helper.make_opsetid("", 21)]
onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), "float.onnx")
samples = [random.normal(size=SHAPE).astype(np.float32) for _ in range(8)]


class Reader(CalibrationDataReader):
    def __init__(self):
        self.samples = iter(samples)

    def get_next(self):
        sample = next(self.samples, None)
        return None if sample is None else {"x": sample}


def in_onnxruntime(path):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": samples[0]})[0]


def in_openvino(path):
    in_float32 = {"INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(path, "CPU", in_float32)([samples[0]])[0]


exact = in_onnxruntime("float.onnx")
errors = {}
for bits, activations in ((8, QuantType.QUInt8), (16, QuantType.QUInt16)):
    path = f"{bits}.onnx"
    quantize_static(
        "float.onnx", path, Reader(), activation_type=activations, weight_type=QuantType.QInt8
    )
    operators = [node.op_type for node in onnx.load(path).graph.node]
    operators = [op for op in operators if "Linear" not in op]
    for runtime in (in_onnxruntime, in_openvino):
        errors[bits, runtime] = np.abs(runtime(path) - exact).max() / np.abs(exact).max()
    in_each = f"ONNX Runtime {errors[bits, in_onnxruntime]:.3f}, "
    in_each += f"OpenVINO {errors[bits, in_openvino]:.3f}"
    print(f"{bits} bits: {' '.join(operators)}; {in_each}")
    if "Relu" in operators:
        sys.exit("changed: the Relu stays in the file")
wrong = errors.pop((16, in_openvino))
same = wrong > 0.2 and max(errors.values()) < 0.1
sys.exit(0 if same else "changed: OpenVINO clips at zero, or another answer is off")
PYTHON

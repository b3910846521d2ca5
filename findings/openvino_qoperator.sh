#!/usr/bin/env bash
# OpenVINO 2026.4.1 with files of ONNX Runtime 1.32.0 (onnx 1.23.2) in the QOperator format, whose
# operators are QLinearConv, QLinearLeakyRelu and the like
#
# One would expect: the two formats that quantize_static writes say the same, so OpenVINO answers
# as ONNX Runtime does from either of them; or refuses one.
#
# What it does: right from QDQ, wrong from QOperator. The scales of a QLinearConv, one for each
# output channel, are multiplied with the input channels. Where the two numbers differ there is an
# error, in a residual block there is none. And of a QLinearLeakyRelu of uint8, all below the zero
# point is lost: it is subtracted in uint8. QLinearAdd and QLinearMul are written like it.
#
# Output seen (largest error, of the largest answer of the float model):
#   Conv, QDQ, a scale a channel: ONNX Runtime 0.011, OpenVINO 0.011
#   Conv, QOperator, one scale: ONNX Runtime 0.012, OpenVINO 0.012
#   Conv, QOperator, a scale a channel: ONNX Runtime 0.011, OpenVINO 0.659
#   Conv, LeakyRelu, QDQ, a scale a channel: ONNX Runtime 0.012, OpenVINO 0.012
#   Conv, LeakyRelu, QOperator, one scale: ONNX Runtime 0.013, OpenVINO 1.288
#
# Why it hurts: ONNX Runtime writes these operators also into the optimized model that it saves.
# Give OpenVINO the QDQ file as it was before.
#
# Source: OpenVINO's qlinear_conv.cpp and qlinear_activation.cpp;
# https://github.com/openvinotoolkit/openvino/pull/30003 was about to round and was closed as stale.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile \
  numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1

venv/bin/python - <<'PYTHON'
import logging
import sys

import numpy as np
import onnx
import onnxruntime as ort
import openvino
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

SHAPE = (1, 8, 16, 16)
logging.disable(logging.CRITICAL)
ort.set_default_logger_severity(3)
random = np.random.default_rng(0)
widths = np.geomspace(1, 0.05, 8, dtype=np.float32).reshape(8, 1, 1, 1)
kernel = random.normal(size=(8, 8, 3, 3)).astype(np.float32) / 9 * widths
samples = [random.normal(size=SHAPE).astype(np.float32) for _ in range(8)]
NETS = {
    "Conv": [helper.make_node("Conv", ["x", "kernel"], ["y"], pads=[1, 1, 1, 1])],
    "Conv, LeakyRelu": [
        helper.make_node("Conv", ["x", "kernel"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("LeakyRelu", ["a"], ["y"], alpha=0.1),
    ],
}
CASES = [
    ("Conv", QuantFormat.QDQ, True),
    ("Conv", QuantFormat.QOperator, False),
    ("Conv", QuantFormat.QOperator, True),
    ("Conv, LeakyRelu", QuantFormat.QDQ, True),
    ("Conv, LeakyRelu", QuantFormat.QOperator, False),
]


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


errors = []
for net, quant_format, per_channel in CASES:
    graph = helper.make_graph(
        NETS[net],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE)],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), "float.onnx")
    quantize_static(
        "float.onnx", "quantized.onnx", Reader(), quant_format=quant_format,
        per_channel=per_channel, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8
    )
    exact = in_onnxruntime("float.onnx")
    of_each = [
        np.abs(runtime("quantized.onnx") - exact).max() / np.abs(exact).max()
        for runtime in (in_onnxruntime, in_openvino)
    ]
    scales = "a scale a channel" if per_channel else "one scale"
    in_each = f"ONNX Runtime {of_each[0]:.3f}, OpenVINO {of_each[1]:.3f}"
    print(f"{net}, {quant_format.name}, {scales}: {in_each}")
    errors.append(of_each)
wrong = errors[2][1], errors[4][1]
right = [error for of_each in errors for error in of_each if error not in wrong]
same = len(right) == 8 and max(right) < 0.05 and min(wrong) > 0.2
sys.exit(0 if same else "changed: OpenVINO reads the QOperator format, or not the QDQ format")
PYTHON

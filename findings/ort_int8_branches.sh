#!/usr/bin/env bash
# ONNX Runtime 1.32.0 with onnx 1.23.2, on x86-64: quantize_static with its defaults
#
# One would expect: a residual block that quantize_static has written runs in integer kernels, as a
# chain of convolutions does; with int8 activations perhaps a little slower than with uint8 ones.
#
# What it does: int8 activations are the default. On x86 ONNX Runtime has no fused kernels for them
# and rewrites them to uint8, but only where one operator reads the value. Where two do, as in
# every residual block, the convolutions around stay float, each between a DequantizeLinear and a
# QuantizeLinear, without a word, and the block is slower than the float model. With
# activation_type=QuantType.QUInt8 the same block is integer from end to end.
#
# Output seen (times are those of one busy computer; the script checks the operators):
#   chain, default, 0.35 of float's time: QuantizeLinear Transpose QLinearConv QLinearConv Transpose
#     DequantizeLinear
#   residual, default, 1.54 of float's time: QuantizeLinear DequantizeLinear DequantizeLinear Conv
#     QuantizeLinear DequantizeLinear DequantizeLinear DequantizeLinear Conv QuantizeLinear
#     DequantizeLinear Add QuantizeLinear DequantizeLinear
#   residual, uint8, 0.36 of float's time: QuantizeLinear Transpose QLinearConv QLinearConv
#     QLinearAdd Transpose DequantizeLinear
#
# Why it hurts: whoever compares a quantized Keras ResNet with "ONNX Runtime's int8" compares it
# with floats, and whoever ships such a file pays for both.
#
# Source: int8 activations were allowed in this fusion on ARM only,
# https://github.com/microsoft/onnxruntime/pull/9961
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0

venv/bin/python - <<'PYTHON'
import platform
import sys
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

if platform.machine() != "x86_64":
    sys.exit("this is about x86-64")
SHAPE = (1, 32, 32, 32)
random = np.random.default_rng(0)
ort.set_default_logger_severity(3)


def model(path, branch):
    kernels = [random.normal(size=(32, 32, 3, 3)).astype(np.float32) / 17 for _ in range(2)]
    nodes = [
        helper.make_node("Conv", ["x", "kernel0"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "kernel1"], ["c" if branch else "y"], pads=[1, 1, 1, 1]),
    ]
    if branch:
        nodes.append(helper.make_node("Add", ["b", "c"], ["y"]))
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("x", "y")
    ]
    initializers = [numpy_helper.from_array(k, f"kernel{i}") for i, k in enumerate(kernels)]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], initializers)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


class Reader(CalibrationDataReader):
    def __init__(self):
        self.samples = iter([random.normal(size=SHAPE).astype(np.float32) for _ in range(8)])

    def get_next(self):
        sample = next(self.samples, None)
        return None if sample is None else {"x": sample}


def executed(path):
    options = ort.SessionOptions()
    options.optimized_model_filepath = "executed.onnx"
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    x = {"x": random.normal(size=SHAPE).astype(np.float32)}
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        session.run(None, x)
        seconds.append(time.perf_counter() - start)
    return [node.op_type for node in onnx.load("executed.onnx").graph.node], min(seconds)


operators, seconds = {}, {}
for name, branch in (("chain", False), ("residual", True)):
    model("float.onnx", branch)
    quantize_static("float.onnx", "default.onnx", Reader())
    quantize_static("float.onnx", "uint8.onnx", Reader(), activation_type=QuantType.QUInt8)
    for kind in ("float", "default", "uint8"):
        operators[name, kind], seconds[name, kind] = executed(f"{kind}.onnx")
        ratio = seconds[name, kind] / seconds[name, "float"]
        print(f"{name}, {kind}, {ratio:.2f} of float's time:", *operators[name, kind])

fused = {key: "Conv" not in found and "QLinearConv" in found for key, found in operators.items()}
same = fused["chain", "default"] and not fused["residual", "default"] and fused["residual", "uint8"]
sys.exit(0 if same else "changed: the default's residual block is no longer float")
PYTHON

#!/usr/bin/env bash
# ONNX Runtime 1.32.0 (onnx 1.23.2), x86-64: the session option session.x64quantprecision, by which
# int8 weights become uint8 where sums of products would saturate
#
# One would expect: with the option a quantized file answers exactly, and slower. What loads without
# it loads with it.
#
# What it does: the weights of a quantized layer, where one is beyond 64, become uint8.
# - QLinear operators keep their int8 activations, as quantize_static makes them, and for the two
#   together there is no kernel. In files of QuantizeLinear and DequantizeLinear (QDQ) the
#   activations become uint8 too.
# - Weights that two layers read are turned twice, and the second time their name is taken.
#
# Output seen (files of quantize_static, without the option / with it):
#   QDQ, two convolutions with a kernel each: loads / loads
#   QDQ, two convolutions with one kernel: loads / Fail
#   QOperator, uint8 activations, a kernel each: loads / loads
#   QOperator, int8 activations, a kernel each: loads / NotImplemented
#   answers with the option: up to 0.000 off
#
# Why it hurts: with the option 8-bit nets are exact on processors without VNNI, and it acts on some
# that have VNNI, too: this was seen on one. Weights of a layer that is called twice need only be
# written once. Give each call a copy of them, and QLinear operators uint8 activations.
#
# Source: the option stands in ONNX Runtime's header onnxruntime_session_options_config_keys.h
# ("use slower U8U8 matrix multiplications"). No issue was found.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0

venv/bin/python - <<'PYTHON'
import logging
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, NotImplemented
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

SHAPE, FATAL_ONLY = (1, 4, 8, 8), 4
logging.getLogger().setLevel(logging.ERROR)
random = np.random.default_rng(0)
images = random.normal(size=(8, *SHAPE)).astype(np.float32)


class Images(CalibrationDataReader):
    def __init__(self):
        self._left = iter(images)

    def get_next(self):
        image = next(self._left, None)
        return None if image is None else {"x": image}


def quantize(kernels, layout, activations):
    """Writes quantized.onnx: two convolutions, with the first and the last of the kernels."""
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "kernel0"], ["a"], pads=[1] * 4),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", f"kernel{len(kernels) - 1}"], ["y"], pads=[1] * 4),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE)],
        [numpy_helper.from_array(kernel, f"kernel{i}") for i, kernel in enumerate(kernels)],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "float.onnx")
    quantize_static(
        "float.onnx", "quantized.onnx", Images(), quant_format=layout, activation_type=activations
    )
    onnx.checker.check_model("quantized.onnx")


def load(*, option):
    options = ort.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.optimized_model_filepath = "optimized.onnx"
    if option:
        options.add_session_config_entry("session.x64quantprecision", "1")
    return ort.InferenceSession("quantized.onnx", options, providers=["CPUExecutionProvider"])


def loads(*, option):
    try:
        load(option=option)
    except (Fail, NotImplemented) as error:
        return type(error).__name__
    return "loads"


kernel = random.normal(size=(4, 4, 3, 3)).astype(np.float32)
each = [kernel, kernel.copy()]
quantize(each, QuantFormat.QDQ, QuantType.QInt8)
exact = load(option=False).run(None, {"x": images[0]})[0]
off = np.abs(load(option=True).run(None, {"x": images[0]})[0] - exact).max()
optimized = onnx.load("optimized.onnx").graph.initializer
if {one.data_type for one in optimized if len(one.dims) == 4} != {TensorProto.UINT8}:
    print("the option does nothing here: the processor needs none, or it has changed")
    sys.exit(2)

CASES = {
    "QDQ, two convolutions with a kernel each": (each, QuantFormat.QDQ, QuantType.QInt8),
    "QDQ, two convolutions with one kernel": ([kernel], QuantFormat.QDQ, QuantType.QInt8),
    "QOperator, uint8 activations, a kernel each": (each, QuantFormat.QOperator, QuantType.QUInt8),
    "QOperator, int8 activations, a kernel each": (each, QuantFormat.QOperator, QuantType.QInt8),
}
without, having = [], []
for name, case in CASES.items():
    quantize(*case)
    without.append(loads(option=False))
    having.append(loads(option=True))
    print(f"{name}: {without[-1]} / {having[-1]}")
print(f"answers with the option: up to {off:.3f} off")
same = set(without) == {"loads"} and having == ["loads", "Fail", "loads", "NotImplemented"]
sys.exit(0 if same else "changed: the option loads what loads without it")
PYTHON

#!/usr/bin/env bash
# qonnx 1.0.0 (onnx 1.23.2): QCDQToQuant, which brings ONNX files of QuantizeLinear, Clip and
# DequantizeLinear to QONNX's Quant operators
#
# One would expect: the model answers as before, or there is an error.
#
# What it does: it dequantizes the weights with the arrays as they stand in the file.
# - uint8 weights less their zero point are uint8 again: below the zero point they wrap.
# - A scale for each output goes to the last axis, not to the one that the operator names: of a
#   square kernel (outputs, inputs) to the inputs. Where the numbers differ, numpy raises.
# - int8 codes in a Clip from 0 to 7 become signed codes of 3 bits, from -4 to 3.
#
# Output seen (largest error, of the largest answer):
#   int8 weights, one scale: 0.000
#   uint8 weights around 128: 2.212
#   int8 weights (6, 6), a scale for each of axis 0: 0.691
#   int8 weights (5, 6), a scale for each of axis 0: ValueError
#   int8 activations clipped to 0 .. 7: 0.681
#
# Why it hurts: FPGA flows (FINN, hls4ml) read QONNX, and this brings the files of other tools
# there. uint8 weights are what ONNX Runtime advises for processors without VNNI, and a scale for
# each output is what everybody writes for convolutions, which raise unless they are as many as the
# kernel is wide.
#
# Source: none found; qonnx/transformation/qcdq_to_qonnx.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile \
  numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 qonnx==1.0.0

venv/bin/python - <<'PYTHON'
import sys
import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.qcdq_to_qonnx import QCDQToQuant

INPUTS, STEP = 6, np.float32(0.25)
warnings.simplefilter("ignore")
random = np.random.default_rng(0)
x = random.normal(size=(4, INPUTS)).astype(np.float32)


def error(codes, scale, zero_point, lowest=-128, highest=127):
    """Of a dense layer with a kernel (outputs, inputs), after the conversion, and unconverted."""
    axis = {"axis": 0} if scale.ndim else {}
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
            helper.make_node("Clip", ["q", "lowest", "highest"], ["clipped"]),
            helper.make_node("DequantizeLinear", ["clipped", "step", "zero"], ["a"]),
            helper.make_node("DequantizeLinear", ["codes", "scale", "zero_point"], ["w"], **axis),
            helper.make_node("Gemm", ["a", "w"], ["y"], transB=1),
        ],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (len(x), len(codes)))],
        [
            numpy_helper.from_array(value, name)
            for name, value in {
                "step": STEP, "zero": np.int8(0), "lowest": np.int8(lowest),
                "highest": np.int8(highest), "codes": codes, "scale": scale,
                "zero_point": zero_point,
            }.items()
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    activations = np.clip(np.round(x / STEP), lowest, highest) * STEP
    of_axis = np.reshape(scale, (-1, 1)), np.reshape(zero_point, (-1, 1)).astype(int)
    exact = activations @ ((codes.astype(int) - of_axis[1]) * of_axis[0]).T
    model = ModelWrapper(onnx.shape_inference.infer_shapes(model)).transform(QCDQToQuant())
    answer = execute_onnx(model, {"x": x})["y"]
    return np.abs(answer - exact).max() / np.abs(exact).max()


def kernel(outputs):
    return random.integers(-127, 128, (outputs, INPUTS)).astype(np.int8)


scale, scales = np.float32(0.01), np.linspace(0.01, 0.06, 6, dtype=np.float32)
shifted = (kernel(6).astype(int) + 128).astype(np.uint8)
CASES = {
    "int8 weights, one scale": (kernel(6), scale, np.int8(0)),
    "uint8 weights around 128": (shifted, scale, np.uint8(128)),
    "int8 weights (6, 6), a scale for each of axis 0": (kernel(6), scales, np.zeros(6, np.int8)),
    "int8 weights (5, 6), a scale for each of axis 0": (
        kernel(5), scales[:5], np.zeros(5, np.int8)
    ),
    "int8 activations clipped to 0 .. 7": (kernel(6), scale, np.int8(0), 0, 7),
}
found = []
for name, case in CASES.items():
    try:
        found.append(error(*case))
        print(f"{name}: {found[-1]:.3f}")
    except ValueError as raised:
        found.append(raised)
        print(f"{name}: ValueError")
right, raised = found.pop(0), found.pop(2)
same = right < 1e-5 and isinstance(raised, ValueError) and min(found) > 0.1
sys.exit(0 if same else "changed: QCDQToQuant keeps what the model answers, or raises")
PYTHON

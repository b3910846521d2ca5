#!/usr/bin/env bash
# MNN 3.6.1 with ONNX files that hold a QuantizeLinear and DequantizeLinear pair (onnx 1.23.2, ONNX
# Runtime 1.32.0)
#
# One would expect: MNN's converter, which reads both operators, keeps them, and MNN answers as ONNX
# Runtime does up to a step.
#
# What it does: a DequantizeLinear of four axes is taken for the weights of a convolution, whose
# first two axes are swapped: of activations these are batch and channels. Its zero point is taken
# for that of int8 codes, though MNN has moved uint8 codes by 128. Of fewer axes the pair is taken
# out, and what it clips is no longer clipped. The converter reports no error.
#
# Output seen:
#   int8, images of 4 channels: answers (4, 1, 6, 6) in place of (1, 4, 6, 6)
#   int8, images of 1 channel: up to 0.0 steps off
#   uint8, images of 1 channel: up to 128.0 steps off
#   int8 with zero point -128, in front of a MatMul: up to 239.2 steps off; as in float: up to 0.0
#
# Why it hurts: the zero point -128 is a ReLU that ONNX Runtime's quantize_static took out of the
# file, and with the pair it is lost. Nets of convolutions of more channels fail with a shape error
# when they are first run. MNN's own quantization starts from float files.
#
# Source: none found; OnnxDeQuantizeLinear.cpp and EliminateQuantAndDequant.cpp in MNN's converter.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile \
  MNN==3.6.1 numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0

# By itself: the command mnnconvert also installs a package into the Python that is on the PATH.
cat > convert.py <<'PYTHON'
import _tools

_tools.mnnconvert(
    ["", "-f", "ONNX", "--modelFile", "net.onnx", "--MNNModel", "net.mnn", "--bizCode", "net"]
)
PYTHON
venv/bin/python - <<'PYTHON'
import subprocess
import sys

import MNN.expr
import MNN.nn
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

STEP = np.float32(0.02)
random = np.random.default_rng(0)
kernel = random.normal(size=(6, 5)).astype(np.float32)


def answers(x, zero_point, *, dense=False):
    """Of ONNX Runtime and of MNN, to x quantized and dequantized, and multiplied by the kernel."""
    dequantized = "a" if dense else "y"
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "step", "zero"], [dequantized]),
        *([helper.make_node("MatMul", ["a", "kernel"], ["y"])] if dense else []),
    ]
    constants = {"step": STEP, "zero": zero_point, **({"kernel": kernel} if dense else {})}
    shape = (len(x), 5) if dense else x.shape
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "net.onnx")
    session = ort.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    subprocess.run([sys.executable, "convert.py"], check=True, capture_output=True)
    net = MNN.nn.load_module_from_file("net.mnn", ["x"], ["y"])
    answer = net.forward(MNN.expr.const(x.ravel().tolist(), list(x.shape), MNN.expr.NCHW))
    answer = MNN.expr.convert(answer, MNN.expr.NCHW)
    return session.run(None, {"x": x})[0], np.array(answer.read()).reshape(answer.shape)


def steps(answer, exact):
    return np.abs(answer - exact).max() / STEP


images = random.normal(size=(1, 4, 6, 6)).astype(np.float32)
exact, swapped = answers(images, np.int8(0))
print(f"int8, images of 4 channels: answers {swapped.shape} in place of {exact.shape}")
exact, answer = answers(images[:, :1], np.int8(0))
right = steps(answer, exact)
print(f"int8, images of 1 channel: up to {right:.1f} steps off")
exact, answer = answers(images[:, :1], np.uint8(128))
moved = steps(answer, exact)
print(f"uint8, images of 1 channel: up to {moved:.1f} steps off")
x = random.normal(size=(2, 6)).astype(np.float32)
exact, answer = answers(x, np.int8(-128), dense=True)
unclipped, as_float = steps(answer, exact), steps(answer, x @ kernel)
off = f"up to {unclipped:.1f} steps off; as in float: up to {as_float:.1f}"
print(f"int8 with zero point -128, in front of a MatMul: {off}")
same = swapped.shape == (4, 1, 6, 6) and right < 0.1 and abs(moved - 128) < 0.1
same = same and unclipped > 10 and as_float < 0.1
sys.exit(0 if same else "changed: MNN keeps the pair, or raises")
PYTHON

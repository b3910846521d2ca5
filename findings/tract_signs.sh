#!/usr/bin/env bash
# tract 0.23.9 (onnx 1.23.2, ONNX Runtime 1.32.0): ONNX files with int8 and uint8 codes
#
# One would expect: tract, which reads QuantizeLinear of both types, answers as ONNX Runtime does.
#
# What it does: of a QuantizeLinear without a zero point it takes the codes for uint8, whatever type
# output_dtype names: what is below zero becomes zero, and what int4 clips is not clipped. Codes of
# one type that go through functions of one value to codes of the other it would replace by a table,
# whose type it then finds wrong, and raises. Through a ReLU they go.
#
# Output seen (values from -2 to 2 in steps of 0.25):
#   int8 without a zero point: up to 2.00 off
#   int8 with zero point 0: up to 0.00 off
#   int4 without a zero point: up to 2.00 off
#   int8, Sigmoid, uint8: TractError
#   int8, Sigmoid, int8: up to 0.00 off
#   uint8, int8 with nothing between: TractError
#
# Why it hurts: who quantizes symmetrically, as TensorRT wants it, needs no zero point, and opset 21
# lets him leave it out. int8 in front of an activation and uint8 behind it is common too. Write the
# zero point, and one type in the whole file.
#
# Source: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html ("output_dtype");
# https://github.com/sonos/tract/issues/1304 has the tables, open since January 2024.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile \
  numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 tract==0.23.9

venv/bin/python - <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime as ort
import tract
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node

STEP = np.float32(0.25)
x = np.arange(-8, 9, dtype=np.float32)[None] * STEP


def off(nodes, constants):
    """By how much tract's answer differs from ONNX Runtime's; an error's name."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "net.onnx")
    session = ort.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    (exact,) = session.run(None, {"x": x})
    try:
        net = tract.onnx().load("net.onnx").into_model().into_runnable()
    except tract.TractError as error:
        return type(error).__name__
    return np.abs(net.run([x])[0].to_numpy() - exact).max()


def quantized(element_type):
    """x quantized without a zero point, and dequantized."""
    nodes = [
        make_node("QuantizeLinear", ["x", "step"], ["codes"], output_dtype=element_type),
        make_node("DequantizeLinear", ["codes", "step"], ["y"]),
    ]
    return off(nodes, {"step": STEP})


def pair(name, value, zero_point, result):
    return [
        make_node("QuantizeLinear", [value, "step", zero_point], [name]),
        make_node("DequantizeLinear", [name, "step", zero_point], [result]),
    ]


def between(first, second, operator=None):
    """Two pairs, with these zero points, and an operator between them."""
    nodes = [
        *pair("codes", "x", "first", "a"),
        *([make_node(operator, ["a"], ["b"])] if operator else []),
        *pair("more", "b" if operator else "a", "second", "y"),
    ]
    return off(nodes, {"step": STEP, "first": first, "second": second})


zero = {"step": STEP, "zero": np.int8(0)}
SEEN = {
    "int8 without a zero point": (quantized(TensorProto.INT8), 2.0),
    "int8 with zero point 0": (off(pair("codes", "x", "zero", "y"), zero), 0.0),
    "int4 without a zero point": (quantized(TensorProto.INT4), 2.0),
    "int8, Sigmoid, uint8": (between(np.int8(0), np.uint8(0), "Sigmoid"), "TractError"),
    "int8, Sigmoid, int8": (between(np.int8(0), np.int8(0), "Sigmoid"), 0.0),
    "uint8, int8 with nothing between": (between(np.uint8(128), np.int8(0)), "TractError"),
}
for name, (found, _) in SEEN.items():
    print(f"{name}: {found if isinstance(found, str) else f'up to {found:.2f} off'}")
same = all(found == expected for found, expected in SEEN.values())
sys.exit(0 if same else "changed: tract reads output_dtype, or tables between the types")
PYTHON

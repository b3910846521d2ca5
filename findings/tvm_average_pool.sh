#!/usr/bin/env bash
# Apache TVM 0.27.0.post1 with an int8 TFLite file (LiteRT 2.3.0): an average pooling of codes
#
# One would expect: an average is rounded to the nearest code, as LiteRT does. AVERAGE_POOL_2D is
# one of the quantized operators that TVM's TFLite frontend says it supports.
#
# What it does: the sum of the codes is divided as C divides integers, towards zero. The codes are
# those of the file, with its zero point: where that is -128, as behind a ReLU, averages below the
# middle of the range become larger, and those above it smaller, by half a step on average.
#
# Output seen (codes, TVM less LiteRT):
#   small values (codes below 0): 1014 of 2048 differ, the mean by +0.50
#   large values (codes above 0): 1006 of 2048 differ, the mean by -0.49
#   LiteRT and the exact average: 0 of 4096 differ
#
# Why it hurts: the pooling at the end of a net hands half a step too much or too little, always to
# the same side, to the layer that decides. A Keras GlobalAveragePooling2D becomes a MEAN, which is
# dequantized and right; AveragePooling2D is this operator.
#
# Source: https://github.com/apache/tvm/pull/20298, a change that rounds; it was still open.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile \
  ai-edge-litert==2.3.0 apache-tvm==0.27.0.post1 flatbuffers==25.12.19 numpy==2.4.6 tflite==2.18.0

venv/bin/python - <<'PYTHON'
import sys
from pathlib import Path

import flatbuffers
import numpy as np
import tflite
import tvm
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from tvm import relax
from tvm.relax.frontend.tflite import from_tflite

SHAPE, POOLED = (1, 7, 7, 2048), (1, 1, 1, 2048)
random = np.random.default_rng(0)


def tensor(name, shape):
    made = schema.TensorT()
    made.name, made.shape, made.type = name, np.array(shape, np.int32), schema.TensorType.INT8
    made.quantization = schema.QuantizationParametersT()
    made.quantization.scale = np.array([0.02], np.float32)
    made.quantization.zeroPoint = np.array([-128], np.int64)
    return made


def average_pooling():
    """A TFLite file of one operator: the int8 average over all pixels."""
    options = schema.Pool2DOptionsT()
    options.padding = schema.Padding.VALID
    options.filterHeight, options.filterWidth = SHAPE[1:3]
    options.strideH, options.strideW = SHAPE[1:3]
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = np.array([0], np.int32), np.array([1], np.int32)
    operator.builtinOptionsType = schema.BuiltinOptions.Pool2DOptions
    operator.builtinOptions = options
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.AVERAGE_POOL_2D
    code.version = 2
    graph = schema.SubGraphT()
    graph.tensors = [tensor("x", SHAPE), tensor("y", POOLED)]
    graph.inputs, graph.outputs = np.array([0], np.int32), np.array([1], np.int32)
    graph.operators = [operator]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT()]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


file = average_pooling()
Path("pool.tflite").write_bytes(file)
interpreter = Interpreter("pool.tflite")
interpreter.allocate_tensors()
module = from_tflite(tflite.Model.GetRootAsModel(file, 0))
machine = relax.VirtualMachine(relax.build(module, "llvm"), tvm.cpu())

RANGES = {"small values (codes below 0)": (-128, 0), "large values (codes above 0)": (0, 128)}
means, wrong = {}, 0
for name, (low, high) in RANGES.items():
    codes = random.integers(low, high, SHAPE).astype(np.int8)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], codes)
    interpreter.invoke()
    litert = interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).astype(int)
    answer = machine["main"](tvm.runtime.tensor(codes))
    answer = (answer if hasattr(answer, "numpy") else answer[0]).numpy().astype(int)
    wrong += np.count_nonzero(litert != np.rint(codes.mean((1, 2), float, keepdims=True)))
    means[name] = (answer - litert).mean()
    differ = f"{np.count_nonzero(answer != litert)} of {litert.size} differ"
    print(f"{name}: {differ}, the mean by {means[name]:+.2f}")
print(f"LiteRT and the exact average: {wrong} of {2 * POOLED[-1]} differ")
small, large = means.values()
same = wrong == 0 and 0.4 < small < 0.6 and -0.6 < large < -0.4
sys.exit(0 if same else "changed: TVM rounds averages to the nearest code")
PYTHON

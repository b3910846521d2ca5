#!/usr/bin/env bash
# litert-quantizer 0.11.0, its recipe weight_only_wi8_afp32, read by tf2onnx 1.17.0 and OpenVINO
# 2026.4.1 (Keras 3.15.1, TensorFlow 2.21.0, LiteRT 2.3.0)
#
# One would expect: a file that LiteRT runs, of convolutions and DEQUANTIZE alone, is read by those
# who read TFLite; the converter's own float16 files have the same two operators.
#
# What it does: a TFLite file names each operator twice, in a field of 8 bits from old times and in
# one of 32. litert-quantizer fills in the new one only, and the old one says 0, which is ADD.
# LiteRT takes the larger of the two. tf2onnx and OpenVINO take the old one, look for the two
# inputs of an addition, and give errors that name neither the operator nor the field.
#
# Output seen (old code, new code of each operator; 3 is CONV_2D, 6 is DEQUANTIZE):
#   float16: [(3, 3), (6, 6)]
#     LiteRT answers, 0.0005 from Keras
#     tf2onnx reads it
#     OpenVINO reads it
#   weight_only_wi8_afp32: [(0, 6), (3, 3)]
#     LiteRT answers, 0.0088 from Keras
#     tf2onnx ValueError: Graph has cycles, node.name='sequential_1/conv2d_1/convolution_dequant'.
#     OpenVINO RuntimeError: ... Chosen Builtin Option is not accessible for this node
#
# Why it hurts: whoever compares their own TFLite file with litert-quantizer's in OpenVINO, or
# brings it to ONNX, looks for the bug in the model. And whoever writes TFLite files must fill in
# both.
#
# Source: none found; the rule that the larger counts is in the comments of TFLite's schema.fbs.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile \
  ai-edge-litert==2.3.0 keras==3.15.1 litert-quantizer==0.11.0 numpy==2.4.6 onnx==1.23.2 \
  openvino==2026.4.1 tensorflow==2.21.0 tf2onnx==1.17.0

export TF_CPP_MIN_LOG_LEVEL=3
venv/bin/python - <<'PYTHON'
import logging
import sys
from pathlib import Path

import keras
import numpy as np
import openvino
import tensorflow as tf
import tf2onnx
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from litert_quantizer import quantizer, recipe

logging.disable(logging.CRITICAL)
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
x = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
converter = tf.lite.TFLiteConverter.from_keras_model(model)
Path("float.tflite").write_bytes(converter.convert())
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.target_spec.supported_types = [tf.float16]
Path("float16.tflite").write_bytes(converter.convert())
weight_only = quantizer.Quantizer("float.tflite", recipe.weight_only_wi8_afp32()).quantize()
Path("weight_only_wi8_afp32.tflite").write_bytes(bytes(weight_only.quantized_model))


def litert(path):
    interpreter = Interpreter(path)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return f"answers, {np.abs(answer - model.predict(x, verbose=0)).max():.4f} from Keras"


def reads(read, path):
    try:
        return read(path) or "reads it"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[-75:]}"


readers = {
    "LiteRT": litert,
    "tf2onnx": lambda path: tf2onnx.convert.from_tflite(path) and None,
    "OpenVINO": lambda path: openvino.Core().read_model(path) and None,
}
found = {}
for file in ("float16", "weight_only_wi8_afp32"):
    path = f"{file}.tflite"
    operators = flatbuffer_utils.read_model(path).operatorCodes
    codes = sorted((code.deprecatedBuiltinCode, code.builtinCode) for code in operators)
    found[file] = codes, *(reads(read, path) for read in readers.values())
    print(f"{file}: {codes}")
    for reader, what in zip(readers, found[file][1:], strict=True):
        print(f"  {reader} {what}")
codes, litert_says, *others = found["weight_only_wi8_afp32"]
same = codes == [(0, 6), (3, 3)] and litert_says.startswith("answers")
same = same and all("Error" in what for what in others)
same = same and found["float16"][0] == [(3, 3), (6, 6)]
same = same and "Error" not in "".join(found["float16"][1:])
sys.exit(0 if same else "changed: the operator codes, or who reads them")
PYTHON

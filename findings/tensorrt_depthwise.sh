#!/usr/bin/env bash
# TensorRT for RTX 1.7.1.116 with onnx 1.23.2: an int8 depthwise convolution
#
# One would expect: a depthwise convolution of 32 channels of codes reads these 32 channels. It is
# memory that its time goes to, and int8 has a quarter of float's.
#
# What it does: the engine copies the codes to a tensor of four times as many channels, each
# channel with three of zeros, and convolves that. What is read and written around the layer is as
# much as in float32. A convolution of groups of four channels is not copied; nor are depthwise ones
# in engines of TensorRT 8, which has kernels for them (CudaDepthwiseConvolution).
#
# Output seen:
#   channels that the convolution reads: 32 groups 128, 8 groups 32
#
# Why it hurts: int8 gains least where nets for small devices spend their time, and nothing says so
# but the engine's layers.
#
# Source: the verbose log of the builder, compute capability 8.6, which needs no GPU.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile \
  numpy==2.4.6 onnx==1.23.2 tensorrt-rtx-cu12==1.7.1.116

venv/bin/python - <<'PYTHON'
import re
import sys

import numpy as np
import tensorrt_rtx as trt
from onnx import TensorProto, helper, numpy_helper

CHANNELS = 32


def file_of(groups):
    weights = np.ones((CHANNELS, CHANNELS // groups, 3, 3), np.int8)
    constants = {
        "scale": np.float32(0.125),
        "zero": np.int8(0),
        "weights": weights,
        "scales": np.full(CHANNELS, 0.01, np.float32),
        "zeros": np.zeros(CHANNELS, np.int8),
    }
    codes = ["scale", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *codes], ["q"]),
        helper.make_node("DequantizeLinear", ["q", *codes], ["dq"]),
        helper.make_node("DequantizeLinear", ["weights", "scales", "zeros"], ["w"], axis=0),
        helper.make_node("Conv", ["dq", "w"], ["y"], "conv", group=groups),
    ]
    graph = helper.make_graph(
        nodes,
        "depthwise",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()],
    )
    opset = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opset, ir_version=7).SerializeToString()


class Log(trt.ILogger):
    def __init__(self):
        super().__init__()
        self.lines = []

    def log(self, severity, message):
        self.lines += message.splitlines()


def channels_read(groups):
    logger = Log()
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(file_of(groups))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    assert builder.build_serialized_network(network, config) is not None
    line = next(line for line in logger.lines if "LayerType: correlation" in line)
    return int(re.search(r"Inputs: \[.*?Dimensions: \[1,(\d+),", line)[1])


found = {groups: channels_read(groups) for groups in (32, 8)}
print(f"channels that the convolution reads: 32 groups {found[32]}, 8 groups {found[8]}")
sys.exit(found != {32: 128, 8: 32})
PYTHON

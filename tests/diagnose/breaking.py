"""Files in which one number was made wrong on purpose."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import numpy_helper

from keras_quant.emit.tflite.flatbuffer import AlignedBuffer


def tflite_scale(content: bytes, name: str, *, divisor: float) -> bytes:
    """A .tflite file in which the scale of the tensors of a name is so many times too small."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    named = [t for t in model.subgraphs[0].tensors if t.name.decode() == name]
    assert named, [t.name for t in model.subgraphs[0].tensors]
    for tensor in named:
        tensor.quantization.scale = [float(x) / divisor for x in tensor.quantization.scale]
    return _packed(model)


def _packed(model: Any) -> bytes:
    model.buffers = [
        buffer if buffer.data is None else AlignedBuffer(data=bytes(bytearray(buffer.data)))
        for buffer in model.buffers
    ]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def onnx_constant(content: bytes, name: str, *, divisor: float) -> bytes:
    """An .onnx file in which a constant is so many times too small."""
    model = onnx.load_model_from_string(content)
    (stored,) = (one for one in model.graph.initializer if one.name == name)
    values = (numpy_helper.to_array(stored) / divisor).astype(np.float32)
    stored.CopyFrom(numpy_helper.from_array(values, name))
    return model.SerializeToString()


def onnx_grid(content: bytes, tensor: str, *, divisor: float) -> bytes:
    """An .onnx file whose Q/DQ of a tensor of codes have another scale, so many times too small."""
    model = onnx.load_model_from_string(content)
    for node in model.graph.node:
        is_read = node.op_type == "DequantizeLinear" and node.input[0] == tensor
        is_written = node.op_type == "QuantizeLinear" and node.output[0] == tensor
        if is_read or is_written:
            (stored,) = (one for one in model.graph.initializer if one.name == node.input[1])
            name = f"{node.input[1]}/wrong"
            if all(one.name != name for one in model.graph.initializer):
                values = (numpy_helper.to_array(stored) / divisor).astype(np.float32)
                model.graph.initializer.append(numpy_helper.from_array(values, name))
            node.input[1] = name
    return model.SerializeToString()

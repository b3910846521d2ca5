"""A file of floats with types of fp16, for a trtexec that takes types from the file alone."""

from __future__ import annotations

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16


def half_typed(content: bytes) -> bytes:
    """Makes the tensors of an .onnx file float16; its inputs and outputs stay float32.

    Args:
        content: of a file of float32, without Q/DQ.
    """
    model = convert_float_to_float16(
        onnx.load_model_from_string(content),
        keep_io_types=True,
        # What it leaves in float32 otherwise, for runtimes that lack kernels: TensorRT has them.
        op_block_list=[],
        disable_shape_infer=False,
    )
    found: bytes = model.SerializeToString()
    return found

"""Writes TFLite flatbuffers with the schema classes that ship in ai-edge-litert.

Knows the file format and nothing of quantization schemes. Format:
https://github.com/google-ai-edge/LiteRT/blob/main/tflite/converter/schema/schema.fbs
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

FILE_IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
BUFFER_ALIGNMENT = 16  # schema.fbs: Buffer.data has force_align: 16
UNKNOWN_BATCH = -1
SIGNATURE = "serving_default"

INT4 = "int4"
"""Stands for the one element type that numpy lacks."""

_TENSOR_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "int8": schema.TensorType.INT8,
    INT4: schema.TensorType.INT4,
}


class _AlignedBuffer(schema.BufferT):
    """A buffer whose bytes start at a multiple of 16, which BufferT does not see to."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 - the schema's name
        builder.StartVector(1, len(self.data), BUFFER_ALIGNMENT)
        head = builder.Head() - len(self.data)
        builder.head = head
        builder.Bytes[head : head + len(self.data)] = self.data
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


class TFLiteFile:
    """A model of one subgraph that grows tensor by tensor and operator by operator."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tensors: list[schema.TensorT] = []
        self._operators: list[schema.OperatorT] = []
        self._operator_codes: dict[tuple[int, int], int] = {}
        self._buffers: list[schema.BufferT] = [schema.BufferT()]  # buffer 0 means "no data"
        self._buffer_of: dict[bytes, int] = {}

    def activation(
        self,
        name: str,
        shape: Sequence[int],
        *,
        scale: float | None = None,
        zero_point: int = 0,
        batched: bool = True,
        element_type: str | None = None,
    ) -> int:
        """Adds a tensor that is computed or given at run time.

        Args:
            shape: without the batch axis.
            scale: of an int8 tensor, stored as float32; None makes a float32 tensor, or one of
                element_type where that is given.
            batched: whether there is a batch axis, in front and of any length.
        Returns: the tensor's index.
        """
        tensor = schema.TensorT(
            name=name,
            shape=[1, *shape] if batched else list(shape),
            shapeSignature=[UNKNOWN_BATCH, *shape] if batched else None,
            type=_TENSOR_TYPES[element_type or ("float32" if scale is None else "int8")],
            hasRank=True,
        )
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT(
                scale=[float(np.float32(scale))], zeroPoint=[zero_point]
            )
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def constant(
        self,
        name: str,
        values: np.ndarray,
        *,
        scale: np.ndarray | None = None,
        axis: int = 0,
        element_type: str | None = None,
    ) -> int:
        """Adds a constant tensor; equal bytes are stored once.

        Args:
            values: float32, int32 or int8 of any shape; with element_type INT4 int8 codes
                in [-8, 7], stored two in a byte, low nibble first.
            scale: float32 (channels,) along axis, or (1,) for the whole tensor; zero points
                are 0.
        Returns: the tensor's index.
        """
        element_type = element_type or values.dtype.name
        data = _pack_int4(values) if element_type == INT4 else values.tobytes()
        tensor = schema.TensorT(
            name=name,
            shape=list(values.shape),
            type=_TENSOR_TYPES[element_type],
            buffer=self._buffer(data),
            hasRank=True,
        )
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT(
                scale=np.asarray(scale, np.float32).tolist(),
                zeroPoint=[0] * len(scale),
                quantizedDimension=axis,
            )
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def operator(
        self,
        op: str,
        inputs: Sequence[int],
        output: int,
        *,
        options: Any = None,
        version: int = 1,
    ) -> None:
        """Adds an operator.

        Args:
            op: a name of schema.BuiltinOperator.
            inputs: indices of tensors, in the operator's order.
            options: the operator's own options object, schema.Conv2DOptionsT() say.
            version: lowest operator version that knows these types and options
                (tflite/tools/versioning/op_version.cc).
        """
        code = getattr(schema.BuiltinOperator, op)
        operator = schema.OperatorT(
            opcodeIndex=self._operator_codes.setdefault((code, version), len(self._operator_codes)),
            inputs=list(inputs),
            outputs=[output],
        )
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = options
        self._operators.append(operator)

    def pack(self, inputs: dict[str, int], outputs: dict[str, int]) -> bytes:
        """Gives the file's bytes.

        Args:
            inputs, outputs: the signature's names and the tensors they stand for.
        """
        model = schema.ModelT(
            version=SCHEMA_VERSION,
            description="keras_quant",
            operatorCodes=[_operator_code(code, version) for code, version in self._operator_codes],
            subgraphs=[
                schema.SubGraphT(
                    name=self._name,
                    tensors=self._tensors,
                    operators=self._operators,
                    inputs=list(inputs.values()),
                    outputs=list(outputs.values()),
                )
            ],
            buffers=self._buffers,
            signatureDefs=[
                schema.SignatureDefT(
                    signatureKey=SIGNATURE,
                    inputs=[schema.TensorMapT(*item) for item in inputs.items()],
                    outputs=[schema.TensorMapT(*item) for item in outputs.items()],
                )
            ],
        )
        size = sum(len(buffer.data or b"") for buffer in self._buffers)
        builder = flatbuffers.Builder(2 * size + 4096)
        builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _buffer(self, data: bytes) -> int:
        if data not in self._buffer_of:
            self._buffers.append(_AlignedBuffer(data=data))
            self._buffer_of[data] = len(self._buffers) - 1
        return self._buffer_of[data]


def _operator_code(code: int, version: int) -> schema.OperatorCodeT:
    # Readers older than schema 3a look at the deprecated byte, whose 127 means "see the other".
    return schema.OperatorCodeT(
        builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=version
    )


def _pack_int4(codes: np.ndarray) -> bytes:
    nibbles = np.append(codes.ravel(), np.zeros(codes.size % 2, codes.dtype)).astype(np.uint8) & 15
    return (nibbles[0::2] | nibbles[1::2] << 4).tobytes()

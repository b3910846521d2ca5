"""Writes TFLite flatbuffers with the schema classes that ship in ai-edge-litert.

Knows the file format and nothing of quantization schemes. Format:
https://github.com/google-ai-edge/LiteRT/blob/main/tflite/converter/schema/schema.fbs
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_quant.emit.tflite.flatbuffer import AlignedBuffer, Shared, SharingBuilder
from keras_quant.emit.tflite.packing import BITS, INT2, INT4, pack_codes

FILE_IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
UNKNOWN_BATCH = -1
SIGNATURE = "serving_default"

_TENSOR_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    INT4: schema.TensorType.INT4,
    INT2: schema.TensorType.INT2,
}


class TFLiteFile:
    """A model of one subgraph that grows tensor by tensor and operator by operator."""

    def __init__(self, name: str, *, batch: int | None = None) -> None:
        """Begins a file.

        Args:
            batch: length of the batch axis; None means any.
        """
        self._name = name
        self._batch = batch
        self._tensors: list[schema.TensorT] = []
        self._operators: list[schema.OperatorT] = []
        self._operator_codes: dict[tuple[int, int], int] = {}
        self._buffers: list[schema.BufferT] = [schema.BufferT()]  # buffer 0 means "no data"
        self._buffer_of: dict[bytes, int] = {}
        self._sliced: set[int] = set()
        self._constants: dict[tuple[object, ...], int] = {}

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
            scale: of a tensor of codes, stored as float32.
            batched: whether there is a batch axis, in front.
            element_type: None means int8 with a scale, and float32 without one.
        Returns: the tensor's index.
        """
        tensor = schema.TensorT(
            name=name,
            shape=[self._batch or 1, *shape] if batched else list(shape),
            shapeSignature=[UNKNOWN_BATCH, *shape] if batched and not self._batch else None,
            type=_TENSOR_TYPES[element_type or ("float32" if scale is None else "int8")],
            hasRank=True,
        )
        if scale is not None:
            parameters = schema.QuantizationParametersT(
                scale=[float(np.float32(scale))], zeroPoint=[zero_point]
            )
            tensor.quantization = Shared(parameters)
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
        """Adds a constant tensor, or finds it; equal bytes are stored once.

        Args:
            values: float32, int32 or int8 of any shape; with an element type of
                `emit.tflite.packing` int8 codes that fit it.
            scale: float32 (channels,) along axis, or (1,) for the whole tensor; zero points
                are 0.
        Returns: the tensor's index.
        """
        element_type = element_type or values.dtype.name
        bits = BITS.get(element_type)
        data = values.tobytes() if bits is None else pack_codes(values, bits)
        scales = [] if scale is None else np.asarray(scale, np.float32).tolist()
        key = name, values.shape, element_type, data, axis, tuple(scales)
        if key in self._constants:
            return self._constants[key]
        tensor = schema.TensorT(
            name=name,
            shape=list(values.shape),
            type=_TENSOR_TYPES[element_type],
            buffer=self._buffer(data),
            hasRank=True,
        )
        if scales:
            tensor.quantization = schema.QuantizationParametersT(
                scale=scales, zeroPoint=[0] * len(scales), quantizedDimension=axis
            )
        self._tensors.append(tensor)
        self._constants[key] = len(self._tensors) - 1
        return self._constants[key]

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
        if op == "SLICE":  # the one kernel that reads a free batch from its tensors
            self._sliced |= {*inputs, output}
        code = getattr(schema.BuiltinOperator, op)
        operator = schema.OperatorT(
            opcodeIndex=self._operator_codes.setdefault((code, version), len(self._operator_codes)),
            inputs=list(inputs),
            outputs=[output],
        )
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = Shared(options)
        self._operators.append(operator)

    def pack(
        self,
        inputs: dict[str, int],
        outputs: dict[str, int],
        *,
        metadata: Mapping[str, bytes] | None = None,
    ) -> bytes:
        """Gives the file's bytes.

        Args:
            inputs, outputs: the signature's names and the tensors they stand for.
            metadata: what the file says of itself, by name, see `metadata.metadata_entries`.
        """
        described = {*inputs.values(), *outputs.values(), *self._sliced}
        for index in set(range(len(self._tensors))) - described:
            self._tensors[index].shapeSignature = None  # runtimes follow the batch from the ends
        entries = [
            schema.MetadataT(name=name, buffer=self._buffer(content))
            for name, content in (metadata or {}).items()
        ]
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
            metadata=entries,
            signatureDefs=[
                schema.SignatureDefT(
                    signatureKey=SIGNATURE,
                    inputs=[schema.TensorMapT(*item) for item in inputs.items()],
                    outputs=[schema.TensorMapT(*item) for item in outputs.items()],
                )
            ],
        )
        size = sum(len(buffer.data or b"") for buffer in self._buffers)
        builder = SharingBuilder(2 * size + 4096)
        builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _buffer(self, data: bytes) -> int:
        if data not in self._buffer_of:
            self._buffers.append(AlignedBuffer(data=data))
            self._buffer_of[data] = len(self._buffers) - 1
        return self._buffer_of[data]


def _operator_code(code: int, version: int) -> schema.OperatorCodeT:
    # Readers older than schema 3a look at the deprecated byte, whose 127 means "see the other".
    return schema.OperatorCodeT(
        builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=version
    )

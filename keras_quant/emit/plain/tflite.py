"""Plain kinds of .tflite files: DEQUANTIZE of float16, hybrid kernels, and 16x8 kernels.

| kind | layers with weights | which of them stay in float |
|---|---|---|
| fp16 | float16 weights and biases, computed in float32 | none |
| dynamic | int8 weights, float inputs (CONV_2D 5, FULLY_CONNECTED 9) | depthwise ones, which LiteRT
leaves to a slow builtin kernel; transposed and grouped ones, which have no such kernel |
| w8a16 | int8 weights, int16 inputs and outputs, int64 biases | transposed ones |

All others compute in float, with QUANTIZE and DEQUANTIZE between them and int16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_quant.emit.plain.kinds import (
    DYNAMIC,
    FP16,
    W8A16,
    PlainFile,
    fits_half,
    int8_channels,
)
from keras_quant.emit.tflite.flatbuffer import AlignedBuffer

_IDENTIFIER = b"TFL3"
_OPS = schema.BuiltinOperator
_TYPES = schema.TensorType
# By operator: where its kernel stands among its inputs, and the kernel's axis of channels.
_KERNELS = {
    _OPS.CONV_2D: (1, 0),
    _OPS.DEPTHWISE_CONV_2D: (1, 3),
    _OPS.FULLY_CONNECTED: (1, 0),
    _OPS.TRANSPOSE_CONV: (1, 0),
}
# The lowest versions that know these types (op_version.cc of TFLite).
_HYBRID = {_OPS.CONV_2D: 5, _OPS.FULLY_CONNECTED: 9}
_INT16 = {_OPS.CONV_2D: 4, _OPS.DEPTHWISE_CONV_2D: 5, _OPS.FULLY_CONNECTED: 7}
_WHY = {
    DYNAMIC: {
        _OPS.DEPTHWISE_CONV_2D: "LiteRT computes it on a slow builtin kernel with int8 weights",
        _OPS.TRANSPOSE_CONV: "TFLite has no kernel of int8 weights and float inputs for it",
    },
    W8A16: {_OPS.TRANSPOSE_CONV: "it is not written in int16"},
}
_LARGEST_INT16 = 32767


def make_plain(
    content: bytes, kind: str, *, ranges: Mapping[str, float] | None = None
) -> PlainFile:
    """Writes a float .tflite file of ours anew, in a plain kind.

    Args:
        kind: of `kinds.KINDS`.
        ranges: for W8A16: by tensor's name, the largest distance of its values from 0.
    """
    file = _File(content)
    if kind == FP16:
        file.halve()
    elif kind == DYNAMIC:
        file.make_hybrid()
    else:
        file.make_int16(ranges or {})
    return PlainFile(content=file.pack(), changed=tuple(file.changed), kept=file.kept)


class _File:
    """A parsed file that is changed operator by operator."""

    def __init__(self, content: bytes) -> None:
        self._size = len(content)
        self._model = schema.ModelT.InitFromPackedBuf(content, 0)
        self._graph = self._model.subgraphs[0]
        self.changed: list[str] = []
        self.kept: dict[str, str] = {}

    def halve(self) -> None:
        """Weights and biases become float16, behind a DEQUANTIZE, which is computed once."""
        unpacked: dict[int, int] = {}
        front = []
        for operator in self._graph.operators:
            if self._op(operator) not in _KERNELS:
                continue
            place, _ = _KERNELS[self._op(operator)]
            for at in (place, *range(place + 1, len(operator.inputs))):
                index = int(operator.inputs[at])
                values = self._constant(index)
                if values is None or (at != place and values.ndim != 1):
                    continue
                if not fits_half(values):
                    self.kept[self._name(operator)] = "its weights are beyond float16's range"
                    continue
                if index not in unpacked:
                    half = self._add(f"{self._tensor_name(index)}/half", values.astype(np.float16))
                    unpacked[index] = self._add_float(index)
                    front.append(self._operator(_OPS.DEQUANTIZE, 2, [half], [unpacked[index]]))
                self._read(operator, at, unpacked[index])
                if at == place:
                    self.changed.append(self._name(operator))
        self._graph.operators = [*front, *self._graph.operators]

    def make_hybrid(self) -> None:
        """Kernels become int8; the runtime quantizes each image's inputs as they come."""
        for operator in self._graph.operators:
            found = self._kernel(operator, DYNAMIC)
            if found is None:
                continue
            place, codes, scales = found
            self._read(operator, place, self._add(self._weight_name(operator), codes, scales))
            if self._op(operator) == _OPS.FULLY_CONNECTED:
                operator.builtinOptions.asymmetricQuantizeInputs = True
            operator.opcodeIndex = self._code(self._op(operator), _HYBRID[self._op(operator)])
            self.changed.append(self._name(operator))

    def make_int16(self, ranges: Mapping[str, float]) -> None:
        """Kernels become int8, what they read and give int16."""
        operators: list[Any] = []
        twins: dict[int, int] = {}
        made: dict[int, int] = {}
        for operator in self._graph.operators:
            source, target = int(operator.inputs[0]), int(operator.outputs[0])
            names = [self._tensor_name(index) for index in (source, target)]
            is_linear = self._op(operator) in _KERNELS
            if is_linear and not all(ranges.get(name) for name in names):
                self.kept[self._name(operator)] = "its range is not known, or it is 0"
            found = None
            if self._name(operator) not in self.kept:
                found = self._kernel(operator, W8A16)
            if found is None:
                for index in {int(i) for i in operator.inputs} & set(made):
                    operators.append(self._operator(_OPS.DEQUANTIZE, 3, [made.pop(index)], [index]))
                operators.append(operator)
                continue
            if source not in twins:
                twins[source] = self._add_int16(source, ranges[names[0]])
                operators.append(self._operator(_OPS.QUANTIZE, 2, [source], [twins[source]]))
            twins[target] = made[target] = self._add_int16(target, ranges[names[1]])
            self._write_int16(operator, found, twins[source], twins[target])
            operators.append(operator)
            self.changed.append(names[1])
        for index in {int(i) for i in self._graph.outputs} & set(made):
            operators.append(self._operator(_OPS.DEQUANTIZE, 3, [made[index]], [index]))
        self._graph.operators = operators

    def pack(self) -> bytes:
        """Gives the file's bytes, without the buffers that nothing points to any more."""
        graph, model = self._graph, self._model
        read = {int(i) for one in graph.operators for i in (*one.inputs, *one.outputs)}
        read |= {int(i) for i in (*graph.inputs, *graph.outputs)}
        used = {graph.tensors[index].buffer for index in read if index >= 0}
        used |= {entry.buffer for entry in model.metadata or ()}
        for index, buffer in enumerate(model.buffers):
            has_data = buffer.data is not None and len(buffer.data) and index in used
            model.buffers[index] = (
                AlignedBuffer(data=bytes(bytearray(buffer.data))) if has_data else schema.BufferT()
            )
        builder = flatbuffers.Builder(self._size + 4096)
        builder.Finish(model.Pack(builder), _IDENTIFIER)
        return bytes(builder.Output())

    def _kernel(self, operator: Any, kind: str) -> tuple[int, np.ndarray, np.ndarray] | None:
        """Where a kernel stands, its codes and scales; None for what stays as it is."""
        op = self._op(operator)
        if op not in _KERNELS:
            return None
        if op in _WHY[kind]:
            self.kept[self._name(operator)] = _WHY[kind][op]
            return None
        place, axis = _KERNELS[op]
        values = self._constant(int(operator.inputs[place]))
        if values is None:
            self.kept[self._name(operator)] = "its kernel is no constant of floats"
            return None
        channels = self._graph.tensors[int(operator.inputs[0])].shape[-1]
        if op == _OPS.CONV_2D and values.shape[-1] != channels and kind == DYNAMIC:
            self.kept[self._name(operator)] = "its channels are in groups"
            return None
        return place, *int8_channels(values, axis)

    def _write_int16(
        self, operator: Any, found: tuple[int, np.ndarray, np.ndarray], source: int, target: int
    ) -> None:
        op = self._op(operator)
        place, codes, scales = found
        axis = _KERNELS[op][1]
        bias = self._constant(int(operator.inputs[2])) if len(operator.inputs) > 2 else None
        unit = np.float32(self._graph.tensors[source].quantization.scale[0]) * scales
        if bias is None:
            bias = np.zeros(len(scales), np.float32)
        stored = np.rint(bias.astype(np.float64) / unit.astype(np.float64)).astype(np.int64)
        weight = self._add(self._weight_name(operator), codes, scales, axis=axis)
        biases = self._add(f"{self._name(operator)}/bias/codes", stored, unit)
        operator.inputs = [source, weight, biases]
        operator.outputs = [target]
        operator.opcodeIndex = self._code(op, _INT16[op])

    def _op(self, operator: Any) -> int:
        code = self._model.operatorCodes[operator.opcodeIndex]
        return int(max(code.builtinCode, code.deprecatedBuiltinCode))

    def _name(self, operator: Any) -> str:
        return self._tensor_name(int(operator.outputs[0]))

    def _weight_name(self, operator: Any) -> str:
        return f"{self._name(operator)}/weight/codes"

    def _tensor_name(self, index: int) -> str:
        return bytes(self._graph.tensors[index].name).decode()

    def _read(self, operator: Any, place: int, index: int) -> None:
        inputs = [int(one) for one in operator.inputs]
        inputs[place] = index
        operator.inputs = inputs

    def _constant(self, index: int) -> np.ndarray | None:
        """The floats of a constant; None for anything else."""
        if index < 0:
            return None
        tensor = self._graph.tensors[index]
        data = self._model.buffers[tensor.buffer].data
        if tensor.type != _TYPES.FLOAT32 or data is None or not len(data):
            return None
        values: np.ndarray = np.frombuffer(bytes(bytearray(data)), np.float32)
        return values.reshape([int(n) for n in tensor.shape])

    def _add(
        self, name: str, values: np.ndarray, scales: np.ndarray | None = None, *, axis: int = 0
    ) -> int:
        kinds = {
            "float16": _TYPES.FLOAT16,
            "int8": _TYPES.INT8,
            "int64": _TYPES.INT64,
        }
        self._model.buffers.append(schema.BufferT(data=np.frombuffer(values.tobytes(), np.uint8)))
        tensor = schema.TensorT(
            name=name.encode(),
            shape=list(values.shape),
            type=kinds[values.dtype.name],
            buffer=len(self._model.buffers) - 1,
            hasRank=True,
        )
        if scales is not None:
            tensor.quantization = schema.QuantizationParametersT(
                scale=scales.tolist(), zeroPoint=[0] * len(scales), quantizedDimension=axis
            )
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _add_float(self, index: int) -> int:
        like = self._graph.tensors[index]
        tensor = schema.TensorT(
            name=f"{self._tensor_name(index)}/unpacked".encode(),
            shape=[int(n) for n in like.shape],
            type=_TYPES.FLOAT32,
            hasRank=True,
        )
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _add_int16(self, index: int, largest: float) -> int:
        like = self._graph.tensors[index]
        scale = float(np.float32(largest / _LARGEST_INT16))
        tensor = schema.TensorT(
            name=f"{self._tensor_name(index)}/int16".encode(),
            shape=[int(n) for n in like.shape],
            shapeSignature=like.shapeSignature,
            type=_TYPES.INT16,
            hasRank=True,
            quantization=schema.QuantizationParametersT(scale=[scale], zeroPoint=[0]),
        )
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _operator(self, op: int, version: int, inputs: list[int], outputs: list[int]) -> Any:
        index = self._code(op, version)
        return schema.OperatorT(opcodeIndex=index, inputs=inputs, outputs=outputs)

    def _code(self, op: int, version: int) -> int:
        """Where an operator of a version stands in the file's list, which it joins."""
        codes = self._model.operatorCodes
        for index, code in enumerate(codes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == op and code.version == version:
                return index
        codes.append(
            schema.OperatorCodeT(
                builtinCode=op, deprecatedBuiltinCode=min(op, 127), version=version
            )
        )
        return len(codes) - 1

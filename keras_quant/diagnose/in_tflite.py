"""A .tflite file: its operators, and a runner that gives what each of them computes.

Both run in a child process, see `runners.child`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from keras_quant.diagnose.contents import (
    CONVERSION,
    FLOAT,
    HYBRID,
    INTEGER,
    FileContents,
    KernelContents,
    OperatorContents,
    TensorContents,
    a_row_an_image,
)
from keras_quant.diagnose.kernels import describe_kernel
from keras_quant.emit.tflite.flatbuffer import AlignedBuffer
from keras_quant.quiet import native_logs_hidden
from keras_quant.runners.litert import LiteRTRunner, builtin_operators

_IDENTIFIER = b"TFL3"
_KIND = schema.TensorType
_DTYPES = {
    _KIND.FLOAT32: "float32",
    _KIND.FLOAT16: "float16",
    _KIND.INT8: "int8",
    _KIND.UINT8: "uint8",
    _KIND.INT16: "int16",
    _KIND.INT32: "int32",
    _KIND.INT64: "int64",
    _KIND.INT4: "int4",
    _KIND.INT2: "int2",
    _KIND.BOOL: "bool",
}
_BOUNDS = {
    "int2": (-2, 1),
    "int4": (-8, 7),
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
}
_FLOATS = ("float32", "float16")
_GIVEN = ("float32", "int8", "uint8", "int16")
# Along which axis of a kernel the channels lie that an operator puts out, see schema.fbs.
_KERNEL_AXES = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0}
_OP_NAMES = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)
}
_MOVES = ("RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS")
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
_ACTIVATIONS = schema.ActivationFunctionType


def describe(file: Path) -> FileContents:
    """Lists a file's operators with what computes them.

    Raises:
        ModelError: LiteRT does not take the file, or it has parts that branch or loop.
    """
    content = file.read_bytes()
    with native_logs_hidden():
        LiteRTRunner(file)  # one that is no file of its is refused here
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
    builtin = builtin_operators(interpreter)
    return _Reader(_parsed(content), builtin).contents()


class TFLiteTensors(LiteRTRunner):
    """Runs a file that gives what each operator computes, by the keys of `describe`."""

    def __init__(self, file: Path) -> None:
        """Loads a file.

        Raises:
            ModelError: LiteRT does not take it.
        """
        super().__init__(_with_outputs(file.read_bytes()))
        self._where = str(file)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Computes a batch, see Runner; leaves out what is not one row an image."""
        return a_row_an_image(super().run(inputs), inputs)


def _key(index: int) -> str:
    return f"t{index}"


def _parsed(content: bytes) -> Any:
    return schema.ModelT.InitFromPackedBuf(content, 0)


def _with_outputs(content: bytes) -> bytes:
    """The same file with the result of each operator among its outputs, named by its key."""
    model = _parsed(content)
    graph = model.subgraphs[0]
    computed = [index for operator in graph.operators for index in operator.outputs]
    given = [i for i in computed if _DTYPES.get(graph.tensors[i].type) in _GIVEN]
    for index in given:
        graph.tensors[index].name = _key(index)
    graph.outputs = list(dict.fromkeys(int(index) for index in given))
    model.signatureDefs = []
    model.buffers = [_aligned(buffer) for buffer in model.buffers]
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def _aligned(buffer: Any) -> Any:
    has_data = buffer.data is not None and len(buffer.data)
    return AlignedBuffer(data=bytes(bytearray(buffer.data))) if has_data else buffer


class _Reader:
    """The first graph of a parsed file."""

    def __init__(self, model: Any, builtin: set[int]) -> None:
        self._model, self._graph, self._builtin = model, model.subgraphs[0], builtin
        # What is made of constants alone, as float kernels are of float16, is a constant too.
        self._source: dict[int, int] = {}
        self._constants = {
            index for index, tensor in enumerate(self._graph.tensors) if self._data(tensor).size
        }
        for operator in self._graph.operators:
            read = [int(index) for index in operator.inputs if index >= 0]
            if read and all(index in self._constants for index in read):
                self._constants.update(int(index) for index in operator.outputs)
                self._source.update((int(index), read[0]) for index in operator.outputs)

    def contents(self) -> FileContents:
        operators = tuple(self._operators())
        computed = {key for one in operators for key in (*one.inputs, one.output)}
        inputs = tuple(_key(int(index)) for index in self._graph.inputs)
        keys = sorted({*computed, *inputs}, key=lambda key: int(key[1:]))
        notes = []
        if len(self._model.subgraphs) > 1:
            notes.append(
                f"the file has {len(self._model.subgraphs)} graphs; the first alone is looked at"
            )
        return FileContents(
            runtime=f"LiteRT {version('ai-edge-litert')}",
            channels_first=False,
            tensors={key: self._tensor(int(key[1:])) for key in keys},
            operators=operators,
            inputs=inputs,
            outputs=tuple(_key(int(index)) for index in self._graph.outputs),
            notes=tuple(notes),
        )

    def _operators(self) -> Iterator[OperatorContents]:
        for place, operator in enumerate(self._graph.operators):
            read = [int(index) for index in operator.inputs if index >= 0]
            if not read or all(index in self._constants for index in read):
                continue
            op = self._op(operator)
            kernel = self._kernel(op, read)
            activations = [index for index in read if index not in self._constants]
            for output in operator.outputs:
                yield OperatorContents(
                    op=op,
                    computes=self._computes(op, activations, kernel),
                    library="builtin" if place in self._builtin else "XNNPACK",
                    inputs=tuple(map(_key, activations)),
                    output=_key(int(output)),
                    kernel=kernel,
                    moves=op in _MOVES,
                )

    def _op(self, operator: Any) -> str:
        code = self._model.operatorCodes[operator.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        name: str = _OP_NAMES.get(number, str(number))
        if name == "CUSTOM" and code.customCode:
            return f"CUSTOM {bytes(code.customCode).decode(errors='replace')}"
        return name

    def _computes(self, op: str, activations: list[int], kernel: KernelContents | None) -> str:
        if op in _CONVERSIONS:
            return CONVERSION
        kinds = {_DTYPES.get(self._graph.tensors[index].type) for index in activations}
        if not kinds & set(_FLOATS):
            return INTEGER
        return HYBRID if kernel is not None and kernel.scales else FLOAT

    def _kernel(self, op: str, read: list[int]) -> KernelContents | None:
        if op not in _KERNEL_AXES or len(read) < 2 or read[1] not in self._constants:
            return None
        index = read[1]
        tensor = self._graph.tensors[self._source.get(index, index)]
        dtype = _DTYPES.get(tensor.type, "?")
        values = self._values(tensor, dtype)
        if values is None or values.ndim < 2:
            return None
        axis = _KERNEL_AXES[op]
        if index in self._source or dtype in _FLOATS:
            values = values.astype(np.float64)
            scale, zero = _grid(tensor)
            if dtype not in _FLOATS and scale is not None:
                shape = [-1 if place == axis else 1 for place in range(values.ndim)]
                values = values * (scale.reshape(shape) if scale.size > 1 else scale)
            return describe_kernel(values, axis=axis, dtype=dtype)
        scale, zero = _grid(tensor)
        if scale is None or dtype not in _BOUNDS:
            return describe_kernel(values, axis=axis, dtype=dtype)
        return describe_kernel(
            values, axis=axis, dtype=dtype, scales=scale, zero_points=zero, bounds=_BOUNDS[dtype]
        )

    def _tensor(self, index: int) -> TensorContents:
        tensor = self._graph.tensors[index]
        dtype = _DTYPES.get(tensor.type, "?")
        name = bytes(tensor.name or b"").decode(errors="replace")
        scale, zero = _grid(tensor)
        if dtype not in _BOUNDS or scale is None or not scale.size:
            return TensorContents(name=name, dtype=dtype)
        low, high = _BOUNDS[dtype]
        step = float(scale[0])
        step = step if np.isfinite(step) and step > 0 else 0.0
        zero_point = int(zero[0]) if zero is not None and zero.size else 0
        low, high, is_bounded = self._bounds(index, low, high, step, zero_point)
        return TensorContents(
            name=name,
            dtype=dtype,
            scale=step,
            zero_point=zero_point,
            low=low,
            high=high,
            is_bounded=is_bounded,
        )

    def _bounds(
        self, index: int, low: int, high: int, step: float, zero_point: int
    ) -> tuple[int, int, bool]:
        """The codes that the operator in front gives, where a function is fused with it."""
        operator = next((one for one in self._graph.operators if index in one.outputs), None)
        options = None if operator is None else operator.builtinOptions
        function = getattr(options, "fusedActivationFunction", _ACTIVATIONS.NONE)
        ends = {
            _ACTIVATIONS.RELU: (0.0, None),
            _ACTIVATIONS.RELU6: (0.0, 6.0),
            _ACTIVATIONS.RELU_N1_TO_1: (-1.0, 1.0),
        }
        if function not in ends or not step:
            return low, high, False
        least, most = ends[function]
        low = max(low, zero_point + round(least / step))
        if most is None or zero_point + most / step > high + 1:
            return low, high, False
        return low, min(high, zero_point + round(most / step)), True

    def _data(self, tensor: Any) -> np.ndarray:
        buffer = self._model.buffers[tensor.buffer]
        return np.empty(0, np.uint8) if buffer.data is None else np.asarray(buffer.data, np.uint8)

    def _values(self, tensor: Any, dtype: str) -> np.ndarray | None:
        """A constant's numbers; None where they cannot be read."""
        data, shape = self._data(tensor), [int(n) for n in tensor.shape]
        bits = {"int4": 4, "int2": 2}.get(dtype)
        if bits:
            parts = 8 // bits
            codes = (data[:, None] >> (bits * np.arange(parts, dtype=np.uint8))) & (2**bits - 1)
            signed = codes.reshape(-1)[: int(np.prod(shape))].astype(np.int8)
            wide = np.where(signed >= 2 ** (bits - 1), signed - 2**bits, signed)
            return np.asarray(wide.reshape(shape))
        values: np.ndarray = np.frombuffer(data.tobytes(), dtype)
        return values.reshape(shape) if values.size == int(np.prod(shape)) else None


def _grid(tensor: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Scales and zero points of a tensor; None for none."""
    given = tensor.quantization
    if given is None or given.scale is None or not len(given.scale):
        return None, None
    zero = given.zeroPoint
    return (
        np.asarray(given.scale, np.float64),
        None if zero is None or not len(zero) else np.asarray(zero, np.int64),
    )

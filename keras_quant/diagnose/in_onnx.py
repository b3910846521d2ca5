"""An .onnx file: the operators that ONNX Runtime makes of it, and a runner that gives their values.

What is looked at is the graph that ONNX Runtime runs: with Q/DQ fused to integer kernels where it
can, and without its own layouts. Both run in a child process, see `runners.child`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from keras_quant.diagnose.contents import (
    CONVERSION,
    FLOAT,
    HYBRID,
    INTEGER,
    FileContents,
    KernelContents,
    OperatorContents,
    TensorContents,
)
from keras_quant.diagnose.kernels import describe_kernel
from keras_quant.errors import ModelError
from keras_quant.runners.onnxruntime import OnnxRuntimeRunner, checked_options

_PROVIDER = "CPUExecutionProvider"
_BOUNDS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535)}
_FLOATS = ("float32", "float16", "float64")
_GIVEN = (*_FLOATS, *_BOUNDS)
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast")
_SUMS = ("ConvInteger", "MatMulInteger")
_HYBRID = ("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits")
_MOVES = {"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity"}
_PASSES = _MOVES | {"MaxPool", "Clip", "Slice", "Pad", "Gather", "DepthToSpace", "SpaceToDepth"}
"""Operators that give codes of the grid that they read."""

_KERNEL_AXES = {"ConvTranspose": 1, "MatMul": -1, "MatMulInteger": -1, "QLinearMatMul": -1}
_KERNELS = {
    *("Conv", "FusedConv", "ConvInteger", "QLinearConv", "Gemm", "FusedGemm", "QGemm", "MatMul"),
    *("FusedMatMul", "MatMulInteger", "QLinearMatMul", "ConvTranspose", "MatMulIntegerToFloat"),
    *("DynamicQuantizeMatMul",),
}


def describe(file: Path) -> FileContents:
    """Lists the operators that ONNX Runtime makes of a file, with what they compute in.

    Raises:
        ModelError: ONNX Runtime does not take the file.
    """
    written, run = _written(file), _optimized(file)
    graph, types = run.graph, _Types(run.graph)
    grids = _Grids(written.graph)
    operators = tuple(_operators(graph, types))
    given = [value.name for value in graph.input if value.name not in types.constants]
    keys = dict.fromkeys((*given, *(key for one in operators for key in (*one.inputs, one.output))))
    return FileContents(
        runtime=f"ONNX Runtime {version('onnxruntime')}",
        channels_first=True,
        tensors={key: grids.contents(key, types.of(key)) for key in keys},
        operators=operators,
        inputs=tuple(given),
        outputs=tuple(value.name for value in graph.output),
    )


class OnnxTensors(OnnxRuntimeRunner):
    """Runs a file that gives what each operator computes, by the keys of `describe`."""

    def __init__(self, file: Path) -> None:
        """Loads a file.

        Raises:
            ModelError: ONNX Runtime does not take it.
        """
        written, run = _written(file), _optimized(file)
        types = _Types(run.graph)
        there = {name for node in written.graph.node for name in node.output}
        known = {value.name for value in written.graph.output}
        for node in run.graph.node:
            for name in node.output:
                if types.is_constant(name) or name not in there - known:
                    continue
                if types.of(name) in _GIVEN:
                    kind = helper.np_dtype_to_tensor_dtype(np.dtype(types.of(name)))
                    written.graph.output.append(helper.make_tensor_value_info(name, kind, None))
        # Weights that lie beside a file are found from its folder alone, so it is written there.
        with tempfile.TemporaryDirectory() as folder:
            onnx.load_external_data_for_model(written, str(file.parent))
            path = Path(folder) / "probe.onnx"
            path.write_bytes(written.SerializeToString())
            super().__init__(path)
        self._where = str(file)
        kept = [name for name in self._outputs if types.of(name) in _GIVEN]
        self._outputs = kept


def _written(file: Path) -> onnx.ModelProto:
    checked_options(file, num_threads=1)
    return onnx.load_model_from_string(file.read_bytes())


def _optimized(file: Path) -> onnx.ModelProto:
    """The graph that ONNX Runtime runs, before it chooses layouts of its own."""
    options = checked_options(file, num_threads=1)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(str(file), options, providers=[_PROVIDER])
        except Exception as error:  # of ONNX Runtime's own classes, which share no base
            raise ModelError(f"{file}: ONNX Runtime does not take it ({error})") from error
        return onnx.load(path)


class _Types:
    """What is known of a graph's tensors: their types, as numpy calls them, and the constants."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.constants = {one.name: one for one in graph.initializer}
        self.maker = {name: node for node in graph.node for name in node.output}
        self._known = {name: _dtype(one.data_type) for name, one in self.constants.items()}
        for value in graph.input:
            self._known.setdefault(value.name, _dtype(value.type.tensor_type.elem_type))
        for node in graph.node:
            for name in node.output:
                self._known[name] = self._made(node)

    def of(self, name: str) -> str:
        """The type of a tensor; "?" where it is not known."""
        return self._known.get(name, "?")

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is made of constants alone."""
        if name in self.constants:
            return True
        node = self.maker.get(name)
        return node is not None and bool(node.input) and all(map(self.is_constant, node.input))

    def _made(self, node: onnx.NodeProto) -> str:
        op, read = node.op_type, [self.of(name) for name in node.input]
        first = read[0] if read else "?"
        if op == "QuantizeLinear":
            kind = next((a.i for a in node.attribute if a.name == "output_dtype"), 0)
            return read[2] if len(read) > 2 else _dtype(kind) if kind else "uint8"
        if op == "DequantizeLinear":
            return read[1]
        if op == "Cast":
            return _dtype(next(a.i for a in node.attribute if a.name == "to"))
        if op in _SUMS:
            return "int32"
        if op == "DynamicQuantizeLinear":
            return "uint8"
        if op == "QGemm":
            return first if len(read) > 7 and node.input[7] else "float32"
        if op in _HYBRID:
            return "float32"
        if op in ("QLinearConcat",):
            return read[1]
        if op in ("Shape", "Size"):
            return "int64"
        return first


def _dtype(kind: int) -> str:
    try:
        return str(np.dtype(helper.tensor_dtype_to_np_dtype(kind)).name)
    except (KeyError, TypeError):
        return "?"


def _operators(graph: onnx.GraphProto, types: _Types) -> Iterator[OperatorContents]:
    for node in graph.node:
        activations = [n for n in node.input if n and not types.is_constant(n)]
        if not activations:
            continue
        kernel = _kernel(node, types)
        for output in filter(None, node.output):
            yield OperatorContents(
                op=node.op_type,
                computes=_computes(node.op_type, types, activations),
                library="ONNX Runtime",
                inputs=tuple(activations),
                output=output,
                kernel=kernel,
                moves=node.op_type in _MOVES,
            )


def _computes(op: str, types: _Types, activations: Iterable[str]) -> str:
    if op in _CONVERSIONS:
        return CONVERSION
    if op in _HYBRID:
        return HYBRID
    # Kernels of codes that ONNX Runtime fuses with nothing are turned into floats before.
    codes = all(types.of(name) not in _FLOATS for name in activations)
    return INTEGER if codes else FLOAT


def _kernel(node: onnx.NodeProto, types: _Types) -> KernelContents | None:
    """The first constant of two axes or more; through a DequantizeLinear, if there is one."""
    if node.op_type not in _KERNELS:
        return None
    for place, name in enumerate(node.input):
        maker = types.maker.get(name)
        dequantized = maker is not None and maker.op_type == "DequantizeLinear"
        source = maker.input[0] if maker is not None and dequantized else name
        stored = types.constants.get(source)
        if stored is None or len(stored.dims) < 2:
            continue
        dtype = _dtype(stored.data_type)
        values = numpy_helper.to_array(stored)
        if maker is not None and dequantized:
            grid = list(maker.input[1:3])
        else:
            grid = list(node.input[place + 1 : place + 3]) if dtype in _BOUNDS else []
        scales, zero = (_constant(types, grid, which) for which in (0, 1))
        axis = _axis(node, values.ndim)
        bounds = _BOUNDS.get(dtype, {"int4": (-8, 7), "uint4": (0, 15)}.get(dtype))
        if scales is None or bounds is None or scales.ndim > 1:
            return describe_kernel(values.astype(np.float32), axis=axis, dtype=dtype)
        return describe_kernel(
            values.astype(np.int64),
            axis=axis,
            dtype=dtype,
            scales=scales,
            zero_points=None if zero is None or zero.dtype.kind == "f" else zero,
            bounds=bounds,
        )
    return None


def _axis(node: onnx.NodeProto, ndim: int) -> int:
    if node.op_type in ("Gemm", "FusedGemm", "QGemm"):
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else ndim - 1
    return _KERNEL_AXES.get(node.op_type, 0) % ndim


def _constant(types: _Types, names: list[str], place: int) -> np.ndarray | None:
    stored = types.constants.get(names[place]) if place < len(names) else None
    return None if stored is None else numpy_helper.to_array(stored)


@dataclass(slots=True, eq=False)
class _Grids:
    """The grids of a graph's tensors of codes, as what reads them understands them.

    Where several operators read a tensor, the grids are equal. Who reads is asked before who wrote:
    a file may round units of codes with a scale of 1.
    """

    graph: onnx.GraphProto
    _found: dict[str, tuple[float, int]] = field(default_factory=dict)
    _ends: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        constants = {one.name: one for one in self.graph.initializer}
        written: dict[str, tuple[float, int]] = {}
        for node in self.graph.node:
            if node.op_type == "QuantizeLinear":
                self._learn(written, node.output[0], node.input[1:3], constants)
            for key, grid in _grids_read(node):
                self._learn(self._found, key, grid, constants)
            for key, grid in _grids_written(node):
                self._learn(written, key, grid, constants)
            if node.op_type == "Clip":
                low, high = (
                    int(numpy_helper.to_array(constants[name]))
                    if name in constants and constants[name].data_type in (2, 3)
                    else None
                    for name in (*node.input[1:3], "", "")[:2]
                )
                if low is not None and high is not None:
                    self._ends[node.output[0]] = (low, high)
        for node in reversed(self.graph.node):  # backwards through what leaves codes as they are
            if node.op_type in _PASSES and node.output[0] in self._found:
                self._found.setdefault(node.input[0], self._found[node.output[0]])
        for key, pair in written.items():
            self._found.setdefault(key, pair)
        for node in self.graph.node:
            if node.op_type in _PASSES and node.input[0] in self._found:
                self._found.setdefault(node.output[0], self._found[node.input[0]])
            if node.op_type in _PASSES and node.input[0] in self._ends:
                self._ends.setdefault(node.output[0], self._ends[node.input[0]])

    def contents(self, key: str, dtype: str) -> TensorContents:
        """What is known of a tensor."""
        if dtype not in _BOUNDS or key not in self._found:
            return TensorContents(name=key, dtype=dtype)
        scale, zero_point = self._found[key]
        low, high = self._ends.get(key, _BOUNDS[dtype])
        return TensorContents(
            name=key, dtype=dtype, scale=scale, zero_point=zero_point, low=low, high=high
        )

    @staticmethod
    def _learn(
        into: dict[str, tuple[float, int]],
        key: str,
        grid: Iterable[str],
        constants: Mapping[str, onnx.TensorProto],
    ) -> None:
        names = list(grid)
        if not names or names[0] not in constants:
            return
        scale = numpy_helper.to_array(constants[names[0]])
        zero = constants.get(names[1]) if len(names) > 1 else None
        if scale.size != 1:
            return
        step = float(scale.reshape(-1)[0])
        step = step if np.isfinite(step) and step > 0 else 0.0
        code = 0 if zero is None else int(numpy_helper.to_array(zero).reshape(-1)[0])
        into.setdefault(key, (step, code))


def _grids_read(node: onnx.NodeProto) -> Iterator[tuple[str, list[str]]]:
    read = list(node.input)
    if node.op_type == "DequantizeLinear" or node.op_type.startswith("QLinear"):
        yield read[0], read[1:3]
    if node.op_type in ("QLinearAdd", "QLinearMul"):
        yield read[3], read[4:6]


def _grids_written(node: onnx.NodeProto) -> Iterator[tuple[str, list[str]]]:
    read = list(node.input)
    if node.op_type in ("QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul"):
        yield node.output[0], read[6:8]

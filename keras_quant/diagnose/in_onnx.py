"""An .onnx file: the operators that ONNX Runtime makes of it, and a runner that gives their values.

What is looked at is the graph that ONNX Runtime runs: with Q/DQ fused to integer kernels where it
can, before it chooses layouts of its own. That graph is run node by node, with all that it computes
among its outputs. Both run in a child process, see `runners.child`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    a_row_an_image,
)
from keras_quant.diagnose.kernels import describe_kernel
from keras_quant.errors import ModelError
from keras_quant.runners.onnxruntime import UnoptimizedRunner, checked_options

_PROVIDER = "CPUExecutionProvider"
_BOUNDS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535)}
_FLOATS = ("float32", "float16", "float64")
_GIVEN = (*_FLOATS, *_BOUNDS)
_NUMPY_NAMES = {"float": "float32", "double": "float64"} | {
    name: name for name in ("float16", *_BOUNDS, "int32", "int64", "uint32", "uint64", "bool")
}
_NODE_SUFFIX = re.compile(r"_(De)?[qQ]uantizeLinear$|_q$")
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast")
_HYBRID = ("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits")
_MOVES = {"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity"}
_PASSES = _MOVES | {"MaxPool", "Clip", "Slice", "Pad", "Gather", "DepthToSpace", "SpaceToDepth"}
"""Operators that give codes of the grid that they read."""

_KERNEL_AXES = {"ConvTranspose": 1, "MatMul": -1, "MatMulInteger": -1, "QLinearMatMul": -1}
_KERNEL_AXES |= dict.fromkeys(("FusedMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"), -1)
# Where the scales and the zero points of a kernel stand among an operator's inputs.
_KERNEL_GRIDS = {
    **dict.fromkeys(("QLinearConv", "QGemm", "QLinearMatMul"), (4, 5)),
    "DynamicQuantizeMatMul": (2, 3),
    "MatMulIntegerToFloat": (3, 5),
}
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
    run = _optimized(file)
    written = onnx.load_model_from_string(file.read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        probe = _Probe(_written(run, Path(folder), _with_outputs), file)
    graph = run.graph
    types = _Types(graph, probe.types)
    names = _names(graph, {name for node in written.graph.node for name in node.output})
    grids = _Grids(graph)
    operators = tuple(_operators(graph, types))
    given = [value.name for value in graph.input if value.name not in types.constants]
    computed = (key for one in operators for key in (*one.inputs, one.output))
    return FileContents(
        runtime=f"ONNX Runtime {version('onnxruntime')}",
        channels_first=True,
        tensors={
            key: grids.contents(key, names.get(key, key), types.of(key))
            for key in dict.fromkeys((*given, *computed))
        },
        operators=operators,
        inputs=tuple(given),
        outputs=tuple(value.name for value in graph.output),
    )


class _Probe(UnoptimizedRunner):
    """Runs what is written, node by node, and leaves out what is not one row an image.

    Attributes:
        types: of all outputs, as numpy calls them.
    """

    def __init__(self, path: Path, file: Path) -> None:
        super().__init__(path)
        self._where = str(file)
        self.types = {
            one.name: _NUMPY_NAMES.get(one.type.removeprefix("tensor(").removesuffix(")"), "?")
            for one in self._session.get_outputs()
        }
        self._outputs = [name for name, kind in self.types.items() if kind in _GIVEN]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Computes a batch, see Runner."""
        return a_row_an_image(super().run(inputs), inputs)


class OnnxTensors(_Probe):
    """Runs a file that gives what each operator computes, by the keys of `describe`."""

    def __init__(self, file: Path) -> None:
        """Loads a file.

        Raises:
            ModelError: ONNX Runtime does not take it.
        """
        with tempfile.TemporaryDirectory() as folder:
            super().__init__(_written(_optimized(file), Path(folder), _with_outputs), file)


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
            raise ModelError(
                f"{file}: not an ONNX model that ONNX Runtime can load ({error}). Give a complete "
                ".onnx file; export it again where it was cut short"
            ) from error
        return onnx.load(path)


def _with_outputs(model: onnx.ModelProto) -> None:
    """Puts all that a model computes among its outputs, whose types ONNX Runtime finds itself."""
    known = {value.name for value in model.graph.output}
    constants = _Types(model.graph, {})
    for node in model.graph.node:
        for name in filter(None, node.output):
            if name not in known and not constants.is_constant(name):
                model.graph.output.append(onnx.ValueInfoProto(name=name))


def _written(
    model: onnx.ModelProto, folder: Path, change: Callable[[onnx.ModelProto], None]
) -> Path:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    change(changed)
    path = folder / "probe.onnx"
    path.write_bytes(changed.SerializeToString())
    return path


def _names(graph: onnx.GraphProto, there: set[str]) -> dict[str, str]:
    """What tensors are called: where ONNX Runtime made up a name, that of the node."""
    return {
        name: name if name in there else _NODE_SUFFIX.sub("", node.name) or name
        for node in graph.node
        for name in node.output
    }


class _Types:
    """What is known of a graph's tensors: their types, as numpy calls them, and the constants.

    Args:
        types: of what is computed.
    """

    def __init__(self, graph: onnx.GraphProto, types: Mapping[str, str]) -> None:
        self.constants = {one.name: one for one in graph.initializer}
        self.maker = {name: node for node in graph.node for name in node.output}
        self._known = {name: _dtype(one.data_type) for name, one in self.constants.items()}
        for value in graph.input:
            self._known.setdefault(value.name, _dtype(value.type.tensor_type.elem_type))
        self._known |= types
        self._is_constant: dict[str, bool] = {}

    def of(self, name: str) -> str:
        """The type of a tensor; "?" where it is not known."""
        return self._known.get(name, "?")

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is made of constants alone."""
        if name in self.constants:
            return True
        if name not in self._is_constant:
            node = self.maker.get(name)
            read = [] if node is None else [one for one in node.input if one]
            self._is_constant[name] = node is not None and all(map(self.is_constant, read))
        return self._is_constant[name]


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
    for name in node.input:
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
            grid = [
                node.input[at] for at in _KERNEL_GRIDS.get(node.op_type, ()) if at < len(node.input)
            ]
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


class _Grids:
    """The grids of a graph's tensors of codes, as what reads them understands them.

    Where several operators read a tensor, the grids are equal. Who reads is asked before who wrote:
    a file may round units of codes with a scale of 1.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._constants = {one.name: one for one in graph.initializer}
        self._found: dict[str, tuple[float, int]] = {}
        self._ends: dict[str, tuple[int, int]] = {}
        written: dict[str, tuple[float, int]] = {}
        for node in graph.node:
            for key, grid in _grids_read(node):
                self._learn(self._found, key, grid)
            for key, grid in _grids_written(node):
                self._learn(written, key, grid)
            if node.op_type == "Clip":
                ends = [self._code(name) for name in node.input[1:3]]
                if len(ends) == 2 and None not in ends:
                    self._ends[node.output[0]] = (ends[0] or 0, ends[1] or 0)
        passing = [node for node in graph.node if node.op_type in _PASSES]
        for node in reversed(passing):
            if node.output[0] in self._found:
                self._found.setdefault(node.input[0], self._found[node.output[0]])
        self._found = {**written, **self._found}
        for node in passing:
            for known in (self._found, self._ends):
                if node.input[0] in known:
                    known.setdefault(node.output[0], known[node.input[0]])  # type: ignore[arg-type]

    def contents(self, key: str, name: str, dtype: str) -> TensorContents:
        """What is known of a tensor."""
        if dtype not in _BOUNDS or key not in self._found:
            return TensorContents(name=name, dtype=dtype)
        scale, zero_point = self._found[key]
        low, high = self._ends.get(key, _BOUNDS[dtype])
        return TensorContents(
            name=name, dtype=dtype, scale=scale, zero_point=zero_point, low=low, high=high
        )

    def _learn(self, into: dict[str, tuple[float, int]], key: str, grid: Sequence[str]) -> None:
        stored = self._constants.get(grid[0]) if grid else None
        scale = None if stored is None else numpy_helper.to_array(stored)
        if scale is None or scale.size != 1:
            return
        step = float(scale.reshape(-1)[0])
        step = step if np.isfinite(step) and step > 0 else 0.0
        into.setdefault(key, (step, (self._code(grid[1]) if len(grid) > 1 else None) or 0))

    def _code(self, name: str) -> int | None:
        """A constant that is one whole number; None for what is none."""
        stored = self._constants.get(name)
        value = None if stored is None else numpy_helper.to_array(stored)
        if value is None or value.size != 1 or value.dtype.kind not in "iu":
            return None
        return int(value.reshape(-1)[0])


# Where the scales of what operators read and give stand among their inputs; the zero point follows.
_READ_SCALES = {
    **dict.fromkeys(("DequantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm"), {0: 1}),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), {0: 1, 3: 4}),
    **dict.fromkeys(
        (
            *("QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearReduceMean"),
            *("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"),
        ),
        {0: 1},
    ),
}
_WRITTEN_SCALES = {
    "QuantizeLinear": 1,
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul"), 6),
    "QGemm": 7,
    "QLinearConcat": 0,
    **dict.fromkeys(
        (
            *("QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearReduceMean"),
            *("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"),
        ),
        3,
    ),
}


def _grids_read(node: onnx.NodeProto) -> Iterator[tuple[str, list[str]]]:
    for place, scale in _READ_SCALES.get(node.op_type, {}).items():
        if len(node.input) > scale:
            yield node.input[place], list(node.input[scale : scale + 2])


def _grids_written(node: onnx.NodeProto) -> Iterator[tuple[str, list[str]]]:
    scale = _WRITTEN_SCALES.get(node.op_type)
    if scale is not None and len(node.input) > scale:
        yield node.output[0], list(node.input[scale : scale + 2])

"""Runs .onnx files with ONNX Runtime on the CPU."""

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as native

from keras_quant.errors import DataError, ModelError
from keras_quant.preprocessing import METADATA_KEY, preprocessing_from_json
from keras_quant.runners import Inference, RunnerInfo
from keras_quant.runners.batches import in_batches

_PACKAGE = "onnxruntime"
_PROVIDER = "CPUExecutionProvider"
_FATAL_ONLY = 4
# What the metadata of a file that are meant as session options begin with, and those that our
# files have, with their values: it makes a file exact on processors whose products saturate, and
# slower on all. ONNX Runtime itself looks at none of them.
_OPTION = "session."
_OPTIONS = frozenset({("session.x64quantprecision", "1")})

_LOAD_ERRORS = (
    *(OSError, DecodeError),
    *(native.Fail, native.InvalidArgument, native.InvalidGraph, native.InvalidProtobuf),
    *(native.NotImplemented, native.RuntimeException),
)
_RUN_ERRORS = (native.Fail, native.InvalidArgument, native.RuntimeException)


class OnnxRuntimeRunner:
    """A loaded .onnx file; inputs and outputs are named as in the file.

    A file of a fixed batch is called with so many images, however many are given.

    Attributes:
        operators: how often the optimized graph has each operator, by "domain:type"; those of
            ONNX itself have no domain.
        batch: how many images a call takes; None where the file leaves that open.
    """

    def __init__(self, model: bytes | Path, *, num_threads: int = 1, optimize: bool = True) -> None:
        """Loads a model, with the session option that metadata of our files name.

        Args:
            model: a file's bytes, or its path, beside which its weights may lie.
            num_threads: how many threads the kernels may use.
            optimize: False runs each node by itself, in floats, as another runtime may.
        Raises:
            ModelError: the file cannot be read, or is damaged, or no ONNX file; or its metadata
                name other session options, or its weights lie outside of its folder.
        """
        self._where = "the given bytes" if isinstance(model, bytes) else str(model)
        try:
            content = model if isinstance(model, bytes) else model.read_bytes()
            parsed = onnx.load_model_from_string(content)
            _check_weights(self._where, parsed, None if isinstance(model, bytes) else model.parent)
            options = _options(self._where, parsed, num_threads=num_threads, optimize=optimize)
            self._session, self.operators = _load(model, options)
        except _LOAD_ERRORS as error:
            raise ModelError(
                f"{self._where}: not an ONNX model that ONNX Runtime can load ({error}). "
                "Give a complete .onnx file; export it again where it was cut short."
            ) from error
        said = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        self.info = RunnerInfo(
            name="onnxruntime",
            kernels=tuple(f"{n} {op.rpartition(':')[2]}" for op, n in self.operators.most_common()),
            versions={_PACKAGE: version(_PACKAGE)},
            preprocessing=None if said is None else preprocessing_from_json(said, self._where),
        )
        self._outputs = [given.name for given in self._session.get_outputs()]
        self.batch = _fixed_batch(self._session.get_inputs())

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the model's inputs."""
        return tuple(given.name for given in self.given)

    @property
    def given(self) -> Sequence[onnxruntime.NodeArg]:
        """What the session says of the model's inputs: names, types, shapes."""
        found: Sequence[onnxruntime.NodeArg] = self._session.get_inputs()
        return found

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Computes a batch, once, see `prepare`."""
        return self.prepare(inputs)()

    def prepare(self, inputs: Mapping[str, np.ndarray]) -> Inference:
        """Takes a batch, see Runner; uint8 outputs come as they are stored.

        Raises:
            DataError: an input is missing or of another shape than the model takes.
        """
        self._check(inputs)
        images = len(next(iter(inputs.values())))
        if self.batch not in (None, images):
            return partial(in_batches, self.run, inputs, self.batch)
        arrays = {name: np.asarray(inputs[name]) for name in self.inputs}
        return partial(self._infer, arrays)

    def _infer(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return dict(zip(self._outputs, self._session.run(self._outputs, arrays), strict=True))
        except _RUN_ERRORS as error:
            raise ModelError(
                f"{self._where}: ONNX Runtime cannot compute it ({error}). Export it again."
            ) from error

    def _check(self, inputs: Mapping[str, np.ndarray]) -> None:
        problems = []
        for given in self._session.get_inputs():
            name, shape = given.name, tuple(given.shape[1:])
            if name not in inputs:
                problems.append(f"input {name!r} is missing; given: {', '.join(inputs) or 'none'}")
            elif given.type != "tensor(float)" and not _is_type(inputs[name].dtype, given.type):
                problems.append(
                    f"input {name!r} of the file is {given.type}; tensor(float) is supported: "
                    "export it with float inputs"
                )
            elif not _is_shape(inputs[name].shape[1:], shape):
                problems.append(
                    f"input {name!r} has shape {inputs[name].shape}; (batch, *{shape}) is needed"
                )
        if problems:
            raise DataError("; ".join(problems))


def checked_options(file: Path, *, num_threads: int) -> onnxruntime.SessionOptions:
    """Gives what a session of a file is to be made with, for who makes it alone.

    Raises:
        ModelError: as for OnnxRuntimeRunner.
    """
    try:
        parsed = onnx.load_model_from_string(file.read_bytes())
    except _LOAD_ERRORS as error:
        raise ModelError(f"{file}: not an ONNX model ({error}). Export it again") from error
    _check_weights(str(file), parsed, file.parent)
    return _options(str(file), parsed, num_threads=num_threads, optimize=True)


def _is_type(dtype: np.dtype, wanted: str) -> bool:
    """Whether integers are of the type that a file takes, as the codes of a stage's input."""
    return np.issubdtype(dtype, np.integer) and wanted == f"tensor({dtype.name})"


def _is_shape(shape: tuple[int, ...], wanted: tuple[int | str | None, ...]) -> bool:
    """Whether lengths are the wanted ones; a name, or None, stands for any."""
    return len(shape) == len(wanted) and all(
        want in (have, None) or isinstance(want, str)
        for have, want in zip(shape, wanted, strict=True)
    )


def _fixed_batch(inputs: Sequence[onnxruntime.NodeArg]) -> int | None:
    """How many images a call takes; None where the file leaves that open."""
    lengths = [given.shape[0] for given in inputs if given.shape]
    return max(lengths) if lengths and all(isinstance(n, int) for n in lengths) else None


class UnoptimizedRunner(OnnxRuntimeRunner):
    """Runs each node by itself, as the file says it; Q/DQ then compute in floats."""

    def __init__(self, model: bytes | Path, *, num_threads: int = 1) -> None:
        """Loads a model, see OnnxRuntimeRunner."""
        super().__init__(model, num_threads=num_threads, optimize=False)


def _check_weights(where: str, model: onnx.ModelProto, folder: Path | None) -> None:
    """Checks that weights in other files lie in the model's folder; not all versions do."""
    inside = folder is not None and folder.resolve()
    for name, location in weights_elsewhere(model):
        if not inside or not (inside / location).resolve().is_relative_to(inside):
            raise ModelError(
                f"{where}: the values of {name!r} lie in {location}; only files in "
                "the model's own folder are read. Put it there, and name it in the model"
            )


def weights_elsewhere(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """The tensors whose values lie in other files, wherever they stand: (name, location)."""
    functions = (node for function in model.functions for node in function.node)
    for tensor in (*_tensors(model.graph), *_tensors_of_nodes(functions)):
        for entry in tensor.external_data:
            if entry.key == "location":
                yield tensor.name, entry.value


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            sparse = (attribute.sparse_tensor, *attribute.sparse_tensors)
            yield from (attribute.t, *attribute.tensors, *(one.values for one in sparse))
            yield from (one.indices for one in sparse)
            for graph in (attribute.g, *attribute.graphs):
                yield from _tensors(graph)


def _options(
    where: str, model: onnx.ModelProto, *, num_threads: int, optimize: bool
) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    metadata = [(entry.key, entry.value) for entry in model.metadata_props]
    named = [(key, value) for key, value in metadata if key.startswith(_OPTION)]
    foreign = [f"{key}={value}" for key, value in named if (key, value) not in _OPTIONS]
    if foreign:
        # Some name files that are written. Left out in silence, the file would be another one than
        # its maker meant; and it would be found out on some processors alone.
        raise ModelError(
            f"{where}: its metadata name session options: {', '.join(foreign)}; only "
            f"{', '.join(f'{key}={value}' for key, value in _OPTIONS)} is set. Remove these entries"
        )
    if named and products_saturate():
        for key, value in named:
            options.add_session_config_entry(key, value)
    return options


@functools.cache
def products_saturate() -> bool:
    """Whether two products of uint8 and int8 saturate at int16 here, as without VNNI on x86.

    Tried, and not looked up: which kernels run depends on the processor, on what an emulator or
    a container shows of it, and on ONNX Runtime. Takes a few milliseconds, once a process.
    """
    codes, weights = np.full((1, 2), 255, np.uint8), np.full((2, 1), 127, np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["codes", "weights"], ["sum"])],
        "saturation",
        [helper.make_tensor_value_info("codes", onnx.TensorProto.UINT8, codes.shape)],
        [helper.make_tensor_value_info("sum", onnx.TensorProto.INT32, (1, 1))],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=[_PROVIDER])
    return bool(session.run(None, {"codes": codes})[0].item() != 2 * 255 * 127)


def _load(
    model: bytes | Path, options: onnxruntime.SessionOptions
) -> tuple[onnxruntime.InferenceSession, Counter[str]]:
    """A session, and the operators of its graph, which only a file can name."""
    given = model if isinstance(model, bytes) else str(model)
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(optimized)
        session = onnxruntime.InferenceSession(given, options, providers=[_PROVIDER])
        nodes = onnx.load(optimized, load_external_data=False).graph.node
    return session, Counter(":".join(filter(None, (n.domain, n.op_type))) for n in nodes)

"""ONNX Runtime on the CPU, with all its optimizations."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from keras_quant.bench.operators import Operator, from_events
from keras_quant.bench.runtimes import Description, Input, Opened
from keras_quant.errors import ModelError
from keras_quant.runners.onnxruntime import OnnxRuntimeRunner, checked_options

_PROVIDER = "CPUExecutionProvider"
_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({name})": name for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32")},
    "tensor(uint64)": "uint64",
    "tensor(int64)": "int64",
}
_ERRORS = (native.Fail, native.InvalidArgument, native.RuntimeException, native.NotImplemented)


def describe(file: Path) -> Description:
    """Says what ONNX Runtime makes of a file. Raises: ModelError: it takes no such file."""
    runner = OnnxRuntimeRunner(file)
    return Description(
        kernels=runner.info.kernels,
        versions=runner.info.versions,
        inputs=tuple(_input(file, given) for given in runner.given),
        batch=runner.batch,
    )


def prepare(file: Path, *, threads: int) -> Callable[[], Opened]:
    """Gives what loads a file, see `runtimes.Runtime`. Raises: ModelError: it is broken."""
    return partial(_load, file, checked_options(file, num_threads=threads))


def profile(
    file: Path, arrays: Mapping[str, np.ndarray], *, threads: int, runs: int
) -> tuple[Operator, ...]:
    """Runs a file with the profiler on. Raises: ModelError: it is broken.

    Args:
        runs: that count; as many more come before them.
    """
    options = checked_options(file, num_threads=threads)
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(file), options, providers=[_PROVIDER])
        for _ in range(2 * runs):
            session.run(None, dict(arrays))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return from_events(events, skip=runs)


def _load(file: Path, options: onnxruntime.SessionOptions) -> Opened:
    return partial(
        _ready, onnxruntime.InferenceSession(str(file), options, providers=[_PROVIDER]), file
    )


def _ready(
    session: onnxruntime.InferenceSession, file: Path, arrays: Mapping[str, np.ndarray]
) -> Callable[[], object]:
    infer = partial(session.run, [found.name for found in session.get_outputs()], dict(arrays))
    try:
        infer()
    except _ERRORS as error:
        raise ModelError(
            f"{file}: ONNX Runtime cannot compute it ({error}). Export it again"
        ) from error
    return infer


def _input(file: Path, given: onnxruntime.NodeArg) -> Input:
    if given.type not in _TYPES:
        raise ModelError(
            f"{file}: its input {given.name!r} is {given.type}; numbers can be measured: "
            f"{', '.join(_TYPES)}"
        )
    shape = tuple(n if isinstance(n, int) else None for n in given.shape[1:])
    return Input(name=given.name, dtype=_TYPES[given.type], shape=shape)
